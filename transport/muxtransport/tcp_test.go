package muxtransport

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/hull-go/hull/status"
)

// deafServer accepts connections on the loopback interface, shakes hands, and reads nothing more.
func deafServer(t *testing.T) (addr string) {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			if _, err := readPreface(c); err != nil {
				return
			}
			if _, err := readHello(c); err != nil {
				return
			}
			if _, err := c.Write(serverScript().b); err != nil {
				return
			}
		}
	}()
	return ln.Addr().String()
}

// On a real socket too a caller that writes for all leaves at its deadline, and what it left unfinished is not lost count of.
func TestWriterKeepsItsDeadlineTCP(t *testing.T) {
	// It is the callers' deadlines that end the wait here, on however slow a machine.
	d, err := NewDialer(Options{KeepaliveTimeout: time.Hour, WriteTimeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	c, serr := d.Dial(context.Background(), deafServer(t))
	if serr != nil {
		t.Fatal(serr)
	}
	defer c.Close()
	fates := map[status.Fate]int{}
	for i := range 12 {
		began := time.Now()
		_, err := unary(c, "m", make([]byte, 2<<20), 50*time.Millisecond)
		if took := time.Since(began); took > 20*time.Second { // the server never reads on
			t.Errorf("call %d returned after %v", i, took)
		}
		if err == nil || err.Code != status.DeadlineExceeded {
			t.Fatalf("call %d: %v", i, err)
		}
		fates[err.Fate]++
	}
	if fates[status.NotSent] == 0 {
		t.Errorf("fates %v: 24 MiB cannot all have been sent", fates)
	}
	if d.Counters().WritesHandedOver == 0 {
		t.Error("no write was handed over")
	}
}

// TLS cannot continue a write that was interrupted, so writes are never made on a caller's goroutine there. A connection
// that looks like TLS shows it.
func TestWritesAsideUnderTLS(t *testing.T) {
	d, err := NewDialer(Options{KeepaliveTimeout: time.Hour, Dial: func(ctx context.Context, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		return wrapped{c}, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	c, serr := d.Dial(context.Background(), deafServer(t))
	if serr != nil {
		t.Fatal(serr)
	}
	defer c.Close()
	for range 3 {
		_, err := unary(c, "m", make([]byte, 4<<20), 50*time.Millisecond)
		if err == nil || err.Code != status.DeadlineExceeded {
			t.Fatal(err)
		}
	}
	if d.Counters().WritesHandedOver != 0 {
		t.Error("a write was interrupted")
	}
}

// wrapped is a connection around another, as *tls.Conn is.
type wrapped struct{ net.Conn }

func (w wrapped) NetConn() net.Conn { return w.Conn }

package muxtransport_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/muxtransport"
)

// parkedServer serves echoes on ln.
func parkedServer(t *testing.T, ln net.Listener) *muxtransport.Server {
	t.Helper()
	return serveOn(t, ln, &runsHandler{runs: map[string]int{}}, muxtransport.Options{Logger: slog.New(slog.DiscardHandler)})
}

// until waits for what another goroutine does, by the wall clock: these are real sockets.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("after a minute still not: %s", what)
		}
	}
}

func untilParked(t *testing.T, s *muxtransport.Server, n int) {
	t.Helper()
	until(t, fmt.Sprintf("%d connections parked", n), func() bool {
		muxtransport.Settle(s)
		got, _ := muxtransport.Parked(s)
		return got == n
	})
}

func slowCall(c transport.Conn, method, key string) error {
	b, out := []byte(key), []byte(nil)
	err := c.Call(context.Background(), &transport.Request{Method: method, Codec: codec.Bytes{}, Message: &b,
		Deadline: policy.Now().Add(time.Minute)}, &transport.Reply{Message: &out})
	if err != nil {
		return err
	}
	if string(out) != key {
		return fmt.Errorf("answer %q to %q", out, key)
	}
	return nil
}

func TestIdleConnectionsAreParked(t *testing.T) {
	cert, pool := newCert(t)
	listen := map[string]func() (net.Listener, error){
		"TCP": func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") },
		"TLS": func() (net.Listener, error) {
			return tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{muxtransport.ALPN}})
		},
	}
	for name, listen := range listen {
		t.Run(name, func(t *testing.T) {
			ln, err := listen()
			if err != nil {
				t.Fatal(err)
			}
			s := parkedServer(t, ln)
			o := muxtransport.Options{}
			if name == "TLS" {
				o.TLS = &tls.Config{RootCAs: pool}
			}
			d, err := muxtransport.NewDialer(o)
			if err != nil {
				t.Fatal(err)
			}
			const n = 5
			conns := make([]transport.Conn, n)
			for i := range conns {
				c, err := d.Dial(t.Context(), ln.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				conns[i] = c
				if i%2 == 0 { // the others have never called
					if err := slowCall(c, "quick", "x"); err != nil {
						t.Fatal(err)
					}
				}
			}
			for round := range 3 {
				untilParked(t, s, n)
				for i, c := range conns {
					if err := slowCall(c, "quick", fmt.Sprintf("round %d, connection %d", round, i)); err != nil {
						t.Error(err)
					}
				}
			}
			untilParked(t, s, n)
			// The server notices that one is gone, and that the last one is.
			conns[0].Close()
			until(t, "the closed connection forgotten", func() bool { return s.Counters().Conns == n-1 })
			untilParked(t, s, n-1)
			if err := slowCall(conns[1], "quick", "still there"); err != nil {
				t.Error(err)
			}
			for _, c := range conns {
				c.Close()
			}
			until(t, "all connections forgotten", func() bool { _, open := muxtransport.Parked(s); return !open && s.Counters().Conns == 0 })
		})
	}
}

// Calls that come while their connection is being parked are answered like any other.
func TestParkingMeetsCalls(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := parkedServer(t, ln)
	d, err := muxtransport.NewDialer(muxtransport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var callers, parker sync.WaitGroup
	for i := range 4 {
		c, err := d.Dial(t.Context(), ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		callers.Go(func() {
			for k := range 300 {
				method := "quick"
				if k%100 == 50 {
					method = "slow" // does not run on the reader after the first time
				}
				if err := slowCall(c, method, fmt.Sprintf("call %d of caller %d", k, i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	parker.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				muxtransport.Settle(s)
				runtime.Gosched()
			}
		}
	})
	callers.Wait()
	close(done)
	parker.Wait()
}

// A server that ends leaves nothing of its parking lot behind, and its clients hear of it before.
func TestServerEndsWithParkedConnections(t *testing.T) {
	for name, end := range map[string]func(*muxtransport.Server) error{
		"close": (*muxtransport.Server).Close,
		"drain": func(s *muxtransport.Server) error { return s.Drain(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			s := parkedServer(t, ln)
			d, err := muxtransport.NewDialer(muxtransport.Options{})
			if err != nil {
				t.Fatal(err)
			}
			c, serr := d.Dial(t.Context(), ln.Addr().String())
			if serr != nil {
				t.Fatal(serr)
			}
			defer c.Close()
			untilParked(t, s, 1)
			if err := end(s); err != nil {
				t.Error(err)
			}
			until(t, "the client knows", func() bool { return !c.Usable() })
			if n, open := muxtransport.Parked(s); n != 0 || open {
				t.Errorf("%d connections are parked, open is %v", n, open)
			}
		})
	}
}

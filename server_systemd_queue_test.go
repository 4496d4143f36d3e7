package hull_test

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hull-go/hull"
)

// TestReadyIsNotLost: systemd that is busy for half a second, with a queue full of what others have told it, learns all the same that the server is ready.
func TestReadyIsNotLost(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unixgram", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	for err == nil {
		_, err = c.Write([]byte("STATUS=another"))
	}
	ready := make(chan struct{})
	s, err := hull.NewServer("plant", hull.WithRegistry(memory(t)), hull.OnPhase(func(c hull.PhaseChange) {
		if c.Phase == hull.Ready {
			close(ready)
		}
	}), hull.Systemd(socket))
	if err != nil {
		t.Fatal(err)
	}
	hanging(make(chan struct{}), new(atomic.Int64))(s)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	<-ready
	busy, done := context.WithTimeout(ctx, 500*time.Millisecond)
	defer done()
	<-busy.Done()
	_ = l.SetReadDeadline(time.Now().Add(2 * time.Second))
	b, all := make([]byte, 4096), ""
	for !strings.Contains(all, "READY=1") {
		n, err := l.Read(b)
		if err != nil {
			t.Errorf("never told: %v", err)
			break
		}
		all += string(b[:n]) + ";"
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

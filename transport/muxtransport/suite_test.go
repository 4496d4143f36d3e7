package muxtransport_test

import (
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/memnet"
	"github.com/hull-go/hull/transport/muxtransport"
	"github.com/hull-go/hull/transport/transporttest"
)

func options(l transporttest.Limits) muxtransport.Options {
	return muxtransport.Options{MaxMessage: l.MaxMessage, MaxHeader: l.MaxHeader, MaxCalls: l.MaxCalls, Logger: slog.New(slog.DiscardHandler)}
}

func harness(compression string) transporttest.Harness { return polling(compression, 0) }

func polling(compression string, d time.Duration) transporttest.Harness {
	return transporttest.Harness{
		NewServer: func(h transport.Handler, l transporttest.Limits) (transport.Server, error) {
			o := options(l)
			o.BusyPoll = d
			return muxtransport.NewServer(h, o)
		},
		NewDialer: func(dial transporttest.DialFunc, l transporttest.Limits) (transport.Dialer, error) {
			o := options(l)
			o.BusyPoll = d
			o.Dial, o.Compression, o.CompressFrom, o.CompressLocal = dial, compression, 1, true
			return muxtransport.NewDialer(o)
		},
	}
}

func TestTCP(t *testing.T) { transporttest.Run(t, harness("")) }

// TestPolling is the same with readers that poll before they sleep.
func TestPolling(t *testing.T) { transporttest.Run(t, polling("", pollTime)) }

func TestVirtual(t *testing.T) { virtual(t, harness("")) }

// TestCompressed is the same with all messages compressed that become smaller.
func TestCompressed(t *testing.T) {
	for _, name := range []string{"gzip", "zstd"} {
		t.Run(name, func(t *testing.T) { virtual(t, harness(name)) })
	}
}

func virtual(t *testing.T, h transporttest.Harness) {
	t.Helper()
	h.Virtual = true
	h.Listen = func(t *testing.T) (net.Listener, transporttest.DialFunc) {
		n := memnet.New(memnet.Options{})
		ln, err := n.Host("server").Listen(":80")
		if err != nil {
			t.Fatal(err)
		}
		return ln, n.Host("client").Dial
	}
	transporttest.Run(t, h)
}

// serveOn serves what comes to ln with h, until the test ends.
func serveOn(t testing.TB, ln net.Listener, h transport.Handler, o muxtransport.Options) *muxtransport.Server {
	t.Helper()
	s, err := muxtransport.NewServer(h, o)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { s.ServeConn(c) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		s.Close()
		wg.Wait()
	})
	return s
}

// listenTCP listens on a free port of the loopback interface.
func listenTCP(t testing.TB) net.Listener {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

package httppolicy_test

import (
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/transport/memnet"
)

// world is a client and a server on a network in memory.
type world struct {
	net   *memnet.Network
	a, b  *memnet.Host
	base  *http.Transport
	conns atomic.Int64 // open at the server
	dials atomic.Int64
}

// run runs f in virtual time with h served on http://b:80, and sees that no connection is left open when idle ones are closed.
func run(t *testing.T, h http.Handler, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{net: memnet.New(memnet.Options{})}
		w.a, w.b = w.net.Host("a"), w.net.Host("b")
		l, err := w.b.Listen(":80")
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: h, ConnState: func(_ net.Conn, s http.ConnState) {
			switch s {
			case http.StateNew:
				w.dials.Add(1)
				w.conns.Add(1)
			case http.StateClosed, http.StateHijacked:
				w.conns.Add(-1)
			case http.StateActive, http.StateIdle:
			}
		}}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = srv.Serve(l)
		}()
		w.base = &http.Transport{DialContext: w.a.DialContext}
		f(t, w)
		time.Sleep(time.Second) // net/http lingers on requests that broke off
		w.base.CloseIdleConnections()
		synctest.Wait()
		if n := w.conns.Load(); n != 0 {
			t.Errorf("%d connections leaked", n)
		}
		_ = srv.Close()
		<-ended
		time.Sleep(time.Second)
	})
}

func retries(t *testing.T, o retry.Options) policy.Retries {
	t.Helper()
	r, err := retry.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func places(t *testing.T, o concurrency.Options) *concurrency.Limiter {
	t.Helper()
	l, err := concurrency.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func pipeline(t *testing.T, o policy.Options) *policy.Pipeline {
	t.Helper()
	p, err := policy.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// fixed gives every attempt the same time.
type fixed struct {
	d     time.Duration
	ended []policy.Ended
}

func (f *fixed) Attempt(policy.Time, *policy.Call, time.Duration, bool) time.Duration { return f.d }
func (f *fixed) Fair(policy.Time, time.Duration) bool                                 { return true }
func (f *fixed) Done(_ policy.Time, e policy.Ended)                                   { f.ended = append(f.ended, e) }

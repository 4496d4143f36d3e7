package muxtransport

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/memnet"
)

// paceHandler sends messages of size bytes, a hundred at a time and that a hundred times, and then as many as go.
type paceHandler struct {
	size  int
	every time.Duration
}

func (paceHandler) Unary(context.Context, *transport.Incoming) transport.Outgoing {
	return transport.Outgoing{}
}

func (h paceHandler) Stream(ctx context.Context, in *transport.Incoming, s transport.ServerStream) transport.Outgoing {
	s.SetCodec(codec.Bytes{})
	b := make([]byte, h.size)
	for range 100 {
		time.Sleep(h.every)
		for range 100 {
			if s.Send(&b) != nil {
				return transport.Outgoing{}
			}
		}
	}
	return floodHandler{h.size}.Stream(ctx, in, s)
}

// paced has streams of small windows, and looks at them.
type paced struct {
	t *testing.T
	c *clientConn
}

func (p paced) open() (*clientStream, func()) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cs, err := p.c.Open(ctx, &transport.Request{Method: "m", Codec: codec.Bytes{}})
	if err != nil {
		p.t.Fatal(err)
	}
	return cs.(*clientStream), func() {
		cancel()
		synctest.Wait()
	}
}

// receive takes n messages, and waits between any two of them.
func (p paced) receive(s *clientStream, n int, wait time.Duration) {
	p.t.Helper()
	var b []byte
	for i := range n {
		if err := s.Recv(&b); err != nil {
			p.t.Errorf("message %d: %v", i, err)
			return
		}
		time.Sleep(wait)
	}
}

// look returns how large the window of s is, what s keeps, and by how much all windows have grown.
func (p paced) look(s *clientStream) (size, kept, grown int64) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	return s.recv.size, s.in.cost + s.taken, p.c.grown
}

// TestWindowGrows: a receiver that waits for small messages gets a larger window, up to four times the first, and the first one back when others wait for
// it; all streams together get a quarter of the connection's.
func TestWindowGrows(t *testing.T) {
	const first, share = 64 << 10, 256 << 10
	run := func(name string, h paceHandler, f func(p paced)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, h, Options{}, memnet.Options{})
				defer r.stop()
				c := r.dial(t, Options{StreamWindow: first, ConnWindow: grownShare * share})
				defer c.Close()
				f(paced{t, c})
			})
		})
	}
	run("small messages", paceHandler{100, time.Millisecond}, func(p paced) {
		s, cancel := p.open()
		defer cancel()
		p.receive(s, 100*100, 0)
		if size, _, grown := p.look(s); size != maxGrowth*first || grown != size-first {
			p.t.Errorf("a window of %d, grown by %d, after messages that were waited for", size, grown)
		}
		// The next are there before they are asked for. What is left of a window is let through, a whole one, and of each what is told at once beyond it.
		p.receive(s, (2*maxGrowth+1)*first/(100+frameCost), time.Millisecond)
		size, _, grown := p.look(s)
		if size != first || grown != 0 {
			p.t.Errorf("a window of %d, grown by %d, after messages that had to wait", size, grown)
		}
		p.receive(s, maxGrowth*first/(100+frameCost), time.Millisecond)
		if _, kept, _ := p.look(s); kept > first {
			p.t.Errorf("%d bytes are kept by a window of %d", kept, size)
		}
	})
	run("a receiver that stops", paceHandler{100, time.Millisecond}, func(p paced) {
		s, cancel := p.open()
		p.receive(s, 100*100, 0)
		time.Sleep(time.Second)
		if _, kept, _ := p.look(s); kept > maxGrowth*first {
			p.t.Errorf("%d bytes are kept", kept)
		}
		cancel()
		if _, _, grown := p.look(s); grown != 0 {
			p.t.Errorf("windows of no stream have grown by %d", grown)
		}
	})
	for name, h := range map[string]paceHandler{"large messages": {8 << 10, time.Millisecond}, "no haste": {100, 100 * time.Millisecond}} {
		run(name, h, func(p paced) {
			s, cancel := p.open()
			defer cancel()
			p.receive(s, 100*100, 0)
			if size, _, _ := p.look(s); size != first {
				p.t.Errorf("a window of %d", size)
			}
		})
	}
	run("many streams", paceHandler{100, time.Millisecond}, func(p paced) {
		var (
			streams []*clientStream
			all     sync.WaitGroup
		)
		for range 3 {
			s, cancel := p.open()
			defer cancel()
			streams = append(streams, s)
			all.Go(func() { p.receive(s, 100*100, 0) })
		}
		all.Wait()
		if _, _, grown := p.look(streams[0]); grown != share {
			p.t.Errorf("all windows have grown by %d", grown)
		}
	})
}

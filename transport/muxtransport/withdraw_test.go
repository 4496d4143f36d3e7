package muxtransport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/memnet"
)

// started is a handler that remembers what has begun, by the field "key" of its metadata, and answers with that.
type started struct {
	mu  sync.Mutex
	all map[string]int
}

func (h *started) note(in *transport.Incoming) (key string) {
	for _, f := range in.Metadata {
		if f.Key == "key" {
			key = f.Value
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all[key]++
	return key
}

func (h *started) Unary(_ context.Context, in *transport.Incoming) transport.Outgoing {
	return transport.Outgoing{Codec: codec.Bytes{}, Message: []byte(h.note(in))}
}

func (h *started) Stream(_ context.Context, in *transport.Incoming, s transport.ServerStream) transport.Outgoing {
	key := []byte(h.note(in))
	s.SetCodec(codec.Bytes{})
	_ = s.Send(&key)
	return transport.Outgoing{}
}

func (h *started) times(key string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.all[key]
}

// asked is a call of so many bytes, or a stream if size is -1, and how it ended.
func asked(ctx context.Context, c transport.Conn, method, key string, size int, timeout time.Duration) *status.Error {
	req := &transport.Request{Method: method, Codec: codec.Bytes{}, PathAttempt: 1, Metadata: transport.Metadata{{Key: "key", Value: key}}}
	if timeout > 0 {
		req.Deadline = policy.Now().Add(timeout)
	}
	var got []byte
	if size >= 0 {
		req.Message = make([]byte, size)
		if err := c.Call(ctx, req, &transport.Reply{Message: &got}); err != nil {
			return err
		}
	} else {
		s, serr := c.Open(ctx, req)
		if serr != nil {
			return serr
		}
		message := []byte("nobody will read it")
		_ = s.Send(&message)
		if err := s.Recv(&got); err != nil {
			if e, ok := errors.AsType[*status.Error](err); ok {
				return e
			}
			return &status.Error{Code: status.Internal, Message: err.Error()}
		}
	}
	if string(got) != key {
		return &status.Error{Code: status.Internal, Message: fmt.Sprintf("%s got %q", key, got)}
	}
	return nil
}

// stuck is a connection whose server stands still and whose buffers are full, so that what is called now waits in this process. Whatever fills them is patient.
func stuck(t *testing.T, h transport.Handler, o Options) (c *clientConn, link *memnet.Link, stop func()) {
	t.Helper()
	r := newRig(t, h, o, memnet.Options{Buffer: 16 << 10})
	c = r.dial(t, Options{KeepaliveTimeout: time.Hour, WriteTimeout: time.Hour})
	if err := asked(t.Context(), c, "first", "first", 0, time.Hour); err != nil {
		t.Fatal(err)
	}
	link = r.net.Link("client", "server")
	link.Drop(true)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := asked(t.Context(), c, "first", "filler", 30<<10, time.Hour); err != nil {
			t.Errorf("what fills the buffers: %v", err)
		}
	})
	time.Sleep(time.Second)
	return c, link, func() { wg.Wait(); c.Close(); r.stop() }
}

// TestWithdrawn: calls and streams that are given up before the kernel is asked to take all of them never start, and say so. What their frames taught the
// server is known to those that come after them.
func TestWithdrawn(t *testing.T) {
	for _, tt := range []struct {
		name    string
		method  string
		size    int
		timeout time.Duration // 0: the caller gives up
	}{
		{"cancelled", "first", 10, 0},
		{"late", "first", 10, time.Second},
		{"a method's first", "second", 10, 0},
		{"in parts", "first", 100 << 10, 0},
		{"in parts, late", "first", 40 << 10, time.Second},
		{"in parts, a method's first", "second", 40 << 10, 0},
		{"stream", "first", -1, 0},
		{"stream, late", "first", -1, time.Second},
		{"a method's first stream", "second", -1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &started{all: map[string]int{}}
				c, link, stop := stuck(t, h, Options{})
				ctx, cancel := context.WithCancel(t.Context())
				gone, patient := make(chan *status.Error), make(chan *status.Error)
				go func() { gone <- asked(ctx, c, tt.method, "gone", tt.size, tt.timeout) }()
				synctest.Wait()
				go func() { patient <- asked(t.Context(), c, tt.method, "patient", 10, time.Hour) }()
				synctest.Wait()
				if tt.timeout == 0 {
					cancel()
				}
				if err := <-gone; err == nil || err.Fate != status.NotSent {
					t.Errorf("given up: %+v, want fate NotSent", err)
				}
				cancel()
				link.Drop(false)
				if err := <-patient; err != nil {
					t.Errorf("the call behind it: %v", err)
				}
				if err := asked(t.Context(), c, "third", "after", -1, time.Hour); err != nil {
					t.Errorf("a stream after it: %v", err)
				}
				stop()
				if h.times("gone") != 0 || h.times("patient") != 1 || h.times("filler") != 1 {
					t.Errorf("started: %v", h.all)
				}
			})
		})
	}
}

// A server that does not know of it is told by CANCEL, as ever, and what was given up says Maybe.
func TestNotWithdrawnFromOldServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, link, stop := stuck(t, &started{all: map[string]int{}}, Options{})
		old := *c.peer
		old.features &^= featureWithdraw
		c.mu.Lock()
		c.peer = &old
		c.mu.Unlock()
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan *status.Error)
		go func() { gone <- asked(ctx, c, "first", "gone", 10, 0) }()
		synctest.Wait()
		cancel()
		if err := <-gone; err == nil || err.Fate != status.Maybe {
			t.Errorf("given up: %+v, want fate Maybe", err)
		}
		link.Drop(false)
		stop()
	})
}

// What is withdrawn counts in GOAWAY: a call behind it that the server has accepted is not taken for one that it has not.
func TestWithdrawnAndDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, &started{all: map[string]int{}}, Options{}, memnet.Options{})
		defer r.stop()
		named, known := callHead{method: 1, name: "m", codec: "bytes"}, callHead{method: 1, codec: "bytes"}
		nc := r.raw(t, clientScript().call(typeCall|withdrawn, 1<<16, named, "gone").call(typeOpen|withdrawn, 2<<16, known, "").call(typeCall, 3<<16, known, "").b)
		defer nc.Close()
		synctest.Wait()
		go func() { _ = r.server.Drain(context.Background()) }()
		said, err := io.ReadAll(nc)
		if err != nil {
			t.Fatal(err)
		}
		answered, accepted := 0, byte(0)
		for said = said[prefaceLen:]; len(said) > 0; said = said[frameSize(said):] {
			switch f := parseFrame(said[:frameSize(said)]); f.typ {
			case typeAnswer:
				answered++
			case typeGoAway:
				accepted = f.payload[0]
			}
		}
		if n := r.server.Counters(); answered != 1 || accepted != 3 || n.Abandoned != 2 {
			t.Errorf("%d were answered and %d accepted, want 1 and 3: %+v", answered, accepted, n)
		}
	})
}

// TestWithdrawnAtRandom has many calls that are given up at any moment on a connection that stops again and again: what says that it was not sent has not started,
// and what has an answer has started once.
func TestWithdrawnAtRandom(t *testing.T) {
	fates := map[status.Fate]int{}
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			h := &started{all: map[string]int{}}
			r := newRig(t, h, Options{}, memnet.Options{Buffer: 16 << 10})
			c := r.dial(t, Options{KeepaliveTimeout: time.Hour, WriteTimeout: time.Hour})
			link := r.net.Link("client", "server")
			var wg sync.WaitGroup
			over := make(chan struct{})
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(seed, 1))
				for stopped := false; ; {
					select {
					case <-over:
						link.Drop(false)
						return
					case <-time.After(time.Duration(rnd.IntN(20_000)) * time.Microsecond):
						stopped = !stopped
						link.Drop(stopped)
					}
				}
			})
			var mu sync.Mutex
			var unsent []string
			var calls sync.WaitGroup
			for who := range 20 {
				calls.Go(func() {
					rnd := rand.New(rand.NewPCG(seed, uint64(2+who)))
					for i := range 50 {
						key := fmt.Sprint(who, "-", i)
						ctx, cancel := context.WithCancel(t.Context())
						timeout, size := time.Duration(0), []int{-1, 10, 3000, 40 << 10}[rnd.IntN(4)]
						if patience := time.Duration(rnd.IntN(5000)) * time.Microsecond; rnd.IntN(2) == 0 {
							timeout = patience + 1
						} else {
							time.AfterFunc(patience, cancel)
						}
						time.Sleep(time.Duration(rnd.IntN(2000)) * time.Microsecond)
						err := asked(ctx, c, fmt.Sprint("m", rnd.IntN(40)), key, size, timeout)
						cancel()
						mu.Lock()
						switch {
						case err == nil:
							if fates[status.Processed]++; h.times(key) != 1 {
								t.Errorf("seed %d: %s has an answer and started %d times", seed, key, h.times(key))
							}
						case err.Code == status.Internal:
							t.Errorf("seed %d: %s: %v", seed, key, err)
						default:
							if fates[err.Fate]++; err.Fate == status.NotSent {
								unsent = append(unsent, key)
							}
						}
						mu.Unlock()
					}
				})
			}
			calls.Wait()
			close(over)
			wg.Wait()
			if err := asked(t.Context(), c, "last", "last", 10, time.Hour); err != nil {
				t.Errorf("seed %d: after all of them: %v", seed, err)
			}
			c.Close()
			r.stop()
			for _, key := range unsent { // what was on its way has arrived
				if n := h.times(key); n != 0 {
					t.Errorf("seed %d: %s was not sent and started %d times", seed, key, n)
				}
			}
		})
	}
	if fates[status.NotSent] < 100 || fates[status.Maybe] < 100 || fates[status.Processed] < 100 {
		t.Errorf("%v: it was not very random", fates)
	}
}

package muxtransport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/memnet"
)

// orderedHandler receives messages that begin with their number, and ends the stream with the first that is out of order. Then it sends as many.
type orderedHandler struct{ floodHandler }

func (orderedHandler) Stream(_ context.Context, _ *transport.Incoming, s transport.ServerStream) transport.Outgoing {
	s.SetCodec(codec.Bytes{})
	var b []byte
	for i := 0; ; i++ {
		err := s.Recv(&b)
		if errors.Is(err, io.EOF) {
			return sendNumbered(s, i)
		}
		if err != nil {
			return transport.Outgoing{Status: status.From(err)}
		}
		if !bytes.Equal(b, numbered(i)) {
			return transport.Outgoing{Status: &status.Error{Code: status.DataLoss, Message: "out of order"}}
		}
	}
}

func sendNumbered(s transport.Stream, n int) transport.Outgoing {
	for i := range n {
		b := numbered(i)
		if err := s.Send(&b); err != nil {
			return transport.Outgoing{Status: err}
		}
	}
	return transport.Outgoing{}
}

// numbered is the message with a number: small ones, some just small enough to be put in, or not, and some that go in parts.
func numbered(i int) []byte {
	b := bytes.Repeat([]byte{byte(i)}, []int{4, 100, 300, maxBulked, maxBulked + 1, 4, 50, 2*partSize + 1}[i%8])
	binary.LittleEndian.PutUint32(b, uint32(i))
	return b
}

// bulked returns how many messages of a stream wait in its bulk, and whether it is open.
func bulked(s *stream) (messages int64, open bool) {
	ready := s.bulk.ready.Load()
	return max(ready, 0) >> messageShift, ready != closedBulk
}

// windowsAgree expects that both ends think the same of what the client may send, when all has been received and nothing is on the way.
func windowsAgree(t *testing.T, c *clientConn, s *Server) {
	t.Helper()
	synctest.Wait()
	c.mu.Lock()
	left := c.sendLeft
	if c.appended != c.taken {
		t.Errorf("of %d bytes %d were written", c.appended, c.taken)
	}
	c.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for sc := range s.conns {
		sc.mu.Lock()
		defer sc.mu.Unlock()
		if left != sc.recv.left || sc.recv.left+sc.recv.credit != sc.recv.size {
			t.Errorf("the client may send %d, the server takes %d and gives %d back of %d", left, sc.recv.left, sc.recv.credit, sc.recv.size)
		}
	}
}

// TestBulk: small messages that are put in while a write is under way arrive in their order, between larger ones and before the end, and so do those
// that come back; both ends agree on the windows afterwards.
func TestBulk(t *testing.T) {
	for name, compressor := range map[string]string{"plain": "", "compressed": "gzip"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, orderedHandler{}, Options{}, memnet.Options{Buffer: 16 << 10})
				defer r.stop()
				c := r.dial(t, Options{KeepaliveTimeout: time.Hour, WriteTimeout: time.Hour})
				defer c.Close()
				cs, err := c.Open(t.Context(), &transport.Request{Method: "m", Codec: codec.Bytes{}, Compressor: compressor})
				if err != nil {
					t.Fatal(err)
				}
				s := &cs.(*clientStream).stream
				var in, opened int64
				const n = 450
				link := r.net.Link("client", "server")
				for i := range n {
					b := numbered(i)
					if err := cs.Send(&b); err != nil {
						t.Fatal(i, err)
					}
					messages, open := bulked(s)
					in = max(in, messages)
					if open {
						opened++
					}
					c.mu.Lock()
					listed := len(c.bulks)
					c.mu.Unlock()
					if listed > 1 {
						t.Fatalf("one stream is listed %d times", listed)
					}
					switch i {
					case 210:
						link.Drop(true)
					case 217:
						time.Sleep(time.Second) // another goroutine goes on with the write
					case 230:
						link.Drop(false)
						time.Sleep(time.Second)
					}
					if i%100 == 99 || i == 230 {
						synctest.Wait() // the flusher is done: the next one begins anew
						if _, open := bulked(s); open {
							t.Fatal("a bulk is open while nobody is about to write")
						}
					}
				}
				if in < 2 || opened < n/8 {
					t.Errorf("at most %d messages were put in, and %d times more could be", in, opened)
				}
				if err := cs.CloseSend(); err != nil {
					t.Fatal(err)
				}
				var got []byte
				for i := range n {
					if err := cs.Recv(&got); err != nil || !bytes.Equal(got, numbered(i)) {
						t.Fatalf("message %d: %d bytes, %v", i, len(got), err)
					}
				}
				if err := cs.Recv(&got); !errors.Is(err, io.EOF) {
					t.Errorf("after the last message: %v", err)
				}
				windowsAgree(t, c, r.server)
				windowWhole(t, c)
			})
		})
	}
}

// TestBulkDropped: what waits in a stream's bulk when its caller gives up is not sent, and takes nothing from the windows.
func TestBulkDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, orderedHandler{}, Options{}, memnet.Options{Buffer: 16 << 10})
		defer r.stop()
		c := r.dial(t, Options{KeepaliveTimeout: time.Hour, WriteTimeout: time.Hour})
		defer c.Close()
		ctx, cancel := context.WithCancel(t.Context())
		cs, err := c.Open(ctx, &transport.Request{Method: "m", Codec: codec.Bytes{}})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.net.Link("client", "server").Drop(true)
		small := make([]byte, 200)
		s := &cs.(*clientStream).stream
		for waits := int64(0); waits <= 10; {
			for range 20 {
				if err := cs.Send(&small); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait() // until what the network takes is full
			waits, _ = bulked(s)
		}
		c.mu.Lock()
		before := c.appended
		c.mu.Unlock()
		cancel()
		synctest.Wait()
		c.mu.Lock()
		if more := c.appended - before; more >= uint64(len(small)) {
			t.Errorf("the end of the stream takes %d bytes", more)
		}
		c.mu.Unlock()
		if _, open := bulked(s); open {
			t.Error("the bulk of a stream that was given up is open")
		}
		if err := cs.Send(&small); err == nil {
			t.Error("a message was sent on a stream that was given up")
		}
		r.net.Link("client", "server").Drop(false)
		time.Sleep(time.Minute)
		windowsAgree(t, c, r.server)
	})
}

// TestBulkIsForBulk: a stream that sends a message now and then has no memory for more, and one that does so after it has sent many lets it go.
func TestBulkIsForBulk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, funcHandler(nil), Options{}, memnet.Options{Buffer: 4 << 10})
		defer r.stop()
		c := r.dial(t, Options{KeepaliveTimeout: time.Hour, WriteTimeout: time.Hour})
		defer c.Close()
		cs, err := c.Open(t.Context(), &transport.Request{Method: "m", Codec: codec.Bytes{}})
		if err != nil {
			t.Fatal(err)
		}
		s := &cs.(*clientStream).stream
		small := make([]byte, 200)
		send := func() {
			if err := cs.Send(&small); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 * rarelyBulk {
			send()
			synctest.Wait()
		}
		if s.bulk.buf != nil {
			t.Error("a stream that sends one message at a time has memory for many")
		}
		r.net.Link("client", "server").Drop(true)
		for s.bulk.buf == nil {
			send()
		}
		r.net.Link("client", "server").Drop(false)
		for range 2 * rarelyBulk {
			time.Sleep(time.Second)
			send()
		}
		synctest.Wait()
		if s.bulk.buf != nil {
			t.Error("a stream that sends one message at a time keeps the memory for many")
		}
	})
}

// TestBulkLetsOthersGoOn: a sender that waits for the connection's window goes on when another stream's bulk gives back what it did not use.
func TestBulkLetsOthersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, funcHandler(nil), Options{ConnWindow: minWindow}, memnet.Options{Buffer: 4 << 10})
		defer r.stop()
		c := r.dial(t, Options{KeepaliveTimeout: time.Hour, WriteTimeout: time.Hour})
		defer c.Close()
		open := func(ctx context.Context) transport.ClientStream {
			cs, err := c.Open(ctx, &transport.Request{Method: "m", Codec: codec.Bytes{}})
			if err != nil {
				t.Fatal(err)
			}
			return cs
		}
		ctx, cancel := context.WithCancel(t.Context())
		first, second := open(ctx), open(t.Context())
		synctest.Wait()
		r.net.Link("client", "server").Drop(true)
		small := make([]byte, 100)
		for in := false; !in; {
			for range 10 {
				if err := first.Send(&small); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			_, in = bulked(&first.(*clientStream).stream)
		}
		var sent atomic.Int32
		go func() {
			for second.Send(&small) == nil {
				sent.Add(1)
			}
		}()
		synctest.Wait()
		before := sent.Load()
		cancel()
		synctest.Wait()
		if now := sent.Load(); before == 0 || now < before+10 {
			t.Errorf("the other stream sent %d messages, and %d when the first had ended", before, now)
		}
	})
}

// TestBulkKeepsToTheWindow: a sender that nobody reads waits when the window is full, however its messages were sent, and no stream holds what another
// needs.
func TestBulkKeepsToTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const window = 64 << 10
		r := newRig(t, funcHandler(nil), Options{StreamWindow: window, ConnWindow: 4 * window}, memnet.Options{})
		defer r.stop()
		c := r.dial(t, Options{})
		defer c.Close()
		const streams = 8
		sent := make([]int, streams)
		for i := range streams {
			cs, err := c.Open(t.Context(), &transport.Request{Method: "m", Codec: codec.Bytes{}})
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				for b := make([]byte, 100); cs.Send(&b) == nil; {
					sent[i]++
				}
			}()
		}
		synctest.Wait()
		all := 0
		for i, n := range sent {
			if n*(100+frameCost) > window {
				t.Errorf("stream %d sent %d messages of 100 bytes, more than its window takes", i, n)
			}
			all += n
		}
		c.mu.Lock()
		left := c.sendLeft
		c.mu.Unlock()
		if want := int64(4*window - all*(100+frameCost)); left != want || left < 0 || left >= 100+2*frameCost {
			t.Errorf("%d messages of 100 bytes were sent, and %d of the connection's window are left, want %d and too little for another one", all, left, want)
		}
		if c.cause != nil {
			t.Error(c.cause.err)
		}
		c.Close()
		synctest.Wait()
	})
}

package muxtransport_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/muxtransport"
)

// momentHandler is a runsHandler whose calls take ten milliseconds if they say so, and sees which contexts end.
type momentHandler struct {
	*runsHandler
	open atomic.Int64 // handlers under way
}

func (h *momentHandler) Unary(ctx context.Context, in *transport.Incoming) transport.Outgoing {
	h.open.Add(1)
	defer h.open.Add(-1)
	h.start(strings.TrimRight(string(in.Payload), "."))
	if in.Method == "slow" {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return transport.Outgoing{Status: &status.Error{Code: status.Canceled}}
		}
	}
	return transport.Outgoing{Codec: codec.Bytes{}, Message: in.Payload}
}

func (h *momentHandler) Stream(ctx context.Context, in *transport.Incoming, s transport.ServerStream) transport.Outgoing {
	h.open.Add(1)
	defer h.open.Add(-1)
	return h.runsHandler.Stream(ctx, in, s)
}

// moments is what happens on a connection of which the client's and the server's bytes are under way for a millisecond: all kinds of calls and their ends, one after the other and side by
// side.
func (h *momentHandler) moments(t *testing.T, l *lab, c transport.Conn) (ended map[string]*status.Error) {
	t.Helper()
	var mu sync.Mutex
	ended = map[string]*status.Error{}
	end := func(key string, err *status.Error) {
		mu.Lock()
		defer mu.Unlock()
		if _, twice := ended[key]; twice {
			t.Errorf("%s ended twice", key)
		}
		ended[key] = err
	}
	call := func(ctx context.Context, method, key string, size int, deadline time.Duration) {
		b := []byte(key + strings.Repeat(".", size))
		var out []byte
		err := c.Call(ctx, &transport.Request{Method: method, Codec: codec.Bytes{}, Message: &b, Deadline: policy.Now().Add(deadline)}, &transport.Reply{Message: &out})
		if err == nil && string(out) != string(b) {
			t.Errorf("%s got %d bytes back, not %d", key, len(out), len(b))
		}
		end(key, err)
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wg.Go(func() {
		for i := range 3 {
			call(t.Context(), "quick", fmt.Sprint("quick-", i), 20, time.Second)
		}
	})
	wg.Go(func() { call(t.Context(), "slow", "slow", 20, time.Second) })
	wg.Go(func() { call(t.Context(), "slow", "late", 20, 6*time.Millisecond) })
	wg.Go(func() { call(ctx, "slow", "cancelled", 20, time.Second) })
	wg.Go(func() { call(t.Context(), "quick", "parts", 100<<10, time.Second) })
	wg.Go(func() { call(ctx, "slow", "parts-cancelled", 200<<10, time.Second) })
	for key, ctx := range map[string]context.Context{"stream": t.Context(), "stream-cancelled": ctx} {
		wg.Go(func() { end(key, momentStream(ctx, c, key)) })
	}
	wg.Go(func() {
		time.Sleep(8 * time.Millisecond)
		cancel()
		time.Sleep(4 * time.Millisecond)
		_ = l.server.Drain(t.Context()) // GOAWAY, while calls are under way
	})
	time.Sleep(13 * time.Millisecond)
	wg.Go(func() { call(t.Context(), "quick", "beyond", 20, time.Second) })
	wg.Wait()
	return ended
}

// momentStream sends five messages two milliseconds apart and returns how the stream ended.
func momentStream(ctx context.Context, c transport.Conn, key string) *status.Error {
	s, serr := c.Open(ctx, &transport.Request{Method: "stream", Codec: codec.Bytes{}, Metadata: transport.Metadata{{Key: "key", Value: key}}, Deadline: policy.Now().Add(time.Second)})
	if serr != nil {
		return serr
	}
	for range 5 {
		b := []byte(strings.Repeat("message", 100))
		if s.Send(&b) != nil {
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	_ = s.CloseSend() // the stream may be over
	for {
		var b []byte
		err := s.Recv(&b)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if e, ok := errors.AsType[*status.Error](err); ok {
			return e
		} else if err != nil {
			return status.From(err)
		}
	}
}

// TestCutAtEachMoment: wherever a connection is cut in time, with calls that wait, run, are answered, given up, late, refused because the server leaves, and streams, each ends once, with
// a status that is true, and nothing is left of any.
func TestCutAtEachMoment(t *testing.T) {
	const step = 50 * time.Microsecond
	kinds := map[status.Kind]bool{}
	clean := 0
	for at := time.Duration(0); at < 40*time.Millisecond; at += stride * step {
		synctest.Test(t, func(t *testing.T) {
			h := &momentHandler{runsHandler: &runsHandler{runs: map[string]int{}}}
			l := newLab(t, h, muxtransport.Options{}, muxtransport.Options{})
			l.up.Delay(time.Millisecond, 0).Rate(50 << 20)
			l.down.Delay(time.Millisecond, 0).Rate(50 << 20)
			c := l.dial(t)
			timer := time.AfterFunc(at, func() { l.up.Cut() })
			ended := h.moments(t, l, c)
			timer.Stop()
			whole := true
			for key, err := range ended {
				runs := h.ran(key)
				switch {
				case runs > 1:
					t.Errorf("cut at %v: %s ran %d times", at, key, runs)
				case err == nil && runs != 1:
					t.Errorf("cut at %v: %s succeeded and did not run", at, key)
				case err != nil && err.Fate == status.NotSent && runs != 0:
					t.Errorf("cut at %v: %s is said not to have been processed and ran: %v", at, key, err)
				case err != nil && (err.Code == status.OK || err.Code == status.Unknown || err.Code == status.Internal):
					t.Errorf("cut at %v: %s ended with %v", at, key, err)
				}
				if err != nil {
					kinds[err.Kind] = true
					whole = whole && err.Kind != status.Reset && err.Kind != status.Unsent
				}
			}
			if whole {
				clean++
			}
			if len(ended) != 11 || c.InFlight() != 0 {
				t.Errorf("cut at %v: %d of 11 calls have ended, %d are in flight", at, len(ended), c.InFlight())
			}
			c.Close()
			<-c.Done()
			l.close()
			if n := h.open.Load(); n != 0 {
				t.Errorf("cut at %v: %d handlers are left", at, n)
			}
			for key, err := range ended { // none has begun since
				if err != nil && err.Fate == status.NotSent && h.ran(key) != 0 {
					t.Errorf("cut at %v: %s is said not to have been processed and ran afterwards: %v", at, key, err)
				}
			}
		})
	}
	for _, k := range []status.Kind{status.Reset, status.Unsent, status.Timeout, status.Cancelled, status.Draining} {
		if !kinds[k] {
			t.Errorf("no call ended as %v", k)
		}
	}
	if clean == 0 {
		t.Error("every connection was cut while something was under way")
	}
}

package muxtransport

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/memnet"
)

// quickAndLate is a connection with two calls under way: the answer of one, which has so much time, takes 100 ms on its way, and the other, which has a second, gets none.
func quickAndLate(t *testing.T, patience time.Duration) (c *clientConn, answered, late chan *status.Error, stop func()) {
	t.Helper()
	r := newRig(t, funcHandler(func(_ context.Context, in *transport.Incoming) transport.Outgoing {
		if in.Method == "late" {
			time.Sleep(time.Minute)
		}
		return transport.Outgoing{Codec: codec.Bytes{}, Message: []byte(nil)}
	}), Options{}, memnet.Options{})
	c = r.dial(t, Options{})
	r.net.Link("server", "client").Delay(100*time.Millisecond, 0)
	answered, late = make(chan *status.Error, 1), make(chan *status.Error, 1)
	go func() {
		_, err := unary(c, "quick", nil, patience)
		answered <- err
	}()
	go func() {
		_, err := unary(c, "late", nil, time.Second)
		late <- err
	}()
	synctest.Wait()
	return c, answered, late, func() { c.Close(); r.stop() }
}

// TestOwnStall: a process that stood still past its calls' deadlines first reads the answers that are there, and does not
// blame the node for those that are not.
func TestOwnStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, answered, late, stop := quickAndLate(t, time.Second)
		defer stop()
		// The timer goes off 30 s late: the answer is on its way to the reader, but has not been read.
		c.endLate(policy.Now().Add(30 * time.Second))
		if err := <-answered; err != nil {
			t.Errorf("the answer was there, and yet: %v", err)
		}
		if err := <-late; err == nil || err.Kind != status.Stalled || err.Code != status.DeadlineExceeded {
			t.Errorf("%v, want kind stalled", err)
		}
	})
}

// timed is a context whose timer goes off when it is told to.
type timed struct {
	context.Context
	deadline time.Time
	done     chan struct{}
}

func (c *timed) Deadline() (time.Time, bool) { return c.deadline, true }
func (c *timed) Done() <-chan struct{}       { return c.done }
func (c *timed) Err() error {
	select {
	case <-c.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// TestOwnStallContext: so does one whose calls have their deadlines from contexts, whose timers are late as well, and first.
func TestOwnStallContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, funcHandler(func(_ context.Context, in *transport.Incoming) transport.Outgoing {
			if in.Method == "late" {
				time.Sleep(time.Minute)
			}
			return transport.Outgoing{Codec: codec.Bytes{}, Message: []byte(nil)}
		}), Options{}, memnet.Options{})
		defer r.stop()
		c := r.dial(t, Options{})
		defer c.Close()
		const stood = 2 * time.Second
		r.net.Link("server", "client").Delay(stood+stallGrace/2, 0)
		ctx := &timed{t.Context(), time.Now().Add(time.Second), make(chan struct{})}
		ended := map[string]chan *status.Error{"quick": make(chan *status.Error, 1), "late": make(chan *status.Error, 1)}
		for method, end := range ended {
			go func() {
				var in, out []byte
				end <- c.Call(ctx, &transport.Request{Method: method, Codec: codec.Bytes{}, Message: &in}, &transport.Reply{Message: &out})
			}()
		}
		synctest.Wait()
		c.mu.Lock()
		c.scan.Stop()
		c.mu.Unlock()
		time.Sleep(stood)
		close(ctx.done)
		synctest.Wait()
		c.scanDeadlines()
		if err := <-ended["quick"]; err != nil {
			t.Errorf("the answer was there, and yet: %v", err)
		}
		if err := <-ended["late"]; err == nil || err.Kind != status.Stalled || err.Code != status.DeadlineExceeded {
			t.Errorf("%v, want kind stalled", err)
		}
	})
}

// TestLateAtEveryLook: a process that is short of CPU, as under a quota, is late for every look at the deadlines. Its calls end by the second one.
func TestLateAtEveryLook(t *testing.T) {
	for name, byContext := range map[string]bool{"its own deadline": false, "its context's": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, funcHandler(func(context.Context, *transport.Incoming) transport.Outgoing {
					time.Sleep(time.Hour)
					return transport.Outgoing{Codec: codec.Bytes{}, Message: []byte(nil)}
				}), Options{}, memnet.Options{})
				defer r.stop()
				c := r.dial(t, Options{})
				defer c.Close()
				ctx := &timed{t.Context(), time.Now().Add(time.Second), make(chan struct{})}
				end := make(chan *status.Error, 1)
				go func() {
					if !byContext {
						_, err := unary(c, "x", nil, time.Second)
						end <- err
						return
					}
					var in, out []byte
					end <- c.Call(ctx, &transport.Request{Method: "x", Codec: codec.Bytes{}, Message: &in}, &transport.Reply{Message: &out})
				}()
				synctest.Wait()
				for look := range 2 {
					c.mu.Lock()
					at := c.scanAt
					c.scan.Stop()
					c.mu.Unlock()
					time.Sleep(time.Until(at.Clock()) + stallAfter + 30*time.Millisecond)
					if look == 0 {
						close(ctx.done)
						synctest.Wait()
					}
					c.scanDeadlines()
					synctest.Wait()
				}
				select {
				case err := <-end:
					if err == nil || err.Kind != status.Stalled || err.Code != status.DeadlineExceeded {
						t.Errorf("%v, want kind stalled", err)
					}
				default:
					t.Error("the call is under way after two looks")
				}
			})
		})
	}
}

// TestStallAfterStall: of two stalls in a row the second one ends calls that were late at the first, and has the answers read of those that were not.
func TestStallAfterStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, answered, late, stop := quickAndLate(t, 40*time.Second)
		defer stop()
		began := policy.Now()
		c.endLate(began.Add(30 * time.Second))
		c.endLate(began.Add(60 * time.Second))
		synctest.Wait()
		select {
		case err := <-late:
			if err == nil || err.Kind != status.Stalled {
				t.Errorf("%v, want kind stalled", err)
			}
		default:
			t.Error("the call that was late at the first stall is still under way")
		}
		if err := <-answered; err != nil {
			t.Errorf("the answer was there, and yet: %v", err)
		}
	})
}

// TestExpiredAfterOwnStall: a request that lies in a process that stands still comes to the server when its time is up. What the server says of it does not count against it,
// unless it says so while there is time.
func TestExpiredAfterOwnStall(t *testing.T) {
	for _, tt := range []struct {
		name  string
		stood time.Duration
		want  status.Kind
	}{{"stood still", 2 * time.Second, status.Stalled}, {"did not", 500 * time.Millisecond, status.Expired}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, funcHandler(func(context.Context, *transport.Incoming) transport.Outgoing {
					return transport.Outgoing{Status: &status.Error{Code: status.DeadlineExceeded, Kind: status.Expired, Fate: status.NotSent, Message: "over"}}
				}), Options{}, memnet.Options{})
				defer r.stop()
				c := r.dial(t, Options{})
				defer c.Close()
				r.net.Link("server", "client").Delay(tt.stood, 0)
				end := make(chan *status.Error, 1)
				go func() {
					_, err := unary(c, "x", nil, time.Second)
					end <- err
				}()
				synctest.Wait()
				c.mu.Lock()
				c.scan.Stop() // as it does where nothing runs
				c.mu.Unlock()
				if err := <-end; err == nil || err.Kind != tt.want || err.Fate != status.NotSent || err.Code != status.DeadlineExceeded {
					t.Errorf("%v, want kind %v", err, tt.want)
				}
			})
		})
	}
}

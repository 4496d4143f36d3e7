package muxtransport_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/muxtransport"
)

// A napHandler takes as long as the method's name says, or until the deadline.
type napHandler struct{ echoHandler }

func (napHandler) Unary(ctx context.Context, in *transport.Incoming) transport.Outgoing {
	if d, err := time.ParseDuration(in.Method); err == nil && d > 0 {
		select {
		case <-time.After(d):
		case <-ctx.Done():
			return transport.Outgoing{Status: &status.Error{Code: status.DeadlineExceeded, Message: "the nap was too long"}}
		}
	}
	b := append([]byte(nil), in.Payload...)
	return transport.Outgoing{Codec: codec.Bytes{}, Message: &b}
}

// loneLab is a lab whose callers read themselves from the first call on, and a connection of it.
func loneLab(t *testing.T, atOnce bool) (*lab, transport.Conn) {
	t.Helper()
	l := newLab(t, napHandler{}, muxtransport.Options{}, muxtransport.Options{})
	if atOnce {
		muxtransport.LoneAtOnce(l.dialer)
	}
	c := l.dial(t)
	synctest.Wait()
	return l, c
}

// call makes a call that takes the server as long as d, and compares its answer.
func call(ctx context.Context, c transport.Conn, d time.Duration, key string, size int, timeout time.Duration) *status.Error {
	b, out := []byte(key+strings.Repeat(".", size)), []byte(nil)
	err := c.Call(ctx, &transport.Request{Method: d.String(), Codec: codec.Bytes{}, Message: &b, Deadline: policy.Now().Add(timeout)},
		&transport.Reply{Message: &out})
	if err == nil && string(out) != string(b) {
		return &status.Error{Code: status.DataLoss, Message: fmt.Sprintf("%.40q instead of %.40q", out, b)}
	}
	return err
}

// The reader steps aside after many calls in a row that were alone, and comes back when none has come for two looks of the watch.
func TestReaderStepsAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, c := loneLab(t, false)
		defer l.close()
		defer c.Close()
		n := 0
		for ; !muxtransport.Vacant(c) && n < 1000; n++ {
			if err := call(t.Context(), c, 0, "x", 0, time.Second); err != nil { // a context that can end: no reason to step aside
				t.Fatal(err)
			}
		}
		if n != 1000 {
			t.Errorf("the reader stepped aside after %d calls that could be cancelled", n)
		}
		for n = 0; !muxtransport.Vacant(c) && n < 1000; n++ {
			if err := call(context.Background(), c, 0, "x", 0, time.Second); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if n < 30 || n > 40 {
			t.Errorf("the reader stepped aside after %d calls", n)
		}
		for range 10 { // nobody else reads in between
			if err := call(context.Background(), c, 0, "x", 0, time.Second); err != nil || !muxtransport.Vacant(c) {
				t.Error(err, muxtransport.Vacant(c))
			}
		}
		time.Sleep(5 * time.Millisecond)
		if muxtransport.Vacant(c) {
			t.Error("nobody reads")
		}
	})
}

// A caller that reads leaves at its deadline, and the next finds everything in order.
func TestLoneDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, c := loneLab(t, true)
		defer l.close()
		defer c.Close()
		for i := range 20 {
			began := time.Now()
			err := call(context.Background(), c, time.Second, "late", 0, 10*time.Millisecond)
			if took := time.Since(began); err == nil || err.Code != status.DeadlineExceeded || took < 10*time.Millisecond || took > 15*time.Millisecond {
				t.Errorf("call %d: %v after %v", i, err, took)
			}
			if err := call(context.Background(), c, 0, "next", 0, time.Second); err != nil {
				t.Error(err)
			}
			if i%2 == 0 {
				time.Sleep(10 * time.Millisecond)
			}
		}
		if c.InFlight() != 0 || !c.Usable() {
			t.Errorf("%d calls are in flight, usable is %v", c.InFlight(), c.Usable())
		}
	})
}

// While one caller reads others come, of all kinds, and each gets its own answer in time.
func TestLoneMeetsOthers(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			l, c := loneLab(t, seed%2 == 0)
			defer l.close()
			defer c.Close()
			var wg sync.WaitGroup
			for i := range 6 {
				wg.Go(func() {
					rnd := rand.New(rand.NewPCG(seed, uint64(i)))
					for k := range 40 {
						time.Sleep(time.Duration(rnd.IntN(3000)) * time.Microsecond * time.Duration(rnd.IntN(2)))
						if rnd.IntN(10) == 0 {
							if err := oneStream(c); err != nil {
								t.Errorf("seed %d, caller %d, stream %d: %v", seed, i, k, err)
							}
							continue
						}
						ctx, cancel := context.Background(), context.CancelFunc(func() {})
						switch rnd.IntN(4) {
						case 0:
							ctx, cancel = context.WithCancel(ctx)
						case 1:
							ctx, cancel = context.WithTimeout(ctx, 3*time.Millisecond)
						}
						d := time.Duration(rnd.IntN(4)) * 2 * time.Millisecond
						size := 0
						if rnd.IntN(5) == 0 {
							size = 100 << 10
						}
						began := time.Now()
						err := call(ctx, c, d, fmt.Sprint(seed, i, k), size, 5*time.Millisecond)
						took := time.Since(began)
						if err != nil && err.Code != status.DeadlineExceeded || took > 10*time.Millisecond {
							t.Errorf("seed %d, caller %d, call %d of %v: %v after %v", seed, i, k, d, err, took)
						}
						cancel()
					}
				})
			}
			wg.Wait()
			time.Sleep(time.Second)
			if c.InFlight() != 0 || !c.Usable() {
				t.Errorf("seed %d: %d calls are in flight, usable is %v", seed, c.InFlight(), c.Usable())
			}
		})
	}
}

// oneStream sends two messages and receives them.
func oneStream(c transport.Conn) error {
	s, err := c.Open(context.Background(), &transport.Request{Method: "s", Codec: codec.Bytes{}, Deadline: policy.Now().Add(time.Second)})
	if err != nil {
		return err
	}
	for i := range 2 {
		b := []byte(fmt.Sprint("message ", i))
		if err := s.Send(&b); err != nil {
			return err
		}
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	for i := 0; ; i++ {
		var b []byte
		if err := s.Recv(&b); err != nil {
			if i != 2 {
				return fmt.Errorf("after %d messages: %w", i, err)
			}
			return nil
		}
	}
}

// What the server says while nobody reads is heard soon, and by the next call at the latest.
func TestVacantConnectionHears(t *testing.T) {
	for name, leave := range map[string]func(*lab){
		"goaway": func(l *lab) { go func() { _ = l.server.Drain(context.Background()) }() },
		"close":  func(l *lab) { go l.server.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, c := loneLab(t, true)
				defer l.close()
				defer c.Close()
				leave(l)
				time.Sleep(5 * time.Millisecond)
				if c.Usable() {
					t.Error("the connection is still usable")
				}
			})
			synctest.Test(t, func(t *testing.T) {
				l, c := loneLab(t, true)
				defer l.close()
				defer c.Close()
				if err := call(context.Background(), c, 0, "x", 0, time.Second); err != nil || !muxtransport.Vacant(c) {
					t.Fatal(err, muxtransport.Vacant(c))
				}
				leave(l)
				synctest.Wait()
				err := call(context.Background(), c, 0, "x", 0, time.Second)
				if err == nil || name == "goaway" && err.Fate != status.NotSent {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

// A connection that is closed under a caller that reads ends its call.
func TestCloseUnderLoneCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, c := loneLab(t, true)
		defer l.close()
		time.AfterFunc(10*time.Millisecond, func() { c.Close() })
		if err := call(context.Background(), c, time.Second, "x", 0, time.Minute); err == nil || err.Kind != status.Reset || err.Fate != status.Maybe {
			t.Errorf("%v", err)
		}
		if c.InFlight() != 0 {
			t.Errorf("%d calls are in flight", c.InFlight())
		}
	})
}

// The same on real sockets, where goroutines really run side by side.
func TestLoneTCP(t *testing.T) {
	ln := listenTCP(t)
	serveOn(t, ln, napHandler{}, muxtransport.Options{})
	d, err := muxtransport.NewDialer(muxtransport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, serr := d.Dial(t.Context(), ln.Addr().String())
	if serr != nil {
		t.Fatal(serr)
	}
	defer c.Close()
	for round := range 20 { // one caller, then two, then one …
		var callers sync.WaitGroup
		for i := range 1 + round%3 {
			callers.Go(func() {
				for k := range 100 {
					d := time.Duration(0)
					if k == 70 {
						d = time.Millisecond
					}
					if err := call(context.Background(), c, d, fmt.Sprint(round, i, k), 0, time.Minute); err != nil {
						t.Error(err)
						return
					}
				}
				if err := call(context.Background(), c, 24*time.Hour, "late", 0, 2*time.Millisecond); err == nil || err.Code != status.DeadlineExceeded {
					t.Error(err)
				}
			})
		}
		callers.Wait()
	}
	if c.InFlight() != 0 {
		t.Errorf("%d calls are in flight", c.InFlight())
	}
}

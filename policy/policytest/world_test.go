package policytest_test

import (
	"slices"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/policy/policytest"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/policy/timeout"
	"github.com/hull-go/hull/status"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestEventsHappenInOrder(t *testing.T) {
	w := policytest.NewWorld(1)
	var got []time.Duration
	for range 1000 {
		d := time.Duration(w.Uniform() * 100 * float64(time.Millisecond)).Round(time.Millisecond)
		w.After(d, func() {
			if w.Elapsed() != d {
				t.Errorf("what was to happen at %v happens at %v", d, w.Elapsed())
			}
			got = append(got, d)
		})
	}
	w.Until(50 * time.Millisecond)
	if got[len(got)-1] > 50*time.Millisecond {
		t.Errorf("%v is after 50ms", got[len(got)-1])
	}
	w.Run()
	if len(got) != 1000 || !slices.IsSorted(got) {
		t.Errorf("%d events, in order: %v", len(got), slices.IsSorted(got))
	}
	var order []int
	for i := range 100 {
		w.After(0, func() { order = append(order, i) })
	}
	w.Run()
	if !slices.IsSorted(order) {
		t.Errorf("events of one time happen in the order %v", order)
	}
}

func TestArrive(t *testing.T) {
	w := policytest.NewWorld(2)
	n := 0
	w.Arrive(func() float64 {
		if w.Elapsed() > 100*time.Second {
			return 0
		}
		return 100
	}, func() { n++ })
	w.Run()
	if n < 9_500 || n > 10_500 {
		t.Errorf("%d arrivals in 100 s at 100/s", n)
	}
}

// A server that stalls answers too late, and goes on working for callers that are gone.
func TestServer(t *testing.T) {
	const timeouts = 50 * time.Millisecond
	for _, tt := range []struct {
		name string
		opt  policytest.ServerOptions
		ok   int // of 10 calls at once, 10 ms each
		want policytest.Work
	}{
		{"endless line", policytest.ServerOptions{}, 4, policytest.Work{Arrived: 10, Done: 4, Wasted: 6}},
		{"deadlines", policytest.ServerOptions{Drop: true}, 4, policytest.Work{Arrived: 10, Done: 4, Wasted: 1, Dropped: 5}},
		{"two workers", policytest.ServerOptions{Workers: 2}, 8, policytest.Work{Arrived: 10, Done: 8, Wasted: 2}},
		{"no bound", policytest.ServerOptions{Workers: -1}, 10, policytest.Work{Arrived: 10, Done: 10}},
		{"short line", policytest.ServerOptions{Line: must(concurrency.New(concurrency.Options{Limit: 1, Queue: 2, MaxWait: time.Second}))},
			3, policytest.Work{Arrived: 10, Done: 3, Refused: 7}},
		{"short wait", policytest.ServerOptions{Line: must(concurrency.New(concurrency.Options{Limit: 1, Queue: 20, MaxWait: 25 * time.Millisecond}))},
			3, policytest.Work{Arrived: 10, Done: 3, Refused: 7}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := policytest.NewWorld(1)
			tt.opt.Work = policytest.Every(10 * time.Millisecond)
			s := policytest.NewServer(tt.opt)
			p := must(policy.New(policy.Options{Timeouts: must(timeout.New(timeout.Options{Fixed: timeouts}))}))
			ok := 0
			for range 10 {
				w.Call(p, policy.Call{}, s, func(c *policytest.Call) {
					if c.Took > timeouts {
						t.Errorf("a call took %v", c.Took)
					}
					if c.Err == nil {
						ok++
					}
				})
			}
			w.Run()
			if ok != tt.ok || s.Work() != tt.want || s.Busy() != 0 || s.Queued() != 0 {
				t.Errorf("%d ok, %+v, busy %d, queued %d; want %d ok, %+v", ok, s.Work(), s.Busy(), s.Queued(), tt.ok, tt.want)
			}
		})
	}
}

func TestStallAndSlow(t *testing.T) {
	w := policytest.NewWorld(1)
	s := policytest.NewServer(policytest.ServerOptions{Work: policytest.Every(10 * time.Millisecond)})
	p := must(policy.New(policy.Options{}))
	took := func(c *policytest.Call) time.Duration { w.Run(); return c.Took }
	if d := took(w.Call(p, policy.Call{}, s, nil)); d != 10*time.Millisecond {
		t.Errorf("took %v, want 10ms", d)
	}
	s.Slow(5)
	if d := took(w.Call(p, policy.Call{}, s, nil)); d != 50*time.Millisecond {
		t.Errorf("took %v, want 50ms", d)
	}
	s.Slow(1)
	s.Stall(w, time.Second)
	if d := took(w.Call(p, policy.Call{}, s, nil)); d != 1010*time.Millisecond {
		t.Errorf("took %v, want 1.01s", d)
	}
}

func TestCallRetriesAndCancels(t *testing.T) {
	w := policytest.NewWorld(1)
	p := must(policy.New(policy.Options{Retries: must(retry.New(retry.Options{Backoff: retry.Constant, Base: time.Millisecond}))}))
	fails := policytest.Replies(func(a policy.Attempt) (time.Duration, error) {
		if a.N == 2 {
			return time.Millisecond, nil
		}
		return time.Millisecond, &status.Error{Code: status.Unavailable}
	})
	c := w.Call(p, policy.Call{Idempotent: true}, fails, nil)
	w.Run()
	if !c.Ended || c.Err != nil || len(c.Starts) != 3 || c.Took != 5*time.Millisecond || !c.Idle() {
		t.Errorf("ended %v with %v after %v and %d attempts", c.Ended, c.Err, c.Took, len(c.Starts))
	}
	wanted := []bool{}
	hangs := policytest.ServiceFunc(func(w *policytest.World, r *policytest.Request) {
		w.After(time.Second, func() { wanted = append(wanted, r.Wanted()); r.Answer(nil) })
	})
	c = w.Call(p, policy.Call{}, hangs, nil)
	detached := w.Detach(p, policy.Call{Deadline: w.Now().Add(10 * time.Millisecond)}, hangs, nil)
	w.After(20*time.Millisecond, c.Cancel)
	w.Until(w.Elapsed() + 30*time.Millisecond)
	if c.Class != policy.ClassCancelled || c.Took != 20*time.Millisecond || !c.Idle() {
		t.Errorf("cancelled: %v after %v, idle %v", c.Class, c.Took, c.Idle())
	}
	if detached.Took != 10*time.Millisecond || detached.Idle() || p.Snapshot().Abandoned != 1 {
		t.Errorf("detached: took %v, idle %v, %+v", detached.Took, detached.Idle(), p.Snapshot())
	}
	w.Run()
	if !slices.Equal(wanted, []bool{false, false}) || !detached.Idle() || p.Snapshot().Abandoned != 0 {
		t.Errorf("wanted %v, idle %v, %+v", wanted, detached.Idle(), p.Snapshot())
	}
}

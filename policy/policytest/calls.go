package policytest

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// books is a gate that counts the permits of another.
type books struct {
	policy.Gate
	r       reporter
	mu      sync.Mutex
	out     int
	permits map[policy.Permit]int // those that are out; some gates give the same one to several
}

func (b *books) note(v policy.Verdict) policy.Verdict {
	if v.Decision.Permits() {
		b.mu.Lock()
		b.out++
		b.permits[v.Permit]++
		b.mu.Unlock()
	}
	return v
}

func (b *books) Admit(now policy.Time, rnd rand.Source, c *policy.Call) policy.Verdict {
	return b.note(b.Gate.Admit(now, rnd, c))
}

func (b *books) Done(now policy.Time, rnd rand.Source, p policy.Permit, o policy.Outcome) {
	b.mu.Lock()
	b.out--
	if b.permits[p]--; b.permits[p] < 0 {
		b.r.Errorf("permit %+v came back more often than it was given", p)
	}
	b.mu.Unlock()
	b.Gate.Done(now, rnd, p, o)
}

func (b *books) isOut(want int, when string) {
	b.r.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.out != want {
		b.r.Errorf("%s: %d permits are out, want %d", when, b.out, want)
	}
}

// lineBooks are the books of a Line. They also keep what a wait must not get, a second verdict or one after it was left, from
// executors, which rely on that.
type lineBooks struct {
	*books
	line  policy.Line
	waits map[policy.Ticket]*wait // guarded by books.mu
}

// wait is one wait in a line.
type wait struct {
	b    *books
	who  policy.Waiter
	over bool // guarded by books.mu
}

// end reports whether the wait is over only now.
func (w *wait) end() bool {
	w.b.mu.Lock()
	defer w.b.mu.Unlock()
	first := !w.over
	w.over = true
	return first
}

// Granted implements policy.Waiter.
func (w *wait) Granted(tag uint32, v policy.Verdict) {
	if !w.end() {
		w.b.r.Errorf("a waiter is told a verdict though its wait has ended")
		return
	}
	w.who.Granted(tag, v)
}

func (b lineBooks) Join(now policy.Time, rnd rand.Source, c *policy.Call, w policy.Waiting) (policy.Ticket, policy.Verdict) {
	kept := &wait{b: b.books, who: w.Waiter}
	w.Waiter = kept
	t, v := b.line.Join(now, rnd, c, w)
	if v.Decision == policy.Park {
		b.mu.Lock()
		b.waits[t] = kept
		b.mu.Unlock()
	}
	return t, b.note(v)
}

func (b lineBooks) Leave(now policy.Time, t policy.Ticket) bool {
	ok := b.line.Leave(now, t)
	if ok {
		b.mu.Lock()
		w := b.waits[t]
		delete(b.waits, t)
		b.mu.Unlock()
		if w == nil || !w.end() {
			b.r.Errorf("Leave says that a waiter was in the line whose wait had ended")
		}
	}
	return ok
}

func (b lineBooks) Next(now policy.Time, rnd rand.Source) (policy.Waiting, policy.Verdict, bool) {
	w, v, ok := b.line.Next(now, rnd)
	if ok {
		b.note(v)
	}
	return w, v, ok
}

// revokerBooks are the books of a Revoker.
type revokerBooks struct {
	*books
	policy.Revoker
}

// keep returns g with books.
func keep(r reporter, g policy.Gate) (policy.Gate, *books) {
	b := &books{Gate: g, r: r, permits: map[policy.Permit]int{}}
	if l, ok := g.(policy.Line); ok {
		return lineBooks{b, l, map[policy.Ticket]*wait{}}, b
	}
	if v, ok := g.(policy.Revoker); ok {
		return revokerBooks{b, v}, b
	}
	return b, b
}

// slots are the places in a pipeline where a gate may be.
var slots = [...]string{"rate", "own", "breaker", "throttle", "concurrency"}

// around returns options with g in a slot, or false if it cannot be there.
func around(slot string, g policy.Gate) (o policy.Options, ok bool) {
	s := policy.Slot{Name: slot, Gate: g}
	_, line := g.(policy.Line)
	switch slot {
	case "rate":
		o.Rate = s
	case "own":
		o.Gates = []policy.Slot{s}
	case "breaker":
		o.Breaker = s
	case "throttle":
		o.Throttle = s
		return o, !line
	case "concurrency":
		o.Concurrency = s
	}
	return o, true
}

// everywhere runs f with a new gate in each slot.
func (s *suite) everywhere(t *testing.T, r reporter, f func(slot string, p *policy.Pipeline, b *books)) {
	for _, slot := range slots {
		g, b := keep(r, s.new())
		o, ok := around(slot, g)
		if !ok {
			continue
		}
		p, err := policy.New(o)
		if err != nil {
			t.Fatal(err)
		}
		f(slot, p, b)
	}
}

// settleAfter checks the health of a gate behind books, from the real clock's (or a bubble's) now on.
func (s *suite) settleAfter(r reporter, b *books, now policy.Time, after string) {
	r.Helper()
	d := s.drive(r, b.Gate, 5)
	d.now = now
	d.settle(after)
}

// panics: a call whose function panics or ends its goroutine gives back what it holds.
func (s *suite) panics(t *testing.T, r reporter) {
	synctest.Test(t, func(t *testing.T) {
		s.everywhere(t, r, func(slot string, p *policy.Pipeline, b *books) {
			n := 20 + 2*s.caps.Places
			for i := range n {
				time.Sleep(s.caps.Pace) //nolint:forbidigo // in a bubble, whose time is virtual
				done := make(chan struct{})
				go func() {
					defer close(done)
					defer func() { _ = recover() }()
					_, _ = policy.Do(t.Context(), p, func(context.Context) (int, error) {
						if i%2 == 0 {
							runtime.Goexit()
						}
						panic("a panic in a call")
					}, s.caps.Call)
				}()
				<-done
			}
			b.isOut(0, slot+": after panics and Goexits")
			s.settleAfter(r, b, policy.Now(), slot+": after panics and Goexits")
		})
	})
}

// grenade is a gate that panics, or ends its goroutine, when a permit comes back.
type grenade struct{ goexit bool }

func (grenade) Admit(policy.Time, rand.Source, *policy.Call) policy.Verdict { return policy.Verdict{} }

func (g grenade) Done(policy.Time, rand.Source, policy.Permit, policy.Outcome) {
	if g.goexit {
		runtime.Goexit()
	}
	panic("a panic in another gate")
}

// panicsElsewhere: when the gates around it panic at the end of a call, before it or after, it is told of the end all the same, once.
func (s *suite) panicsElsewhere(t *testing.T, r reporter) {
	synctest.Test(t, func(t *testing.T) {
		for _, slot := range slots {
			for i := range 3 * 2 * 2 {
				g, b := keep(r, s.new())
				bad := policy.Slot{Gate: grenade{goexit: i%2 == 1}}
				o, ok := around(slot, g)
				if !ok {
					continue
				}
				for name, at := range map[string]*policy.Slot{"rate": &o.Rate, "breaker": &o.Breaker, "throttle": &o.Throttle, "concurrency": &o.Concurrency} {
					if at.Gate == nil {
						*at = bad
						at.Name = name
					}
				}
				p, err := policy.New(o)
				if err != nil {
					t.Fatal(err)
				}
				do, result := policy.Do[int], error(nil)
				if i%3 == 1 {
					result = &status.Error{Code: status.Unavailable}
				}
				if i%3 == 2 {
					do = policy.Detach[int]
				}
				for range 10 + s.caps.Places {
					time.Sleep(s.caps.Pace) //nolint:forbidigo // in a bubble, whose time is virtual
					done := make(chan struct{})
					go func() {
						defer close(done)
						defer func() { _ = recover() }()
						_, _ = do(t.Context(), p, func(context.Context) (int, error) { return 0, result }, s.caps.Call)
					}()
					<-done
				}
				synctest.Wait()
				b.isOut(0, slot+": after panics in other gates")
				s.settleAfter(r, b, policy.Now(), slot+": after panics in other gates")
			}
		}
	})
}

// hangs: a call returns in time though its function does not. The gate around the attempt keeps the permit as long as it runs,
// the gates around the call do not.
func (s *suite) hangs(t *testing.T, r reporter) {
	synctest.Test(t, func(t *testing.T) {
		s.everywhere(t, r, func(slot string, p *policy.Pipeline, b *books) {
			release := make(chan struct{})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			start := policy.Now()
			_, err := policy.Detach(ctx, p, func(context.Context) (int, error) { <-release; return 0, nil }, s.caps.Call)
			if took := policy.Now().Sub(start); err == nil || took != time.Second {
				r.Errorf("%s: a call whose function hangs ends after %v with %v, want an error after 1s", slot, took, err)
			}
			want := 0
			if slot == "concurrency" {
				want = 1
			}
			b.isOut(want, slot+": while the function hangs")
			close(release)
			synctest.Wait()
			b.isOut(0, slot+": after the function has returned after all")
			s.settleAfter(r, b, policy.Now(), slot+": after a call that hung")
		})
	})
}

// cancels: callers give up at any moment, in any slot, while others come, wait, fail and hang.
func (s *suite) cancels(t *testing.T, r reporter) {
	for seed := range uint64(10) {
		s.everywhere(t, r, func(slot string, p *policy.Pipeline, b *books) {
			w := NewWorld(seed)
			rnd := rand.New(&w.rnd)
			service := ServiceFunc(func(w *World, q *Request) {
				var err error
				if rnd.IntN(3) == 0 {
					err = &status.Error{Code: status.Code(1 + rnd.IntN(16))}
				}
				w.After(w.Exponential(5*s.caps.Pace), func() { q.Answer(err) })
			})
			var calls []*Call
			for range 200 {
				w.At(time.Duration(w.Uniform()*100*float64(s.caps.Pace)), func() {
					c := s.caps.Call
					if rnd.IntN(2) == 0 {
						c.Deadline = w.now.Add(w.Exponential(5 * s.caps.Pace))
					}
					var x *Call
					if rnd.IntN(3) == 0 {
						x = w.Detach(p, c, service, nil)
					} else {
						x = w.Call(p, c, service, nil)
					}
					calls = append(calls, x)
					if rnd.IntN(2) == 0 {
						w.After(w.Exponential(3*s.caps.Pace)*time.Duration(rnd.IntN(2)), x.Cancel)
					}
				})
			}
			w.Run()
			for _, c := range calls {
				if !c.Ended || !c.Idle() {
					r.Errorf("%s, seed %d: a call has not ended although nothing is to happen any more", slot, seed)
					break
				}
			}
			b.isOut(0, slot+": after cancels at any moment")
			s.settleAfter(r, b, w.now, slot+": after cancels at any moment")
		})
	}
}

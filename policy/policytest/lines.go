package policytest

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/policy"
)

// waiter is one that waits in a line; told counts its verdicts.
type waiter struct {
	told    int
	verdict policy.Verdict
	ticket  policy.Ticket
	parked  bool
	left    bool
	until   policy.Time
}

// queue drives a Line on one goroutine.
type queue struct {
	*driver
	line policy.Line
	all  []*waiter
}

// Granted implements policy.Waiter.
func (q *queue) Granted(tag uint32, v policy.Verdict) {
	w := q.all[tag]
	w.told++
	w.verdict = v
	if v.Decision.Admits() {
		q.held = append(q.held, v.Permit)
	}
	switch {
	case w.told > 1:
		q.r.Errorf("a waiter is told twice")
	case w.left:
		q.r.Errorf("a waiter is told after it has left")
	case !v.Decision.Admits() && v.Decision != policy.Refuse:
		q.r.Errorf("a wait ends with decision %d: want Admit or Refuse", v.Decision)
	}
	if v.Decision == policy.Refuse {
		q.valid(v)
	}
}

// hand asks for those whose wait is over until there are no more.
func (q *queue) hand() {
	for {
		w, v, ok := q.line.Next(q.now, q.src)
		if !ok {
			return
		}
		w.Waiter.Granted(w.Tag, v)
	}
}

// arrive is a call that waits if it has to. It returns its waiter if it does.
func (q *queue) arrive(c policy.Call) *waiter {
	v := q.line.Admit(q.now, q.src, &c)
	q.valid(v)
	if v.Decision == policy.Park {
		w := &waiter{parked: true}
		q.all = append(q.all, w)
		w.ticket, v = q.line.Join(q.now, q.src, &c, policy.Waiting{Waiter: q, Tag: uint32(len(q.all) - 1)})
		q.valid(v)
		if v.Decision == policy.Park {
			w.until = v.At
			q.hand() // somebody may have had to make room
			return w
		}
		w.parked = false
	}
	if v.Decision.Permits() {
		q.held = append(q.held, v.Permit)
	}
	return nil
}

// leave takes a waiter out, and checks what Leave says.
func (q *queue) leave(w *waiter) {
	gone := w.told > 0 || w.left
	ok := q.line.Leave(q.now, w.ticket)
	switch {
	case ok && gone:
		q.r.Errorf("Leave says that a waiter was in the line whose wait had ended")
	case !ok && !gone:
		q.r.Errorf("Leave says that a waiter is not in the line, but nobody told it a verdict")
	}
	w.left = w.left || ok
}

func (s *suite) queue(r reporter, seed uint64) *queue {
	d := s.drive(r, s.new(), seed)
	line, ok := d.g.(policy.Line)
	if !ok {
		r.Errorf("the gate is no policy.Line")
		return nil
	}
	return &queue{driver: d, line: line}
}

// handedOn: whoever waits gets the next place.
func (s *suite) handedOn(_ *testing.T, r reporter) {
	q := s.queue(r, 1)
	if q == nil {
		return
	}
	var w *waiter
	for i := 0; w == nil; i++ {
		if i == 100_000 {
			r.Errorf("%d calls without a result, and none of them waits", i)
			return
		}
		w = q.arrive(s.caps.Call)
	}
	n := len(q.held)
	q.give(0, policy.Success)
	q.hand()
	if w.told != 1 || !w.verdict.Decision.Admits() || len(q.held) != n {
		r.Errorf("a place came back, and the waiter is told %d times: %+v", w.told, w.verdict)
	}
	q.leave(w)
	for len(q.held) > 0 {
		q.give(0, policy.Success)
	}
	q.settle("after a place was handed on")
}

// waiters come, are told, leave and are forgotten by nobody.
func (s *suite) waiters(_ *testing.T, r reporter) {
	for seed := range uint64(50) {
		q := s.queue(r, seed)
		if q == nil {
			return
		}
		parked := 0
		for range 500 {
			switch q.rnd.IntN(6) {
			case 0, 1, 2:
				c := s.caps.Call
				c.Criticality = policy.Criticality(q.rnd.IntN(4))
				c.PathAttempt = q.rnd.IntN(3)
				if q.rnd.IntN(2) == 0 {
					c.Deadline = q.now.Add(time.Duration(1+q.rnd.IntN(20)) * s.caps.Pace)
				}
				if q.arrive(c) != nil {
					parked++
				}
			case 3:
				if len(q.held) > 0 {
					q.give(q.rnd.IntN(len(q.held)), q.any())
					q.hand()
				}
			case 4:
				if len(q.all) > 0 {
					if w := q.all[q.rnd.IntN(len(q.all))]; w.parked {
						q.leave(w)
					}
				}
			case 5:
				q.now = q.now.Add(time.Duration(q.rnd.IntN(5)) * s.caps.Pace)
				for _, w := range q.all { // as executors do
					if w.parked && w.told == 0 && !w.left && w.until != 0 && q.now >= w.until {
						q.leave(w)
					}
				}
			}
			if n := s.caps.Places; n > 0 && len(q.held) > n {
				r.Errorf("%d permits are out, there are only %d places", len(q.held), n)
				return
			}
		}
		for len(q.held) > 0 {
			q.give(0, q.any())
			q.hand()
		}
		for _, w := range q.all {
			if w.parked && w.told == 0 && !w.left {
				r.Errorf("all permits have come back, and a waiter was forgotten")
				return
			}
		}
		if seed == 0 && parked == 0 {
			r.Errorf("none of 500 calls had to wait: give the line fewer places")
		}
		q.settle("after waiters came and went")
	}
}

// bell is a waiter on a goroutine of its own.
type bell chan policy.Verdict

// Granted implements policy.Waiter.
func (b bell) Granted(_ uint32, v policy.Verdict) { b <- v }

// parallelWaiters: if one is forgotten, the bubble finds that everybody waits for nothing.
func (s *suite) parallelWaiters(t *testing.T, r reporter) {
	synctest.Test(t, func(t *testing.T) {
		g := s.new()
		line, ok := g.(policy.Line)
		if !ok {
			r.Errorf("the gate is no policy.Line")
			return
		}
		const workers, rounds = 16, 300
		var wg sync.WaitGroup
		var mu sync.Mutex
		forgotten := 0
		for i := range uint64(workers) {
			wg.Go(func() {
				src := rand.NewPCG(i, 11)
				rnd := rand.New(src)
				for range rounds {
					now, c := policy.Now(), s.caps.Call
					v := line.Admit(now, src, &c)
					if v.Decision == policy.Park {
						b := make(bell, 1)
						var ticket policy.Ticket
						if ticket, v = line.Join(now, src, &c, policy.Waiting{Waiter: b}); v.Decision == policy.Park {
							hand(line, src)
							if rnd.IntN(8) == 0 && line.Leave(now, ticket) {
								continue
							}
							select {
							case v = <-b:
							case <-time.After(time.Hour): //nolint:forbidigo // in a bubble: only if all others wait too
								mu.Lock()
								forgotten++
								mu.Unlock()
								continue
							}
						}
					}
					if v.Decision.Permits() {
						runtime.Gosched()
						line.Done(policy.Now(), src, v.Permit, policy.Success)
						hand(line, src)
					}
				}
			})
		}
		wg.Wait()
		if forgotten > 0 {
			r.Errorf("%d waiters were forgotten", forgotten)
		}
		d := s.drive(r, g, 1)
		d.now = policy.Now()
		d.settle("after parallel waiters")
	})
}

// hand gives the verdicts that are there to those who wait for them.
func hand(line policy.Line, src rand.Source) {
	for {
		w, v, ok := line.Next(policy.Now(), src)
		if !ok {
			return
		}
		w.Waiter.Granted(w.Tag, v)
	}
}

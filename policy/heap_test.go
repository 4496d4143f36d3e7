package policy_test

import (
	"container/heap"
	"math/rand/v2"
	"time"

	"github.com/hull-go/hull/policy"
)

// world drives calls on an event heap: time is a number, and nothing waits. It is the third kind of executor, next to the
// two that use real time, and shows that an Exec needs nothing else.
type world struct {
	now policy.Time
	rnd *rand.PCG
	seq int
	q   events
}

func newWorld(seed uint64) *world { return &world{now: 1e9, rnd: rand.NewPCG(seed, 1)} }

type event struct {
	at  policy.Time
	seq int
	do  func()
}

type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(event)) }
func (q *events) Pop() any {
	e := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return e
}

// after schedules do.
func (w *world) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.q, event{w.now.Add(d), w.seq, do})
}

// run processes events until there are none.
func (w *world) run() {
	for len(w.q) > 0 {
		e := heap.Pop(&w.q).(event)
		w.now = e.at
		e.do()
	}
}

// simCall is one call in a world.
type simCall struct {
	w     *world
	p     *policy.Pipeline
	x     policy.Exec
	began policy.Time
	// serve says how long an attempt takes and how it ends. An attempt that is cancelled or over its deadline ends then.
	serve func(a policy.Attempt) (time.Duration, error)

	gen    [policy.MaxAttempts]int
	ended  bool
	class  policy.Class
	err    error
	took   time.Duration
	starts []policy.Time
}

// call begins a call now.
func (w *world) call(p *policy.Pipeline, c policy.Call, serve func(policy.Attempt) (time.Duration, error)) *simCall {
	s := &simCall{w: w, p: p, serve: serve, began: w.now}
	s.take(s.x.Begin(w.now, w.rnd, p, c, s, false))
	return s
}

// Granted implements policy.Waiter: the verdict arrives as an event of its own.
func (s *simCall) Granted(tag uint32, v policy.Verdict) {
	s.w.after(0, func() { s.take(s.x.Granted(s.w.now, s.w.rnd, tag, v)) })
}

func (s *simCall) take(st policy.Steps) {
	w := s.w
	if st.Wake != 0 {
		w.after(st.Wake.Sub(w.now), func() { s.take(s.x.Wake(w.now, w.rnd)) })
	}
	for k := range policy.MaxAttempts {
		if st.Start.Has(k) {
			s.start(k)
		}
		if st.Cancel.Has(k) {
			s.end(k, time.Millisecond, errCancelled)
		}
	}
	s.x.Release(w.now, w.rnd, s.p, st.Release)
	if st.Done {
		if s.ended {
			panic("a call ended twice")
		}
		_, s.class, s.err = s.x.End()
		s.ended, s.took = true, w.now.Sub(s.began)
	}
}

func (s *simCall) start(k int) {
	a := s.x.Attempt(k)
	s.starts = append(s.starts, s.w.now)
	d, err := s.serve(a)
	if a.Deadline != 0 && s.w.now.Add(d) > a.Deadline {
		d, err = a.Deadline.Sub(s.w.now), errTimeout
	}
	s.end(k, d, err)
}

// end schedules the end of attempt k, in place of an end scheduled before.
func (s *simCall) end(k int, d time.Duration, err error) {
	s.gen[k]++
	gen := s.gen[k]
	s.w.after(d, func() {
		if s.gen[k] == gen {
			s.take(s.x.Result(s.w.now, s.w.rnd, k, err))
		}
	})
}

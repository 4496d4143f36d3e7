package concurrency

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// world is a server behind a limiter on an event heap: cores that serve one call after the other, then a dependency that takes its
// time but bounds nothing; or, if crowd is set, as many cores as are needed that get in each other's way. Calls arrive open loop and are worth nothing after their deadline; those that were let in are worked
// off all the same.
type world struct {
	now policy.Time
	rnd *rand.PCG
	seq int
	q   events

	l     *Limiter
	cores int
	work  time.Duration // mean of the time on a core
	dep   time.Duration // mean of what it takes
	extra time.Duration // what it takes always
	crowd func(busy int) time.Duration

	busy    int
	backlog []*visit
	patient time.Duration // what calls have until their deadline
	done    []record
}

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

// visit is one call.
type visit struct {
	w      *world
	call   policy.Call
	began  policy.Time
	permit policy.Permit
	ticket policy.Ticket
	queued time.Duration
	told   bool
}

// record is what became of one call. Served ones were answered in time.
type record struct {
	began  policy.Time
	ended  policy.Time
	class  policy.Criticality
	root   uint64
	served bool
	shed   bool // refused by the limiter
	queued time.Duration
}

func newWorld(seed uint64, l *Limiter) *world {
	return &world{now: t0, rnd: rand.NewPCG(seed, 3), l: l, cores: 4, work: 10 * time.Millisecond, dep: 20 * time.Millisecond, patient: time.Second}
}

// capacity is how many calls per second the cores can serve.
func (w *world) capacity() float64 { return float64(w.cores) / w.work.Seconds() }

func (w *world) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.q, event{w.now.Add(max(d, 0)), w.seq, do})
}

// until processes the events up to d after the beginning.
func (w *world) until(d time.Duration) {
	end := at(d)
	for len(w.q) > 0 && w.q[0].at <= end {
		e := heap.Pop(&w.q).(event)
		w.now = e.at
		e.do()
	}
	w.now = end
}

func (w *world) float() float64 { return float64(w.rnd.Uint64()>>11) / (1 << 53) }

// exp draws from the exponential distribution.
func (w *world) exp(mean time.Duration) time.Duration {
	return time.Duration(-math.Log(1-w.float()) * float64(mean))
}

// arrive offers rate() calls per second from now on for as long as it is positive.
func (w *world) arrive(rate func() float64, call func() policy.Call) {
	var next func()
	next = func() {
		r := rate()
		if r <= 0 {
			return
		}
		w.after(w.exp(time.Duration(float64(time.Second)/r)), func() {
			w.offer(call())
			next()
		})
	}
	next()
}

func (w *world) offer(c policy.Call) {
	v := &visit{w: w, call: c, began: w.now}
	v.call.Deadline = w.now.Add(w.patient)
	a := w.l.Admit(w.now, w.rnd, &v.call)
	if a.Decision == policy.Park {
		v.ticket, a = w.l.Join(w.now, w.rnd, &v.call, policy.Waiting{Waiter: v})
	}
	if a.Decision != policy.Park {
		v.Granted(0, a)
		return
	}
	w.after(a.At.Sub(w.now), func() {
		if !v.told && w.l.Leave(w.now, v.ticket) {
			v.told = true
			w.end(v, false, true)
		}
	})
}

// Granted implements policy.Waiter.
func (v *visit) Granted(_ uint32, a policy.Verdict) {
	w := v.w
	v.told = true
	v.queued = w.now.Sub(v.began)
	if a.Decision != policy.Admit {
		w.end(v, false, true)
		return
	}
	v.permit = a.Permit
	if w.crowd == nil && w.busy == w.cores {
		w.backlog = append(w.backlog, v)
		return
	}
	w.busy++
	w.serve(v)
}

func (w *world) serve(v *visit) {
	if w.crowd != nil {
		w.after(w.crowd(w.busy)+w.exp(w.dep), func() {
			w.busy--
			w.finish(v)
		})
		return
	}
	w.after(w.exp(w.work), func() {
		if len(w.backlog) > 0 {
			next := w.backlog[0]
			w.backlog = w.backlog[1:]
			w.serve(next)
		} else {
			w.busy--
		}
		w.after(w.extra+w.exp(w.dep), func() { w.finish(v) })
	})
}

// finish answers a call, in time or not, and tells who is next.
func (w *world) finish(v *visit) {
	served := w.now <= v.call.Deadline
	o := policy.Success
	if !served {
		o = policy.TimedOut
	}
	w.l.Done(w.now, w.rnd, v.permit, o)
	w.end(v, served, false)
	for {
		n, a, ok := w.l.Next(w.now, w.rnd)
		if !ok {
			return
		}
		n.Waiter.Granted(n.Tag, a)
	}
}

func (w *world) end(v *visit, served, shed bool) {
	w.done = append(w.done, record{v.began, w.now, v.call.Criticality, v.call.Hash, served, shed, v.queued})
}

// figures of the calls that began in a span.
type figures struct {
	goodput float64 // per second
	shed    float64 // share
	p99     time.Duration
	longest time.Duration // in the line, of those served
}

func (w *world) figures(from, to time.Duration, which func(*record) bool) figures {
	var f figures
	var waits []time.Duration
	n, served, shed := 0, 0, 0
	for i := range w.done {
		r := &w.done[i]
		if r.began < at(from) || r.began >= at(to) || which != nil && !which(r) {
			continue
		}
		n++
		if r.shed {
			shed++
		}
		if r.served {
			served++
			waits = append(waits, r.queued)
		}
	}
	f.goodput = float64(served) / (to - from).Seconds()
	f.shed = float64(shed) / float64(max(n, 1))
	if slices.Sort(waits); len(waits) > 0 {
		f.p99, f.longest = waits[len(waits)*99/100], waits[len(waits)-1]
	}
	return f
}

// completed is how many calls per second were answered in time in a span.
func (w *world) completed(from, to time.Duration) float64 {
	n := 0
	for i := range w.done {
		if r := &w.done[i]; r.served && r.ended >= at(from) && r.ended < at(to) {
			n++
		}
	}
	return float64(n) / (to - from).Seconds()
}

func plain() policy.Call { return policy.Call{} }

func mustTwoArm(t testing.TB, o TwoArmOptions) *TwoArm {
	t.Helper()
	s, err := NewTwoArm(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

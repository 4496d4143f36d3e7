package timeout

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// world is calls that arrive at a rate, each with up to three attempts, fed back into the timeouts that bound them.
type world struct {
	to      *Timeouts
	rnd     *rand.Rand
	now     policy.Time
	ends    ends
	latency func(policy.Time) time.Duration
	left    func() time.Duration // deadline of a call
	once    float64              // share of calls that are not idempotent

	attempts, cut, failed, calls int
}

// end is an attempt's end to come.
type end struct {
	at       policy.Time
	start    policy.Time
	class    policy.Class
	deadline policy.Time
	n        int
	last     bool
}

type ends []end

func (e ends) Len() int           { return len(e) }
func (e ends) Less(i, j int) bool { return e[i].at < e[j].at }
func (e ends) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *ends) Push(x any)        { *e = append(*e, x.(end)) }
func (e *ends) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

func (w *world) start(now, deadline policy.Time, n int, last bool) {
	own := w.to.Attempt(now, nil, deadline.Sub(now), last)
	took := w.latency(now)
	e := end{at: now.Add(took), start: now, class: policy.ClassOK, deadline: deadline, n: n, last: last}
	if limit := now.Add(own); limit < e.at && limit < deadline {
		e.at, e.class = limit, policy.ClassTimeout
	} else if deadline < e.at {
		e.at, e.class = deadline, policy.ClassDeadlineSoon
		if d := deadline.Sub(now); d >= own || w.to.Fair(deadline, d) {
			e.class = policy.ClassDeadlineLate
		}
	}
	heap.Push(&w.ends, e)
}

// run lets seconds pass at rate calls per second and reports the share of the attempts that the timeout cut, and of the calls that failed.
func (w *world) run(seconds, rate int) (cut, failed float64) {
	w.attempts, w.cut, w.failed, w.calls = 0, 0, 0, 0
	for range seconds * rate {
		w.now = w.now.Add(time.Second / time.Duration(rate))
		for len(w.ends) > 0 && w.ends[0].at <= w.now {
			e := heap.Pop(&w.ends).(end)
			w.to.Done(e.at, policy.Ended{Class: e.class, Took: e.at.Sub(e.start)})
			w.attempts++
			if e.class == policy.ClassTimeout {
				w.cut++
				if e.n < 3 && !e.last {
					w.start(e.at, e.deadline, e.n+1, e.n == 2)
					continue
				}
			}
			w.calls++
			if e.class != policy.ClassOK {
				w.failed++
			}
		}
		w.start(w.now, w.now.Add(w.left()), 1, w.rnd.Float64() < w.once)
	}
	return float64(w.cut) / float64(max(w.attempts, 1)), float64(w.failed) / float64(max(w.calls, 1))
}

func newWorld(t *testing.T, seed, run uint64, median time.Duration, sigma float64) *world {
	t.Helper()
	w := &world{to: must(t, Options{}), rnd: rand.New(rand.NewPCG(seed, run)), now: t0}
	w.latency = func(policy.Time) time.Duration { return w.lognormal(median, sigma) }
	w.left = func() time.Duration { return 5 * time.Second }
	return w
}

func (w *world) lognormal(median time.Duration, sigma float64) time.Duration {
	return time.Duration(float64(median) * math.Exp(sigma*w.rnd.NormFloat64()))
}

// Whatever the service does, once it is steady the timeout lets at least 97 % of the attempts come to their end: fed with its own
// verdicts, it does not collapse.
func TestNeverCollapses(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for run := range uint64(25) {
		rnd := rand.New(rand.NewPCG(seed, run))
		median := time.Duration(math.Exp(math.Log(1e6) + rnd.Float64()*math.Log(200))) // 1 to 200 ms
		w := newWorld(t, seed, run, median, 0.2+0.5*rnd.Float64())
		w.once = rnd.Float64() / 2
		w.run(20, 200)
		// It gets slower, perhaps much, and perhaps faster again.
		slow := time.Duration(float64(median) * math.Exp(rnd.Float64()*math.Log(20)))
		slow = min(slow, 500*time.Millisecond)
		sigma := 0.1 + 0.4*rnd.Float64()
		w.latency = func(policy.Time) time.Duration { return w.lognormal(slow, sigma) }
		w.run(25, 200)
		if cut, _ := w.run(20, 200); cut > 0.03 {
			t.Errorf("seed %d run %d: %v to %v: %.1f %% are cut off in the steady state, %+v", seed, run, median, slow, 100*cut, w.to.Snapshot(w.now))
		}
		w.latency = func(policy.Time) time.Duration { return w.lognormal(median, sigma) }
		w.run(60, 200)
		if cut, _ := w.run(20, 200); cut > 0.03 {
			t.Errorf("seed %d run %d: back to %v: %.1f %% are cut off, %+v", seed, run, median, 100*cut, w.to.Snapshot(w.now))
		}
	}
}

// A service that becomes a hundred times slower is followed within seconds, and its calls do not fail meanwhile, because the last
// attempt has what is left.
func TestFollowsASlowdown(t *testing.T) {
	w := newWorld(t, 1, 1, 5*time.Millisecond, 0.3)
	w.run(20, 200)
	w.latency = func(policy.Time) time.Duration { return w.lognormal(500*time.Millisecond, 0.3) }
	_, failed := w.run(6, 200)
	cut, _ := w.run(10, 200)
	if cut > 0.03 || failed > 0.01 {
		t.Errorf("%.1f %% failed at first, %.1f %% are cut off 6 s later: %+v", 100*failed, 100*cut, w.to.Snapshot(w.now))
	}
}

// One node in fifty hangs and is not ejected: the timeout must not grow without end in search of an answer that does not
// come, and the calls that hit it go elsewhere.
func TestAHungNodeDoesNotEatTheCall(t *testing.T) {
	w := newWorld(t, 2, 2, 20*time.Millisecond, 0.3)
	w.run(20, 200)
	before := w.to.Snapshot(w.now).Timeout
	fine := w.latency
	w.latency = func(now policy.Time) time.Duration {
		if w.rnd.IntN(50) == 0 {
			return time.Hour
		}
		return fine(now)
	}
	_, failed := w.run(60, 200)
	if s := w.to.Snapshot(w.now); s.Timeout > blind*before+time.Millisecond || failed > 0.002 {
		t.Errorf("before %v, now %+v; %.2f %% failed", before, s, 100*failed)
	}
}

// Callers with next to no time learn nothing about the service, and teach nothing.
func TestHastyCallers(t *testing.T) {
	w := newWorld(t, 3, 3, 50*time.Millisecond, 0.3)
	w.run(20, 200)
	before := w.to.Snapshot(w.now).Timeout
	w.left = func() time.Duration {
		if w.rnd.IntN(3) == 0 {
			return time.Millisecond
		}
		return 5 * time.Second
	}
	w.run(30, 200)
	if s := w.to.Snapshot(w.now); s.Timeout > before*13/10 || s.Timeout < before*7/10 {
		t.Errorf("before %v, now %+v", before, s)
	}
}

package policy_test

import (
	"container/heap"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/policy/hedge"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/policy/throttle"
	"github.com/hull-go/hull/policy/timeout"
	"github.com/hull-go/hull/status"
)

var execSeed = flag.Uint64("exec.seed", 0, "seed of the one scenario of TestExecKeepsItsPromises to run; 0 = many")

// TestExecKeepsItsPromises drives calls through random pipelines with random events in random order, and checks what has to
// hold whatever happens. A failure prints the seed that repeats it.
func TestExecKeepsItsPromises(t *testing.T) {
	if *execSeed != 0 {
		scenario(t, *execSeed)
		return
	}
	first := rand.Uint64() | 1
	calls := 0
	for i := range scenarios {
		seed := first + uint64(i)*2
		calls += scenario(t, seed)
		if t.Failed() {
			t.Fatalf("repeat with: go test ./policy -run %s -args -exec.seed=%d", t.Name(), seed)
		}
	}
	t.Logf("%d calls in %d scenarios, first seed %d", calls, scenarios, first)
}

// books wraps a gate and counts its permits.
type books struct {
	policy.Gate
	t     *testing.T
	name  string
	out   int
	mode  policy.Mode
	probe bool // the latest call was told that it is a probe
}

func (b *books) note(v policy.Verdict) policy.Verdict {
	if v.Decision.Permits() {
		b.out++
		b.probe = v.Decision == policy.Probe && b.mode == policy.On && b.name != "throttle"
	}
	return v
}

func (b *books) Admit(now policy.Time, rnd rand.Source, c *policy.Call) policy.Verdict {
	return b.note(b.Gate.Admit(now, rnd, c))
}

func (b *books) Done(now policy.Time, rnd rand.Source, p policy.Permit, o policy.Outcome) {
	if b.out--; b.out < 0 {
		b.t.Errorf("%s: more permits came back than were given", b.name)
	}
	b.Gate.Done(now, rnd, p, o)
}

// lineBooks are the books of a gate with waiters.
type lineBooks struct{ *books }

func (b lineBooks) Join(now policy.Time, rnd rand.Source, c *policy.Call, w policy.Waiting) (policy.Ticket, policy.Verdict) {
	tk, v := b.Gate.(policy.Line).Join(now, rnd, c, w)
	return tk, b.note(v)
}

func (b lineBooks) Leave(now policy.Time, t policy.Ticket) bool {
	return b.Gate.(policy.Line).Leave(now, t)
}

func (b lineBooks) Next(now policy.Time, rnd rand.Source) (policy.Waiting, policy.Verdict, bool) {
	w, v, ok := b.Gate.(policy.Line).Next(now, rnd)
	if ok {
		b.note(v)
	}
	return w, v, ok
}

// revokerBooks are the books of a breaker.
type revokerBooks struct{ *books }

func (b revokerBooks) Holds(now policy.Time, p policy.Permit) bool {
	return b.Gate.(policy.Revoker).Holds(now, p)
}

// moody is a gate that does anything that a gate may do, but park.
type moody struct{ r *rand.Rand }

func (m moody) Admit(now policy.Time, _ rand.Source, _ *policy.Call) policy.Verdict {
	switch m.r.IntN(8) {
	case 0:
		return policy.Verdict{Decision: policy.Refuse, At: now.Add(ms), State: "moody", Reason: "no reason"}
	case 1, 2:
		return policy.Verdict{Decision: policy.Wait, At: now.Add(time.Duration(m.r.IntN(8)) * ms)}
	case 3:
		return policy.Verdict{Decision: policy.Decision(m.r.IntN(3) / 2)}
	}
	return policy.Verdict{}
}
func (moody) Done(policy.Time, rand.Source, policy.Permit, policy.Outcome) {}

// fleet is a set of scripted nodes that keeps books of each pick.
type fleet struct {
	t     *testing.T
	r     *rand.Rand
	nodes []*place
	seq   uint32
	out   map[uint32]*place
	shy   bool // refuses now and then
}

func (f *fleet) Pick(_ policy.Time, _ rand.Source, _ *policy.Call, tried []policy.Node) (policy.Node, policy.Verdict) {
	if f.shy && f.r.IntN(6) == 0 {
		return nil, policy.Verdict{Decision: policy.Refuse, State: "empty", Reason: "no node is left"}
	}
	fresh := make([]*place, 0, len(f.nodes))
	for _, n := range f.nodes {
		was := false
		for _, tr := range tried {
			was = was || tr == policy.Node(n)
		}
		if !was {
			fresh = append(fresh, n)
		}
	}
	if len(fresh) == 0 {
		fresh = f.nodes
	}
	n := fresh[f.r.IntN(len(fresh))]
	f.seq++
	f.out[f.seq] = n
	return n, policy.Verdict{Permit: policy.Permit{Slot: f.seq}}
}

func (f *fleet) Done(_ policy.Time, _ rand.Source, n policy.Node, p policy.Permit, _ policy.Ended) {
	if f.out[p.Slot] == nil || policy.Node(f.out[p.Slot]) != n {
		f.t.Errorf("pick %d of %s came back twice, or was of another node", p.Slot, n.ID())
	}
	delete(f.out, p.Slot)
}

// ledger wraps a budget and counts what was paid.
type ledger struct {
	*retry.Budget
	paid int
}

func (l *ledger) Spend(now policy.Time, c policy.Criticality, tokens int) bool {
	ok := l.Budget.Spend(now, c, tokens)
	if ok {
		l.paid++
	}
	return ok
}

// stage is one scenario.
type stage struct {
	t        *testing.T
	w        *world
	r        *rand.Rand
	p        *policy.Pipeline
	max      int
	detached bool
	books    []*books
	limits   []*concurrency.Limiter
	fleet    *fleet
	ledger   *ledger
	calls    []*actor
	owed     int // extra attempts that had to be paid
}

// scenario plays one, and returns the number of its calls.
func scenario(t *testing.T, seed uint64) int {
	s := &stage{t: t, w: newWorld(seed), r: rand.New(rand.NewPCG(seed, 2))}
	s.detached = s.r.IntN(3) == 0
	s.build()
	for range 1 + s.r.IntN(5) {
		s.later(s.r.IntN(20), s.begin)
	}
	events := 0
	for len(s.w.q) > 0 && !t.Failed() {
		e := heap.Pop(&s.w.q).(event)
		s.w.now = e.at
		e.do()
		if events++; events > 20_000 {
			t.Error("the events do not end: a storm of wakes")
		}
	}
	if !t.Failed() {
		s.check()
	}
	return len(s.calls)
}

// later schedules do after some milliseconds; what is due at the same time happens in any order.
func (s *stage) later(millis int, do func()) {
	heap.Push(&s.w.q, event{s.w.now.Add(time.Duration(millis) * ms), s.r.Int(), do})
}

func (s *stage) sometimes(n int) bool { return s.r.IntN(n) == 0 }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (s *stage) keep(name string, g policy.Gate) *books {
	b := &books{Gate: g, t: s.t, name: name, mode: s.mode()}
	s.books = append(s.books, b)
	return b
}

func (s *stage) limit(name string) policy.Slot {
	l := must(concurrency.New(concurrency.Options{Limit: 1 + s.r.IntN(3), Queue: s.r.IntN(4),
		MaxWait: time.Duration(1+s.r.IntN(12)) * ms, Order: concurrency.Order(s.r.IntN(2))}))
	s.limits = append(s.limits, l)
	b := s.keep(name, l)
	return policy.Slot{Name: name, Gate: lineBooks{b}, Mode: b.mode}
}

func (s *stage) mode() policy.Mode {
	if s.sometimes(6) {
		return policy.DryRun
	}
	return policy.On
}

func (s *stage) build() {
	var o policy.Options
	if s.sometimes(3) {
		b := s.keep("rate", moody{s.r})
		o.Rate = policy.Slot{Name: b.name, Gate: b, Mode: b.mode}
	}
	if s.sometimes(3) {
		o.Gates = append(o.Gates, s.limit("bulkhead"))
	}
	if !s.sometimes(3) {
		b := must(breaker.New(breaker.Options{MinCalls: 1 + s.r.IntN(4), Open: 3 * ms, OpenCap: 10 * ms, ProbeEvery: ms, ProbeLease: 8 * ms,
			Successes: 1 + s.r.IntN(2), Ramp: time.Duration(s.r.IntN(3)-1) * ms}))
		if s.sometimes(3) {
			b.ForceOpen(s.w.now)
			s.later(s.r.IntN(5), func() { b.Reset(s.w.now) })
		}
		k := s.keep("breaker", b)
		o.Breaker = policy.Slot{Name: k.name, Gate: revokerBooks{k}, Mode: k.mode}
	}
	s.max = 1
	if !s.sometimes(5) {
		s.max = 1 + s.r.IntN(policy.MaxAttempts)
		o.Retries = must(retry.New(retry.Options{Attempts: s.max, Base: ms, Cap: time.Duration(1+s.r.IntN(10)) * ms,
			Backoff: retry.Backoff(s.r.IntN(5)), RetryInternal: s.sometimes(2)}))
		if !s.sometimes(3) {
			o.Hedging = must(hedge.New(hedge.Options{Delay: time.Duration(1+s.r.IntN(5)) * ms, Hedges: 1 + s.r.IntN(3), Extra: 1 + float64(s.r.IntN(4))}))
			if s.sometimes(3) {
				o.Hedging = delay(time.Duration(s.r.IntN(4)) * ms)
			}
		}
	}
	if !s.sometimes(3) {
		s.ledger = &ledger{Budget: must(retry.NewBudget(retry.BudgetOptions{Capacity: 1 + s.r.IntN(100), PerPeak: -1}))}
		o.Budget = s.ledger
	}
	switch s.r.IntN(4) {
	case 0:
		b := s.keep("throttle", moody{s.r})
		o.Throttle = policy.Slot{Name: b.name, Gate: b, Mode: b.mode}
	case 1:
		th := must(throttle.New(throttle.Options{Window: 100 * ms, MinCalls: 2}))
		b := s.keep("throttle", th)
		o.Throttle = policy.Slot{Name: b.name, Gate: b, Mode: b.mode}
	}
	if !s.sometimes(4) {
		s.fleet = &fleet{t: s.t, r: s.r, out: map[uint32]*place{}, shy: s.sometimes(4)}
		for i := range 1 + s.r.IntN(4) {
			s.fleet.nodes = append(s.fleet.nodes, &place{fmt.Sprint(i)})
		}
		o.Nodes = s.fleet
	}
	if !s.sometimes(3) {
		o.Concurrency = s.limit("concurrency")
	}
	if !s.sometimes(3) {
		o.Timeouts = must(timeout.New(timeout.Options{Fixed: time.Duration(1+s.r.IntN(10)) * ms}))
		if s.sometimes(3) {
			o.Timeouts = must(timeout.New(timeout.Options{Cold: 5 * ms, Min: ms, Max: 50 * ms}))
		}
	}
	s.p = must(policy.New(o))
}

// actor turns one call's Exec, as a clumsy executor might.
type actor struct {
	s     *stage
	c     policy.Call
	x     policy.Exec
	timer int // generation of the timer that is set

	ended, cancelled, probe bool
	started, running        policy.Set
	cancelAsked             policy.Set
	fates                   [policy.MaxAttempts]status.Fate
	classes                 [policy.MaxAttempts]policy.Class
	reported                policy.Set
	gen                     [policy.MaxAttempts]int
	deadlines               [policy.MaxAttempts]policy.Time
	wakes, spurious         int
}

func (s *stage) begin() {
	a := &actor{s: s}
	s.calls = append(s.calls, a)
	a.c.Service, a.c.Method = "s", fmt.Sprint(len(s.calls))
	a.c.SideEffectFree = s.sometimes(2)
	a.c.Idempotent = a.c.SideEffectFree || s.sometimes(2)
	if !s.sometimes(3) {
		a.c.Deadline = s.w.now.Add(time.Duration(s.r.IntN(40)) * ms)
	}
	if s.sometimes(6) {
		a.c.PathAttempt = 2
	}
	if s.sometimes(3) {
		s.later(s.r.IntN(30), func() {
			a.cancelled = true
			a.take(a.x.Cancel(s.w.now, s.w.rnd, errors.New("gone")))
		})
	}
	for range s.r.IntN(4) {
		s.later(s.r.IntN(40), func() {
			a.spurious++
			a.take(a.x.Wake(s.w.now, s.w.rnd))
		})
	}
	a.take(a.x.Begin(s.w.now, s.w.rnd, s.p, a.c, a, s.detached))
}

// Granted implements policy.Waiter. Verdicts may take their time.
func (a *actor) Granted(tag uint32, v policy.Verdict) {
	s := a.s
	s.later(s.r.IntN(4)*s.r.IntN(2), func() {
		if a.ended && a.x.Idle() {
			s.t.Errorf("call %s is idle, but a verdict was still to arrive", a.c.Method)
		}
		a.take(a.x.Granted(s.w.now, s.w.rnd, tag, v))
	})
}

func (a *actor) take(st policy.Steps) {
	s := a.s
	for _, b := range s.books { // what a gate has been asked since the last event, it was asked by this one
		a.probe = a.probe || b.probe
		b.probe = false
	}
	if st.Wake != 0 {
		if st.Wake < s.w.now {
			s.t.Errorf("a wake in the past")
		}
		a.timer++
		gen := a.timer
		heap.Push(&s.w.q, event{st.Wake, s.r.Int(), func() {
			if gen != a.timer {
				return
			}
			a.timer++
			if a.wakes++; a.wakes > 60 {
				s.t.Errorf("%d wakes for one call", a.wakes)
			}
			a.take(a.x.Wake(s.w.now, s.w.rnd))
		}})
	}
	if st.Release != 0 {
		s.later(0, func() { a.x.Release(s.w.now, s.w.rnd, s.p, st.Release) })
	}
	if st.Done && a.ended {
		s.t.Errorf("call %s ended twice", a.c.Method)
	}
	for k := range policy.MaxAttempts {
		if st.Start.Has(k) {
			a.start(k)
		}
		if st.Cancel.Has(k) {
			a.cancel(k)
		}
	}
	if st.Done {
		a.ended = true
		a.end()
	}
}

func bit(k int) policy.Set { return 1 << k }

func (a *actor) start(k int) {
	s, c := a.s, &a.c
	at := a.x.Attempt(k)
	bad := func(format string, args ...any) {
		s.t.Helper()
		s.t.Errorf("call %s, attempt %d at %v: %s", c.Method, k, s.w.now, fmt.Sprintf(format, args...))
	}
	switch {
	case a.started.Has(k):
		bad("started twice")
	case a.ended:
		bad("started after the end")
	case a.cancelled:
		bad("started after the caller gave up")
	case c.Deadline != 0 && s.w.now >= c.Deadline:
		bad("started at or after the deadline")
	case k >= s.max:
		bad("only %d are allowed", s.max)
	case at.Hedge && !c.SideEffectFree:
		bad("a hedge of a method with side effects")
	case a.running&^a.cancelAsked != 0 && !at.Hedge:
		bad("not a hedge, but others run")
	case a.probe && k > 0:
		bad("a probe is neither retried nor hedged")
	case c.PathAttempt > 1 && at.Hedge:
		bad("a hedge though a caller above tries again")
	case c.Deadline != 0 && at.Deadline == 0, at.Deadline != 0 && (at.Deadline <= s.w.now || c.Deadline != 0 && at.Deadline > c.Deadline):
		bad("its deadline is %v", at.Deadline)
	}
	costs := !at.Hedge
	for i := range k {
		if !a.started.Has(i) {
			continue
		}
		if rule := a.classes[i].Counts().Retry; !c.Idempotent && (!a.reported.Has(i) || a.fates[i] != status.NotSent && rule != policy.RetryAny && rule != policy.RetryAnyOnce) {
			bad("not idempotent, and attempt %d is not proved to have done nothing", i)
		}
		if s.fleet != nil && a.x.Attempt(i).Node == at.Node && len(s.fleet.nodes) > k {
			bad("repeats node %s while others are untried", at.Node.ID())
		}
		costs = costs && a.reported.Has(i) && a.classes[i].Counts().Cost > 0
	}
	if s.ledger != nil && k > 0 && (at.Hedge || costs && a.started != 0) {
		s.owed++
	}
	a.started |= bit(k)
	a.running |= bit(k)
	a.deadlines[k] = at.Deadline
	took, err := s.r.IntN(12), a.outcome()
	if s.sometimes(5) {
		took = 1000 // hangs
	}
	if end := s.w.now.Add(time.Duration(took) * ms); at.Deadline != 0 && end > at.Deadline && !s.detached {
		took, err = int(at.Deadline.Sub(s.w.now)/ms)+s.r.IntN(3), errTimeout
	}
	a.result(k, took, err)
}

func (a *actor) outcome() error {
	r := a.s.r
	switch r.IntN(14) {
	case 0:
		return errUnavailable
	case 1:
		return errRefusedConn
	case 2:
		return &status.Error{Code: status.Unavailable, Kind: status.Reset}
	case 3:
		return &status.Error{Code: status.ResourceExhausted, Kind: status.Shed, Fate: status.NotSent, Pushback: time.Duration(r.IntN(4)-1) * ms}
	case 4:
		return errNotFound
	case 5:
		return &status.Error{Code: status.Internal, Fate: status.Processed}
	case 6:
		return &status.Error{Code: status.Unavailable, Kind: status.Draining, Fate: status.NotSent}
	case 7:
		return errTimeout
	case 8:
		return &status.Error{Code: status.Unavailable, Origin: status.Downstream, Fate: status.Processed}
	case 9:
		return errPlain
	}
	return nil
}

var errPlain = errors.New("a plain error")

// result schedules the end of attempt k, in place of one scheduled before.
func (a *actor) result(k, millis int, err error) {
	s := a.s
	a.gen[k]++
	gen := a.gen[k]
	s.later(millis, func() {
		if a.gen[k] != gen {
			return
		}
		a.gen[k]++
		a.running &^= bit(k)
		if err == errPlain && s.sometimes(2) { //nolint:errorlint // its identity is meant
			a.report(k, policy.ClassInternal, status.Maybe)
			a.take(a.x.Panicked(s.w.now, s.w.rnd, k))
			return
		}
		a.report(k, policy.Classify(err), status.FateOf(err))
		a.take(a.x.Result(s.w.now, s.w.rnd, k, err))
		if s.sometimes(8) { // executors do not, but it must do no harm
			a.take(a.x.Result(s.w.now, s.w.rnd, k, err))
		}
	})
}

func (a *actor) report(k int, c policy.Class, f status.Fate) {
	if a.cancelAsked.Has(k) {
		return // was given up before, with fate Maybe
	}
	a.reported |= bit(k)
	a.classes[k], a.fates[k] = c, f
}

func (a *actor) cancel(k int) {
	s := a.s
	if !a.started.Has(k) || a.cancelAsked.Has(k) || !a.running.Has(k) {
		s.t.Errorf("call %s: attempt %d is cancelled, but does not run or is cancelled already", a.c.Method, k)
	}
	a.cancelAsked |= bit(k)
	if !a.reported.Has(k) {
		a.reported |= bit(k)
		a.classes[k], a.fates[k] = policy.ClassTimeout, status.Maybe
	}
	switch s.r.IntN(4) {
	case 0: // does not listen
		if !s.detached {
			a.result(k, s.r.IntN(5), nil)
		}
	case 1:
		a.result(k, s.r.IntN(5), nil)
	default:
		a.result(k, s.r.IntN(3), errCancelled)
	}
}

// end checks how the call ended, at the moment it did.
func (a *actor) end() {
	t := a.s.t
	winner, class, err := a.x.End()
	if (err == nil) != (class == policy.ClassOK) {
		t.Errorf("call %s: class %v with error %v", a.c.Method, class, err)
	}
	if winner >= 0 && !a.started.Has(winner) {
		t.Errorf("call %s: attempt %d won, but never started", a.c.Method, winner)
	}
	if err == nil {
		if winner < 0 || a.fates[winner] != status.Processed {
			t.Errorf("call %s: succeeded with attempt %d, which did not", a.c.Method, winner)
		}
		return
	}
	if status.FateOf(err) == status.NotSent {
		for k := range policy.MaxAttempts {
			if a.started.Has(k) && (!a.reported.Has(k) || a.fates[k] != status.NotSent) {
				t.Errorf("call %s: %v says that nothing was sent, but attempt %d may have been", a.c.Method, err, k)
			}
		}
	}
}

// check is what has to hold when all is quiet.
func (s *stage) check() {
	t := s.t
	var first, started int
	for _, a := range s.calls {
		if !a.ended {
			t.Errorf("call %s did not end", a.c.Method)
			continue
		}
		if !a.x.Idle() {
			t.Errorf("call %s has ended but is not idle", a.c.Method)
			continue
		}
		started += a.started.Len()
		if a.started != 0 {
			first++
		}
		var story policy.Story
		a.x.Story(s.w.now, &story)
		if len(story.Attempts) != a.started.Len() {
			t.Errorf("call %s: the story has %d attempts of %d", a.c.Method, len(story.Attempts), a.started.Len())
		}
		if a.x.Reset(); !a.x.Fresh() {
			t.Errorf("call %s: something is left after Reset", a.c.Method)
		}
	}
	for _, b := range s.books {
		if b.out != 0 {
			t.Errorf("%d permits of %s are still out", b.out, b.name)
		}
	}
	for _, l := range s.limits {
		if n := l.Snapshot(); n.InUse != 0 || n.Waiting != 0 {
			t.Errorf("a limiter is left with %d in use and %d waiting", n.InUse, n.Waiting)
		}
	}
	if s.fleet != nil && len(s.fleet.out) != 0 {
		t.Errorf("%d picks are still out", len(s.fleet.out))
	}
	if s.ledger != nil {
		if n := s.ledger.Snapshot(s.w.now).Tokens; n < 0 || s.ledger.paid < s.owed {
			t.Errorf("%d tokens are left, %d extra attempts were paid, %d had to be", n, s.ledger.paid, s.owed)
		}
	}
	n := s.p.Snapshot()
	if n.Calls != int64(len(s.calls)) || n.Attempts != int64(started) || n.Abandoned != 0 || n.Refused > n.Calls || n.Retries+n.Hedges != n.Attempts-int64(first) {
		t.Errorf("counters %+v after %d calls, %d attempts, %d of them first ones", n, len(s.calls), started, first)
	}
}

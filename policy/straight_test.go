package policy_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// scribe is every policy of a pipeline: it does what its random numbers say and writes down what it is asked and told.
type scribe struct {
	name  string
	r     *rand.Rand
	odd   int // one verdict in so many is none that simply admits
	diary *[]string
	start policy.Time
	n     uint32
}

func (s *scribe) note(format string, args ...any) {
	*s.diary = append(*s.diary, s.name+" "+fmt.Sprintf(format, args...))
}

func (s *scribe) Admit(now policy.Time, _ rand.Source, c *policy.Call) policy.Verdict {
	s.n++
	v := policy.Verdict{Permit: policy.Permit{Start: now, Gen: s.n, Slot: s.r.Uint32()}}
	if s.r.IntN(s.odd) == 0 {
		switch s.r.IntN(3) {
		case 0:
			v = policy.Verdict{Decision: policy.Refuse, At: now.Add(ms), State: "shut", Reason: "chance"}
		case 1:
			v.Decision, v.At = policy.Wait, now.Add(time.Duration(s.r.IntN(20))*ms)
		case 2:
			v.Decision = policy.Probe
		}
	}
	s.note("at %v asked for %+v: %v %v", now.Sub(s.start), *c, v.Decision, v.Permit.Slot)
	return v
}

func (s *scribe) Done(now policy.Time, _ rand.Source, p policy.Permit, o policy.Outcome) {
	s.note("at %v told %v of %d/%d from %v", now.Sub(s.start), o, p.Gen, p.Slot, p.Start.Sub(s.start))
}

func (s *scribe) Holds(policy.Time, policy.Permit) bool { return s.r.IntN(8) > 0 }

// clock is the scribe as Timeouts, wallet as a Budget.
type clock struct{ *scribe }

func (c clock) Attempt(now policy.Time, call *policy.Call, left time.Duration, last bool) time.Duration {
	c.note("at %v asked for the time with %v left, last %v", now.Sub(c.start), left, last)
	return time.Duration(c.r.IntN(30)) * ms * 101 / 100
}
func (c clock) Fair(policy.Time, time.Duration) bool { return c.r.IntN(2) == 0 }
func (c clock) Done(now policy.Time, e policy.Ended) {
	c.note("at %v told %+v", now.Sub(c.start), e)
}

type wallet struct{ *scribe }

func (p wallet) Spend(_ policy.Time, _ policy.Criticality, tokens int) bool {
	p.note("spends %d", tokens)
	return p.r.IntN(4) > 0
}
func (p wallet) Earn(_ policy.Time, tokens int) { p.note("earns %d", tokens) }

// fork is the scribe as Nodes.
type fork struct{ *scribe }

func (f fork) Pick(now policy.Time, _ rand.Source, c *policy.Call, tried []policy.Node) (policy.Node, policy.Verdict) {
	v := f.Admit(now, nil, c)
	f.note("of nodes %v", tried)
	if v.Decision == policy.Wait || f.r.IntN(20) == 0 {
		return nil, v
	}
	return corner(f.r.IntN(3)), v
}

func (f fork) Done(now policy.Time, _ rand.Source, n policy.Node, p policy.Permit, e policy.Ended) {
	f.note("at %v told %+v of %v %d/%d from %v", now.Sub(f.start), e, n, p.Gen, p.Slot, p.Start.Sub(f.start))
}

// corner is a node.
type corner int

func (n corner) ID() string { return fmt.Sprint("node ", int(n)) }

// teller is the scribe as an Observer, choosy as one that wants to hear of some calls.
type teller struct{ *scribe }

func (o teller) Call(now policy.Time, c *policy.Call, s *policy.Story) {
	o.note("at %v hears of %+v: %+v", now.Sub(o.start), *c, *s)
}

type choosy struct{ teller }

func (o choosy) Wants(now policy.Time, c *policy.Call, cl policy.Class, took time.Duration) bool {
	o.note("at %v may hear of %+v: %v after %v", now.Sub(o.start), *c, cl, took)
	return o.r.IntN(2) == 0
}

// attempts is a Runner.
type attempts func(context.Context, policy.Attempt) error

func (f attempts) Run(ctx context.Context, a policy.Attempt) error { return f(ctx, a) }

// TestStraightIsExec runs the same random calls through pipelines that differ in one thing: whether calls may go straight. Their
// policies must be asked and told the same, in the same order, and the callers get the same.
func TestStraightIsExec(t *testing.T) {
	compare(t, false)
}

// TestLaneIsExec is the same for calls of Drive, which also have nodes and observers.
func TestLaneIsExec(t *testing.T) {
	compare(t, true)
}

func compare(t *testing.T, drive bool) {
	first := rand.Uint64()
	straight := 0
	for i := range uint64(scenarios) {
		seed := first + i
		var want, got []string
		synctest.Test(t, func(*testing.T) { want, _ = diary(seed, false, drive) })
		synctest.Test(t, func(*testing.T) {
			var went int
			got, went = diary(seed, true, drive)
			straight += went
		})
		if !slices.Equal(got, want) {
			t.Errorf("seed %d: straight:\n%q\nas an Exec:\n%q", seed, got, want)
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("first seed %d, %d of %d calls ran their function once", first, straight, scenarios)
	if straight < scenarios/20 || straight > scenarios*19/20 {
		t.Errorf("%d of %d calls ran their function once: the test does not test both", straight, scenarios)
	}
}

// diary makes one random call and returns what was seen of it. The caller's end never falls on the moment of something else, or
// which comes first would be anybody's guess: it alone is off the grid of 4 ns.
func diary(seed uint64, straight, drive bool) (d []string, went int) {
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test's
	start := policy.Now()
	scribes := uint64(2)
	by := func(name string) *scribe {
		scribes++
		return &scribe{name: name, r: rand.New(rand.NewPCG(seed, scribes)), odd: 6, diary: &d, start: start} //nolint:gosec // a test's
	}
	slot := func(name string) policy.Slot {
		if r.IntN(3) == 0 {
			return policy.Slot{}
		}
		return policy.Slot{Name: name, Gate: by(name), Mode: policy.Mode(r.IntN(6) / 5)}
	}
	o := policy.Options{Key: "k", Rate: slot("rate"), Breaker: slot("breaker"), Throttle: slot("throttle"), Concurrency: slot("concurrency")}
	if r.IntN(3) > 0 {
		o.Retries = tries{1 + r.IntN(3), time.Duration(r.IntN(10)) * ms}
	}
	if r.IntN(3) > 0 {
		o.Timeouts = clock{by("timeout")}
	}
	if r.IntN(3) > 0 {
		o.Budget = wallet{by("budget")}
	}
	if drive {
		if r.IntN(4) > 0 {
			o.Nodes = fork{by("nodes")}
		}
		switch teller := (teller{by("observer")}); r.IntN(3) {
		case 0:
			o.Observer = teller
		case 1:
			o.Observer = choosy{teller}
		}
	}
	p, err := policy.New(o)
	if err != nil {
		return []string{err.Error()}, 0
	}
	if !straight {
		p.Crooked()
	}
	var call []policy.Call
	if r.IntN(2) == 0 {
		call = append(call, policy.Call{Method: "m", Idempotent: r.IntN(2) == 0, PathAttempt: r.IntN(3)})
		if r.IntN(2) == 0 {
			call[0].Deadline = start.Add(time.Duration(r.IntN(60)-5) * ms * 103 / 100)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if r.IntN(3) == 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(r.IntN(60))*ms+2)
		defer cancel()
	}
	gone := r.IntN(8) == 0
	if gone {
		t := time.AfterFunc(time.Duration(1+r.IntN(40))*ms+1, cancel)
		defer t.Stop()
	}
	runs := 0
	fn := func(ctx context.Context) (int, error) {
		runs++
		deadline, ok := ctx.Deadline()
		d = append(d, fmt.Sprintf("fn at %v until %v %v, err %v", policy.Now().Sub(start), ok, policy.At(deadline).Sub(start), ctx.Err()))
		time.Sleep(time.Duration(1+r.IntN(20)) * ms * 113 / 100)
		switch r.IntN(12) {
		case 0:
			return runs, errPlain
		case 1:
			return runs, &status.Error{Code: status.Unavailable, Fate: status.NotSent}
		case 2:
			return runs, errUnavailable
		case 3:
			<-timeOr(ctx, 49*ms*127/100)
			return runs, ctx.Err()
		case 4:
			panic("chance")
		}
		return runs, nil
	}
	defer func() {
		if v := recover(); v != nil {
			d = append(d, fmt.Sprint("panic ", v))
		}
		d = append(d, fmt.Sprintf("%+v", p.Snapshot()))
		if straight && runs == 1 && (p.Plain() || drive && p.Lane()) {
			went = 1
		}
	}()
	if drive {
		winner, err := p.Drive(ctx, append(call, policy.Call{})[0], attempts(func(ctx context.Context, a policy.Attempt) error {
			d = append(d, fmt.Sprintf("attempt %d at %v, begun %v, of %v", a.N, a.Node, a.Start.Sub(start), a.Hedge))
			if a.Deadline != 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithDeadline(ctx, a.Deadline.Clock())
				defer cancel()
			}
			_, err := fn(ctx)
			return err
		}))
		d = append(d, fmt.Sprintf("attempt %d, %v fate %v at %v", winner, err, status.FateOf(err), policy.Now().Sub(start)))
		return d, went
	}
	v, err := policy.Do(ctx, p, fn, call...)
	d = append(d, fmt.Sprintf("%v %v fate %v at %v", v, err, status.FateOf(err), policy.Now().Sub(start)))
	if e, ok := errors.AsType[*status.Error](err); ok {
		d = append(d, fmt.Sprintf("%+v", e.Refusal))
	}
	return d, went
}

// timeOr is closed when ctx ends or d has passed.
func timeOr(ctx context.Context, d time.Duration) <-chan struct{} {
	ctx, cancel := context.WithTimeout(ctx, d)
	context.AfterFunc(ctx, cancel)
	return ctx.Done()
}

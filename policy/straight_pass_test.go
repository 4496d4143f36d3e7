package policy_test

import (
	"context"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/policy/rate"
	"github.com/hull-go/hull/policy/timeout"
)

// strict embeds a gate that can let calls pass quickly, and refuses all of them.
type strict struct{ *breaker.Breaker }

func (strict) Admit(policy.Time, rand.Source, *policy.Call) policy.Verdict {
	return policy.Verdict{Decision: policy.Refuse, State: "strict", Reason: "it refuses all"}
}

// A gate with an Admit of its own is asked, whatever it embeds.
func TestEmbeddedGatesDoNotPass(t *testing.T) {
	b, err := breaker.New(breaker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.New(policy.Options{Breaker: policy.Slot{Name: "breaker", Gate: strict{b}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := policy.Do(t.Context(), p, func(context.Context) (int, error) { return 1, nil }); err == nil {
		t.Error("a call went past a gate that refuses all")
	}
}

// Gates that let calls pass quickly refuse and count like others.
func TestPassingGatesCount(t *testing.T) {
	b, err := breaker.New(breaker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := concurrency.New(concurrency.Options{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.New(policy.Options{Breaker: policy.Slot{Name: "breaker", Gate: b}, Concurrency: policy.Slot{Name: "concurrency", Gate: l}})
	if err != nil {
		t.Fatal(err)
	}
	call := func() error {
		_, err := policy.Do(t.Context(), p, func(context.Context) (int, error) {
			if n := l.Snapshot().InUse; n != 1 {
				t.Errorf("%d in use", n)
			}
			_, err := policy.Do(t.Context(), p, func(context.Context) (int, error) { return 1, nil })
			if err == nil {
				t.Error("two at once where one may be")
			}
			return 1, nil
		})
		return err
	}
	if err := call(); err != nil {
		t.Error(err)
	}
	if s := b.Snapshot(policy.Now()); s.Calls != 1 || s.Failed != 0 {
		t.Errorf("%+v, want the outer call counted, and the refusal not", s)
	}
	b.ForceOpen(policy.Now())
	if _, err := policy.Do(t.Context(), p, func(context.Context) (int, error) { return 1, nil }); err == nil {
		t.Error("a call goes through an open breaker")
	}
	if s := l.Snapshot(); s.InUse != 0 {
		t.Errorf("%+v", s)
	}
}

// Without a pipeline there is only the function.
func TestDoWithoutAPipeline(t *testing.T) {
	if v, err := policy.Do(t.Context(), nil, func(context.Context) (int, error) { return 7, nil }); v != 7 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
}

// Rate limits count calls that pass quickly, and look at those that have keys.
func TestPassingRateLimitsCount(t *testing.T) {
	for _, tt := range []struct {
		name string
		key  rate.Key
		want int // calls that go, of three of each of two methods
	}{{"one for all", rate.Key{}, 2}, {"by method", rate.ByMethod(), 4}} {
		l, err := rate.New(rate.Options{Limit: 1, Per: time.Hour, Burst: 2, Key: tt.key})
		if err != nil {
			t.Fatal(err)
		}
		p, err := policy.New(policy.Options{Rate: policy.Slot{Gate: l}})
		if err != nil {
			t.Fatal(err)
		}
		went := 0
		for i := range 6 {
			c := policy.Call{Method: []string{"a", "b"}[i%2]}
			if _, err := policy.Do(t.Context(), p, func(context.Context) (int, error) { return 1, nil }, c); err == nil {
				went++
			}
		}
		if went != tt.want {
			t.Errorf("%s: %d of 6 calls went, want %d", tt.name, went, tt.want)
		}
	}
}

// perMethod embeds timeouts that do not look at calls, and looks at them.
type perMethod struct {
	*timeout.Timeouts
	seen []string
}

func (m *perMethod) Attempt(_ policy.Time, c *policy.Call, _ time.Duration, _ bool) time.Duration {
	m.seen = append(m.seen, c.Method)
	return time.Hour
}

// Timeouts with an Attempt of their own see the call, whatever they embed; a breaker that lets it pass unseen does not keep it from them.
func TestEmbeddedTimeoutsSeeCalls(t *testing.T) {
	b, err := breaker.New(breaker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	learned, err := timeout.New(timeout.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m := &perMethod{Timeouts: learned}
	p, err := policy.New(policy.Options{Breaker: policy.Slot{Gate: b}, Timeouts: m})
	if err != nil {
		t.Fatal(err)
	}
	ended, err := policy.Do(t.Context(), p, func(ctx context.Context) (bool, error) {
		d, ok := ctx.Deadline()
		return ok && time.Until(d) > 50*time.Minute, nil
	}, policy.Call{Method: "m"})
	if err != nil || !ended || len(m.seen) != 1 || m.seen[0] != "m" {
		t.Errorf("deadline as said: %t, %v; asked about %q, want m once", ended, err, m.seen)
	}
}

// What a call costs: one allocation, that of the context which its function may keep.
func TestAChainAllocatesAContext(t *testing.T) {
	b, err := breaker.New(breaker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := concurrency.New(concurrency.Options{Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	learned, err := timeout.New(timeout.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.New(policy.Options{Breaker: policy.Slot{Gate: b}, Concurrency: policy.Slot{Gate: l}, Timeouts: learned})
	if err != nil {
		t.Fatal(err)
	}
	ctx, fn := t.Context(), func(context.Context) (int, error) { return 1, nil }
	allocs := testing.AllocsPerRun(1000, func() {
		if _, err := policy.Do(ctx, p, fn, policy.Call{Method: "m"}); err != nil {
			t.Error(err)
		}
	})
	if allocs > 1 {
		t.Errorf("%v allocations, want 1", allocs)
	}
}

// deadEnd is Nodes that panic when they are told that an attempt has succeeded, and note how often they were told anything.
type deadEnd struct{ told int }

func (d *deadEnd) Pick(now policy.Time, _ rand.Source, _ *policy.Call, _ []policy.Node) (policy.Node, policy.Verdict) {
	return corner(1), policy.Verdict{Permit: policy.Permit{Start: now}}
}

func (d *deadEnd) Done(policy.Time, rand.Source, policy.Node, policy.Permit, policy.Ended) {
	d.told++
	panic("nodes")
}

// A policy that panics when it is told of a call that went straight is told once, the others are told, and the observer hears what became of it.
func TestLanePanic(t *testing.T) {
	nodes, heard := &deadEnd{}, []policy.Class{}
	b := &counting{}
	p, err := policy.New(policy.Options{Nodes: nodes, Breaker: policy.Slot{Gate: b}, Observer: observerFunc(func(s *policy.Story) { heard = append(heard, s.Class) })})
	if err != nil {
		t.Fatal(err)
	}
	if !p.Lane() {
		t.Fatal("calls do not go straight")
	}
	func() {
		defer func() {
			if v := recover(); v != "nodes" {
				t.Errorf("recovered %v", v)
			}
		}()
		_, _ = p.Drive(t.Context(), policy.Call{}, attempts(func(context.Context, policy.Attempt) error { return nil }))
	}()
	if nodes.told != 1 || b.asked != 1 || b.told != 1 || !slices.Equal(heard, []policy.Class{policy.ClassInternal}) {
		t.Errorf("nodes told %d times, breaker asked %d and told %d times, heard %v", nodes.told, b.asked, b.told, heard)
	}
}

// overdue is Timeouts, and spent a Budget, that panic when they are told of a success, and note how often they were.
type (
	overdue struct{ told int }
	spent   struct{ told int }
)

func (*overdue) Attempt(policy.Time, *policy.Call, time.Duration, bool) time.Duration { return 0 }

func (*overdue) Fair(policy.Time, time.Duration) bool { return true }

func (o *overdue) Done(policy.Time, policy.Ended) {
	o.told++
	panic("timeouts")
}

func (*spent) Spend(policy.Time, policy.Criticality, int) bool { return true }

func (s *spent) Earn(policy.Time, int) {
	s.told++
	panic("budget")
}

// Whoever panics when it is told of a success is told once, and does not keep those after it from being told.
func TestPanicsWhenTold(t *testing.T) {
	for _, way := range []string{"Do", "Drive"} {
		late, poor, b := &overdue{}, &spent{}, &counting{}
		p, err := policy.New(policy.Options{Timeouts: late, Budget: poor, Breaker: policy.Slot{Gate: b}})
		if err != nil {
			t.Fatal(err)
		}
		func() {
			defer func() {
				if v := recover(); v != "timeouts" && v != "budget" {
					t.Errorf("%s: recovered %v", way, v)
				}
			}()
			if way == "Do" {
				_, _ = policy.Do(t.Context(), p, func(context.Context) (int, error) { return 1, nil })
			} else {
				_, _ = p.Drive(t.Context(), policy.Call{}, attempts(func(context.Context, policy.Attempt) error { return nil }))
			}
		}()
		if late.told != 1 || poor.told != 1 || b.asked != 1 || b.told != 1 {
			t.Errorf("%s: timeouts told %d times, budget %d times, breaker asked %d and told %d times; want each once", way, late.told, poor.told, b.asked, b.told)
		}
	}
}

// counting is a Gate that admits and counts.
type counting struct{ asked, told int }

func (c *counting) Admit(now policy.Time, _ rand.Source, _ *policy.Call) policy.Verdict {
	c.asked++
	return policy.Verdict{Permit: policy.Permit{Start: now}}
}

func (c *counting) Done(policy.Time, rand.Source, policy.Permit, policy.Outcome) { c.told++ }

// observerFunc is an Observer.
type observerFunc func(*policy.Story)

func (f observerFunc) Call(_ policy.Time, _ *policy.Call, s *policy.Story) { f(s) }

// usher is a Gate that lets all calls pass, and notes what it is told of them.
type usher struct {
	counting
	deadline policy.Time
	class    policy.Criticality
}

func (u *usher) Pass(now, deadline policy.Time, c policy.Criticality) (policy.Permit, bool) {
	u.deadline, u.class = deadline, c
	return policy.Permit{Start: now}, true
}

func (u *usher) Passer() policy.Gate { return u }

// Gates that let calls pass quickly are told what they would see of the call, wherever they stand.
func TestPassersAreTold(t *testing.T) {
	slots := map[string]*usher{"breaker": {}, "throttle": {}, "concurrency": {}}
	slot := func(name string) policy.Slot { return policy.Slot{Name: name, Gate: slots[name]} }
	p, err := policy.New(policy.Options{Breaker: slot("breaker"), Throttle: slot("throttle"), Concurrency: slot("concurrency")})
	if err != nil {
		t.Fatal(err)
	}
	c := policy.Call{Deadline: policy.Now().Add(time.Hour), Criticality: policy.Sheddable}
	if _, err := policy.Do(t.Context(), p, func(context.Context) (int, error) { return 1, nil }, c); err != nil {
		t.Error(err)
	}
	for name, u := range slots {
		if u.asked != 0 || u.told != 1 || u.deadline != c.Deadline || u.class != c.Criticality {
			t.Errorf("%s: asked %d times, told %d times, of a %v call until %v", name, u.asked, u.told, u.class, u.deadline)
		}
	}
}

// ownLine embeds a limiter, and has a line of its own.
type ownLine struct {
	*concurrency.Limiter
	asked int
}

func (o *ownLine) Next(policy.Time, rand.Source) (policy.Waiting, policy.Verdict, bool) {
	o.asked++
	return policy.Waiting{}, policy.Verdict{}, false
}

// A Line with a Next of its own is asked who waits, whatever it embeds.
func TestEmbeddedLinesAreAsked(t *testing.T) {
	l, err := concurrency.New(concurrency.Options{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	o := &ownLine{Limiter: l}
	p, err := policy.New(policy.Options{Concurrency: policy.Slot{Gate: o}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := policy.Do(t.Context(), p, func(context.Context) (int, error) { return 1, nil }); err != nil {
		t.Error(err)
	}
	if o.asked != 1 {
		t.Errorf("asked who waits %d times, want once", o.asked)
	}
}

// Who waits gets the place of a call that went straight.
func TestAStraightCallHandsItsPlaceOn(t *testing.T) {
	l, err := concurrency.New(concurrency.Options{Limit: 1, Queue: 1, MaxWait: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.New(policy.Options{Concurrency: policy.Slot{Gate: l}})
	if err != nil {
		t.Fatal(err)
	}
	second := make(chan error)
	if _, err := policy.Do(t.Context(), p, func(context.Context) (int, error) {
		go func() {
			_, err := policy.Do(t.Context(), p, func(context.Context) (int, error) { return 2, nil })
			second <- err
		}()
		for l.Snapshot().Waiting == 0 {
			runtime.Gosched()
		}
		return 1, nil
	}); err != nil {
		t.Error(err)
	}
	if err := <-second; err != nil {
		t.Error(err)
	}
}

// A Lane serves calls of one pipeline after the other, however they end, and leaves nothing of one to the next.
func TestALaneServesCallAfterCall(t *testing.T) {
	with, err := policy.New(policy.Options{Nodes: lonely{}, Breaker: policy.Slot{Gate: &counting{}}, Throttle: policy.Slot{Gate: &counting{}}})
	if err != nil {
		t.Fatal(err)
	}
	breaker := &counting{}
	without, err := policy.New(policy.Options{Breaker: policy.Slot{Gate: breaker}})
	if err != nil {
		t.Fatal(err)
	}
	var l policy.Lane
	var seen []policy.Node
	fail := false
	run := attempts(func(_ context.Context, a policy.Attempt) error {
		seen = append(seen, a.Node)
		if fail {
			return errPlain
		}
		return nil
	})
	for range 2 {
		for _, fail = range []bool{false, true} {
			for _, p := range []*policy.Pipeline{with, without} {
				if _, err := p.DriveIn(t.Context(), policy.Now(), &l, run); (err != nil) != fail {
					t.Errorf("failing %t: %v", fail, err)
				}
			}
		}
	}
	if want := []policy.Node{corner(1), nil, corner(1), nil, corner(1), nil, corner(1), nil}; !slices.Equal(seen, want) {
		t.Errorf("attempts at %v, want %v", seen, want)
	}
	if breaker.asked != 4 || breaker.told != 4 {
		t.Errorf("the breaker was asked %d times and told %d times, want 4", breaker.asked, breaker.told)
	}
	allocs := testing.AllocsPerRun(100, func() {
		fail = false
		seen = seen[:0]
		_, _ = without.DriveIn(t.Context(), policy.Now(), &l, run)
	})
	if allocs > 0 {
		t.Errorf("%v allocations, want none", allocs)
	}
}

// lonely is Nodes with one node.
type lonely struct{}

func (lonely) Pick(now policy.Time, _ rand.Source, _ *policy.Call, _ []policy.Node) (policy.Node, policy.Verdict) {
	return corner(1), policy.Verdict{Permit: policy.Permit{Start: now}}
}

func (lonely) Done(policy.Time, rand.Source, policy.Node, policy.Permit, policy.Ended) {}

// guide is Nodes that choose quickly, or not at all.
type guide struct {
	lonely
	lost          bool
	picked, chose int
}

func (g *guide) Pick(now policy.Time, r rand.Source, c *policy.Call, tried []policy.Node) (policy.Node, policy.Verdict) {
	g.picked++
	return g.lonely.Pick(now, r, c, tried)
}

func (g *guide) Choose(now policy.Time, _ rand.Source, c *policy.Call) (policy.Node, policy.Permit) {
	if g.chose++; g.lost || c.Method != "m" {
		return nil, policy.Permit{}
	}
	return corner(2), policy.Permit{Start: now}
}

func (g *guide) Chooser() policy.Nodes { return g }

// detour embeds Nodes that choose quickly, and picks others.
type detour struct{ *guide }

func (d detour) Pick(now policy.Time, _ rand.Source, _ *policy.Call, _ []policy.Node) (policy.Node, policy.Verdict) {
	return corner(3), policy.Verdict{Permit: policy.Permit{Start: now}}
}

// Nodes that choose quickly are asked first, and for a verdict if they do not; those with a Pick of their own are asked nothing else.
func TestNodesChoose(t *testing.T) {
	quick, lost, inner := &guide{}, &guide{lost: true}, &guide{}
	for _, tt := range []struct {
		nodes policy.Nodes
		want  policy.Node
	}{{quick, corner(2)}, {lost, corner(1)}, {detour{inner}, corner(3)}} {
		p, err := policy.New(policy.Options{Nodes: tt.nodes})
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.Drive(t.Context(), policy.Call{Method: "m"}, attempts(func(_ context.Context, a policy.Attempt) error {
			if a.Node != tt.want {
				t.Errorf("%T: attempt at %v, want %v", tt.nodes, a.Node, tt.want)
			}
			return nil
		}))
		if err != nil {
			t.Error(err)
		}
	}
	if quick.chose != 1 || quick.picked != 0 || lost.chose != 1 || lost.picked != 1 || inner.chose != 0 {
		t.Errorf("chose %d, %d and %d times, picked %d and %d times", quick.chose, lost.chose, inner.chose, quick.picked, lost.picked)
	}
}

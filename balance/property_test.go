package balance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
)

// TestInvariants makes random calls, results, changes of the fleet and pauses, and checks after each step what must
// always hold.
func TestInvariants(t *testing.T) {
	for seed := range uint64(3 * seeds) {
		if err := invariants(seed); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

type attempt struct {
	n      policy.Node
	permit policy.Permit
	tried  []policy.Node
}

func invariants(seed uint64) error {
	src := rand.NewPCG(seed, 99)
	r := rand.New(src)
	strategy, err := StrategyNamed(StrategyNames()[r.IntN(len(StrategyNames()))])
	if err != nil {
		return err
	}
	o := Options{Strategy: strategy, Ejection: Ejection{MinCalls: 10, Sweep: 2 * time.Second, EjectSlow: true}}
	if r.IntN(2) == 0 {
		o.Zone = "a"
	}
	if r.IntN(2) == 0 {
		o.Versions = map[string]float64{"2": float64(r.IntN(5)) / 4}
	}
	if _, keyed := strategy.(consistentHash); !keyed && r.IntN(2) == 0 {
		o.Subset = Subset{Size: 1 + r.IntN(5), Client: seed}
	}
	p, err := New(o)
	if err != nil {
		return err
	}
	known := fleet(1 + r.IntN(9))
	for i, n := range known {
		n.Zone = string(rune('a' + i%2))
		n.Weight = r.IntN(3) * 50
		n.Version = string(rune('1' + r.IntN(2)))
	}
	sel, _ := ParseSelector("zone=a")
	view := p.With(sel)
	now := start
	update := func() {
		var some []*registry.Node
		for _, n := range known {
			if r.IntN(5) > 0 {
				c := n.Clone()
				c.Draining, c.Absent = r.IntN(10) == 0, r.IntN(10) == 0
				some = append(some, c)
			}
		}
		p.Update(now, service(some...))
	}
	p.Update(now, service(known...))
	// Each node has a mood: what most of its results are.
	mood := map[string]policy.Class{}
	classes := []policy.Class{policy.ClassOK, policy.ClassOK, policy.ClassUnavailable, policy.ClassUnsent, policy.ClassTimeout, policy.ClassInternal}
	var flying []attempt
	everyone := map[policy.Node]bool{}
	for step := range 3000 {
		switch r.IntN(30) {
		case 0:
			if r.IntN(10) == 0 {
				update()
			}
		case 1:
			mood[known[r.IntN(len(known))].ID] = classes[r.IntN(len(classes))]
		case 2:
			now = now.Add(time.Duration(r.Int64N(int64(8 * time.Second))))
		default:
			now = now.Add(time.Duration(r.Int64N(int64(20 * time.Millisecond))))
		}
		if len(flying) > 0 && r.IntN(2) == 0 {
			i := r.IntN(len(flying))
			a := flying[i]
			flying = slices.Delete(flying, i, i+1)
			class := mood[a.n.ID()]
			if r.IntN(5) == 0 {
				class = policy.Class(r.IntN(int(policy.ClassProtocol) + 1))
			}
			p.Done(now, src, a.n, a.permit, policy.Ended{Class: class, Took: now.Sub(a.permit.Start)})
			if class == policy.ClassOK || len(a.tried) >= policy.MaxAttempts {
				continue
			}
			if err := choose(p, now, src, r, append(slices.Clone(a.tried), a.n), &flying, everyone); err != nil {
				return fmt.Errorf("step %d: %w", step, err)
			}
			continue
		}
		from := p
		if r.IntN(4) == 0 {
			from = view
		}
		if err := choose(from, now, src, r, nil, &flying, everyone); err != nil {
			return fmt.Errorf("step %d: %w", step, err)
		}
		s := p.Snapshot(now)
		if s.Nodes > 0 && (s.Pool == 0 || s.Ejected > s.Nodes/2 || s.Ejected >= s.Nodes) {
			return fmt.Errorf("step %d: %+v", step, s)
		}
		for _, e := range p.Explain(now) {
			if e.Until > now.Add(time.Minute) || e.InFlight < 0 || e.Share <= 0 || e.Share > 1 || e.Estimate <= 0 || e.Latency < 0 {
				return fmt.Errorf("step %d: %+v", step, e)
			}
		}
	}
	for _, a := range flying {
		p.Done(now, src, a.n, a.permit, policy.Ended{Class: policy.Class(r.IntN(int(policy.ClassProtocol) + 1))})
	}
	for n := range everyone {
		if got := n.(*Node).InFlight(); got != 0 {
			return fmt.Errorf("%d in flight to %s at the end", got, n.ID())
		}
	}
	return nil
}

// choose makes an attempt and checks where it goes.
func choose(p *Picker, now policy.Time, src rand.Source, r *rand.Rand, tried []policy.Node, flying *[]attempt, everyone map[policy.Node]bool) error {
	before := p.Explain(now)
	n, v := p.Pick(now, src, &policy.Call{Idempotent: r.IntN(2) == 0, Hash: r.Uint64N(10)}, tried)
	eligible, matching := 0, 0
	for _, s := range before {
		if s.State != Unmatched {
			matching++
		}
		if s.Considered && !slices.ContainsFunc(tried, func(t policy.Node) bool {
			return t.ID() == s.ID
		}) {
			eligible++
		}
	}
	if v.Decision == policy.Refuse {
		if v.Reason == "" || v.State == "" || n != nil {
			return fmt.Errorf("refusal %+v", v)
		}
		if matching > 0 && (v.State != "tried" || eligible > 0) {
			return fmt.Errorf("refused with %d matching nodes, %d of them untried: %+v", matching, eligible, v)
		}
		return nil
	}
	if matching == 0 {
		return fmt.Errorf("picked %s though none matches", n.ID())
	}
	if eligible > 0 && slices.Contains(tried, n) {
		return fmt.Errorf("attempt %d repeats %s though %d others are eligible: %v", len(tried)+1, n.ID(), eligible, before)
	}
	if !slices.ContainsFunc(before, func(s NodeState) bool { return s.ID == n.ID() && s.State != Unmatched }) {
		return fmt.Errorf("picked %s, which does not match", n.ID())
	}
	if v.Permit.Start != now || v.Decision == policy.Probe {
		return fmt.Errorf("verdict %+v", v)
	}
	everyone[n] = true
	*flying = append(*flying, attempt{n, v.Permit, tried})
	return nil
}

func TestConcurrentUse(t *testing.T) {
	nodes := fleet(6)
	for i, n := range nodes {
		n.Methods = []registry.Method{{Name: "s/A"}}
		if i%2 == 0 {
			n.Methods = append(n.Methods, registry.Method{Name: "s/B"})
		}
	}
	p := picker(t, Options{Notify: func(Change) {}}, nodes...)
	sel, _ := ParseSelector("id!=n03")
	pickers := []*Picker{p, p.With(sel)}
	var clock atomic.Int64
	clock.Store(int64(start))
	var wg sync.WaitGroup
	var mu sync.Mutex
	everyone := map[policy.Node]bool{}
	for g := range uint64(6) {
		wg.Go(func() {
			src := rand.NewPCG(g, 5)
			r := rand.New(src)
			mine := map[policy.Node]bool{}
			for range 3000 {
				now := policy.Time(clock.Add(int64(time.Millisecond)))
				c := &policy.Call{Idempotent: true, Method: []string{"s/A", "s/B", "s/C"}[r.IntN(3)]}
				from := pickers[r.IntN(2)]
				var tried []policy.Node
				for range 1 + r.IntN(3) {
					n, v := from.Pick(now, src, c, tried)
					if v.Decision != policy.Admit {
						continue
					}
					tried, mine[n] = append(tried, n), true
					now = policy.Time(clock.Load())
					n.(*Node).SetHandle(g)
					from.Done(now, src, n, v.Permit, policy.Ended{Class: policy.Class(r.IntN(int(policy.ClassProtocol) + 1)), Took: now.Sub(v.Permit.Start)})
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for n := range mine {
				everyone[n] = true
			}
		})
	}
	wg.Go(func() {
		r := rand.New(rand.NewPCG(11, 12))
		for i := range 300 {
			now := policy.Time(clock.Add(int64(time.Millisecond)))
			switch r.IntN(4) {
			case 0:
				p.Update(now, service(nodes[r.IntN(3):]...))
			case 1:
				if err := p.Configure(Options{Ejection: Ejection{Mode: policy.Mode(i % 3)}, Notify: func(Change) {}}); err != nil {
					t.Error(err)
				}
			case 2:
				p.Explain(now)
				p.Snapshot(now)
			default:
				for _, n := range p.Nodes() {
					n.Heard(now)
				}
			}
		}
	})
	wg.Wait()
	for n := range everyone {
		if got := n.(*Node).InFlight(); got != 0 {
			t.Errorf("%d in flight to %s at the end", got, n.ID())
		}
	}
}

func TestNoAllocations(t *testing.T) {
	nodes := fleet(10)
	nodes[0].Methods = []registry.Method{{Name: "s/A"}, {Name: "s/B"}}
	nodes[1].Methods = []registry.Method{{Name: "s/A"}}
	for _, name := range StrategyNames() {
		s, _ := StrategyNamed(name)
		d := newDriver(t, Options{Strategy: s}, nodes...)
		c := &policy.Call{Idempotent: true, Method: "s/B", Hash: 7}
		tried := make([]policy.Node, 1)
		once := func() {
			n, v := d.p.Pick(d.now, d.rnd, c, nil)
			d.now = d.now.Add(10 * time.Microsecond)
			d.p.Done(d.now, d.rnd, n, v.Permit, policy.Ended{Class: policy.ClassUnavailable, Took: time.Millisecond})
			tried[0] = n
			if pooling {
				n, v = d.p.Pick(d.now, d.rnd, c, tried)
				d.p.Done(d.now, d.rnd, n, v.Permit, policy.Ended{Took: time.Millisecond})
			}
		}
		once()
		if err := d.p.Configure(Options{Strategy: s, Ejection: Ejection{Consecutive: -1}}); err != nil {
			t.Fatal(err)
		}
		once()
		if got := testing.AllocsPerRun(500, once); got != 0 {
			t.Errorf("%s: %v allocations for a call and its retry", name, got)
		}
	}
}

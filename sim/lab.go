package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/policytest"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/spec"
	"github.com/hull-go/hull/status"
)

// Lab is one run of a Scenario while it goes on: what Troubles act on.
type Lab struct {
	*policytest.World
	with     Protection
	services []*service
	byName   map[string]*service
	byID     map[string]*node
	loads    []*ledger
	last     time.Duration // until when calls arrive
	silent   bool          // the registry
}

// service is a Service with what became of it.
type service struct {
	Service
	nodes   []*node
	targets []*target // of all callers
	hits    []bool    // of the cache, by key
	flights map[int][]func(error)
	arrived [][]int // attempts by node and slice of time
	wasted  time.Duration
	useful  time.Duration
	poorer  int
	// How long its calls to others were under way, and for how much of that nobody waited any more for what they were for.
	calling, overtime time.Duration
}

// slice is how fine attempts are counted.
const slice = 100 * time.Millisecond

// caller is a process that makes calls.
type caller struct {
	lab     *Lab
	book    *spec.Book
	targets map[string]*target
}

// target is a method as one caller calls it.
type target struct {
	pipeline *policy.Pipeline
	book     *spec.Book
	picker   *balance.Picker
	budget   *retry.Budget
	belief   belief // of one who doubts
	service  *service
	method   int
}

func newLab(sc *Scenario, with Protection, seed uint64) (*Lab, error) {
	l := &Lab{World: policytest.NewWorld(seed), with: with, byName: map[string]*service{}, byID: map[string]*node{}, last: sc.Last}
	for _, s := range sc.Services {
		v := &service{Service: s.complete(), flights: map[int][]func(error){}}
		if v.Cache != nil {
			v.hits = make([]bool, v.Cache.Keys)
			for k := range v.hits {
				v.hits[k] = true
			}
		}
		l.services = append(l.services, v)
		l.byName[v.Name] = v
		v.arrived = make([][]int, v.Nodes)
		for i := range v.Nodes {
			n := &node{lab: l, service: v, index: i, slow: 1}
			v.nodes = append(v.nodes, n)
			if err := n.start(); err != nil {
				return nil, err
			}
		}
	}
	for _, v := range l.services {
		for _, n := range v.nodes {
			var err error
			if n.caller, err = l.newCaller(); err != nil {
				return nil, err
			}
			for _, m := range v.Methods {
				for _, to := range m.Calls {
					if _, err := n.caller.target(to); err != nil {
						return nil, err
					}
				}
			}
		}
	}
	for i := range sc.Load {
		if err := l.offer(&sc.Load[i]); err != nil {
			return nil, err
		}
	}
	for _, f := range sc.Faults {
		l.At(f.At, func() { f.Do(l, true) })
		if f.For > 0 {
			l.At(f.At+f.For, func() { f.Do(l, false) })
		}
	}
	return l, nil
}

func (l *Lab) newCaller() (*caller, error) {
	doc := &spec.Spec{Services: map[string]spec.Service{}}
	for _, s := range l.services {
		doc.Services[s.Name] = l.with.document(&s.Service)
	}
	book, err := spec.NewBook(doc)
	if err != nil {
		return nil, fmt.Errorf("sim: the protection makes no valid document: %w", err)
	}
	return &caller{lab: l, book: book, targets: map[string]*target{}}, nil
}

// target returns how c calls a service or a method of one.
func (c *caller) target(to string) (*target, error) {
	if t := c.targets[to]; t != nil {
		return t, nil
	}
	name, method := split(to)
	s := c.lab.byName[name]
	if s == nil {
		return nil, fmt.Errorf("sim: there is no service %q", name)
	}
	t := &target{service: s, method: -1, book: c.book}
	for i := range s.Methods {
		if s.Methods[i].Name == method {
			t.method = i
		}
	}
	if t.method < 0 {
		return nil, fmt.Errorf("sim: service %q has no method %q", name, method)
	}
	var err error
	if t.picker, err = c.book.Picker(name); err != nil {
		return nil, err
	}
	if t.budget, err = c.book.Budget(name); err != nil {
		return nil, err
	}
	m, err := c.book.Method(name, "sim."+name+"/"+method, t.picker, nil)
	if err != nil {
		return nil, err
	}
	t.pipeline = m.Unary
	if c.lab.with.doubt {
		if t.belief, err = newBelief(); err != nil {
			return nil, err
		}
	}
	t.hear(c.lab, s.known())
	s.targets = append(s.targets, t)
	c.targets[to] = t
	return t, nil
}

// known is what the registry says about the service's nodes.
func (s *service) known() (nodes []*registry.Node) {
	for _, n := range s.nodes {
		if n.announced {
			nodes = append(nodes, &registry.Node{ID: n.id(), Service: s.Name, Address: fmt.Sprintf("%s-%d:80", s.Name, n.index), Draining: n.draining})
		}
	}
	return nodes
}

// spreads is how long it takes until callers hear of a change.
const spreads = 100 * time.Millisecond

// announce tells callers what has changed about a service's nodes.
func (l *Lab) announce(s *service) {
	l.After(spreads, func() {
		if !l.silent {
			l.tell(s, s.known())
		}
	})
}

// tell tells callers what the registry says.
func (l *Lab) tell(s *service, said []*registry.Node) {
	for _, t := range s.targets {
		t.hear(l, said)
	}
}

// extra is what goes with a call beside what policies know.
type extra struct {
	lost bool   // its requests never end by themselves
	kept func() // is told that a server has the answer, whoever still waits for it
}

// call makes a call and tells then what became of it.
func (c *caller) call(to string, call policy.Call, e extra, then func(error)) {
	t, err := c.target(to)
	if err != nil {
		panic(err) // targets are checked before the run begins
	}
	call.Service, call.Method = t.service.Name, to
	c.lab.Call(t.pipeline, call, policytest.ServiceFunc(func(_ *policytest.World, r *policytest.Request) { t.serve(c.lab, r, e) }),
		func(done *policytest.Call) { then(done.Err) })
}

// serve takes one attempt to its node.
func (t *target) serve(l *Lab, r *policytest.Request, e extra) {
	to, ok := r.Attempt.Node.(*balance.Node)
	if !ok {
		panic("sim: an attempt without a node")
	}
	n := l.byID[to.ID()]
	t.budget.Peak(l.Now(), to.InFlight())
	counts := &t.service.arrived[n.index]
	at := int(l.Elapsed() / slice)
	for len(*counts) <= at {
		*counts = append(*counts, 0)
	}
	(*counts)[at]++
	j := &job{n: n, m: t.method, r: r, extra: e, from: t, to: to}
	if d := t.service.Network; d > 0 {
		l.After(l.Exponential(d), func() { n.arrive(j) })
		return
	}
	n.arrive(j)
}

// callers are the processes that make the calls of a load.
func (l *Lab) callers(o *Load) ([]*caller, error) {
	all := make([]*caller, max(o.Clients, 1))
	if o.By != "" {
		i := slices.IndexFunc(l.loads, func(b *ledger) bool { return b.Name == o.By })
		if i < 0 || l.loads[i].callers == nil {
			return nil, fmt.Errorf("sim: there is no load %q before %q", o.By, o.Name)
		}
		all = l.loads[i].callers
	}
	for i := range all {
		if all[i] == nil {
			c, err := l.newCaller()
			if err != nil {
				return nil, err
			}
			all[i] = c
		}
		if _, err := all[i].target(o.To); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// offer lets the calls of a load arrive.
func (l *Lab) offer(o *Load) error {
	book := &ledger{Load: o}
	l.loads = append(l.loads, book)
	s, _ := split(o.To)
	callers, err := l.callers(o)
	if err != nil {
		return err
	}
	book.callers = callers
	patience := l.byName[s].patience()
	draw := func(n int) int { return int(l.Uniform() * float64(n)) }
	l.Arrive(func() float64 {
		if l.Elapsed() >= l.last {
			return 0
		}
		return max(o.Rate(l.Elapsed()), 1e-3)
	}, func() {
		if l.Elapsed() >= l.last || o.Rate(l.Elapsed()) <= 0 {
			return
		}
		c := callers[0]
		if len(callers) > 1 {
			c = callers[draw(len(callers))]
		}
		at := len(book.calls)
		book.calls = append(book.calls, record{at: l.Elapsed(), took: -1, why: "has not ended"})
		left, why := max(o.Fan, 1), ""
		for range left {
			call := policy.Call{Idempotent: !o.Once, SideEffectFree: o.SideEffectFree, Criticality: o.Criticality, Hash: l.Rand().Uint64() | 1}
			if o.Keys > 0 {
				call.Hash = (1 + uint64(draw(o.Keys))) * 0x9e3779b97f4a7c15
			}
			if l.with.travel {
				call.Deadline = l.Now().Add(patience)
			}
			c.call(o.To, call, extra{lost: o.Lost > 0 && l.Uniform() < o.Lost}, func(err error) {
				if err != nil {
					why = reason(err)
				}
				if left--; left == 0 {
					r := &book.calls[at]
					r.took, r.ok, r.why = l.Elapsed()-r.at, why == "", why
				}
			})
		}
	})
	return nil
}

// reason is why a call failed, in a word or two.
func reason(err error) string {
	e := status.From(err)
	if e.Refusal != nil {
		return e.Refusal.Policy + " " + e.Refusal.State
	}
	return policy.Classify(e).String()
}

// Errors that servers and the network answer with.
var (
	errDial     = &status.Error{Code: status.Unavailable, Kind: status.Dial, Fate: status.NotSent}
	errReset    = &status.Error{Code: status.Unavailable, Kind: status.Reset}
	errDraining = &status.Error{Code: status.Unavailable, Kind: status.Draining, Fate: status.NotSent}
	errExpired  = &status.Error{Code: status.DeadlineExceeded, Kind: status.Expired, Fate: status.NotSent}
	errFails    = &status.Error{Code: status.Unavailable, Fate: status.Processed}
	errLate     = &status.Error{Code: status.DeadlineExceeded, Fate: status.Processed}
)

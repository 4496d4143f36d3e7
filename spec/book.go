package spec

import (
	"container/list"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/policy/hedge"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/policy/timeout"
)

// DefaultTimeout is how long a call may take when neither its caller nor the document says.
const DefaultTimeout = 5 * time.Second

// MaxMethods is how many methods of one service a Book remembers. Names of methods may come from outside, so that there has
// to be an end. Beyond it the method that was quiet for longest is forgotten: its pipelines go on working for who has them, and
// if it is asked for again it starts with a closed breaker and without learned latencies.
const MaxMethods = 10_000

// MaxServices is how many services a Book remembers, for the same reason. Whoever has the picker or the pipelines of one that was forgotten
// goes on with them, but Apply no longer reaches these.
const MaxServices = 10_000

// Book makes pipelines and pickers of a document. Services and methods share state as the design says: one picker,
// budget, throttle, rate and concurrency limit per service, one breaker and one latency memory per method; a budget that has a name is
// one for all services that say the name. Apply replaces the document; whatever has the same options afterwards keeps its state. A Book is safe for concurrent use.
type Book struct {
	gen atomic.Uint64

	mu       sync.Mutex
	spec     *Spec
	services map[string]*shared
	quiet    list.List // of *shared, those asked for latest first
	budgets  budgets
	stale    *policy.Stale[Request, []byte] // nil until a method needs it

	most, mostServices int // methods of a service, and services

	tune func(service string, o *balance.Options) // nil = nobody
}

// kept is the state of one method, with the options that it was made from.
type kept struct {
	name     string
	eff      *Effective
	breaker  *breaker.Breaker
	timeouts policy.Timeouts
	hedging  policy.Hedging

	at    *list.Element
	calls *counted // by all its pipelines
	last  int64    // how many, when last looked at
}

// counted are calls of one method.
type counted struct{ unary, stream policy.Counters }

// NewBook returns a Book of the document; nil means the defaults.
func NewBook(s *Spec) (*Book, error) {
	b := &Book{spec: new(Spec), services: map[string]*shared{}, budgets: budgets{}, most: MaxMethods, mostServices: MaxServices}
	if s != nil {
		if err := s.Validate(); err != nil {
			return nil, err
		}
		b.spec = s
	}
	return b, nil
}

// Tune has f change what the document says of how a service's nodes are chosen, in ways that no document can. It is called when a picker is made, and
// for each document; a Strategy belongs to one picker, so that each call needs another if it has a state. It is called under a lock: it must be
// quick, and must not call the Book. Call Tune before anything else.
func (b *Book) Tune(f func(service string, o *balance.Options)) { b.tune = f }

// picking is the options of a service's picker.
func (b *Book) picking(service string, s *Service) balance.Options {
	o := s.picking()
	if b.tune != nil {
		b.tune(service, &o)
	}
	return o
}

// Generation changes with every Apply. Callers that keep pipelines make them anew when it does.
func (b *Book) Generation() uint64 { return b.gen.Load() }

// Spec returns the document in force. It must not be changed.
func (b *Book) Spec() *Spec {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.spec
}

// Apply puts another document in force, whole or not at all: if it is invalid the old one stays. Calls under way finish with
// the pipeline they began with. It fits Watch.
func (b *Book) Apply(s *Spec) error {
	if s == nil {
		s = new(Spec)
	}
	if err := s.Validate(); err != nil {
		return fmt.Errorf("the document is not applied: %w", err)
	}
	if err := b.replace(s); err != nil {
		return err
	}
	return b.setLimits()
}

// Check says why Apply would refuse a document, and changes nothing. With it several Books are given one document, or none.
func (b *Book) Check(s *Spec) error {
	if s == nil {
		s = new(Spec)
	}
	if err := s.Validate(); err != nil {
		return fmt.Errorf("the document is not applied: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	_, _, err := b.make(s)
	return err
}

// Renew has callers that keep pipelines make them anew, as after an Apply: with other observers, for instance.
func (b *Book) Renew() { b.gen.Add(1) }

// make returns what the services' methods would share under another document. mu is held.
func (b *Book) make(s *Spec) (map[string]parts, budgets, error) {
	next := make(map[string]parts, len(b.services))
	held := budgets{}
	for name, sh := range b.services {
		p, err := renew(name, s.Service(name), sh.parts, held, b.budgets)
		if err == nil {
			_, err = balance.New(b.picking(name, &p.own.Service)) // so that Configure cannot fail half-way
		}
		if err != nil {
			return nil, nil, fmt.Errorf("spec: the document is not applied: service %s: %w", name, err)
		}
		next[name] = p
	}
	return next, held, nil
}

func (b *Book) replace(s *Spec) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	next, held, err := b.make(s)
	if err != nil {
		return err
	}
	now := policy.Now()
	for name, p := range next {
		sh := b.services[name]
		was := &sh.own.Service
		err := p.adjust(now, was)
		if err == nil && !p.own.samePicker(was) {
			err = sh.picker.Configure(b.picking(name, &p.own.Service))
		}
		if err != nil {
			return fmt.Errorf("spec: service %s: %w", name, err)
		}
		sh.parts = p
	}
	b.spec, b.budgets = s, held
	b.gen.Add(1)
	return nil
}

// setLimits tells limiters how many places they have. Those who wait are told of new places, and nobody is told anything
// under a lock; so another document may come in between, and its limits are set in the end, by whoever is last.
func (b *Book) setLimits() error {
	type change struct {
		limiter *concurrency.Limiter
		limit   int
	}
	for {
		var changes []change
		b.mu.Lock()
		for _, sh := range b.services {
			if n := sh.own.Concurrency.Limit; sh.own.Concurrency.fixed() && sh.concurrency.Snapshot().Limit != n {
				changes = append(changes, change{sh.concurrency, n})
			}
		}
		b.mu.Unlock()
		if len(changes) == 0 {
			return nil
		}
		for _, c := range changes {
			if err := c.limiter.SetLimit(policy.Now(), c.limit); err != nil {
				return err
			}
		}
	}
}

// Picker returns the service's picker.
func (b *Book) Picker(service string) (*balance.Picker, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	sh, err := b.service(service)
	if err != nil {
		return nil, err
	}
	return sh.picker, nil
}

// Budget returns the budget that retries and hedges of calls to the service share. It may be another one when Generation has
// changed.
func (b *Book) Budget(service string) (*retry.Budget, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	sh, err := b.service(service)
	if err != nil {
		return nil, err
	}
	return sh.budget, nil
}

// Nudge tells the breakers of a service's methods that a node is back, or a new one is there.
func (b *Book) Nudge(now policy.Time, service string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if sh := b.services[service]; sh != nil {
		for _, k := range sh.methods {
			k.breaker.Nudge(now)
		}
	}
}

// Method is how calls of one method run.
type Method struct {
	// Effective is what holds; methods share it, so that it must not be changed.
	*Effective
	// Unary and Stream share their gates, and each counts with the others of its method, whatever nodes and documents they were made for. Streams
	// have no attempt timeout and are not hedged.
	Unary, Stream *policy.Pipeline
	// Breaker is the method's, for explanations.
	Breaker *breaker.Breaker
	// Else is what answers calls that have failed; nil = nothing. It is not part of the pipelines: whoever makes the calls sees to it.
	Else *Fallback
	// Stale is where answers are kept for Else, by request; nil if it needs none. It is one for all methods of the Book. A new document
	// does not empty it, and it may hold older answers than Else allows.
	Stale *policy.Stale[Request, []byte]
}

// Method makes the pipelines of a method. nodes chooses the nodes, usually the service's picker or a selection of it.
func (b *Book) Method(service, method string, nodes policy.Nodes, seen policy.Observer) (*Method, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	sh, err := b.service(service)
	if err != nil {
		return nil, err
	}
	e := sh.own // most methods say nothing of their own
	if _, named := b.spec.Services[service].Methods[method]; named {
		eff := b.spec.Method(service, method)
		e = &eff
	}
	k, err := sh.method(method, e, b.most)
	if err != nil {
		return nil, err
	}
	m := &Method{Effective: e, Breaker: k.breaker, Else: e.Fallback.declared(service)}
	if m.Else != nil && m.Else.Stale > 0 {
		if m.Stale, err = b.answers(); err != nil {
			return nil, err
		}
	}
	o := policy.Options{
		Key:         service + "/" + method,
		Breaker:     policy.Slot{Name: "breaker", Gate: k.breaker, Mode: e.Breaker.Mode.Slot()},
		Budget:      e.RetryBudget.slot(sh.budget),
		Throttle:    policy.Slot{Name: "throttle", Gate: sh.throttle, Mode: e.Throttle.Mode.Slot()},
		Nodes:       nodes,
		Concurrency: policy.Slot{Name: "concurrency", Gate: sh.concurrency, Mode: e.Concurrency.Mode.Slot()},
		RetryMode:   e.Retry.Mode.Slot(),
		HedgeMode:   e.Hedge.Mode.Slot(),
		TimeoutMode: e.AttemptTimeout.Mode.Slot(),
		Observer:    seen,
	}
	if sh.rate != nil {
		o.Rate = policy.Slot{Name: "rate", Gate: sh.rate, Mode: e.Rate.Mode.Slot()}
	}
	if e.Retry.Mode != Off {
		if o.Retries, err = retry.New(e.Retry.options()); err != nil {
			return nil, err
		}
	}
	o.Counters = &k.calls.stream
	if m.Stream, err = policy.New(o); err != nil {
		return nil, err
	}
	o.Counters = &k.calls.unary
	o.Timeouts = k.timeouts
	if o.Retries != nil {
		o.Hedging = k.hedging
	}
	if m.Unary, err = policy.New(o); err != nil {
		return nil, err
	}
	return m, nil
}

// method returns the method's state for eff, kept as far as its options are the same.
func (sh *shared) method(name string, eff *Effective, most int) (*kept, error) {
	old := sh.methods[name]
	if old == nil {
		old = &kept{name: name, calls: new(counted)}
	}
	k := *old
	k.eff = eff
	var was Effective
	if old.eff != nil {
		was = *old.eff
	}
	var err error
	if o := eff.Breaker.options(); k.breaker == nil || o != was.Breaker.options() {
		if k.breaker, err = breaker.New(o); err != nil {
			return nil, err
		}
	}
	// Memories of latencies are large. What is off and never was on has none.
	o := eff.AttemptTimeout.options()
	if o != was.AttemptTimeout.options() {
		k.timeouts = nil
	}
	if k.timeouts == nil && eff.AttemptTimeout.Mode != Off {
		if k.timeouts, err = timeout.New(o); err != nil {
			return nil, err
		}
	}
	h := eff.Hedge.options()
	if h != was.Hedge.options() {
		k.hedging = nil
	}
	if k.hedging == nil && eff.Hedge.Mode != Off {
		if k.hedging, err = hedge.New(h); err != nil {
			return nil, err
		}
	}
	*old = k
	if old.at != nil {
		sh.quiet.MoveToFront(old.at)
		return old, nil
	}
	if len(sh.methods) >= most {
		sh.forget()
	}
	old.at = sh.quiet.PushFront(old)
	sh.methods[name] = old
	return old, nil
}

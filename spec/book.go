package spec

import (
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
	"github.com/hull-go/hull/policy/throttle"
	"github.com/hull-go/hull/policy/timeout"
)

// DefaultTimeout is how long a call may take when neither its caller nor the document says.
const DefaultTimeout = 5 * time.Second

// Book makes pipelines and pickers of a document. Services and methods share state as the design says: one picker,
// budget, throttle and concurrency limit per service, one breaker and one latency memory per method. Apply replaces the
// document; whatever has the same options afterwards keeps its state. A Book is safe for concurrent use.
type Book struct {
	gen atomic.Uint64

	mu       sync.Mutex
	spec     *Spec
	services map[string]*shared
}

// shared is the state of one service.
type shared struct {
	own    Service // as the shared policies were made
	picker *balance.Picker
	budget *retry.Budget

	throttle, concurrency policy.Gate
	methods               map[string]*kept
}

// kept is the state of one method, with the options that it was made from.
type kept struct {
	eff      Effective
	breaker  *breaker.Breaker
	timeouts policy.Timeouts
	hedging  policy.Hedging
}

// NewBook returns a Book of the document; nil means the defaults.
func NewBook(s *Spec) (*Book, error) {
	b := &Book{spec: new(Spec), services: map[string]*shared{}}
	if s != nil {
		if err := s.Validate(); err != nil {
			return nil, fmt.Errorf("spec: %w", err)
		}
		b.spec = s
	}
	return b, nil
}

// Generation changes with every Apply. Callers that keep pipelines make them anew when it does.
func (b *Book) Generation() uint64 { return b.gen.Load() }

// Spec returns the document in force. It must not be changed.
func (b *Book) Spec() *Spec {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.spec
}

// Apply puts another document in force. If it is invalid the old one stays. Calls under way finish with the pipeline they
// began with.
func (b *Book) Apply(s *Spec) error {
	if s == nil {
		s = new(Spec)
	}
	if err := s.Validate(); err != nil {
		return fmt.Errorf("spec: the document is not applied: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.spec
	b.spec = s
	for name, sh := range b.services {
		if err := b.renew(name, sh); err != nil {
			b.spec = old
			return fmt.Errorf("spec: the document is not applied: service %s: %w", name, err)
		}
	}
	b.gen.Add(1)
	return nil
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

// Budget returns the budget that retries and hedges of calls to the service share.
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

func (b *Book) service(name string) (*shared, error) {
	if sh := b.services[name]; sh != nil {
		return sh, nil
	}
	sh := &shared{methods: map[string]*kept{}}
	var err error
	if sh.budget, err = retry.NewBudget(retry.BudgetOptions{}); err != nil {
		return nil, err
	}
	if err := b.renew(name, sh); err != nil {
		return nil, err
	}
	b.services[name] = sh
	return sh, nil
}

// renew makes what the service's methods share anew where its options changed.
func (b *Book) renew(name string, sh *shared) error {
	s := b.spec.Service(name)
	o := balance.Options{
		Strategy: strategy(s.Balancer),
		Ejection: balance.Ejection{Mode: s.Ejection.Mode.Slot(), Consecutive: s.Ejection.Consecutive, Base: time.Duration(s.Ejection.Base)},
	}
	var err error
	switch {
	case sh.picker == nil:
		if sh.picker, err = balance.New(o); err != nil {
			return err
		}
	case s.Balancer != sh.own.Balancer || s.Ejection != sh.own.Ejection:
		if err := sh.picker.Configure(o); err != nil {
			return err
		}
	}
	if sh.throttle == nil {
		if sh.throttle, err = throttle.New(throttle.Options{}); err != nil {
			return err
		}
	}
	if sh.concurrency == nil || s.Concurrency.Limit != sh.own.Concurrency.Limit {
		if sh.concurrency, err = concurrency.New(concurrency.Options{Limit: s.Concurrency.Limit}); err != nil {
			return err
		}
	}
	sh.own = s
	return nil
}

func strategy(name string) balance.Strategy {
	switch name {
	case "round-robin":
		return balance.RoundRobin()
	case "random":
		return balance.Random()
	case "least-connections":
		return balance.LeastConnections()
	}
	return balance.P2C()
}

// Method is how calls of one method run.
type Method struct {
	Effective
	// Unary and Stream share their gates. Streams have no attempt timeout and are not hedged.
	Unary, Stream *policy.Pipeline
	// Breaker is the method's, for explanations.
	Breaker *breaker.Breaker
}

// Method makes the pipelines of a method. nodes chooses the nodes, usually the service's picker or a selection of it.
func (b *Book) Method(service, method string, nodes policy.Nodes, seen policy.Observer) (*Method, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	sh, err := b.service(service)
	if err != nil {
		return nil, err
	}
	k, err := sh.method(method, b.spec.Method(service, method))
	if err != nil {
		return nil, err
	}
	m := &Method{Effective: k.eff, Breaker: k.breaker}
	e := &k.eff
	o := policy.Options{
		Key:         service + "/" + method,
		Breaker:     policy.Slot{Name: "breaker", Gate: k.breaker, Mode: e.Breaker.Mode.Slot()},
		Budget:      sh.budget,
		Throttle:    policy.Slot{Name: "throttle", Gate: sh.throttle, Mode: e.Throttle.Mode.Slot()},
		Nodes:       nodes,
		Concurrency: policy.Slot{Name: "concurrency", Gate: sh.concurrency, Mode: e.Concurrency.Mode.Slot()},
		Observer:    seen,
	}
	if e.Retry.Mode == On {
		if o.Retries, err = retry.New(retry.Options{Attempts: e.Retry.Attempts, RetryInternal: e.Retry.Internal}); err != nil {
			return nil, err
		}
	}
	if m.Stream, err = policy.New(o); err != nil {
		return nil, err
	}
	if e.AttemptTimeout.Mode == On {
		o.Timeouts = k.timeouts
	}
	if e.Hedge.Mode == On && o.Retries != nil {
		o.Hedging = k.hedging
	}
	m.Unary, err = policy.New(o)
	return m, err
}

// method returns the method's state for eff, kept as far as its options are the same.
func (sh *shared) method(name string, eff Effective) (*kept, error) {
	old := sh.methods[name]
	k := &kept{eff: eff}
	var err error
	if old != nil && sameBut(old.eff.Breaker, eff.Breaker) {
		k.breaker = old.breaker
	} else if k.breaker, err = breaker.New(breaker.Options{Failures: float64(eff.Breaker.Failures), MinCalls: eff.Breaker.MinCalls,
		Open: time.Duration(eff.Breaker.Open)}); err != nil {
		return nil, err
	}
	if old != nil && old.eff.AttemptTimeout.Fixed == eff.AttemptTimeout.Fixed {
		k.timeouts = old.timeouts
	} else if k.timeouts, err = timeout.New(timeout.Options{Fixed: time.Duration(eff.AttemptTimeout.Fixed)}); err != nil {
		return nil, err
	}
	if old != nil && old.eff.Hedge.Delay == eff.Hedge.Delay {
		k.hedging = old.hedging
	} else if k.hedging, err = hedge.New(hedge.Options{Delay: time.Duration(eff.Hedge.Delay)}); err != nil {
		return nil, err
	}
	sh.methods[name] = k
	return k, nil
}

// sameBut compares all but the mode, which belongs to the slot and not to the breaker.
func sameBut(a, b Breaker) bool {
	a.Mode, b.Mode = "", ""
	return a == b
}

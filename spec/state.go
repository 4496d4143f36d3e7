package spec

import (
	"slices"
	"strings"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/policy/hedge"
	"github.com/hull-go/hull/policy/rate"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/policy/throttle"
	"github.com/hull-go/hull/policy/timeout"
)

// ServiceState is how the policies of a service stand: those that its methods share, and those of each. What is Off has none.
type ServiceState struct {
	Throttle    *throttle.Snapshot
	Rate        *rate.Snapshot
	Concurrency *concurrency.Snapshot
	Budget      *retry.BudgetSnapshot
	// Mode is how far the word of each counts, by its name in documents: "throttle", "rate", "concurrency", "retry_budget".
	Mode map[string]Mode
	// Methods are all that the Book remembers, in the order of their names.
	Methods []MethodState
}

// MethodState is how one method stands, whoever calls it in whatever way.
type MethodState struct {
	Name string
	// Breaker is its breaker, whatever its mode.
	Breaker breaker.Snapshot
	// Timeout is that of attempts, Hedge the time after which another begins; nil if they are off.
	Timeout *timeout.Snapshot
	Hedge   *hedge.Snapshot
	// Mode is how far the word of each counts, by its name in documents: "breaker", "attempt_timeout", "hedge".
	Mode map[string]Mode
	// Unary and Stream count calls since the Book got to know the method.
	Unary, Stream policy.Snapshot
}

// State reads the policies of a service. False means that nobody has asked the Book for it. Each number is exact; together they may be a few calls
// apart.
func (b *Book) State(now policy.Time, service string) (ServiceState, bool) {
	b.mu.Lock()
	sh := b.services[service]
	if sh == nil {
		b.mu.Unlock()
		return ServiceState{}, false
	}
	p := sh.parts
	methods := make([]kept, 0, len(sh.methods))
	for _, k := range sh.methods {
		methods = append(methods, *k)
	}
	b.mu.Unlock()
	slices.SortFunc(methods, func(a, b kept) int { return strings.Compare(a.name, b.name) })

	out := ServiceState{Mode: map[string]Mode{"throttle": p.own.Throttle.Mode, "rate": p.own.Rate.Mode, "concurrency": p.own.Concurrency.Mode,
		"retry_budget": p.own.RetryBudget.Mode}}
	if t, ok := p.throttle.(*throttle.Throttle); ok && p.own.Throttle.Mode != Off {
		s := t.Snapshot(now)
		out.Throttle = &s
	}
	if p.rate != nil && p.own.Rate.Mode != Off {
		s := p.rate.Snapshot()
		out.Rate = &s
	}
	if p.own.Concurrency.Mode != Off {
		s := p.concurrency.Snapshot()
		out.Concurrency = &s
	}
	if p.budget != nil && p.own.RetryBudget.Mode != Off {
		s := p.budget.Snapshot(now)
		out.Budget = &s
	}
	for i := range methods {
		out.Methods = append(out.Methods, methods[i].state(now))
	}
	return out, true
}

func (k *kept) state(now policy.Time) MethodState {
	e := k.eff
	out := MethodState{Name: k.name, Breaker: k.breaker.Snapshot(now), Unary: k.calls.unary.Snapshot(), Stream: k.calls.stream.Snapshot(),
		Mode: map[string]Mode{"breaker": e.Breaker.Mode, "attempt_timeout": e.AttemptTimeout.Mode, "hedge": e.Hedge.Mode}}
	if t, ok := k.timeouts.(*timeout.Timeouts); ok && e.AttemptTimeout.Mode != Off {
		s := t.Snapshot(now)
		out.Timeout = &s
	}
	if h, ok := k.hedging.(*hedge.Hedging); ok && e.Hedge.Mode != Off {
		s := h.Snapshot(now)
		out.Hedge = &s
	}
	return out
}

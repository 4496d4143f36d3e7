package spec

import "github.com/hull-go/hull/policy"

// EventSources returns the policies whose changes of state can be read, of all services and methods that are kept: for a
// policy.EventLogger. What the methods of a service share is named after the service.
func (b *Book) EventSources() []policy.NamedSource {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []policy.NamedSource
	add := func(key, name string, m Mode, p any) {
		if s, ok := p.(policy.EventSource); ok && m != Off {
			out = append(out, policy.NamedSource{Key: key, Policy: name, Mode: m.Slot(), Source: s})
		}
	}
	for at := b.quiet.Front(); at != nil; at = at.Next() {
		sh := at.Value.(*shared)
		if sh.rate != nil {
			add(sh.name, "rate", sh.own.Rate.Mode, sh.rate)
		}
		if sh.budget != nil {
			add(sh.name, "budget", sh.own.RetryBudget.Mode, sh.budget)
		}
		add(sh.name, "throttle", sh.own.Throttle.Mode, sh.throttle)
		add(sh.name, "concurrency", sh.own.Concurrency.Mode, sh.concurrency)
		for at := sh.quiet.Front(); at != nil; at = at.Next() {
			k := at.Value.(*kept)
			key := sh.name + "/" + k.name
			add(key, "breaker", k.eff.Breaker.Mode, k.breaker)
			add(key, "timeout", k.eff.AttemptTimeout.Mode, k.timeouts)
			add(key, "hedge", k.eff.Hedge.Mode, k.hedging)
		}
	}
	return out
}

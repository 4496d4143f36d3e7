package spec

import "cmp"

// Effective is what holds for one method once everything is inherited. Zero fields mean the policy's own default.
type Effective struct {
	Policy
	Balancer    string
	Ejection    Ejection
	Concurrency Concurrency
	Throttle    Throttle
}

// builtin is what holds with nothing configured, as far as it is not the policies' own zero value.
var builtin = Service{
	Policy: Policy{
		AttemptTimeout: AttemptTimeout{Mode: On},
		Retry:          Retry{Mode: On, Attempts: 3},
		Hedge:          Hedge{Mode: Off},
		Breaker:        Breaker{Mode: On},
	},
	Balancer:    "p2c",
	Ejection:    Ejection{Mode: On},
	Concurrency: Concurrency{Mode: On},
	Throttle:    Throttle{Mode: On},
}

// Service returns what holds for a service, its methods left out.
func (s *Spec) Service(name string) Service {
	own := s.Services[name]
	return inheritService(inheritService(own, s.Defaults), builtin)
}

// Method returns what holds for a method of a service.
func (s *Spec) Method(service, method string) Effective {
	sv := s.Service(service)
	return Effective{
		Policy:      inherit(s.Services[service].Methods[method], sv.Policy),
		Balancer:    sv.Balancer,
		Ejection:    sv.Ejection,
		Concurrency: sv.Concurrency,
		Throttle:    sv.Throttle,
	}
}

func inheritService(a, b Service) Service {
	a.Policy = inherit(a.Policy, b.Policy)
	a.Balancer = cmp.Or(a.Balancer, b.Balancer)
	a.Ejection = Ejection{cmp.Or(a.Ejection.Mode, b.Ejection.Mode), cmp.Or(a.Ejection.Consecutive, b.Ejection.Consecutive),
		cmp.Or(a.Ejection.Base, b.Ejection.Base)}
	a.Concurrency = Concurrency{cmp.Or(a.Concurrency.Mode, b.Concurrency.Mode), cmp.Or(a.Concurrency.Limit, b.Concurrency.Limit)}
	a.Throttle = Throttle{cmp.Or(a.Throttle.Mode, b.Throttle.Mode)}
	a.Methods = nil
	return a
}

func inherit(a, b Policy) Policy {
	return Policy{
		Timeout:        cmp.Or(a.Timeout, b.Timeout),
		Idempotent:     cmp.Or(a.Idempotent, b.Idempotent),
		SideEffectFree: cmp.Or(a.SideEffectFree, b.SideEffectFree),
		AttemptTimeout: AttemptTimeout{cmp.Or(a.AttemptTimeout.Mode, b.AttemptTimeout.Mode), cmp.Or(a.AttemptTimeout.Fixed, b.AttemptTimeout.Fixed)},
		Retry:          Retry{cmp.Or(a.Retry.Mode, b.Retry.Mode), cmp.Or(a.Retry.Attempts, b.Retry.Attempts), a.Retry.Internal || b.Retry.Internal},
		Hedge:          Hedge{cmp.Or(a.Hedge.Mode, b.Hedge.Mode), cmp.Or(a.Hedge.Delay, b.Hedge.Delay)},
		Breaker: Breaker{cmp.Or(a.Breaker.Mode, b.Breaker.Mode), cmp.Or(a.Breaker.Failures, b.Breaker.Failures),
			cmp.Or(a.Breaker.MinCalls, b.Breaker.MinCalls), cmp.Or(a.Breaker.Open, b.Breaker.Open)},
	}
}

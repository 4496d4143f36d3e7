package spec

import (
	"container/list"
	"reflect"

	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/policy/rate"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/policy/throttle"
)

// shared is the state of one service.
type shared struct {
	parts
	name    string
	picker  *balance.Picker
	methods map[string]*kept
	quiet   list.List // of *kept, the busiest first

	at    *list.Element // in the book's list
	calls int64         // its methods', when last looked at
	gone  int64         // calls of methods that were forgotten
}

// parts is what a service's methods share and what Apply makes anew if its options change.
type parts struct {
	own         *Effective // as they were made, and what holds for methods that the document does not name
	budget      *retry.Budget
	throttle    policy.Gate
	rate        *rate.Limiter
	concurrency *concurrency.Limiter
}

// service returns a service's state, made if it is asked for the first time.
func (b *Book) service(name string) (*shared, error) {
	if sh := b.services[name]; sh != nil {
		b.quiet.MoveToFront(sh.at)
		return sh, nil
	}
	sh := &shared{name: name, methods: map[string]*kept{}}
	var err error
	if sh.parts, err = renew(name, b.spec.Service(name), parts{}, b.budgets, nil); err != nil {
		return nil, err
	}
	if sh.picker, err = balance.New(b.picking(name, &sh.own.Service)); err != nil {
		return nil, err
	}
	if len(b.services) >= b.mostServices {
		b.forget()
	}
	sh.at = b.quiet.PushFront(sh)
	b.services[name] = sh
	return sh, nil
}

// renew returns old with everything made anew whose options differ. Budgets come from next, or else from was.
func renew(name string, s Service, old parts, next, was budgets) (parts, error) {
	p := old
	p.own = &Effective{s}
	var before Service
	if old.own != nil {
		before = old.own.Service
	}
	var err error
	if p.budget, err = next.get(s.RetryBudget.id(name), was); err != nil {
		return p, err
	}
	if p.throttle == nil || s.Throttle.options() != before.Throttle.options() {
		if p.throttle, err = throttle.New(s.Throttle.options()); err != nil {
			return p, err
		}
	}
	if p.concurrency == nil || !s.Concurrency.same(before.Concurrency) {
		o, err := s.Concurrency.options()
		if err != nil {
			return p, err
		}
		if p.concurrency, err = concurrency.New(o); err != nil {
			return p, err
		}
	}
	switch {
	case s.Rate.Limit == 0:
		p.rate = nil
	case p.rate == nil || !s.Rate.same(before.Rate):
		if p.rate, err = rate.New(s.Rate.options()); err != nil {
			return p, err
		}
	}
	return p, nil
}

// adjust brings what renew kept to the limits of the new options.
func (p *parts) adjust(now policy.Time, before *Service) error {
	if r := p.own.Rate; p.rate != nil && before.Rate.Limit != 0 && r.same(before.Rate) && (r.Limit != before.Rate.Limit || r.Burst != before.Rate.Burst) {
		return p.rate.SetLimit(now, r.Limit, r.Burst)
	}
	return nil
}

// samePicker and same compare what was made of the options: a mode belongs to the slot and not to what is in it.
func (s *Service) samePicker(o *Service) bool {
	return s.Balancer == o.Balancer && s.HashBound == o.HashBound && s.Locality == o.Locality && s.Subset == o.Subset &&
		s.Canary.Version == o.Canary.Version && value(s.Canary.Share) == value(o.Canary.Share) &&
		value(s.SlowStart) == value(o.SlowStart) && s.Decay == o.Decay && reflect.DeepEqual(s.Ejection, o.Ejection)
}

// same leaves out the limit too, which setLimits changes while calls are under way, and what a fixed one does not look at.
func (c Concurrency) same(o Concurrency) bool {
	for _, x := range []*Concurrency{&c, &o} {
		x.Mode, x.Limit = "", 0
		if x.fixed() {
			x.Min, x.Max, x.Start, x.Slow, x.Backoff = 0, 0, 0, 0, 0
			if value(x.Queue) == 0 {
				x.Queue = nil
			}
		}
	}
	return reflect.DeepEqual(c, o)
}

// fixed reports whether the number of places is not learned.
func (c Concurrency) fixed() bool { return c.Source != "two-arm" && c.Source != "aimd" }

// same leaves out what adjust changes.
func (r Rate) same(o Rate) bool {
	r.Mode, r.Limit, r.Burst = o.Mode, o.Limit, o.Burst
	return reflect.DeepEqual(r, o)
}

// chances is how many of the quietest are looked at for one that had no calls lately. A bound keeps a flood of names cheap.
const chances = 64

// forget drops a method. Calls do not pass through here, so the order of the list says only who was asked for; the calls that
// a pipeline counted tell whether a method is in use.
func (sh *shared) forget() {
	for range min(chances, sh.quiet.Len()-1) {
		k := sh.quiet.Back().Value.(*kept)
		n := k.called()
		if n == k.last {
			break
		}
		k.last = n
		sh.quiet.MoveToFront(k.at)
	}
	k := sh.quiet.Remove(sh.quiet.Back()).(*kept)
	sh.gone += k.called()
	delete(sh.methods, k.name)
}

// called is how many calls there have been.
func (k *kept) called() int64 {
	return k.calls.unary.Snapshot().Calls + k.calls.stream.Snapshot().Calls
}

// called is how many calls the service has had, as far as is known.
func (sh *shared) called() int64 {
	n := sh.gone
	for _, k := range sh.methods {
		n += k.called()
	}
	return n
}

// forget drops a service, in the way in which services drop methods. Fewer are looked at, since each may have many methods.
func (b *Book) forget() {
	for range min(chances/8, b.quiet.Len()-1) {
		sh := b.quiet.Back().Value.(*shared)
		n := sh.called()
		if n == sh.calls {
			break
		}
		sh.calls = n
		b.quiet.MoveToFront(sh.at)
	}
	sh := b.quiet.Remove(b.quiet.Back()).(*shared)
	delete(b.services, sh.name)
	if id := sh.own.RetryBudget.id(sh.name); id.name == "" {
		delete(b.budgets, id)
	}
}

package sim

import (
	"math/rand/v2"
	"strings"
	"time"

	"github.com/hull-go/hull/policy"
)

// Service describes a service: what its nodes can do, and how those call it who know no better.
type Service struct {
	// Name is what calls go to.
	Name string
	// Nodes is how many there are: 1.
	Nodes int
	// Cores is how many requests of a node are worked on at a time; the others wait, first come, first served. 0 = any number: work
	// that is waiting.
	Cores int
	// Processors is what its machine has, if that is not Cores: a server begins with so many places for each. 0 = Cores, or 4.
	Processors int
	// Threads is how many requests a node can have under way, from their start to their answer, calls to other services
	// included. 0 = any number.
	Threads int
	// Refuses: a request that finds no thread fails at once. Otherwise it waits.
	Refuses bool
	// Work is how long one request takes, without waiting and without calls; nil = no time.
	Work Work
	// Calls are the services that a request calls before it is answered, one after the other: "store" or "store/get".
	Calls []string
	// Methods, if there are several; Work and Calls are then theirs.
	Methods []Method
	// Network is the mean of the time that requests and answers are under way; 0 = none.
	Network time.Duration
	// Timeout and Tries are what naive callers give an attempt, and how many attempts they make: 1 s and 1. Their product is
	// what a caller with a deadline has for all of it.
	Timeout time.Duration
	Tries   int
	// Cache stands before Calls.
	Cache *Cache
}

// Method is one method of a service that has several.
type Method struct {
	Name  string
	Work  Work
	Calls []string
	// Poorer: without the answers of what it calls there is another answer, if somebody has thought of one (Fallback).
	Poorer bool
}

// Cache keeps the answers of what a service calls: for each of Keys keys that are asked for again and again, and for none of the others,
// which are asked for once. It begins full.
type Cache struct {
	Keys int
	// Once is the share of requests whose key is asked for once.
	Once float64
}

// Work is how long a request takes on a node that works on busy of them, this one included.
type Work func(rnd rand.Source, busy int) time.Duration

// Every request takes d.
func Every(d time.Duration) Work { return func(rand.Source, int) time.Duration { return d } }

// About is exponential work with the given mean.
func About(mean time.Duration) Work {
	return func(rnd rand.Source, _ int) time.Duration {
		return time.Duration(rand.New(rnd).ExpFloat64() * float64(mean))
	}
}

// Spread is work evenly spread between half and one and a half times the mean.
func Spread(mean time.Duration) Work {
	return func(rnd rand.Source, _ int) time.Duration {
		return time.Duration((0.5 + rand.New(rnd).Float64()) * float64(mean))
	}
}

// Load is calls that arrive open loop: at a rate, whatever becomes of them.
type Load struct {
	// Name is for the report; To is the service or service/method.
	Name, To string
	// Rate is the calls per second at a time.
	Rate Rate
	// Clients is how many processes make the calls, each with policies of its own: 1. Those of the load named By, an earlier one, make these calls
	// too if it is set.
	Clients int
	By      string
	// Fan is how many calls make up a request, which is done when all are: 1. They count as one.
	Fan int
	// Criticality of the calls, and whether they must not be made twice. SideEffectFree ones can be hedged.
	Criticality    policy.Criticality
	Once           bool
	SideEffectFree bool
	// Keys is how many keys there are, one for each call, that balancers can keep together; 0 = none.
	Keys int
	// Lost is the share of calls that never end by themselves: they hold what they have for as long as somebody waits.
	Lost float64
}

// Rate is how many calls a second arrive at a time since the beginning.
type Rate func(at time.Duration) float64

// Steady is a rate that stays.
func Steady(r float64) Rate { return func(time.Duration) float64 { return r } }

// Then is r until at, and next from then on.
func (r Rate) Then(at time.Duration, next Rate) Rate {
	return func(t time.Duration) float64 {
		if t < at {
			return r(t)
		}
		return next(t)
	}
}

// Ramp grows evenly from one rate to another between two times.
func Ramp(from, to float64, begin, end time.Duration) Rate {
	return func(t time.Duration) float64 {
		return from + (to-from)*min(1, max(0, float64(t-begin)/float64(end-begin)))
	}
}

// split takes a target apart.
func split(to string) (service, method string) {
	service, method, _ = strings.Cut(to, "/")
	return service, method
}

// complete fills in the defaults.
func (s Service) complete() Service {
	s.Nodes = max(s.Nodes, 1)
	s.Tries = max(s.Tries, 1)
	if s.Timeout == 0 {
		s.Timeout = time.Second
	}
	if s.Methods == nil {
		s.Methods = []Method{{Work: s.Work, Calls: s.Calls}}
	}
	return s
}

// patience is how long a caller waits for all of its attempts.
func (s *Service) patience() time.Duration { return s.Timeout * time.Duration(s.Tries) }

// processors is what the machine of a node has.
func (s *Service) processors() int {
	switch {
	case s.Processors > 0:
		return s.Processors
	case s.Cores > 0:
		return s.Cores
	}
	return 4
}

package scenarios_test

import (
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/spec"
)

// scenario is one story.
type scenario struct {
	number int
	name   string
	// story says what is played, and how it differs from the original; promise says when it holds.
	story, promise string
	services       []service
	loads          []load
	// trouble is when, since the beginning; do makes it, and last is when no more calls begin.
	trouble span
	do      func(*world)
	last    time.Duration
	// settle is how long after last calls may take to end; 0 = as long as they like.
	settle time.Duration
	// blackout: discovery is an engine of its own that can be killed. Otherwise it is what Hull has with nothing configured, files.
	blackout bool
	// unheard: callers have a fixed list of nodes, so that discovery says nothing of who is gone.
	unheard bool

	figures []figure
	holds   func(*run) bool
	// roughly is holds with the margins that a busy machine needs; it is what tests ask for. Without protection not even that may be kept.
	roughly func(*run) bool
	rows    []row
	// quick: it is played whenever the tests run.
	quick bool
}

// row is one protection.
type row struct {
	name string
	with protection
	// want is what roughly has to say.
	want expectation
	// vary changes the scenario for this row; nil = nothing.
	vary func(*scenario)
	// note is what has to be said about it, for instance why it does not hold.
	note string
}

type expectation uint8

const (
	either expectation = iota
	breaks
	holds
)

// figure is something that is measured in a run; NaN = there was nothing to measure.
type figure struct {
	name   string
	of     func(*run) float64
	scale  float64 // 0 = 1
	format string
}

// service is one, by its name in discovery.
type service struct {
	Name  string
	Nodes int // 0 = 1
	model
	// Below is the service that handlers call before they answer.
	Below string
	// Timeout and Tries are what callers without a thought give an attempt, and how many attempts they make. Their product is what callers with a
	// deadline have for all of it.
	Timeout time.Duration
	Tries   int
}

// patience is how long its callers wait at most.
func (s *service) patience() time.Duration { return s.Timeout * time.Duration(max(s.Tries, 1)) }

// model is how much a node can do.
type model struct {
	// Cores work on one request at a time each, in the order of their arrival; 0 = on all at once. The process has as many, as far as Go
	// is concerned.
	Cores int
	// Threads is how many requests can be under way; who finds none is refused. 0 = any number.
	Threads int
	// Work is how long one takes, and Law how that varies.
	Work time.Duration
	Law  law
	// Keys: answers of what is below are kept, one for each key but 0. The cache begins with so many.
	Keys int
	// Heeds: work ends when nobody waits for it any more.
	Heeds bool
}

type law string

const (
	always  law = ""
	spread  law = "spread"  // evenly between half and one and a half times Work
	about   law = "about"   // exponential with the mean Work
	crowded law = "crowded" // Work, and a hundredth of that more for each request under way
)

// load is calls that arrive at a rate, whatever becomes of them.
type load struct {
	Name, To string
	// Rate is in calls a second, a line from point to point; the gaps are exponential.
	Rate []point
	// Criticality of the calls. Once: they must not be made twice.
	Criticality policy.Criticality
	Once        bool
	// Keys: calls have keys, evenly spread, except for a share Fresh of them.
	Keys  int
	Fresh float64
	// Hang is the share of calls that never end by themselves.
	Hang float64
	// Clients is how many processes share the load; 0 = 1.
	Clients int
	// Patience is the deadline of each call, Limit how long one may have taken to count as answered.
	Patience, Limit time.Duration
}

type point struct {
	At   time.Duration
	Rate float64
}

func steady(rate float64) []point { return []point{{0, rate}} }

// jump is a rate that is another one from at on.
func jump(from float64, at time.Duration, to float64) []point {
	return []point{{0, from}, {at, from}, {at, to}}
}

// rate at a time.
func (l *load) rate(at time.Duration) float64 {
	for i := len(l.Rate) - 1; i >= 0; i-- {
		p := l.Rate[i]
		if at < p.At {
			continue
		}
		if i == len(l.Rate)-1 {
			return p.Rate
		}
		next := l.Rate[i+1]
		return p.Rate + (next.Rate-p.Rate)*float64(at-p.At)/float64(next.At-p.At)
	}
	return 0
}

// protection is what callers and servers do about failures.
type protection struct {
	// bare callers are programs written without a thought: round robin, a fixed timeout, as many tries as the service says, one right after the other.
	bare   bool
	client []func(*spec.Service)
	// Of servers. Admission is Hull's. Drop: before work begins handlers look whether somebody waits for it. Travel: handlers pass their context on when they
	// call. Flight: one call below for all who miss a key. Fill: it goes on, and its answer is kept, when they have gone. Leave: a process that is told to end
	// leaves in good order; otherwise it is just gone.
	Admission, Drop, Travel, Flight, Fill, Leave bool
	// Directory is how callers without a thought find nodes when discovery is an engine: they believe what it says, and forget everything when it
	// does not answer ("believe"), or keep what it said last ("keep"). Empty = Hull's registry.
	Directory string
}

type cure func(*protection)

// bare is what a program does that was written without a thought, and cures.
func bare(cures ...cure) protection {
	p := protection{bare: true}
	for _, c := range cures {
		c(&p)
	}
	return p
}

// hullWith is Hull with nothing configured, and cures.
func hullWith(cures ...cure) protection {
	p := protection{Admission: true, Travel: true, Leave: true}
	for _, c := range cures {
		c(&p)
	}
	return p
}

func client(change func(*spec.Service)) cure {
	return func(p *protection) { p.client = append(p.client, change) }
}

func admission(p *protection) { p.Admission = true }
func drop(p *protection)      { p.Drop = true }
func travel(p *protection)    { p.Travel = true }
func flight(p *protection)    { p.Flight = true }
func fill(p *protection)      { p.Fill = true }
func leave(p *protection)     { p.Leave = true }
func believe(p *protection)   { p.Directory = "believe" }
func keep(p *protection)      { p.Directory = "keep" }

func tries(n int) cure { return client(func(d *spec.Service) { d.Retry.Attempts = n }) }
func timeout(t time.Duration) cure {
	return client(func(d *spec.Service) { d.AttemptTimeout.Fixed = spec.Duration(t) })
}
func balance(strategy string) cure { return client(func(d *spec.Service) { d.Balancer = strategy }) }
func budget(p *protection)         { client(func(d *spec.Service) { d.RetryBudget.Mode = spec.On })(p) }
func ejection(p *protection)       { client(func(d *spec.Service) { d.Ejection.Mode = spec.On })(p) }
func backoff(p *protection) {
	client(func(d *spec.Service) {
		d.Retry.Backoff, d.Retry.Base, d.Retry.Cap = "full-jitter", spec.Duration(time.Second), spec.Duration(4*time.Second)
	})(p)
}

// breakerAt is a breaker of the service that opens when so many fail.
func breakerAt(share float64) cure {
	return client(func(d *spec.Service) { d.Breaker.Mode, d.Breaker.Failures = spec.On, spec.Percent(share) })
}

// document is what all processes are told.
func (p *protection) document(services []service) *spec.Spec {
	doc := &spec.Spec{Services: map[string]spec.Service{}}
	for i := range services {
		s := &services[i]
		var d spec.Service
		if p.bare {
			d.Balancer = "round-robin"
			d.AttemptTimeout.Fixed = spec.Duration(s.Timeout)
			d.Retry = spec.Retry{Attempts: max(s.Tries, 1), Backoff: "immediate"}
			d.Breaker.Mode, d.Throttle.Mode, d.RetryBudget.Mode, d.Ejection.Mode, d.Concurrency.Mode = spec.Off, spec.Off, spec.Off, spec.Off, spec.Off
		}
		if !p.Admission {
			d.ServerLimit.Mode, d.ServerPressure.Mode = spec.Off, spec.Off
		}
		for _, change := range p.client {
			change(&d)
		}
		doc.Services[s.Name] = d
		if len(services) == 1 {
			doc.Defaults = d // also for nodes that are called by their addresses
		}
	}
	return doc
}

package hull

import (
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/admission"
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/spec"
)

// rules are what a document says of the nodes of a service.
func rules(s spec.Service) admission.Rules {
	l, r, p := s.ServerLimit, s.ServerRate, s.ServerPressure
	out := admission.Rules{
		Limit: admission.Limit{Mode: l.Mode.Slot(), AIMD: l.Source == "aimd", Start: l.Start, Min: l.Min, Max: l.Max, Slow: time.Duration(l.Slow),
			Backoff: float64(l.Backoff), MaxWait: time.Duration(l.MaxWait), Order: order(l.Order), Target: time.Duration(l.Target),
			Interval: time.Duration(l.Interval)},
		Rate: admission.Rate{Mode: r.Mode.Slot(), Limit: r.Limit, Per: time.Duration(r.Per), Burst: r.Burst, Callers: r.Callers},
		Pressure: admission.Pressure{Mode: p.Mode.Slot(), Lag: time.Duration(p.Lag), Throttled: float64(p.Throttled),
			Memory: float64(p.Memory)},
		NoReserve: l.Reserve != nil && !*l.Reserve,
		Grace:     time.Duration(l.Grace),
	}
	if l.Source == "fixed" {
		out.Limit.Fixed = l.Limit
	}
	if l.Queue != nil {
		out.Limit.Queue, out.Limit.NoQueue = *l.Queue, *l.Queue == 0
	}
	return out
}

func order(name string) concurrency.Order {
	switch name {
	case "fifo":
		return concurrency.FIFO
	case "lifo":
		return concurrency.LIFO
	}
	return concurrency.CoDel
}

// Apply puts another document in force: what it says of the nodes of this service (server_limit, server_rate, server_pressure). What did not change
// keeps its state, and calls under way finish on what they began with. With an error nothing has changed. spec.Watch can call it.
func (s *Server) Apply(doc *spec.Spec) error { return s.apply(doc, "the program, with Server.Apply") }

// apply notes who says what is in force.
func (s *Server) apply(doc *spec.Spec, who string) error {
	if doc == nil {
		doc = &spec.Spec{}
	}
	if err := doc.Validate(); err != nil {
		return err
	}
	if err := s.desk.Apply(policy.Now(), rules(doc.Service(s.service))); err != nil {
		return err
	}
	s.doc.Store(doc)
	s.origin.set(who)
	return nil
}

// check says why Apply would refuse a document.
func (s *Server) check(doc *spec.Spec) error {
	if err := doc.Validate(); err != nil {
		return err
	}
	_, err := admission.New(rules(doc.Service(s.service)))
	return err
}

// Spec returns the specification in force. It must not be changed.
func (s *Server) Spec() *spec.Spec {
	if doc := s.doc.Load(); doc != nil {
		return doc
	}
	if s.opt.spec != nil {
		return s.opt.spec
	}
	return &spec.Spec{}
}

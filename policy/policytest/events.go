package policytest

import (
	"math"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// events: a gate that is a policy.EventSource begins with its state, misses no change and reads the same for everybody.
func (s *suite) events(_ *testing.T, r reporter) {
	g := s.new()
	src, ok := g.(policy.EventSource)
	if !ok {
		return
	}
	all := src.Events(begin, 0)
	if len(all) != 1 || all[0].Seq != 1 || all[0].From != "" || all[0].To == "" {
		r.Errorf("a new gate has the events %+v: want one, with number 1, no From, and its state as To", all)
		return
	}
	last := all[0]
	d := s.drive(r, g, 5)
	follow := func() {
		seen := src.Events(d.now, last.Seq)
		for i, e := range seen {
			switch {
			case e.Seq <= last.Seq || e.Seq != last.Seq+1 && i > 0:
				r.Errorf("event %d comes after event %d", e.Seq, last.Seq)
			case e.Seq == last.Seq+1 && e.From != last.To:
				r.Errorf("event %d goes from %q to %q, but the one before went to %q", e.Seq, e.From, e.To, last.To)
			case e.To == "" || e.Reason == "":
				r.Errorf("event %d says state %q and reason %q: say both", e.Seq, e.To, e.Reason)
			case e.At <= 0 || e.At > d.now:
				r.Errorf("event %d, read at %v, happened at %v", e.Seq, d.now, e.At)
			}
			last = e
		}
		if again := src.Events(d.now, last.Seq); len(again) != 0 {
			r.Errorf("read twice at the same moment, there are new events: %+v", again)
		}
	}
	for range 4 {
		for range 20 {
			d.storm(10)
			follow()
		}
		d.settle("after a storm, with events read")
		d.now = d.now.Add(time.Minute)
		follow()
	}
}

// advice: whatever a dependency says about when to come back, the gate is well again in time.
func (s *suite) advice(_ *testing.T, r reporter) {
	g := s.new()
	p, ok := g.(policy.Pushbacker)
	if !ok {
		return
	}
	d := s.drive(r, g, 6)
	for _, stay := range []time.Duration{1, time.Second, time.Hour, math.MaxInt64} {
		for range 30 {
			p.Pushback(d.now, stay)
			d.storm(3)
		}
		d.settle("after the advice to stay away for " + stay.String())
	}
}

package concurrency

import (
	"testing"
	"time"

	"github.com/hull-go/hull/internal/spell"
	"github.com/hull-go/hull/policy"
)

// said is a Source with the limit that the test sets.
type said struct{ limit int }

func (s *said) Limit(policy.Time) int      { return s.limit }
func (s *said) Sample(policy.Time, Sample) {}
func (s *said) Refused(policy.Time)        {}

func TestEvents(t *testing.T) {
	at := func(d time.Duration) policy.Time { return policy.Time(time.Hour + d) }
	src := &said{limit: 10}
	l, err := New(Options{Source: src})
	if err != nil {
		t.Fatal(err)
	}
	want := func(since uint64, now policy.Time, from, to string, was, is float64) {
		t.Helper()
		e := l.Events(now, since)
		if len(e) != 1 {
			t.Fatalf("%d events after %d, want 1: %+v", len(e), since, e)
		}
		if e[0].From != from || e[0].To != to || e[0].Was != was || e[0].Is != is || e[0].Refusing != (to == stateFull) {
			t.Errorf("%+v: want %q to %q, %v to %v", e[0], from, to, was, is)
		}
	}
	want(0, at(0), "", stateFree, 0, 10)
	one := func(now policy.Time, limit int) {
		t.Helper()
		v := l.Admit(now, nil, &policy.Call{})
		if v.Decision != policy.Admit {
			t.Fatal(v)
		}
		src.limit = limit
		l.Done(now, nil, v.Permit, policy.Success)
	}
	one(at(1), 15)
	if e := l.Events(at(1), 1); len(e) != 0 {
		t.Errorf("a limit half as large again is news: %+v", e)
	}
	one(at(2), 20)
	want(1, at(2), stateFree, stateFree, 10, 20)
	one(at(3), 1)
	want(2, at(3), stateFree, stateFree, 20, 1)
	p := l.Admit(at(4), nil, &policy.Call{}).Permit
	for range 100 {
		l.refuse(at(5), whyTaken)
	}
	want(3, at(6), stateFree, stateFull, 0, 1)
	l.Done(at(7), nil, p, policy.Success)
	want(4, at(spell.Quiet+time.Second), stateFull, stateFree, 0, 0)
}

// A limit that is set long after the latest refusal is set in the state of that moment.
func TestSetLimitAfterASpell(t *testing.T) {
	at := func(d time.Duration) policy.Time { return policy.Time(time.Hour + d) }
	l := must(t, Options{Limit: 1})
	l.Admit(at(0), nil, nil)
	admit(t, l, at(1), policy.Refuse)
	if err := l.SetLimit(at(time.Minute), 5); err != nil {
		t.Fatal(err)
	}
	e := l.Events(at(time.Minute), 2)
	if len(e) != 2 || e[0].To != stateFree || e[1].From != stateFree || e[1].To != stateFree || e[1].Refusing || e[1].Is != 5 {
		t.Errorf("%+v, want the spell over, and then the limit changed while it was free", e)
	}
}

package spell_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/internal/spell"
	"github.com/hull-go/hull/policy"
)

const e0 = policy.Time(1_700_000_000 * time.Second)

func TestSpell(t *testing.T) {
	var l policy.EventLog
	s := spell.Spell{Log: &l, Calm: "calm", Busy: "busy", Begun: "it begins", Over: "it is over"}
	s.Settle(e0)
	for _, sec := range []int{0, 1, 9, 18, 40, 41} { // 9 s apart at most, then 22 s
		s.Refused(e0.Add(time.Duration(sec)*time.Second), float64(sec))
	}
	s.Settle(e0.Add(50 * time.Second))
	want := []policy.Event{
		{Seq: 1, At: e0, From: "calm", To: "busy", Reason: "it begins", Refusing: true},
		{Seq: 2, At: e0.Add(28 * time.Second), From: "busy", To: "calm", Reason: "it is over"},
		{Seq: 3, At: e0.Add(40 * time.Second), From: "calm", To: "busy", Reason: "it begins", Is: 40, Refusing: true},
	}
	if got := l.Since(0); !slices.Equal(got, want) || s.State() != "busy" {
		t.Errorf("%+v, want %+v", got, want)
	}
	s.Settle(e0.Add(51 * time.Second))
	if got := l.Since(3); len(got) != 1 || got[0].At != e0.Add(51*time.Second) || s.State() != "calm" {
		t.Errorf("%+v, want it to be over 10 s after the latest refusal", got)
	}
}

// However refusals of several callers mix, spells begin and end in turn.
func TestSpellParallel(t *testing.T) {
	var l policy.EventLog
	s := spell.Spell{Log: &l, Calm: "calm", Busy: "busy"}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 2_000 {
				now := e0.Add(time.Duration(i*(g+1)) * 3 * time.Second)
				s.Refused(now, 0)
				s.Settle(now.Add(11 * time.Second))
			}
		})
	}
	wg.Wait()
	for i, e := range l.Since(0) {
		if busy := e.Seq%2 == 1; busy != (e.To == "busy") {
			t.Fatalf("event %d: %+v", i, e)
		}
	}
}

// What else happens is told with the state of its moment: a spell that is over by then is over before it.
func TestNoteKnowsTheState(t *testing.T) {
	var l policy.EventLog
	s := spell.Spell{Log: &l, Calm: "calm", Busy: "busy", Begun: "it begins", Over: "it is over"}
	limit := policy.Event{Reason: "another limit", Was: 1, Is: 2}
	s.Note(e0, limit)
	s.Refused(e0.Add(time.Second), 0)
	s.Note(e0.Add(2*time.Second), limit)
	s.Note(e0.Add(time.Hour), limit)
	want := []policy.Event{
		{Seq: 1, At: e0, From: "calm", To: "calm", Reason: "another limit", Was: 1, Is: 2},
		{Seq: 2, At: e0.Add(time.Second), From: "calm", To: "busy", Reason: "it begins", Refusing: true},
		{Seq: 3, At: e0.Add(2 * time.Second), From: "busy", To: "busy", Reason: "another limit", Was: 1, Is: 2, Refusing: true},
		{Seq: 4, At: e0.Add(11 * time.Second), From: "busy", To: "calm", Reason: "it is over"},
		{Seq: 5, At: e0.Add(time.Hour), From: "calm", To: "calm", Reason: "another limit", Was: 1, Is: 2},
	}
	if got := l.Since(0); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

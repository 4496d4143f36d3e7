// Package spell makes events of what comes and goes: spells of refusals, for policies that are told of no more than that.
package spell

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/policy"
)

// Quiet is for how long nothing may be refused before a Spell is over.
const Quiet = 10 * time.Second

// Spell makes events of a policy's refusals: one when it begins to refuse, and one when it has refused nothing for Quiet. It
// is told of refusals only, so that calls that go cost nothing. Set Log, Calm and Busy before use; it is safe for
// concurrent use.
type Spell struct {
	Log *policy.EventLog
	// Calm and Busy are the names of the states.
	Calm, Busy string
	// Begun and Over are why the states begin, one constant sentence each.
	Begun, Over string

	last atomic.Int64 // the latest refusal, to within a part of Quiet; 0 = calm
	mu   sync.Mutex   // held while it begins or ends
}

// spellParts: refusals within this part of Quiet count as one, so that a flood of them writes nothing.
const spellParts = 16

// Refused tells of a refusal at now; is is the number that the state is about, or 0.
func (s *Spell) Refused(now policy.Time, is float64) {
	last := s.last.Load()
	if last != 0 && now.Sub(policy.Time(last)) < Quiet/spellParts {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(now)
	last = s.last.Load()
	if last == 0 {
		s.Log.Add(policy.Event{At: now, From: s.Calm, To: s.Busy, Reason: s.Begun, Is: is, Refusing: true})
	}
	s.last.Store(max(last, int64(now)))
}

// Note adds an event of something else that happened at now, in the state that holds then, which it fills in.
func (s *Spell) Note(now policy.Time, e policy.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(now)
	state := s.State()
	e.At, e.From, e.To, e.Refusing = now, state, state, state == s.Busy
	s.Log.Add(e)
}

// State returns the name of the present state, as of the latest Refused or Settle.
func (s *Spell) State() string {
	if s.last.Load() != 0 {
		return s.Busy
	}
	return s.Calm
}

// Settle ends a spell that was over by now.
func (s *Spell) Settle(now policy.Time) {
	if last := s.last.Load(); last == 0 || now.Sub(policy.Time(last)) < Quiet {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(now)
}

// settle is Settle with the mutex held.
func (s *Spell) settle(now policy.Time) {
	last := policy.Time(s.last.Load())
	if end := last.Add(Quiet); last != 0 && now >= end {
		s.Log.Add(policy.Event{At: end, From: s.Busy, To: s.Calm, Reason: s.Over})
		s.last.Store(0)
	}
}

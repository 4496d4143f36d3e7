package invariant

import "github.com/hull-go/hull/policy"

// Spells makes spells of states that somebody looks at once in a while: one that came and went between two looks is missed, and one that lasts has lasted until the last
// look at least. It is not safe for concurrent use. Make one with NewSpells.
type Spells struct {
	last map[string]*Spell // those of the last look that have not ended
	seen map[string]bool   // in the look under way
}

// NewSpells returns a Spells that has seen nothing.
func NewSpells() *Spells { return &Spells{last: map[string]*Spell{}, seen: map[string]bool{}} }

// See says that s.Key is in s.State at a time, since s.From. A state that had been seen before goes on; the longest Max counts. It reports whether it is new.
func (l *Spells) See(s Spell, at policy.Time) (began bool) {
	name := s.State + " " + s.Key
	l.seen[name] = true
	old := l.last[name]
	if old == nil {
		old, began = &s, true
		l.last[name] = old
	}
	old.To, old.Max = at, max(old.Max, s.Max)
	return began
}

// Next ends a look and returns the spells that have ended since the one before it.
func (l *Spells) Next() (ended []Spell) {
	for name, s := range l.last {
		if !l.seen[name] {
			ended = append(ended, *s)
			delete(l.last, name)
		}
	}
	clear(l.seen)
	return ended
}

package concurrency

import (
	"github.com/hull-go/hull/internal/spell"
	"github.com/hull-go/hull/policy"
)

// stateFree is the state of a limiter that has refused nobody for a while; the other is stateFull.
const stateFree = "free"

func (l *Limiter) beginEvents() {
	limit := l.caps.Load() & lower
	l.noted.Store(int64(limit))
	l.log.Add(policy.Event{To: stateFree, Reason: "created", Is: float64(limit)})
	l.spell = spell.Spell{Log: &l.log, Calm: stateFree, Busy: stateFull, Begun: "calls found no place", Over: "no call was refused for a while"}
}

// noteLimit makes an event of a limit that is another by the factor than when it was last noted; 1 = by anything.
func (l *Limiter) noteLimit(now policy.Time, factor int64) {
	is, was := int64(l.caps.Load()&lower), l.noted.Load()
	if is == was || is < factor*was && was < factor*is || !l.noted.CompareAndSwap(was, is) {
		return
	}
	l.spell.Note(now, policy.Event{Reason: "the limit changed", Was: float64(was), Is: float64(is)})
}

// Events implements policy.EventSource: when calls began to be refused ("full") and when they had not been for ten seconds
// ("free"), and limits that a Source halved or doubled, or that SetLimit set. The number is the limit.
func (l *Limiter) Events(now policy.Time, since uint64) []policy.Event {
	l.spell.Settle(now)
	return l.log.Since(since)
}

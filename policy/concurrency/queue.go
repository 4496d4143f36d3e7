package concurrency

import (
	"math/bits"
	"math/rand/v2"

	"github.com/hull-go/hull/policy"
)

// patience is when a wait that begins now ends in vain.
func (l *Limiter) patience(now policy.Time, c *policy.Call) policy.Time {
	at := now.Add(l.opt.MaxWait)
	if c == nil || c.Deadline == 0 {
		return at
	}
	if l.opt.Share == 1 {
		return min(at, c.Deadline)
	}
	return min(at, now+policy.Time(float64(c.Deadline-now)*l.opt.Share))
}

// Join implements policy.Line. A call that finds the line full takes the seat of a lower one, if there is one.
func (l *Limiter) Join(now policy.Time, _ rand.Source, c *policy.Call, w policy.Waiting) (policy.Ticket, policy.Verdict) {
	rank := l.rank(c)
	l.mu.Lock()
	defer l.mu.Unlock()
	var displaced int32
	for {
		v, caps := l.word.Load(), l.caps.Load()
		if v < caps&lower {
			if l.word.CompareAndSwap(v, v+1) {
				return 0, policy.Verdict{Permit: policy.Permit{Start: now, Gen: l.circumstances(v+1, now, deadlineOf(c))}}
			}
			continue
		}
		if l.lends.Load()%2 != 0 {
			l.collect()
			continue
		}
		next := v + waiter
		displaced = none
		if v/waiter >= caps/waiter {
			if displaced = l.victim(now, rank, int(caps/waiter)); displaced == none {
				l.shed.lost[classOf(rank)].Add(1)
				return 0, l.refuse(now, whyLine)
			}
			next = v
		}
		// From here on, who gives a place back sees that somebody waits, and has to ask for the mutex to learn who.
		if l.word.CompareAndSwap(v, next) {
			break
		}
	}
	if displaced != none {
		from := int(l.line.seats[displaced].list)
		l.line.move(displaced, listOwed)
		l.classes[classOf(from)].waiting--
		l.tell(from)
		l.shed.lost[classOf(from)].Add(1)
		l.owed.Add(1)
		l.countRefused(now)
	}
	l.judge(now, rank)
	l.parked++
	at := l.patience(now, c)
	if l.stand[rank].dropping {
		at = min(at, now.Add(2*l.opt.Target))
	}
	t := l.line.push(rank, seat{who: w, since: now, until: at, deadline: deadlineOf(c)})
	l.classes[classOf(rank)].waiting++
	l.tell(rank)
	return t, policy.Verdict{Decision: policy.Park, At: at, State: stateFull, Reason: whyTaken}
}

// Leave implements policy.Line.
func (l *Limiter) Leave(now policy.Time, t policy.Ticket) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, ok := l.line.find(t)
	if !ok {
		return false
	}
	if l.line.seats[i].list == listOwed {
		l.owed.Add(-1)
		l.line.remove(i)
		return true
	}
	s := l.remove(now, i)
	l.sub()
	if now >= s.until {
		l.inVain(now, s)
	}
	return true
}

// Waits reports whether Next may have somebody.
func (l *Limiter) Waits() bool { return l.word.Load() >= waiter || l.owed.Load() != 0 }

// Next implements policy.Line. Those whose wait is over come first, with a refusal.
func (l *Limiter) Next(now policy.Time, _ rand.Source) (policy.Waiting, policy.Verdict, bool) {
	if !l.Waits() {
		return policy.Waiting{}, policy.Verdict{}, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := l.line.first(listOwed); i != none {
		l.owed.Add(-1)
		return l.line.remove(i).who, policy.Verdict{Decision: policy.Refuse, State: stateFull, Reason: whyLower}, true
	}
	ranks := l.ranks.Load()
	for left := ranks; left != 0; left &= left - 1 {
		rank := bits.TrailingZeros32(left)
		i := l.line.first(rank)
		if l.judge(now, rank); l.over(now, i, rank) {
			return l.giveUp(now, i)
		}
	}
	for ranks != 0 {
		rank := l.pick()
		i := l.line.first(rank)
		if l.newestFirst(now, rank) {
			if i = l.line.last(rank); l.over(now, i, rank) {
				return l.giveUp(now, i)
			}
		}
		w := l.word.Load()
		if w&lower >= l.caps.Load()&lower {
			break
		}
		if l.word.CompareAndSwap(w, w+1-waiter) {
			l.granted(rank)
			s := l.remove(now, i)
			return s.who, policy.Verdict{Permit: policy.Permit{Start: now, Gen: l.circumstances(w+1, now, s.deadline)}}, true
		}
	}
	return policy.Waiting{}, policy.Verdict{}, false
}

// giveUp takes out a seat whose wait is over. The mutex is held.
func (l *Limiter) giveUp(now policy.Time, i int32) (policy.Waiting, policy.Verdict, bool) {
	s := l.remove(now, i)
	l.sub()
	l.inVain(now, s)
	return s.who, policy.Verdict{Decision: policy.Refuse, State: stateFull, Reason: whyVain}, true
}

// inVain counts a wait that was over before its turn. The mutex is held.
func (l *Limiter) inVain(now policy.Time, s seat) {
	l.vain++
	l.shed.lost[classOf(int(s.list))].Add(1)
	if l.source != nil {
		l.source.Refused(now)
	}
}

// sub takes one off the upper half. The mutex is held.
func (l *Limiter) sub() {
	l.word.Add(^uint64(waiter - 1))
}

// remove takes seat i out of its line. The mutex is held.
func (l *Limiter) remove(now policy.Time, i int32) seat {
	s := l.line.remove(i)
	l.longestWaited = max(l.longestWaited, now.Sub(s.since))
	l.classes[classOf(int(s.list))].waiting--
	l.tell(int(s.list))
	return s
}

// tell keeps what Admit sees of the lines: which are not empty.
func (l *Limiter) tell(rank int) {
	bit := uint32(1) << rank
	if m := l.ranks.Load(); l.line.empty(rank) == (m&bit != 0) {
		l.ranks.Store(m ^ bit)
	}
}

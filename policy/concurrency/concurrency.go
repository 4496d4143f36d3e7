package concurrency

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/internal/spell"
	"github.com/hull-go/hull/internal/stripe"
	"github.com/hull-go/hull/policy"
)

// Limiter is a policy.Line with a number of places, fixed or as a Source says. It is safe for concurrent use.
type Limiter struct {
	opt    Options
	source Source
	arms   *TwoArm // the source, if it is one
	// caps is how many may wait in the upper half, how many places there are in the lower.
	caps atomic.Uint64
	// quiet is when somebody last came in while half of a source's places or more were free, to an eighth of Interval.
	quiet atomic.Int64
	fresh time.Duration // how long Interval and an eighth of it are, see isStale
	// fell is when a source last took many places away that were taken, 0 = never, and fellFrom how many were taken then.
	fell, fellFrom atomic.Int64
	// Where processors have met in word: the desks that places are left at, see desk. nil = not yet. lends is odd while they are open.
	desks     atomic.Pointer[desks]
	lends     atomic.Uint32
	keepShift uint8 // a desk keeps one place in 2 to the power of this

	_ [64]byte // what follows is written all the time
	// word is the number waiting in the upper half, the number in use or left at a desk in the lower.
	word atomic.Uint64
	_    [56]byte

	refused atomic.Int64
	owed    atomic.Int32  // who is in listOwed
	ranks   atomic.Uint32 // which lines are not empty
	shed    shedder

	mu            sync.Mutex // guards what follows, and every change of the upper half
	line          lines
	classes       [numClasses]class
	stand         [numRanks]standing
	parked, vain  int64
	longestWaited time.Duration

	log   policy.EventLog
	spell spell.Spell
	noted atomic.Int64 // the limit of the latest event
}

const (
	waiter = 1 << 32 // one more in the upper half
	lower  = waiter - 1
)

var (
	_ policy.Line        = (*Limiter)(nil)
	_ policy.EventSource = (*Limiter)(nil)
)

// New returns a limiter with all places free. The error names everything that is wrong with o.
func New(o Options) (*Limiter, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	l := &Limiter{opt: o, source: o.Source, fresh: o.Interval + o.Interval/8, keepShift: keepShift}
	l.line.init()
	if l.source != nil {
		l.arms, _ = l.source.(*TwoArm)
		o.Limit = l.source.Limit(0)
	}
	l.setCaps(o.Limit)
	l.beginEvents()
	return l, nil
}

func (l *Limiter) setCaps(limit int) {
	limit = min(max(limit, 1), math.MaxInt32)
	l.caps.Store(uint64(l.opt.queue(limit))*waiter | uint64(limit))
}

// Admit implements policy.Gate: Admit if a place is free and nobody waits, else Park if the line has room, else Refuse.
func (l *Limiter) Admit(now policy.Time, _ rand.Source, c *policy.Call) policy.Verdict {
	var slot uint32
	if desks := l.desks.Load(); desks != nil {
		p, ok := l.atDesk(now, desks)
		if ok {
			p.Gen = l.circumstances(l.word.Load(), now, deadlineOf(c))
			return policy.Verdict{Permit: p}
		}
		slot = p.Slot
	}
	for {
		w, caps := l.word.Load(), l.caps.Load()
		if w >= caps&lower { // all places taken or at a desk, or somebody waits
			if !l.certain() {
				continue
			}
			return l.full(now, c, w/waiter >= caps/waiter, caps >= waiter)
		}
		if l.word.CompareAndSwap(w, w+1) {
			if l.source != nil && 2*w <= caps&lower && l.isStale(now, &l.quiet) {
				l.quiet.Store(int64(now))
			}
			return policy.Verdict{Permit: policy.Permit{Start: now, Gen: l.circumstances(w+1, now, deadlineOf(c)), Slot: slot}}
		}
		l.met()
	}
}

// Pass is Admit for calls that simply go, of which no more has to be known than the deadline; 0 = none.
func (l *Limiter) Pass(now, deadline policy.Time, _ policy.Criticality) (policy.Permit, bool) {
	if l.desks.Load() != nil {
		return l.passAtDesk(now, deadline)
	}
	w, caps := l.word.Load(), l.caps.Load()
	if w >= caps&lower || !l.word.CompareAndSwap(w, w+1) {
		return policy.Permit{}, false
	}
	if l.source == nil {
		return policy.Permit{Start: now}, true
	}
	if 2*w <= caps&lower && l.isStale(now, &l.quiet) {
		l.quiet.Store(int64(now))
	}
	return policy.Permit{Start: now, Gen: l.circumstances(w+1, now, deadline)}, true
}

// passAtDesk is Pass if there are desks.
func (l *Limiter) passAtDesk(now, deadline policy.Time) (policy.Permit, bool) {
	p, ok := l.atDesk(now, l.desks.Load())
	if ok {
		p.Gen = l.circumstances(l.word.Load(), now, deadline)
	}
	return p, ok
}

// circumstances are what a permit says of the moment in which it was given, for sources that learn from that.
func (l *Limiter) circumstances(word uint64, now, deadline policy.Time) uint32 {
	if l.arms == nil {
		return 0
	}
	return circumstances(word&lower, now, deadline)
}

// deadlineOf is 0 if there is none.
func deadlineOf(c *policy.Call) policy.Time {
	if c == nil {
		return 0
	}
	return c.Deadline
}

// Passer returns l: its own Admit is what Pass stands for.
func (l *Limiter) Passer() policy.Gate { return l }

const (
	stateFull = "full"
	whyTaken  = "all places are taken"
	whyLine   = "all places are taken and the line is full"
	whyVain   = "waited in vain for a place"
	whyLower  = "waited for a place and made room for a more important call"
	whyShed   = "all places are taken and its root request is among those that are shed"
)

// full answers a call that finds no place.
func (l *Limiter) full(now policy.Time, c *policy.Call, lineFull, hasLine bool) policy.Verdict {
	if !hasLine {
		return l.refuse(now, whyTaken)
	}
	rank := l.rank(c)
	if l.sheds(now, c, classOf(rank)) {
		return l.refuse(now, whyShed)
	}
	if lineFull && l.ranks.Load()&^(1<<rank) == 0 { // nobody there whose seat it could take
		l.shed.lost[classOf(rank)].Add(1)
		return l.refuse(now, whyLine)
	}
	return policy.Verdict{Decision: policy.Park, At: l.patience(now, c), State: stateFull, Reason: whyTaken}
}

func (l *Limiter) refuse(now policy.Time, why string) policy.Verdict {
	l.countRefused(now)
	return policy.Verdict{Decision: policy.Refuse, State: stateFull, Reason: why}
}

func (l *Limiter) countRefused(now policy.Time) {
	l.refused.Add(1)
	l.spell.Refused(now, float64(l.caps.Load()&lower))
	if l.source != nil {
		l.source.Refused(now)
	}
}

// Done implements policy.Gate. The outcome matters to a Source only. The caller then calls Next until there is no more.
func (l *Limiter) Done(now policy.Time, _ rand.Source, p policy.Permit, o policy.Outcome) {
	switch w := l.word.Load(); {
	case l.desks.Load() != nil || w&lower == 0:
		l.giveBack(now, p, o)
	case !l.word.CompareAndSwap(w, w-1):
		l.met()
		l.giveBack(now, p, o)
	case l.source != nil:
		l.learn(now, p, o, int(w&lower))
	}
}

// giveBack is Done where it is not done with one exchange.
func (l *Limiter) giveBack(now policy.Time, p policy.Permit, o policy.Outcome) {
	desks := l.desks.Load()
	if desks != nil && l.leave(&desks.of[p.Slot%stripe.N]) {
		if l.source != nil {
			l.learn(now, p, o, l.roughly())
		}
		return
	}
	for {
		w := l.word.Load()
		if w&lower == 0 {
			return // given back twice: better one place too few than one too many for ever
		}
		if !l.word.CompareAndSwap(w, w-1) {
			l.met()
			continue
		}
		if l.source != nil {
			l.learn(now, p, o, int(w&lower))
		}
		if desks != nil && l.lends.Load()%2 == 0 && 2*(w-1) <= l.caps.Load()&lower {
			l.lend()
		}
		return
	}
}

// learn tells the source of an end, and does what it says.
func (l *Limiter) learn(now policy.Time, p policy.Permit, o policy.Outcome, inUse int) {
	s := Sample{Took: now.Sub(p.Start), InUse: inUse, Outcome: o}
	var n int
	if l.arms != nil {
		s.Entered, s.Patience = unpack(p.Gen)
		l.arms.Sample(now, s)
		n = l.arms.Limit(now)
	} else {
		l.source.Sample(now, s)
		n = l.source.Limit(now)
	}
	if was := l.caps.Load() & lower; uint64(n) != was {
		l.setCaps(n)
		l.noteLimit(now, 2)
		if uint64(n) < was {
			// Many small steps while the surplus is still there are not so many rushes: who hangs and does not leave must not keep the line from standing.
			l.recall()
			if taken := l.inUse(); rushMore*taken > (rushMore+1)*n && rushMore*taken <= (rushMore+1)*int(was) {
				l.fellFrom.Store(int64(taken))
				l.fell.Store(int64(now))
			}
		}
	}
	if l.lends.Load()%2 != 0 && l.comparing() {
		l.recall()
	}
}

const (
	// rushMore: places have been taken away at once if one in so many more are taken than there are.
	rushMore = 4
	// rushLasts is for how many intervals after that the line is one of a moment.
	rushLasts = 2
	// surplusLeast ends say how quickly those leave who are too many. What they say is not said of more than surplusMost.
	surplusLeast = 8
	surplusMost  = time.Second
)

// rushes reports whether a source has just taken places away that were taken. Nobody gets in until the surplus has gone, however few come, and then those who
// have come meanwhile are served: that says nothing about whether they can be.
func (l *Limiter) rushes(now policy.Time) bool {
	fell := policy.Time(l.fell.Load())
	since := now.Sub(fell)
	return fell != 0 && since >= 0 && since <= rushLasts*l.opt.Interval
}

// Surplus is for how long nobody will get in because a source has taken places away that are still taken, as quickly as those leave who have them. It is 0
// if that is not so, or if too few have left to tell.
func (l *Limiter) Surplus(now policy.Time) time.Duration {
	fell := policy.Time(l.fell.Load())
	since := now.Sub(fell)
	if fell == 0 || since <= 0 || since > surplusMost {
		return 0
	}
	in := l.inUse()
	left, more := l.fellFrom.Load()-int64(in), in-l.Limit()
	if left < surplusLeast || more <= 0 {
		return 0
	}
	d := time.Duration(float64(since) * float64(more) / float64(left))
	if d > surplusMost {
		return 0
	}
	return d
}

// SetLimit changes a fixed number of places while calls go on. Who has a place keeps it, and if there are more now,
// those who wait are told at once. It is an error if there is a Source.
func (l *Limiter) SetLimit(now policy.Time, limit int) error {
	switch {
	case l.source != nil:
		return fmt.Errorf("concurrency: the limit is the source's: change that")
	case limit < 1 || limit > math.MaxInt32:
		return fmt.Errorf("concurrency: limit is %d: want a positive number", limit)
	}
	l.setCaps(limit)
	l.recall()
	l.noteLimit(now, 1)
	for {
		w, v, ok := l.Next(now, nil)
		if !ok {
			return nil
		}
		w.Waiter.Granted(w.Tag, v)
	}
}

// Limit is how many places there are now. Unlike Snapshot it waits for nobody.
func (l *Limiter) Limit() int { return int(l.caps.Load() & lower) }

// Snapshot is a reading of a limiter.
type Snapshot struct {
	// InUse is how many of Limit places are taken, Waiting how many of Queue wait for one.
	InUse, Limit, Waiting, Queue int
	// Refused counts those who were not let in at once and those who had to leave the line to a more important call; Parked
	// those who joined the line, and Vain those among them whose time was over before it was their turn, since the limiter was
	// made.
	Refused, Parked, Vain int64
	// LongestWaited is the longest time that anybody spent in the line.
	LongestWaited time.Duration
	// Dropping: CoDel finds that a line stands.
	Dropping bool
	// Shed is the share of root requests that is refused for want of places, by class, the most important first.
	Shed [numClasses]float64
	// WaitingOf are those who wait and LostOf those for whom the line was too long, since the limiter was made, by class as Shed.
	WaitingOf [numClasses]int
	LostOf    [numClasses]int64
}

// Snapshot reads the limiter.
func (l *Limiter) Snapshot() Snapshot {
	l.mu.Lock()
	defer l.mu.Unlock()
	w, caps := l.word.Load(), l.caps.Load()
	s := Snapshot{
		InUse: l.inUse(), Limit: int(caps & lower), Waiting: int(w / waiter), Queue: int(caps / waiter),
		Refused: l.refused.Load(), Parked: l.parked, Vain: l.vain, LongestWaited: l.longestWaited,
	}
	for i := range l.stand {
		s.Dropping = s.Dropping || l.stand[i].dropping
	}
	for k := range s.Shed {
		s.Shed[k] = float64(l.shed.level[k].Load()) / math.MaxUint32
		s.WaitingOf[k], s.LostOf[k] = l.classes[k].waiting, l.shed.lost[k].Load()
	}
	return s
}

package concurrency

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/policy"
)

// Order says who in the line is next.
type Order uint8

// The orders.
const (
	// FIFO: who came first.
	FIFO Order = iota
	// LIFO: who came last, who has the most time left. Under lasting overload the others wait in vain.
	LIFO
	numOrders
)

// Options describes a limiter. Every zero means the default that stands beside it.
type Options struct {
	// Limit is the number of places: 1024.
	Limit int
	// Queue is how many may wait for one: 0, none.
	Queue int
	// MaxWait is how long each may wait: 100 ms. Without Queue it has no meaning.
	MaxWait time.Duration
	// Order is who is next: FIFO.
	Order Order
}

// Limiter is a policy.Line with a fixed number of places. It is safe for concurrent use.
type Limiter struct {
	opt Options

	// word is the number waiting in the upper half, the number in use in the lower.
	word    atomic.Uint64
	refused atomic.Int64

	mu            sync.Mutex // guards what follows, and every change of the upper half
	line          line
	parked, vain  int64
	longestWaited time.Duration
}

const (
	waiter = 1 << 32 // one more in the upper half
	lower  = waiter - 1
)

var _ policy.Line = (*Limiter)(nil)

// New returns a limiter with all places free. The error names everything that is wrong with o.
func New(o Options) (*Limiter, error) {
	var errs []error
	if o.Limit < 0 || o.Limit > math.MaxInt32 {
		errs = append(errs, fmt.Errorf("option Limit is %d: want a positive number, or 0 for 1024", o.Limit))
	}
	if o.Limit == 0 {
		o.Limit = 1024
	}
	if o.Queue < 0 || o.Queue > math.MaxInt32 {
		errs = append(errs, fmt.Errorf("option Queue is %d: want how many may wait, or 0 for none", o.Queue))
	}
	if o.MaxWait < 0 {
		errs = append(errs, fmt.Errorf("option MaxWait is %v: want a positive time, or 0 for 100ms", o.MaxWait))
	}
	if o.MaxWait == 0 {
		o.MaxWait = 100 * time.Millisecond
	}
	if o.Order >= numOrders {
		errs = append(errs, fmt.Errorf("option Order is %d: want one of the constants", o.Order))
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("concurrency: %w", errors.Join(errs...))
	}
	return &Limiter{opt: o}, nil
}

// Admit implements policy.Gate: Admit if a place is free and nobody waits, else Park if the line has room, else Refuse.
func (l *Limiter) Admit(now policy.Time, _ rand.Source, c *policy.Call) policy.Verdict {
	for {
		w := l.word.Load()
		if w >= uint64(l.opt.Limit) { // all places taken, or somebody waits
			if w/waiter >= uint64(l.opt.Queue) {
				return l.refuse()
			}
			return policy.Verdict{Decision: policy.Park, At: l.patience(now, c), State: stateFull, Reason: whyTaken}
		}
		if l.word.CompareAndSwap(w, w+1) {
			return policy.Verdict{Permit: policy.Permit{Start: now}}
		}
	}
}

const (
	stateFull = "full"
	whyTaken  = "all places are taken"
	whyLine   = "all places are taken and the line is full"
	whyVain   = "waited in vain for a place"
)

func (l *Limiter) refuse() policy.Verdict {
	l.refused.Add(1)
	why := whyTaken
	if l.opt.Queue > 0 {
		why = whyLine
	}
	return policy.Verdict{Decision: policy.Refuse, State: stateFull, Reason: why}
}

// patience is when a wait that begins now ends in vain.
func (l *Limiter) patience(now policy.Time, c *policy.Call) policy.Time {
	at := now.Add(l.opt.MaxWait)
	if c != nil {
		at = policy.Earliest(at, c.Deadline)
	}
	return at
}

// Done implements policy.Gate. The outcome does not matter to a fixed limit. The caller then calls Next until there is no more.
func (l *Limiter) Done(_ policy.Time, _ rand.Source, _ policy.Permit, _ policy.Outcome) {
	for {
		w := l.word.Load()
		if w&lower == 0 {
			return // given back twice: better one place too few than one too many for ever
		}
		if l.word.CompareAndSwap(w, w-1) {
			return
		}
	}
}

// Join implements policy.Line.
func (l *Limiter) Join(now policy.Time, _ rand.Source, c *policy.Call, w policy.Waiting) (policy.Ticket, policy.Verdict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		v := l.word.Load()
		if v < uint64(l.opt.Limit) {
			if l.word.CompareAndSwap(v, v+1) {
				return 0, policy.Verdict{Permit: policy.Permit{Start: now}}
			}
			continue
		}
		if v/waiter >= uint64(l.opt.Queue) {
			return 0, l.refuse()
		}
		// From here on, who gives a place back sees that somebody waits, and has to ask for the mutex to learn who.
		if l.word.CompareAndSwap(v, v+waiter) {
			break
		}
	}
	l.parked++
	at := l.patience(now, c)
	return l.line.push(seat{who: w, since: now, until: at}), policy.Verdict{Decision: policy.Park, At: at, State: stateFull, Reason: whyTaken}
}

// Leave implements policy.Line.
func (l *Limiter) Leave(now policy.Time, t policy.Ticket) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, ok := l.line.find(t)
	if ok {
		l.remove(now, i)
		l.sub()
	}
	return ok
}

// Next implements policy.Line. Those whose wait is over come first, with a refusal.
func (l *Limiter) Next(now policy.Time, _ rand.Source) (policy.Waiting, policy.Verdict, bool) {
	if l.word.Load() < waiter {
		return policy.Waiting{}, policy.Verdict{}, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		first := l.line.first()
		if first == none {
			return policy.Waiting{}, policy.Verdict{}, false
		}
		next := first
		if l.opt.Order == LIFO {
			next = l.line.last()
		}
		for _, i := range [2]int32{first, next} {
			if now >= l.line.seats[i].until {
				l.vain++
				s := l.remove(now, i)
				l.sub()
				return s.who, policy.Verdict{Decision: policy.Refuse, State: stateFull, Reason: whyVain}, true
			}
		}
		w := l.word.Load()
		if w&lower >= uint64(l.opt.Limit) {
			return policy.Waiting{}, policy.Verdict{}, false
		}
		if l.word.CompareAndSwap(w, w+1-waiter) {
			s := l.remove(now, next)
			return s.who, policy.Verdict{Permit: policy.Permit{Start: now}}, true
		}
	}
}

// sub takes one off the upper half. The mutex is held.
func (l *Limiter) sub() {
	l.word.Add(^uint64(waiter - 1))
}

// remove takes seat i out of the line. The mutex is held.
func (l *Limiter) remove(now policy.Time, i int32) seat {
	s := l.line.remove(i)
	l.longestWaited = max(l.longestWaited, now.Sub(s.since))
	return s
}

// Snapshot is a reading of a limiter.
type Snapshot struct {
	// InUse is how many of Limit places are taken, Waiting how many of Queue wait for one.
	InUse, Limit, Waiting, Queue int
	// Refused counts those who were not let in at once, Parked those who joined the line, and Vain those among them whose time
	// was over before it was their turn (not those who left), since the limiter was made.
	Refused, Parked, Vain int64
	// LongestWaited is the longest time that anybody spent in the line.
	LongestWaited time.Duration
}

// Snapshot reads the limiter.
func (l *Limiter) Snapshot() Snapshot {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.word.Load()
	return Snapshot{
		InUse: int(w & lower), Limit: l.opt.Limit, Waiting: int(w / waiter), Queue: l.opt.Queue,
		Refused: l.refused.Load(), Parked: l.parked, Vain: l.vain, LongestWaited: l.longestWaited,
	}
}

package retry

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/internal/spell"
	"github.com/hull-go/hull/policy"
)

// BudgetOptions describes a Budget. Every zero means the default that stands beside it.
type BudgetOptions struct {
	// Capacity is the least number of tokens that fit in: 1000, which pays for 100 extra attempts at once.
	Capacity int
	// PerPeak is how many tokens fit in for each attempt in flight to one node at the peak: 20. Negative = the
	// peak does not count.
	PerPeak int
	// Window is how long a peak is remembered: 10 s.
	Window time.Duration
}

// peaks is how many parts Window slides in.
const peaks = 10

// Budget implements policy.Budget: tokens that extra attempts cost and successes earn. All retries and hedges of one client to one
// service share one. It is safe for concurrent use, and starts full.
type Budget struct {
	opt      BudgetOptions
	tokens   atomic.Int64
	capacity atomic.Int64
	spent    atomic.Int64
	refused  atomic.Int64

	// quiet is the highest number in flight that Peak need not look at, until then.
	quiet, then atomic.Int64

	log   policy.EventLog
	spell spell.Spell

	mu   sync.Mutex // guards what follows, and changes of capacity
	ring [peaks]peak
}

// The states.
const (
	statePaying = "paying"
	stateEmpty  = "empty"
)

// peak is the highest number in flight in one part of the window.
type peak struct {
	part     int64
	inFlight int
}

var (
	_ policy.Budget      = (*Budget)(nil)
	_ policy.EventSource = (*Budget)(nil)
)

// NewBudget returns a full budget. The error names everything that is wrong with o.
func NewBudget(o BudgetOptions) (*Budget, error) {
	var errs []error
	if o.Capacity < 0 {
		errs = append(errs, fmt.Errorf("option Capacity is %d: want a positive number, or 0 for 1000", o.Capacity))
	}
	if o.Capacity == 0 {
		o.Capacity = 1000
	}
	switch {
	case o.PerPeak == 0:
		o.PerPeak = 20
	case o.PerPeak < 0:
		o.PerPeak = 0
	}
	if o.Window == 0 {
		o.Window = 10 * time.Second
	}
	if o.Window < peaks {
		errs = append(errs, fmt.Errorf("option Window is %v: want a positive time, or 0 for 10s", o.Window))
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("retry: budget: %w", errors.Join(errs...))
	}
	b := &Budget{opt: o}
	b.capacity.Store(int64(o.Capacity))
	b.tokens.Store(int64(o.Capacity))
	b.log.Add(policy.Event{To: statePaying, Reason: "created"})
	b.spell = spell.Spell{Log: &b.log, Calm: statePaying, Busy: stateEmpty,
		Begun: "too many extra attempts for so few successes", Over: "no extra attempt was refused for a while"}
	return b, nil
}

// Spend implements policy.Budget. Tokens that are not there are not lent, and calls that are sheddable find no more than the upper half.
func (b *Budget) Spend(now policy.Time, c policy.Criticality, tokens int) bool {
	if tokens <= 0 {
		return true
	}
	b.refresh(now)
	kept := int64(0)
	if c == policy.SheddablePlus || c == policy.Sheddable {
		kept = b.capacity.Load() / 2
	}
	for {
		t := b.tokens.Load()
		if t-int64(tokens) < kept {
			b.refused.Add(1)
			b.spell.Refused(now, 0)
			return false
		}
		if b.tokens.CompareAndSwap(t, t-int64(tokens)) {
			b.spent.Add(int64(tokens))
			return true
		}
	}
}

// Earn implements policy.Budget. What does not fit in is lost.
func (b *Budget) Earn(_ policy.Time, tokens int) {
	for tokens > 0 {
		t, full := b.tokens.Load(), b.capacity.Load() // in this order, see resize
		if t >= full || b.tokens.CompareAndSwap(t, min(t+int64(tokens), full)) {
			return
		}
	}
}

// Peak tells how many attempts are in flight to one node now. Callers tell it for each node as it changes; most calls cost two loads.
func (b *Budget) Peak(now policy.Time, inFlight int) {
	if int64(inFlight) <= b.quiet.Load() && int64(now) < b.then.Load() {
		return
	}
	b.look(now, inFlight)
}

// refresh forgets old peaks, where nobody tells new ones.
func (b *Budget) refresh(now policy.Time) {
	if int64(now) >= b.then.Load() {
		b.look(now, 0)
	}
}

// look takes a peak in and sets the capacity.
func (b *Budget) look(now policy.Time, inFlight int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	length := int64(b.opt.Window) / peaks
	part := int64(now) / length
	p := &b.ring[part%peaks]
	if p.part < part {
		*p = peak{part: part}
	}
	if p.part == part {
		p.inFlight = max(p.inFlight, inFlight)
	}
	b.quiet.Store(int64(p.inFlight))
	b.then.Store((part + 1) * length)
	b.resize(int64(max(b.opt.Capacity, b.opt.PerPeak*b.highest(part))))
}

func (b *Budget) highest(part int64) int {
	h := 0
	for _, p := range b.ring {
		if p.part > part-peaks && p.part <= part {
			h = max(h, p.inFlight)
		}
	}
	return h
}

// resize changes the capacity and, in proportion, what is in it. The mutex is held.
func (b *Budget) resize(to int64) {
	from := b.capacity.Load()
	if to == from {
		return
	}
	// First, so that nothing earned meanwhile is cut if there is more room now, nor goes beyond it if there is less.
	b.capacity.Store(to)
	for {
		t := b.tokens.Load()
		if b.tokens.CompareAndSwap(t, min(int64(float64(t)/float64(from)*float64(to)), to)) {
			return
		}
	}
}

// Events implements policy.EventSource: when it could not pay for an extra attempt, and when it has refused none for
// ten seconds.
func (b *Budget) Events(now policy.Time, since uint64) []policy.Event {
	b.spell.Settle(now)
	return b.log.Since(since)
}

// BudgetSnapshot is a reading of a budget.
type BudgetSnapshot struct {
	// Tokens are there now, of Capacity.
	Tokens, Capacity int64
	// Peak is the highest number in flight to one node in the window.
	Peak int
	// Spent counts the tokens spent, Refused the extra attempts that could not be paid, since the budget was made.
	Spent, Refused int64
}

// Snapshot reads the budget at now. Each number is exact; together they may be a few calls apart.
func (b *Budget) Snapshot(now policy.Time) BudgetSnapshot {
	b.refresh(now)
	b.mu.Lock()
	h := b.highest(int64(now) / (int64(b.opt.Window) / peaks))
	b.mu.Unlock()
	return BudgetSnapshot{Tokens: b.tokens.Load(), Capacity: b.capacity.Load(), Peak: h, Spent: b.spent.Load(), Refused: b.refused.Load()}
}

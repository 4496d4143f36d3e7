package concurrency

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/internal/stripe"
	"github.com/hull-go/hull/policy"
)

// TwoArmOptions describes a TwoArm. Every zero means the default that stands beside it.
type TwoArmOptions struct {
	// Start is the number of places at first: 20 for each processor that Go may use.
	Start int
	// Min and Max bound it: 4 and 10,000. There are never more than Max places.
	Min, Max int
	// Elasticity is how much more throughput, in per cent, one per cent more places must bring to be worth it: 0.1.
	Elasticity float64
}

// withDefaults fills in the zeroes and returns all faults together.
func (o TwoArmOptions) withDefaults() (TwoArmOptions, error) {
	var errs []error
	number := func(name string, v *int, def int) {
		if *v < 0 {
			errs = append(errs, fmt.Errorf("option %s is %d: want a positive number, or 0 for %d", name, *v, def))
		}
		if *v == 0 {
			*v = def
		}
	}
	number("Min", &o.Min, 4)
	number("Max", &o.Max, max(10_000, o.Min))
	if o.Max < o.Min || o.Max > maxPlaces {
		errs = append(errs, fmt.Errorf("option Max is %d: want from Min, %d, to %d", o.Max, o.Min, maxPlaces))
	}
	number("Start", &o.Start, min(max(20*runtime.GOMAXPROCS(0), o.Min), o.Max))
	if o.Start < o.Min || o.Start > o.Max {
		errs = append(errs, fmt.Errorf("option Start is %d: want from Min, %d, to Max, %d", o.Start, o.Min, o.Max))
	}
	if !(o.Elasticity >= 0 && o.Elasticity < 1) {
		errs = append(errs, fmt.Errorf("option Elasticity is %v: want a number between 0 and 1, or 0 for 0.1", o.Elasticity))
	}
	if o.Elasticity == 0 {
		o.Elasticity = 0.1
	}
	return o, errors.Join(errs...)
}

const (
	maxPlaces = 1 << 17

	refusedShare = 0.02

	windowMin   = 100 * time.Millisecond
	windowMax   = time.Second
	windowEnded = 40
	calmEnded   = 100
)

// TwoArm is the default Source of a server. See the package comment for what it does.
type TwoArm struct {
	opt TwoArmOptions

	// What the window holds: how many ended in the upper bits, the sum of the places in use at those moments in the lower.
	ended   atomic.Uint64
	late    atomic.Int64 // timed out
	refused atomic.Int64

	_ [64]byte
	// Where processors have met in ended: the same, to be used in calm times, when nobody asks at each end. nil = not yet.
	spread    atomic.Pointer[[stripe.N]ends]
	choice    stripe.Choice
	comparing atomic.Bool // the phase is not calm

	limit atomic.Int64 // in force
	from  atomic.Int64 // limit at the beginning of the window
	goal  atomic.Int64 // limit at its end
	need  atomic.Int64 // how many must end in the window
	began atomic.Int64 // the window
	cut   atomic.Int64 // when places were last taken away

	mu     sync.Mutex // guards what follows
	places float64    // L
	pace   float64    // ends per second, as last seen
	came   float64    // calls per second that got a place, as last seen
	inUse  int        // when the window began
	phase  phase
	rounds int
	took   time.Duration // the last window
	cycle  tally         // since the comparison began, settling included
	arms   [2]tally      // down, up
	climb  climb
	strain strain
	trend  trend
	// useless is when more places were last found to bring nothing or to make answers late, 0 = never.
	useless policy.Time
	high    float64 // where strain first took places away since the latest calm time, 0 when it has not
	trial   trial
	rested  policy.Time   // when a trial last ended badly
	rest    time.Duration // for how long strain takes no places away since then
	// lateFrom is where the retreat began, 0 when there is none.
	lateFrom float64
}

// ends counts ends of a calm time, without the places in use: nothing is learned from these then.
type ends struct {
	n atomic.Uint64
	_ [56]byte // a cache line for each
}

const (
	endedShift = 40
	inUseMask  = 1<<endedShift - 1
)

var _ Source = (*TwoArm)(nil)

// NewTwoArm returns a source that has seen nothing yet. The error names everything that is wrong with o.
func NewTwoArm(o TwoArmOptions) (*TwoArm, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("concurrency: two-arm: %w", err)
	}
	t := &TwoArm{opt: o, places: float64(o.Start)}
	t.enter(0, calm)
	return t, nil
}

// Limit implements Source.
func (t *TwoArm) Limit(policy.Time) int { return int(t.limit.Load()) }

// Refused implements Source.
func (t *TwoArm) Refused(policy.Time) { t.refused.Add(1) }

// Sample implements Source.
func (t *TwoArm) Sample(now policy.Time, s Sample) {
	if s.Patience != 0 && s.Took*strainFrom > s.Patience && (s.Outcome == policy.Success || s.Outcome == policy.TimedOut) {
		t.strained(now, s)
	}
	var n int64
	switch s.Outcome {
	case policy.Success:
		if spread := t.spread.Load(); spread != nil && !t.comparing.Load() {
			who := stripe.Here()
			e := &spread[t.choice.Of(who)].n
			if v := e.Load(); !e.CompareAndSwap(v, v+1) {
				e.Add(1)
				t.choice.Met(who)
			}
			if t.lasted(now) < uint64(windowMin) {
				return
			}
			n = t.known()
			break
		}
		d := 1<<endedShift | uint64(s.InUse)
		w := t.ended.Load()
		if !t.ended.CompareAndSwap(w, w+d) {
			w = t.ended.Add(d) - d
			t.spreadOut()
		}
		n = int64((w+d)>>endedShift) + t.late.Load()
	case policy.TimedOut: // what nobody waited for is no throughput
		// Those who began before places were taken away say nothing about those that are left.
		if cut := t.cut.Load(); int64(now)-int64(s.Took) < cut && cut <= int64(now) {
			return
		}
		t.late.Add(1)
		n = t.known()
	default:
		return
	}
	// A limit that fell at once would let nobody in until the surplus has gone: it moves a little at each end.
	need := t.need.Load()
	if from, goal := t.from.Load(), t.goal.Load(); from != goal && n <= need {
		t.limit.Store(from + (goal-from)*n/need)
	}
	took := t.lasted(now)
	if took < uint64(windowMin) || n < need && took < uint64(windowMax) {
		return
	}
	// After a second fewer are enough, but when as many have ended as are in use, those in use have all come within the window.
	if n >= need || need == calmEnded || n >= int64(s.InUse) {
		t.turn(now, s.InUse)
	}
}

// lasted is how long the window takes so far. It is compared as unsigned, so that a window whose beginning lies ahead, because the clock
// went back, ends too.
func (t *TwoArm) lasted(now policy.Time) uint64 { return uint64(int64(now) - t.began.Load()) }

// known is how many have ended in the window, in time or not.
func (t *TwoArm) known() int64 {
	n := t.late.Load() + int64(t.ended.Load()>>endedShift)
	if spread := t.spread.Load(); spread != nil {
		for i := range spread {
			n += int64(spread[i].n.Load())
		}
	}
	return n
}

func (t *TwoArm) spreadOut() { t.spread.CompareAndSwap(nil, new([stripe.N]ends)) }

// TwoArmSnapshot is a reading of a TwoArm.
type TwoArmSnapshot struct {
	// Places is L, Limit what is in force.
	Places float64
	Limit  int
	// Saturated: the arms are being compared.
	Saturated bool
}

// Snapshot reads the source.
func (t *TwoArm) Snapshot() TwoArmSnapshot {
	t.mu.Lock()
	defer t.mu.Unlock()
	return TwoArmSnapshot{Places: t.places, Limit: int(t.limit.Load()), Saturated: t.phase != calm}
}

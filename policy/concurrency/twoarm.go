package concurrency

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/policy"
)

// TwoArmOptions describes a TwoArm. Every zero means the default that stands beside it.
type TwoArmOptions struct {
	// Start is the number of places at first: 20 for each processor that Go may use.
	Start int
	// Min and Max bound it: 4 and 10,000.
	Min, Max int
	// Elasticity is how much more throughput, in per cent, one per cent more places must bring to be worth it: 0.2.
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
		errs = append(errs, fmt.Errorf("option Elasticity is %v: want a number between 0 and 1, or 0 for 0.2", o.Elasticity))
	}
	if o.Elasticity == 0 {
		o.Elasticity = 0.2
	}
	return o, errors.Join(errs...)
}

const (
	maxPlaces = 1 << 17

	armStep      = 0.15 // δ
	growFirst    = 0.25 // s
	shrinkFactor = 0.85
	shrinkSure   = 1.5 // how many σ below, because a shrink by mistake costs throughput and one that comes late does not
	refusedShare = 0.02

	windowMin   = 100 * time.Millisecond
	windowMax   = time.Second
	windowEnded = 40

	// armRounds is after how many comparisons without a decision what was seen counts half, so that an old state of the service does not
	// weigh on the decision for ever.
	armRounds = 8
)

// TwoArm is the default Source of a server. See the package comment for what it does.
type TwoArm struct {
	opt TwoArmOptions

	// What the window holds: how many ended in the upper bits, the sum of the places in use at those moments in the lower.
	ended   atomic.Uint64
	late    atomic.Int64 // timed out
	refused atomic.Int64

	_     [64]byte
	limit atomic.Int64 // in force
	from  atomic.Int64 // limit at the beginning of the window
	goal  atomic.Int64 // limit at its end
	need  atomic.Int64 // how many must end in the window
	began atomic.Int64 // the window

	mu     sync.Mutex // guards what follows
	places float64    // L
	step   float64    // s
	phase  phase
	rounds int
	cycle  tally    // since the comparison began, settling included
	arms   [2]tally // down, up
	// lateFrom is where the retreat began, 0 when there is none.
	lateFrom float64
}

// phase is what a window is for. A comparison goes up, down, down, up, so that what the service does meanwhile on its own account, such
// as getting slower and slower, weighs on both arms alike.
type phase uint8

const (
	calm phase = iota
	settleUp
	firstUp
	settleDown
	firstDown
	secondDown
	settleAgain
	secondUp
)

// side is the arm of a phase: +1, −1, or 0 when it is calm.
func (p phase) side() float64 {
	switch p {
	case calm:
		return 0
	case settleDown, firstDown, secondDown:
		return -1
	}
	return +1
}

const (
	endedShift = 40
	inUseMask  = 1<<endedShift - 1
)

// tally is what was seen in some windows.
type tally struct {
	ended, inUse, late, refused, took float64
}

func (t *tally) add(u tally) {
	t.ended += u.ended
	t.inUse += u.inUse
	t.late += u.late
	t.refused += u.refused
	t.took += u.took
}

func (t *tally) halve() {
	t.ended /= 2
	t.inUse /= 2
	t.late /= 2
	t.refused /= 2
	t.took /= 2
}

// saturated reports whether enough were refused for the limit to matter.
func (t *tally) saturated() bool {
	return t.refused > 0 && t.refused >= refusedShare*(t.refused+t.ended+t.late)
}

var _ Source = (*TwoArm)(nil)

// NewTwoArm returns a source that has seen nothing yet. The error names everything that is wrong with o.
func NewTwoArm(o TwoArmOptions) (*TwoArm, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("concurrency: two-arm: %w", err)
	}
	t := &TwoArm{opt: o, places: float64(o.Start), step: growFirst}
	t.enter(0, calm)
	return t, nil
}

// Limit implements Source.
func (t *TwoArm) Limit(policy.Time) int { return int(t.limit.Load()) }

// Refused implements Source.
func (t *TwoArm) Refused(policy.Time) { t.refused.Add(1) }

// Sample implements Source.
func (t *TwoArm) Sample(now policy.Time, s Sample) {
	var n int64
	switch s.Outcome {
	case policy.Success:
		n = int64(t.ended.Add(1<<endedShift|uint64(s.InUse)) >> endedShift)
	case policy.TimedOut:
		n = t.late.Add(1) // what nobody waited for is no throughput
	default:
		return
	}
	// A limit that fell at once would let nobody in until the surplus has gone: it moves a little at each end.
	need := t.need.Load()
	if from, goal := t.from.Load(), t.goal.Load(); from != goal && n <= need {
		t.limit.Store(from + (goal-from)*n/need)
	}
	// Compared as unsigned, so that a window whose beginning lies ahead, because the clock went back, ends too.
	took := uint64(int64(now) - t.began.Load())
	if took >= uint64(windowMin) && (n >= need || took >= uint64(windowMax)) {
		t.turn(now)
	}
}

// turn ends the window and decides what the next is for.
func (t *TwoArm) turn(now policy.Time) {
	if !t.mu.TryLock() {
		return // somebody is at it
	}
	defer t.mu.Unlock()
	took := now.Sub(policy.Time(t.began.Load()))
	if took < windowMin && took > -windowMax {
		return // somebody was quicker
	}
	w := t.ended.Swap(0)
	seen := tally{ended: float64(w >> endedShift), inUse: float64(w & inUseMask), late: float64(t.late.Swap(0)),
		refused: float64(t.refused.Swap(0)), took: took.Seconds()}
	if took < 0 || took > time.Minute {
		t.enter(now, calm) // a clock that jumped, or a pause: nothing to learn
		return
	}
	if t.phase == calm {
		next := calm
		if seen.saturated() {
			next = settleUp
			t.forget()
		}
		t.step = growFirst
		t.cycle = tally{}
		t.enter(now, next)
		return
	}
	t.cycle.add(seen)
	if seen.late > seen.ended {
		t.retreat()
		t.enter(now, settleUp)
		return
	}
	t.lateFrom = 0
	next := t.phase + 1
	switch t.phase {
	case firstUp:
		t.arms[1].add(seen)
	case firstDown, secondDown:
		t.arms[0].add(seen)
	case secondUp:
		t.arms[1].add(seen)
		switch {
		case !t.cycle.saturated():
			next = calm
		case t.decide():
			next = settleUp
		default:
			next = firstUp // still up
		}
		t.cycle = tally{}
	}
	t.enter(now, next)
}

// decide compares the arms, and reports whether it changed the number of places.
func (t *TwoArm) decide() bool {
	down, up := &t.arms[0], &t.arms[1]
	t.rounds++
	if down.ended > 0 && up.ended > 0 {
		n0, n1 := down.inUse/down.ended, up.inUse/up.ended
		x0, x1 := down.ended/down.took, up.ended/up.took
		if wide := (n1 - n0) / (n1 + n0); wide >= t.delta()/4 { // else something else than the limit bounds what is in use
			e := (x1 - x0) / (x1 + x0) / wide
			sigma := math.Sqrt(1/up.ended+1/down.ended) / 2 / wide
			switch {
			case e-sigma > t.opt.Elasticity:
				t.places = min(t.places*(1+t.step), float64(t.opt.Max))
				t.step = min(2*t.step, 1)
				t.forget()
				return true
			case e+shrinkSure*sigma < t.opt.Elasticity:
				t.places = max(t.places*shrinkFactor, float64(t.opt.Min))
				t.step = growFirst
				t.forget()
				return true
			}
		}
	}
	if t.rounds%armRounds == 0 {
		down.halve()
		up.halve()
	}
	return false
}

// retreat halves the number of places when most answers come too late: either there are far too many places, or what the
// service needs does not answer at all. The second shows in that it does not help, so it ends at an eighth.
func (t *TwoArm) retreat() {
	if t.lateFrom == 0 {
		t.lateFrom = t.places
	}
	t.places = max(t.places/2, t.lateFrom/8, float64(t.opt.Min))
	t.step = growFirst
	t.forget()
}

// forget begins the comparison anew.
func (t *TwoArm) forget() { t.arms, t.rounds = [2]tally{}, 0 }

func (t *TwoArm) delta() float64 { return max(armStep, 1/t.places) }

// arm is the number of places of the upper (+1) or the lower (−1) arm.
func (t *TwoArm) arm(side float64) float64 {
	return max(1, math.Round(t.places*(1+side*t.delta())))
}

// enter begins a window.
func (t *TwoArm) enter(now policy.Time, p phase) {
	t.phase = p
	limit := math.Round(t.places + 2*math.Sqrt(t.places))
	if side := p.side(); side != 0 {
		limit = t.arm(side)
	}
	from := int64(limit)
	if p == settleUp || p == settleDown || p == settleAgain {
		from = t.limit.Load()
	}
	t.need.Store(max(windowEnded, int64(t.places)))
	t.from.Store(from)
	t.goal.Store(int64(limit))
	t.limit.Store(from)
	t.began.Store(int64(now))
}

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

package concurrency

import (
	"math"
	"time"

	"github.com/hull-go/hull/policy"
)

const (
	armLeast, armMost = 0.15, 0.3 // δ
	armPace           = 1.2       // δ is this over the root of the ends per second, between those
	growSure          = 1.5       // how many σ above Elasticity, because a climb by mistake costs more than a shrink by mistake
	growEarly         = 0.3       // the same before the comparison is complete
	shrinkFactor      = 0.85
	slackLeast        = 24 // places beyond L while calm

	climbFirst   = 1.5
	climbFactor  = 2
	climbLeast   = 1.1  // smaller steps are not worth a climb
	climbWindows = 4    // a step that has not proved its worth after so many has none
	climbLate    = 0.02 // share of late answers that ends a climb
	climbTooLate = 0.1  // and that takes its last step back
	ceilingLasts = 4    // comparisons

	// armRounds is after how many comparisons without a decision what was seen counts half, so that an old state of the service does not
	// weigh on the decision for ever.
	armRounds = 16
)

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
	settleClimb
	climbing
)

// settles reports whether the limit moves in the phase.
func (p phase) settles() bool {
	return p == settleUp || p == settleDown || p == settleAgain || p == settleClimb
}

// climb is a growth step by step: the first brings half as many places again, the others double them, and each stands if it brought enough.
type climb struct {
	from   float64 // places before the step
	before tally   // what was seen with them
	looked int     // windows since
	lift   bool    // it is one of slow calls, see lift
	// ceiling is where answers came too late, ceilingLeft for how many comparisons that is remembered.
	ceiling     float64
	ceilingLeft int
}

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

// elasticity compares what was seen with fewer places and with more. It is not known if what was in use differed by less than wide:
// then something else than the limit bounds it.
func elasticity(fewer, more *tally, wide float64) (e, sigma float64, known bool) {
	if fewer.ended == 0 || more.ended == 0 {
		return 0, 0, false
	}
	n0, n1 := fewer.inUse/fewer.ended, more.inUse/more.ended
	x0, x1 := fewer.ended/fewer.took, more.ended/more.took
	w := (n1 - n0) / (n1 + n0)
	if w < wide {
		return 0, 0, false
	}
	return (x1 - x0) / (x1 + x0) / w, math.Sqrt(1/more.ended+1/fewer.ended) / 2 / w, true
}

// turn ends the window and decides what the next is for.
func (t *TwoArm) turn(now policy.Time, inUse int) {
	if !t.mu.TryLock() {
		return // somebody is at it
	}
	defer t.mu.Unlock()
	took := now.Sub(policy.Time(t.began.Load()))
	if took < windowMin && took > -windowMax {
		return // somebody was quicker
	}
	more := inUse - t.inUse
	t.inUse = inUse
	w := t.ended.Swap(0)
	ended := w >> endedShift
	if spread := t.spread.Load(); spread != nil {
		for i := range spread {
			ended += spread[i].n.Swap(0)
		}
	}
	seen := tally{ended: float64(ended), inUse: float64(w & inUseMask), late: float64(t.late.Swap(0)),
		refused: float64(t.refused.Swap(0)), took: took.Seconds()}
	jumped := took < 0 || took > max(time.Minute, 8*t.took)
	if t.took = took; jumped { // or paused: nothing to learn
		t.trend = trend{}
		t.begin(now, calm)
		return
	}
	t.pace = (seen.ended + seen.late) / seen.took
	t.trend.add(seen.took, t.pace)
	t.came = t.pace + float64(more)/seen.took
	switch {
	case t.phase == calm && seen.saturated() && t.lift(now, t.withLast(seen)):
	case t.phase == calm && seen.saturated() && t.cycle.saturated(): // not a burst: the last window was saturated too
		t.forget()
		if t.slow(now) {
			t.around(t.places)
		}
		t.begin(now, settleUp)
	case t.phase == calm:
		t.cycle = seen
		t.enter(now, calm)
	case t.phase >= settleClimb && seen.late > climbTooLate*seen.ended:
		t.climb.ceiling, t.climb.ceilingLeft = t.places, ceilingLasts
		t.fall(now, t.climb.from)
	case seen.late > seen.ended:
		t.climb.ceiling, t.climb.ceilingLeft = t.places, ceilingLasts
		t.fall(now, t.retreat())
	default:
		t.lateFrom = 0
		t.cycle.add(seen)
		t.learn(now, &seen)
	}
}

// learn puts a window of a comparison or of a climb to the others, and decides if that is enough.
func (t *TwoArm) learn(now policy.Time, seen *tally) {
	switch t.phase {
	case firstUp:
		t.arms[1].add(*seen)
		if t.slow(now) && t.suffices(now, seen) {
			return
		}
	case firstDown:
		t.arms[0].add(*seen)
		if e, sigma, known := t.compare(); known && e-growSure*sigma > growEarly && t.cycle.saturated() {
			t.grow(now)
			return
		}
	case secondDown:
		t.arms[0].add(*seen)
	case secondUp:
		t.arms[1].add(*seen)
		t.decide(now)
		return
	case climbing:
		t.arms[1].add(*seen)
		t.look(now, seen)
		return
	}
	t.enter(now, t.phase+1)
}

func (t *TwoArm) compare() (e, sigma float64, known bool) {
	return elasticity(&t.arms[0], &t.arms[1], t.delta()/4)
}

// decide ends a comparison.
func (t *TwoArm) decide(now policy.Time) {
	t.rounds++
	t.climb.ceilingLeft--
	e, sigma, known := t.compare()
	switch {
	case !t.cycle.saturated():
		t.begin(now, calm)
	case known && e-growSure*sigma > t.opt.Elasticity:
		t.grow(now)
	case known && e+sigma < t.opt.Elasticity:
		t.places = max(t.places*shrinkFactor, float64(t.opt.Min))
		t.useless = now
		t.cut.Store(int64(now))
		t.forget()
		t.begin(now, settleUp)
	default:
		if t.rounds%armRounds == 0 {
			t.arms[0].halve()
			t.arms[1].halve()
		}
		t.begin(now, firstUp) // still up
	}
}

// grow begins a climb from the upper arm.
func (t *TwoArm) grow(now policy.Time) {
	from := min(t.arm(+1), float64(t.opt.Max))
	if from == float64(t.opt.Max) {
		t.places = from
	}
	if !t.step(now, from, climbFirst) {
		t.climb.ceilingLeft--
		t.forget()
		t.begin(now, firstUp)
	}
}

// step takes the next step of a climb, from places with which the upper arm was seen. Half-way to the ceiling is the most, on the scale
// of ratios. It returns false if that is too little to be seen.
func (t *TwoArm) step(now policy.Time, from, factor float64) bool {
	to := min(from*factor, float64(t.opt.Max))
	if t.climb.ceilingLeft > 0 {
		to = min(to, math.Sqrt(from*max(from, t.climb.ceiling)))
	}
	if to < from*climbLeast {
		return false
	}
	t.climbs(now, to, climb{from: from, before: t.arms[1]})
	return true
}

// climbs begins a step.
func (t *TwoArm) climbs(now policy.Time, to float64, c climb) {
	c.ceiling, c.ceilingLeft = t.climb.ceiling, t.climb.ceilingLeft
	t.climb, t.places = c, to
	t.forget()
	t.begin(now, settleClimb)
}

// look judges a step of a climb.
func (t *TwoArm) look(now policy.Time, seen *tally) {
	t.climb.looked++
	e, sigma, known := elasticity(&t.climb.before, &t.arms[1], armLeast/8)
	worth := known && e-sigma > t.opt.Elasticity
	switch {
	case !t.cycle.saturated() || t.climb.lift && !seen.saturated():
		t.forget()
		t.begin(now, calm)
	case worth && t.climb.lift && t.lift(now, t.arms[1]):
	case worth && seen.late <= climbLate*seen.ended && t.step(now, t.places, climbFactor):
	case worth:
		t.forget()
		t.begin(now, settleUp)
	case t.climb.lift && t.climb.looked >= climbWindows && known && e+sigma >= t.opt.Elasticity: // nobody is late: more places are not given back in doubt
		t.around(t.climb.from)
		t.forget()
		t.begin(now, settleUp)
	case !known || e+sigma < t.opt.Elasticity || t.climb.looked >= climbWindows:
		t.places = t.climb.from
		t.useless = now
		t.cut.Store(int64(now))
		t.forget()
		t.begin(now, settleUp)
	default:
		t.enter(now, climbing)
	}
}

// retreat is half the number of places, for when most answers come too late: either there are far too many places, or what the
// service needs does not answer at all. The second shows in that it does not help, so it ends at an eighth.
func (t *TwoArm) retreat() float64 {
	if t.lateFrom == 0 {
		t.lateFrom = max(t.places, t.high)
	}
	return min(t.places, max(t.places/2, t.lateFrom/8, float64(t.opt.Min)))
}

// fall takes places away at once: who would come in would be late as well.
func (t *TwoArm) fall(now policy.Time, to float64) {
	t.places = to
	t.useless = now
	t.cut.Store(int64(now))
	t.forget()
	t.begin(now, settleUp)
	t.from.Store(t.goal.Load())
	t.limit.Store(t.goal.Load())
}

// slack is how many places there are beyond L while calm.
func slack(places float64) float64 { return max(slackLeast, 2*math.Sqrt(places)) }

// forget lets the arms be compared anew.
func (t *TwoArm) forget() { t.arms, t.rounds = [2]tally{}, 0 }

// delta is how far the arms are apart: the further the less often something ends, since a difference shows after so many ends.
func (t *TwoArm) delta() float64 {
	return max(armLeast, min(armMost, armPace/math.Sqrt(max(t.pace, 1))), 1/t.places)
}

// arm is the number of places of the upper (+1) or the lower (−1) arm.
func (t *TwoArm) arm(side float64) float64 {
	return max(1, math.Round(t.places*(1+side*t.delta())))
}

// begin begins a comparison, a step of a climb, or a calm time.
func (t *TwoArm) begin(now policy.Time, p phase) {
	t.cycle = tally{}
	t.enter(now, p)
}

// enter begins a window.
func (t *TwoArm) enter(now policy.Time, p phase) {
	if t.phase = p; p == calm {
		t.high = 0
	}
	t.comparing.Store(p != calm)
	need := max(windowEnded, int64(t.places))
	var limit float64
	switch p {
	case calm:
		need, limit = calmEnded, math.Round(t.places+slack(t.places))
	case settleDown, firstDown, secondDown:
		limit = t.arm(-1)
	case settleClimb, climbing:
		if limit = math.Round(t.places); t.climb.lift {
			limit = math.Round(t.places + slack(t.places))
		}
	default:
		limit = t.arm(+1)
	}
	limit = min(limit, float64(t.opt.Max))
	from := int64(limit)
	if p.settles() {
		from = t.limit.Load()
		if p == settleClimb && t.climb.lift {
			from = max(from, int64(limit)) // a surplus that has to go there is only on the way down
		}
	}
	t.need.Store(need)
	t.from.Store(from)
	t.goal.Store(int64(limit))
	t.limit.Store(from)
	t.began.Store(int64(now))
}

package concurrency

import (
	"math"
	"time"

	"github.com/hull-go/hull/policy"
)

const (
	// liftSlow: where attempts take this long or longer, a comparison takes many times as long as an attempt's caller waits, and its lower arm refuses
	// what would have been in time.
	liftSlow = windowMax
	// liftGoal is the share of their callers' patience that attempts take after a lift at most, even if places bring nothing.
	liftGoal = 0.85
	// liftRest is for how long there is no lift after more places were found to be of no use.
	liftRest = 10 * time.Second
	// trendKeeps is how much of its weight a window has left after each that follows.
	trendKeeps = 0.9
	// trendMost is what a window weighs at most, in seconds.
	trendMost = 2
)

// trend is the regression line of throughput over places in use, window by window, those of calm times too: as places fill for the first time it shows
// what they are worth. The zero value has seen nothing.
type trend struct {
	n, inUse float64 // attempts looked at in this window, and the sum of the places in use when they ended
	w        float64 // seconds
	x, y     float64 // means: places in use, ends per second
	xx, xy   float64 // sums of squares, times seconds
}

// saw takes an attempt in.
func (r *trend) saw(inUse int) {
	r.n++
	r.inUse += float64(inUse)
}

// add ends a window in which pace ended in each of so many seconds.
func (r *trend) add(took, pace float64) {
	if r.n == 0 {
		return
	}
	n, w := r.inUse/r.n, min(took, trendMost)
	r.n, r.inUse = 0, 0
	r.w, r.xx, r.xy = trendKeeps*r.w+w, trendKeeps*r.xx, trendKeeps*r.xy
	dx, dy := n-r.x, pace-r.y
	r.x += dx * w / r.w
	r.y += dy * w / r.w
	r.xx += w * dx * (n - r.x)
	r.xy += w * dy * (n - r.x)
}

// elasticity is that of the line at its middle. It is not known if the places in use did not vary.
func (r *trend) elasticity() (e, sigma float64, known bool) {
	if !(r.xx > 0 && r.x > 0 && r.y > 0) {
		return 0, 0, false
	}
	return r.xy / r.xx * r.x / r.y, r.x / math.Sqrt(r.y*r.xx), true
}

// slow reports whether attempts take so long that there is something better than to compare.
func (t *TwoArm) slow(now policy.Time) bool {
	r := &t.strain
	since := now.Sub(r.latest)
	return r.n >= strainLeast && since <= strainLasts && since >= -strainLasts && r.gap*t.pace <= strainCrowd && r.y >= liftSlow.Seconds()
}

// withLast is what was seen in a window, and in the one before if that was saturated too.
func (t *TwoArm) withLast(seen tally) tally {
	if t.cycle.saturated() {
		seen.add(t.cycle)
	}
	return seen
}

// suffices ends a comparison of slow calls before its lower arm if the upper one has places for all, or if there may be more.
func (t *TwoArm) suffices(now policy.Time, seen *tally) bool {
	if seen.saturated() {
		return t.lift(now, *seen)
	}
	t.forget()
	t.begin(now, calm)
	return true
}

// lift takes a step up, from what was seen before it, instead of comparing. It returns false if calls are not slow, if it is not likely that more places
// bring more throughput, or if attempts would be late if they did not.
func (t *TwoArm) lift(now policy.Time, before tally) bool {
	if since := now.Sub(t.useless); t.useless != 0 && since >= 0 && since < liftRest || !t.slow(now) {
		return false
	}
	if e, sigma, known := t.trend.elasticity(); !known || e-sigma < t.opt.Elasticity {
		return false
	}
	r, limit := &t.strain, float64(t.limit.Load())
	most := r.x * liftGoal * r.p / r.y // with so many taken, if all that they bring is that everybody takes longer
	to := min(climbFirst*t.places, most-slack(most), float64(t.opt.Max))
	if !(to >= climbLeast*t.places && to+slack(t.places) >= climbLeast*limit) {
		return false
	}
	if t.spread.Load() != nil { // places in use were not counted; nearly all were
		before.inUse = before.ended * limit
	}
	t.climbs(now, to, climb{from: t.places, before: before, lift: true})
	return true
}

// around lets the upper arm be what there is, but L not less than least.
func (t *TwoArm) around(least float64) {
	t.places = min(max(least, float64(t.limit.Load())/(1+t.delta())), float64(t.opt.Max))
}

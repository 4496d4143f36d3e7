package concurrency

import (
	"math"
	"math/bits"
	"time"

	"github.com/hull-go/hull/policy"
)

// A permit of a limiter with a TwoArm says in its Gen how many places were taken when it was given, its own included, in the lower bits, and
// how long its caller was willing to wait then in the upper ones: a mantissa of 8 bits and 6 of an exponent, 0 = nobody knows.
const (
	enteredBits  = 18
	enteredMask  = 1<<enteredBits - 1
	mantissaBits = 8
)

// circumstances packs both.
func circumstances(entered uint64, now, deadline policy.Time) uint32 {
	gen := uint32(min(entered, enteredMask))
	if deadline == 0 {
		return gen
	}
	d := uint64(max(deadline.Sub(now), 1<<mantissaBits))
	e := bits.Len64(d)
	return gen | uint32(e<<mantissaBits|int(d>>(e-1-mantissaBits))&(1<<mantissaBits-1))<<enteredBits
}

// unpack is the reverse. patience is 0 if nobody knows, else up to 0.4 % too short.
func unpack(gen uint32) (entered int, patience time.Duration) {
	entered = int(gen & enteredMask)
	if p := gen >> enteredBits; p != 0 {
		patience = time.Duration(1<<mantissaBits|p&(1<<mantissaBits-1)) << (p>>mantissaBits - 1 - mantissaBits)
	}
	return entered, patience
}

const (
	// strainFrom: attempts that take less than this part of their caller's patience are no strain, and not looked at.
	strainFrom = 8
	// strainLeast attempts say something, strainMost are remembered, and after strainLasts without one all are forgotten.
	strainLeast = 16
	strainMost  = 64
	strainLasts = time.Second
	// strainWide is how much the places that were taken must vary (σ over mean), strainSure how much of what attempts take they must explain (R²).
	strainWide = 0.15
	strainSure = 0.75
	// strainSlope is how much longer, in per cent, attempts must take for one per cent more places: then those bring next to nothing.
	strainSlope = 0.75
	// strainPace is how many times what the line says the service can do in a second may have ended in one lately. If more did, it is something
	// else that takes its time, such as what one method of several waits for.
	strainPace = 1.25
	// strainCrowd: of more than so many ends in a second for each attempt that is looked at, most are far from being late, and those are not asked.
	strainCrowd = 2
	// strainIdle: with less than one place in so many in use it is not the places.
	strainIdle = 4
	// If more calls arrive than lately, strainMore times as many, it is they who fill the places, and not a dependency that got slower. Then strainSureMore
	// and strainIdleMore do.
	strainMore     = 1.2
	strainSureMore = 0.6
	strainIdleMore = 8
	// strainMuch is the share of their callers' patience that attempts which begin now must be about to take, strainGoal the share that they shall.
	strainMuch = 0.6
	strainGoal = 0.55

	// trialLeast attempts that began after places were taken away, and as many as there are places, say if the line kept its promise. It did if
	// trialMost attempts, or trialLasts, have not disproved it: to do so they must take trialSure/√n longer than promised, and half of them be in time.
	// Less than 3 errs with services that do have too much to do.
	trialLeast = 16
	trialMost  = 256
	trialSure  = 3.5
	trialLasts = 10 * time.Second
	// After a promise that was not kept no places are taken away for restLeast, twice as long each time it happens again, restMost at most.
	restLeast = 2 * time.Second
	restMost  = 32 * time.Second
)

// strain is the regression line of what attempts took over how many places were taken when they began, the latest with the most weight. The zero
// value has seen none.
type strain struct {
	n          float64
	x, y, p    float64 // means: places, seconds, and seconds that callers were willing to wait
	xx, xy, yy float64 // variances
	gap        float64 // mean seconds between the last few: a spike must show at once
	latest     policy.Time
}

func (r *strain) add(now policy.Time, entered int, took, patience time.Duration) {
	if d := now.Sub(r.latest); d > strainLasts || d < -strainLasts {
		*r = strain{}
	}
	gap := now.Sub(r.latest).Seconds()
	r.latest = now
	r.n = min(r.n+1, strainMost)
	k := 1 / r.n
	if r.n > 1 {
		r.gap += (gap - r.gap) / min(r.n-1, strainLeast)
	}
	dx, dy := float64(entered)-r.x, took.Seconds()-r.y
	r.x += k * dx
	r.y += k * dy
	r.p += k * (patience.Seconds() - r.p)
	r.xx = (1 - k) * (r.xx + k*dx*dx)
	r.xy = (1 - k) * (r.xy + k*dx*dy)
	r.yy = (1 - k) * (r.yy + k*dy*dy)
}

// relief is the number of places with which attempts end in time, if those that begin now, with so many taken, would not, and if fewer places cost
// no throughput; pace is how many ended in a second lately, sure the least R². ok is false if either is not so, or not known.
func (r *strain) relief(inUse int, pace, sure float64) (places float64, ok bool) {
	if r.n < strainLeast || r.xx < strainWide*strainWide*r.x*r.x || r.xy <= 0 || r.xy*r.xy < sure*r.xx*r.yy {
		return 0, false
	}
	if r.gap*pace > strainCrowd {
		return 0, false
	}
	b := r.xy / r.xx // seconds that each place costs: the service does 1/b in a second
	will := r.y + b*(float64(inUse)-r.x)
	if will < strainMuch*r.p || b*float64(inUse) < strainSlope*will || b*pace > strainPace {
		return 0, false
	}
	seen := r.x - math.Sqrt(3*r.xx) // the fewest, if places filled evenly: no further than that
	return max(r.x+(strainGoal*r.p-r.y)/b, seen), true
}

// trial is what the line promised when it took places away, and what came of it. By Little's law a dependency that gets slower within a second
// looks just like a service that has too much to do: places fill in step with what attempts take. But the fewer places that are left then help nobody.
// The zero value is none.
type trial struct {
	back       float64 // places there were before; 0 = there is no trial
	began      policy.Time
	least      int     // attempts that began with fewer places taken say nothing
	a, b       float64 // attempts promised to take a seconds, and b for each place
	n          float64
	want, took float64 // sums, seconds
	late       float64 // how many timed out all the same
}

// add takes an attempt in that has ended now. over is true once it is known whether the line kept its promise.
func (r *trial) add(now policy.Time, s *Sample) (kept, over bool) {
	lasts := now.Sub(r.began)
	if lasts > trialLasts || lasts < -strainLasts {
		return true, true
	}
	if lasts < s.Took || s.Entered < r.least {
		return false, false // it began before, or had the service to itself
	}
	r.n++
	r.want += r.a + r.b*float64(s.Entered)
	r.took += s.Took.Seconds()
	if s.Outcome == policy.TimedOut {
		r.late++
	}
	more := r.took - r.want
	enough := r.n >= trialLeast && r.n >= float64(2*r.least)
	if enough && more > 0 && more*more*r.n > trialSure*trialSure*r.want*r.want && 2*r.late < r.n {
		return false, true
	}
	return true, r.n >= trialMost
}

// strained takes an attempt in, and takes places away at once if those that begin now would not end in time. If that turns out to be of no use, it
// gives them back.
func (t *TwoArm) strained(now policy.Time, s Sample) {
	if !t.mu.TryLock() {
		return // one more or less
	}
	defer t.mu.Unlock()
	if t.trial.back > 0 {
		if kept, over := t.trial.add(now, &s); over {
			t.tried(now, kept)
		}
	}
	t.trend.saw(s.InUse)
	t.strain.add(now, s.Entered, s.Took, s.Patience)
	limit := t.limit.Load()
	idle, sure := int64(strainIdle), strainSure
	if t.crowded(now, s.InUse) {
		idle, sure = strainIdleMore, strainSureMore
	}
	if int64(s.InUse) > limit || idle*int64(s.InUse) < limit {
		return // places are being taken away, or there are plenty
	}
	if since := now.Sub(t.rested); since >= 0 && since < t.rest {
		return
	}
	to, ok := t.strain.relief(s.InUse, t.pace, sure)
	high := t.high
	if high == 0 {
		high = t.places
	}
	// Not below an eighth of what there was, like retreat: where attempts are late however few there are, places are not the reason. A calm time
	// makes what there is then what there was, but what there was at first counts too.
	if to = max(to, max(high, float64(t.opt.Start))/8, float64(t.opt.Min)); !ok || to >= 0.9*float64(limit) {
		return
	}
	b := t.strain.xy / t.strain.xx
	t.trial = trial{back: max(t.places, t.trial.back), began: now, least: int(to / 2), a: t.strain.y - b*t.strain.x, b: b}
	t.high = high
	t.climb.ceiling, t.climb.ceilingLeft = t.places, ceilingLasts
	t.discard()
	t.fall(now, to)
}

// crowded reports whether many more calls have arrived since the window began than in the last, for its time. The mutex is held.
func (t *TwoArm) crowded(now policy.Time, inUse int) bool {
	lasts := time.Duration(t.lasted(now))
	arrived := float64(t.known() + int64(inUse-t.inUse))
	return t.came > 0 && lasts >= windowMin/2 && arrived > strainMore*t.came*lasts.Seconds()
}

// tried ends a trial. If the line broke its promise all is as it was before.
func (t *TwoArm) tried(now policy.Time, kept bool) {
	back := t.trial.back
	t.trial = trial{}
	if kept {
		t.rest = 0
		return
	}
	t.strain = strain{}
	t.rested, t.rest = now, min(max(2*t.rest, restLeast), restMost)
	if back <= t.places {
		return
	}
	t.places = back
	t.lateFrom = 0
	t.climb.ceilingLeft = 0
	t.discard()
	t.forget()
	t.begin(now, calm)
}

// discard empties the window.
func (t *TwoArm) discard() {
	t.ended.Store(0)
	t.late.Store(0)
	t.refused.Store(0)
}

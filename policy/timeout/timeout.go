package timeout

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/internal/quantile"
	"github.com/hull-go/hull/policy"
)

// Timeouts implements policy.Timeouts, as a rule for one method of one service, over all its nodes. It is safe for concurrent use.
type Timeouts struct {
	opt    Options
	sample *quantile.Estimator
	failed *quantile.Estimator // those of sample that an answer ended which was a failure

	t    atomic.Int64 // the timeout
	fair atomic.Int64 // the latest p90 that was known
	next atomic.Int64 // when t is set anew
	cold atomic.Bool  // nothing was learned yet
	base atomic.Int64 // what the timeout would be by the latest quantile that was known

	silent atomic.Bool // nobody has answered yet, and Cold is nobody's wish
	// Until dark so many attempts are cut off that the quantile lies among them, and until vain those that are given longer end no better. The latest that
	// took longer than T and did end, after reach, counts until heard. The next attempt that finds out what comes after all begins at explore.
	dark, vain, reach, heard, explore atomic.Int64
	least, look                       atomic.Int64 // see Least, and when that is looked for anew

	// Since the last step: attempts that t cut off, and those that ended well although they took longer than base, and than half of t.
	cut, late atomic.Int64
	// The same while nothing was learned: those that t is about to be too short for.
	tight atomic.Int64
	// The longest of those that have ended well.
	lately atomic.Int64

	mu      sync.Mutex  // guards what follows and steps
	ended   int64       // attempts that had ended well by the last step
	stepped policy.Time // when that was
	few     float64     // what the timeout would be by the slowest attempt there is, while there are too few to learn from
	last    Snapshot
	noted   int64 // the timeout of the latest event
	log     policy.EventLog
}

var (
	_ policy.Growing     = (*Timeouts)(nil)
	_ policy.Exploring   = (*Timeouts)(nil)
	_ policy.Expecting   = (*Timeouts)(nil)
	_ policy.EventSource = (*Timeouts)(nil)
)

// The states.
const (
	stateFixed   = "fixed"
	stateCold    = "cold"
	stateLearned = "learned"
)

// New returns timeouts that know nothing yet. The error names everything that is wrong with o.
func New(o Options) (*Timeouts, error) {
	even := o.Cold == 0
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	q, err := quantile.New(quantile.Options{Window: o.Window})
	if err != nil {
		return nil, err
	}
	bad, err := quantile.New(quantile.Options{Window: o.Window})
	if err != nil {
		return nil, err
	}
	t := &Timeouts{opt: o, sample: q, failed: bad, last: Snapshot{Cold: true}}
	t.t.Store(int64(o.Cold))
	t.cold.Store(o.Fixed == 0)
	t.silent.Store(o.Fixed == 0 && even)
	if o.Fixed > 0 {
		t.t.Store(int64(o.Fixed))
	}
	t.base.Store(t.t.Load())
	t.fair.Store(int64(o.Min))
	t.noted = t.t.Load()
	state := stateCold
	if o.Fixed > 0 {
		state = stateFixed
	}
	t.log.Add(policy.Event{To: state, Reason: "created", Is: time.Duration(t.noted).Seconds()})
	return t, nil
}

// Attempt implements policy.Timeouts.
func (t *Timeouts) Attempt(now policy.Time, _ *policy.Call, left time.Duration, last bool) time.Duration {
	if int64(now) >= t.next.Load() {
		t.step(now)
	}
	d := time.Duration(t.t.Load())
	switch {
	case t.opt.Fixed > 0:
		return d
	case last && left == 0:
		return max(d, t.opt.NoDeadline)
	case last:
		return max(d, left)
	case left == 0:
		return d
	}
	part := time.Duration(float64(left) * t.opt.Share)
	if t.silent.Load() {
		d = max(d, min(left/evenShare, t.opt.Max))
	}
	switch {
	case d <= part:
		return d
	case part >= max(t.opt.Min, time.Duration(t.fair.Load())):
		return part
	}
	return max(d, left)
}

// Blind returns t: its own Attempt does not look at the call.
func (t *Timeouts) Blind() policy.Timeouts { return t }

// Longer implements policy.Growing: twice as long, as far as that leaves room for another attempt. What is fixed stays so.
func (t *Timeouts) Longer(d, left time.Duration) time.Duration {
	switch {
	case t.opt.Fixed > 0:
		return 0
	case left > 0:
		return min(2*d, time.Duration(float64(left)*t.opt.Share))
	}
	return 2 * d
}

// evenShare is what an attempt gets of what is left as long as nobody has answered: a third.
const evenShare = 3

const (
	// darkLasts is for how many steps it is believed that too many are cut off, or in vain given longer. A machine that stands still for a moment looks as
	// if it helped to wait.
	darkLasts = 5
	// explorers is how many attempts at a time get all that is left all the same, if they have equally much.
	explorers = 4
	// reachLasts is for how many times as long as an attempt took it shows that waiting helps.
	reachLasts = 4
)

// Enough implements policy.Exploring: it bounds nothing, unless so many are cut off that nobody knows the quantile. Then it is NoDeadline, or twice what the
// attempt before had, and once waiting longer has not helped no more than that attempt had; or twice what one did take that ended. An attempt now and then is
// not bounded all the same, to find out if it helps.
func (t *Timeouts) Enough(now policy.Time, d, left time.Duration) time.Duration {
	if int64(now) >= t.dark.Load() {
		return 0
	}
	most := max(d, time.Duration(t.t.Load()))
	if int64(now) >= t.vain.Load() {
		most = max(2*d, t.opt.NoDeadline)
	}
	if int64(now) < t.heard.Load() {
		most = max(most, time.Duration(t.opt.Factor*float64(t.reach.Load())))
	}
	if left <= most {
		return 0
	}
	if next := t.explore.Load(); int64(now) >= next && t.explore.CompareAndSwap(next, int64(now.Add(left/explorers))) {
		return 0
	}
	return most
}

const (
	// quickest is the share of attempts that have ended well within what an attempt takes at least.
	quickest = 0.01
	// enoughGood is which part of MinSamples must have ended well before that is believed.
	enoughGood = 10
	// looks is how many times per window that is looked for at most.
	looks = 100
)

// Least implements policy.Expecting: the time within which one attempt in a hundred has ended well. It is 0 while fewer than a tenth of MinSamples have, or
// fewer than one in a hundred.
func (t *Timeouts) Least(now policy.Time) time.Duration {
	next := t.look.Load()
	if int64(now) < next || !t.look.CompareAndSwap(next, int64(now.Add(t.opt.Window/looks))) {
		return time.Duration(t.least.Load())
	}
	var h, bad quantile.Histogram
	t.sample.Snapshot(now, &h)
	t.failed.Snapshot(now, &bad)
	var least time.Duration
	if good := h.Less(&bad); good > 0 && good*enoughGood >= t.opt.MinSamples {
		if d, unknown := h.Quantile(quickest); !unknown {
			least = d - d/16 // as much less as the quantile may be too long
		}
	}
	t.least.Store(int64(least))
	return least
}

// Fair implements policy.Timeouts.
func (t *Timeouts) Fair(now policy.Time, d time.Duration) bool {
	t.step(now)
	return d >= time.Duration(min(t.t.Load(), t.fair.Load()))
}

// Done implements policy.Timeouts.
func (t *Timeouts) Done(now policy.Time, e policy.Ended) {
	c := e.Class.Counts()
	switch {
	case c.LowerBound:
		t.unended(now, e)
	case c.Limit == policy.Success: // a handler ran
		t.sample.Observe(now, e.Took)
		if c.Breaker == policy.Failure {
			t.failed.Observe(now, e.Took)
		}
		if int64(e.Took) > t.lately.Load() {
			t.lately.Store(int64(e.Took))
		}
		if int64(e.Took) > t.base.Load() {
			t.slow(now, e.Took)
		}
		if t.cold.Load() {
			t.first(now, e.Took)
		}
	}
}

// unended takes in an attempt that was not seen to its end.
func (t *Timeouts) unended(now policy.Time, e policy.Ended) {
	d := time.Duration(t.t.Load())
	// A timer may be a little early; an attempt that was cut much sooner says nothing about t.
	if (e.Class == policy.ClassTimeout || e.Class == policy.ClassDeadlineLate) && e.Took >= d-d/16 {
		t.sample.Never(now, e.Took)
		if n := t.cut.Add(1); n >= handful && t.cold.Load() {
			t.hurry(now, n)
		}
	} else {
		t.sample.AtLeast(now, e.Took)
	}
}

// slow takes in an attempt that ended well, later than was to be expected.
func (t *Timeouts) slow(now policy.Time, took time.Duration) {
	d := t.t.Load()
	if int64(took) > d/2 {
		t.late.Add(1)
	}
	if int64(took) > d {
		t.reach.Store(int64(took))
		t.heard.Store(int64(now.Add(max(t.opt.Window, reachLasts*took))))
	}
}

// first takes in one of the first attempts that are known: what T is must not wait for a step if it is about to be too short for half of them.
func (t *Timeouts) first(now policy.Time, took time.Duration) {
	if t.silent.Load() {
		t.silent.Store(false)
	}
	if t.opt.Factor*float64(took) > float64(t.t.Load()) {
		t.hurry(now, 2*t.tight.Add(1))
	}
}

// handful attempts are enough to see that a timeout nobody has learned yet is too short, if no more ended.
const handful = 4

// hurry lets the next step come at once if no more than n attempts have ended well since the last.
func (t *Timeouts) hurry(now policy.Time, n int64) {
	if t.mu.TryLock() {
		defer t.mu.Unlock()
		if n >= t.sample.Observed()-t.ended {
			t.next.Store(int64(now))
		}
	}
}

// blind is how many times base the timeout grows to without a sign that waiting longer helps.
const blind = 8

// step sets the timeout anew if it is time to.
func (t *Timeouts) step(now policy.Time) {
	next := t.next.Load()
	if int64(now) < next || !t.next.CompareAndSwap(next, int64(now.Add(t.opt.Window/steps))) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var h quantile.Histogram
	t.sample.Snapshot(now, &h)
	enough := h.N() >= t.opt.MinSamples
	p90, unknown90 := h.Quantile(0.9)
	if enough && !unknown90 {
		t.fair.Store(int64(p90))
	}
	q, unknown := h.Quantile(t.opt.Quantile)
	t.last.Samples, t.last.P90, t.last.Known = h.N(), p90, enough && !unknown
	if t.opt.Fixed > 0 {
		return
	}
	cut, late := t.cut.Swap(0), t.late.Swap(0)
	lately := time.Duration(t.lately.Swap(0))
	t.tight.Store(0)
	ended := t.sample.Observed()
	seen := cut + ended - t.ended // the attempts that tell something about t
	t.ended = ended
	gone := float64(min(max(now.Sub(t.stepped)/(t.opt.Window/steps), 1), steps)) // steps that were due since the last, if nobody called
	t.stepped = now
	d, from := float64(t.t.Load()), t.state()
	switch {
	case cut > 1 && float64(cut) > (1-t.opt.Quantile)*float64(seen):
		if t.last.Cold && enough && !unknown90 { // what is known is how long the others take
			t.base.Store(min(t.base.Load(), int64(t.within(float64(p90)))))
		}
		helps := 10*late >= cut
		until := int64(now.Add(darkLasts * t.opt.Window / steps))
		t.dark.Store(until)
		if most := blind * float64(t.base.Load()); helps || 2*d <= most {
			d *= 2
		} else {
			t.vain.Store(until)
			d = min(d, max(most, d*(1-t.opt.Fall)))
		}
	case enough && unknown: // because of what was cut off before it doubled: wait until the window has forgotten that
		return
	case enough:
		want := t.opt.Factor * float64(q)
		t.base.Store(int64(t.within(want)))
		t.few = t.within(want)
		t.dark.Store(0)
		t.vain.Store(0)
		if !t.last.Cold {
			want = max(want, d*(1-t.opt.Fall))
		}
		d = want
		t.last.Cold = false
		t.cold.Store(false)
	default: // too few to learn from: forget what was more than they take
		longest := h.Longest()
		if longest == 0 { // calls are rarer than windows: this is of the latest
			longest = lately
		}
		if longest > 0 {
			t.few = t.within(t.opt.Factor * float64(longest))
		}
		t.dark.Store(0)
		t.vain.Store(0)
		if least := max(float64(t.opt.Cold), t.few); d > least {
			d = max(least, d*math.Pow(1-t.opt.Fall, gone))
		} else if t.last.Cold {
			d = least
		}
	}
	t.t.Store(int64(t.within(d)))
	t.note(now, from)
}

// state is the state as events name it. The mutex is held.
func (t *Timeouts) state() string {
	if t.last.Cold {
		return stateCold
	}
	return stateLearned
}

// note makes an event of a step that changed the state, or has brought the timeout to twice or half of what it was at the latest
// event. The mutex is held.
func (t *Timeouts) note(now policy.Time, from string) {
	is, to := t.t.Load(), t.state()
	if from == to && is < 2*t.noted && 2*is > t.noted {
		return
	}
	e := policy.Event{At: now, From: from, To: to, Reason: "attempts take longer", Was: time.Duration(t.noted).Seconds(), Is: time.Duration(is).Seconds()}
	switch {
	case from != to:
		e.Reason = "enough attempts are known"
	case is < t.noted:
		e.Reason = "attempts take less"
	}
	t.noted = is
	t.log.Add(e)
}

// Events implements policy.EventSource: when enough is known to learn from, and when the timeout has become twice or half of what it
// was at the event before. Is and Was are in seconds.
func (t *Timeouts) Events(now policy.Time, since uint64) []policy.Event {
	t.step(now)
	return t.log.Since(since)
}

// within puts what was learned within its bounds.
func (t *Timeouts) within(d float64) float64 {
	return min(max(d, float64(t.opt.Min)), float64(t.opt.Max))
}

// Snapshot is a reading of timeouts.
type Snapshot struct {
	// Timeout is the present one, Fair the time from which on a failure is the node's.
	Timeout, Fair time.Duration
	// Cold: nothing was learned yet.
	Cold bool
	// Samples are the attempts in the window and P90 theirs, at the last step.
	Samples int
	P90     time.Duration
	// Known: there were enough samples, and their quantile was not among those that were cut off.
	Known bool
}

// Snapshot reads the timeouts at now.
func (t *Timeouts) Snapshot(now policy.Time) Snapshot {
	t.step(now)
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.last
	s.Timeout = time.Duration(t.t.Load())
	s.Fair = time.Duration(min(t.t.Load(), t.fair.Load()))
	return s
}

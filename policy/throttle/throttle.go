package throttle

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/internal/spell"
	"github.com/hull-go/hull/internal/window"
	"github.com/hull-go/hull/policy"
)

// Kinds of event in the window.
const (
	kindAccepted = iota
	kindRejected
	kindRefused // on this side
	kinds
)

// Options describes a throttle. Every zero means the default that stands beside it.
type Options struct {
	// Window is how far back the service's word counts: 30 s.
	Window time.Duration
	// K is how many calls are sent for each that is accepted, when the service refuses some: 2. At least 1.
	K float64
	// Max is the largest share of calls that is held back: 0.9.
	Max float64
	// MinCalls is how many calls the window must hold before any is held back: 20.
	MinCalls int
}

// Throttle is a policy.Gate and a policy.EventSource, safe for concurrent use.
type Throttle struct {
	opt     Options
	last    atomic.Int64      // the latest rejection of any class; 0 = none yet
	classes [classes]observed // by policy.Criticality
	refused atomic.Int64
	log     policy.EventLog
	spell   spell.Spell
}

// observed is what became of the calls of one class.
type observed struct {
	window *window.Ring
	last   atomic.Int64 // the latest rejection; 0 = none yet
	run    atomic.Int32 // how many the service took on in a row since then; each rejection halves it
}

const (
	// forgiveFrom calls taken on in a row begin to make up for refusals before them, forgiveAll make up for all.
	forgiveFrom = 20
	forgiveAll  = 100
)

// weight is what refusals count: 1, and less the longer the service has been taking on all that came.
func (o *observed) weight() float64 {
	return 1 - min(max(float64(o.run.Load()-forgiveFrom), 0)/(forgiveAll-forgiveFrom), 1)
}

// classes is how many there are, and rank their order: the most important first.
const classes = 4

var rank = [classes]policy.Criticality{policy.CriticalPlus, policy.Critical, policy.SheddablePlus, policy.Sheddable}

var (
	_ policy.Gate        = (*Throttle)(nil)
	_ policy.EventSource = (*Throttle)(nil)
)

// The states.
const (
	stateQuiet      = "quiet"
	stateThrottling = "throttling"
)

// buckets is how many parts the window slides in.
const buckets = 10

// New returns a throttle that holds nothing back yet. The error names everything that is wrong with o.
func New(o Options) (*Throttle, error) {
	var errs []error
	if o.Window == 0 {
		o.Window = 30 * time.Second
	}
	if o.Window < buckets*window.MinBucket {
		errs = append(errs, fmt.Errorf("option Window is %v: want at least %v, or 0 for 30s", o.Window, time.Duration(buckets*window.MinBucket)))
	}
	if o.K == 0 {
		o.K = 2
	}
	if !(o.K >= 1) { // also NaN
		errs = append(errs, fmt.Errorf("option K is %v: want 1 or more, or 0 for 2", o.K))
	}
	if o.Max == 0 {
		o.Max = 0.9
	}
	if !(o.Max > 0 && o.Max < 1) {
		errs = append(errs, fmt.Errorf("option Max is %v: want a share between 0 and 1, so that some calls always go, or 0 for 0.9", o.Max))
	}
	if o.MinCalls == 0 {
		o.MinCalls = 20
	}
	if o.MinCalls < 0 {
		errs = append(errs, fmt.Errorf("option MinCalls is %d: want a positive number, or 0 for 20", o.MinCalls))
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("throttle: %w", errors.Join(errs...))
	}
	t := &Throttle{opt: o}
	for k := range t.classes {
		t.classes[k].window = window.New(int64(o.Window), buckets, kinds)
	}
	t.log.Add(policy.Event{To: stateQuiet, Reason: "created"})
	t.spell = spell.Spell{Log: &t.log, Calm: stateQuiet, Busy: stateThrottling,
		Begun: "the service refuses too many calls", Over: "no call was held back for a while"}
	return t, nil
}

// Admit implements policy.Gate. While the service has refused nothing for a whole window, it is one load.
func (t *Throttle) Admit(now policy.Time, rnd rand.Source, c *policy.Call) policy.Verdict {
	class := policy.Critical
	if c != nil {
		class = min(c.Criticality, classes-1)
	}
	if t.recent(now, &t.last) {
		if p := t.shareOf(now, class); p > 0 && float64(rnd.Uint64()>>11)/(1<<53) < p {
			t.classes[class].window.Add(int64(now), 0, kindRefused)
			t.refused.Add(1)
			t.spell.Refused(now, p)
			return policy.Verdict{Decision: policy.Refuse, State: stateThrottling, Reason: "the service refuses so many calls that this one is not sent"}
		}
	}
	return policy.Verdict{Permit: policy.Permit{Start: now, Slot: uint32(class)}}
}

// Pass is Admit for calls that simply go: the service has refused nothing for a whole window.
func (t *Throttle) Pass(now, _ policy.Time, class policy.Criticality) (policy.Permit, bool) {
	return policy.Permit{Start: now, Slot: uint32(min(class, classes-1))}, !t.recent(now, &t.last)
}

// Passer returns t: its own Admit is what Pass stands for.
func (t *Throttle) Passer() policy.Gate { return t }

// recent reports whether a latest rejection was within the window.
func (t *Throttle) recent(now policy.Time, latest *atomic.Int64) bool {
	last := latest.Load()
	return last != 0 && int64(now)-last <= int64(t.opt.Window)
}

// shareOf is the share of a class's calls that is held back: never less than of a more important class's.
func (t *Throttle) shareOf(now policy.Time, class policy.Criticality) (p float64) {
	for _, k := range rank {
		if o := &t.classes[k]; t.recent(now, &o.last) {
			n := o.window.Sum(int64(now), 0)
			p = max(p, t.share(&n, o.weight()))
		}
		if k == class {
			break
		}
	}
	return p
}

// share is the probability p of the package comment.
func (t *Throttle) share(n *[window.Kinds]int64, weight float64) float64 {
	requests := n[kindAccepted] + n[kindRejected] + n[kindRefused]
	if requests < int64(t.opt.MinCalls) {
		return 0
	}
	weighed := float64(n[kindAccepted]) + weight*float64(n[kindRejected]+n[kindRefused])
	p := (weighed - t.opt.K*float64(n[kindAccepted])) / (weighed + 1)
	return min(max(p, 0), t.opt.Max)
}

// Done implements policy.Gate. Success means that the service took the call on, Overloaded that it refused it; other
// outcomes count as nothing.
func (t *Throttle) Done(now policy.Time, _ rand.Source, p policy.Permit, o policy.Outcome) {
	class := &t.classes[min(p.Slot, classes-1)]
	switch o {
	case policy.Success:
		class.window.Add(int64(now), 0, kindAccepted)
		if t.recent(now, &class.last) && class.run.Load() < 2*forgiveAll {
			class.run.Add(1)
		}
	case policy.Overloaded:
		class.window.Add(int64(now), 0, kindRejected)
		class.run.Store(class.run.Load() / 2)
		class.last.Store(int64(now))
		t.last.Store(int64(now))
	}
}

// Events implements policy.EventSource: when it begins to hold calls back, with the share as Is, and when it has held none back for
// ten seconds.
func (t *Throttle) Events(now policy.Time, since uint64) []policy.Event {
	t.spell.Settle(now)
	return t.log.Since(since)
}

// Snapshot is a reading of a throttle.
type Snapshot struct {
	// Accepted, Rejected and Refused are the calls in the window, of all classes: those that the service took on, those that it did
	// not, and those that were held back.
	Accepted, Rejected, Refused int64
	// Share is the share of critical calls that is held back now, and Shares that of each class, by its policy.Criticality.
	Share  float64
	Shares [classes]float64
	// RefusedEver is how many calls were held back since the throttle was made.
	RefusedEver int64
}

// Snapshot reads the throttle at now.
func (t *Throttle) Snapshot(now policy.Time) Snapshot {
	s := Snapshot{RefusedEver: t.refused.Load()}
	for k := range t.classes {
		n := t.classes[k].window.Sum(int64(now), 0)
		s.Accepted, s.Rejected, s.Refused = s.Accepted+n[kindAccepted], s.Rejected+n[kindRejected], s.Refused+n[kindRefused]
		s.Shares[k] = t.shareOf(now, policy.Criticality(k))
	}
	s.Share = s.Shares[policy.Critical]
	return s
}

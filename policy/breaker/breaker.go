package breaker

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/internal/window"
	"github.com/hull-go/hull/policy"
)

// Kinds of event in the window.
const (
	kindOK = iota
	kindFailed
	kindSlow
	kinds
)

// Breaker is the circuit breaker of one dependency, as a rule one method of one service. It is a policy.Gate, safe for
// concurrent use, and a policy.Revoker, policy.Pushbacker and policy.EventSource.
type Breaker struct {
	opt    Options
	window *window.Ring // or nil
	last   *last        // if there is no window
	plain  bool         // a success is only counted in the window, however long it took

	// word is generation and state: one load tells whether a call may go and whether a result still counts.
	word atomic.Uint64
	// until: open, when it ends; half-open, before when no probe goes; ramp, when it ends.
	until   atomic.Int64
	streak  atomic.Uint64 // generation, and failures in a row in the lower half
	refused atomic.Int64

	mu        sync.Mutex // guards what follows, and every change of word and until
	since     policy.Time
	openings  int
	successes int
	probe     probe
	notBefore policy.Time
	log       policy.EventLog
}

// probe is the lease of a half-open breaker.
type probe struct {
	out   bool
	seq   uint32
	lease policy.Time // when it is taken back
}

var (
	_ policy.Gate        = (*Breaker)(nil)
	_ policy.Revoker     = (*Breaker)(nil)
	_ policy.Pushbacker  = (*Breaker)(nil)
	_ policy.EventSource = (*Breaker)(nil)
)

// New returns a closed breaker. The error names everything that is wrong with o.
func New(o Options) (*Breaker, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	b := &Breaker{opt: o}
	if o.LastCalls > 0 {
		b.last = newLast(o.LastCalls)
	} else {
		b.window = window.New(int64(o.Window), o.Buckets, kinds)
		b.plain = o.Slow == 0 && o.Consecutive == 0
	}
	b.log.Add(policy.Event{To: Closed.String(), Reason: "created"})
	return b, nil
}

func split(w uint64) (gen uint32, s State) { return uint32(w >> 8), State(w & 0xff) }

// Admit implements policy.Gate. A refusal's State is the breaker's, At when the next call has a chance.
func (b *Breaker) Admit(now policy.Time, rnd rand.Source, _ *policy.Call) policy.Verdict {
	gen, s := split(b.word.Load())
	switch s {
	case Closed, ForcedClosed, Disabled:
		return policy.Verdict{Permit: policy.Permit{Start: now, Gen: gen}}
	case Open:
		if at := policy.Time(b.until.Load()); now < at {
			return b.refuse(s, at)
		}
	case HalfOpen:
		if at := policy.Time(b.until.Load()); now < at {
			return b.refuse(s, at)
		}
	case Ramp:
		if end := policy.Time(b.until.Load()); now < end {
			return b.admitRamp(now, rnd, gen, end)
		}
	case ForcedOpen:
		return b.refuse(s, 0)
	}
	return b.admitSlow(now, rnd)
}

// Pass is Admit for calls that simply go.
func (b *Breaker) Pass(now, _ policy.Time, _ policy.Criticality) (policy.Permit, bool) {
	gen, s := split(b.word.Load())
	return policy.Permit{Start: now, Gen: gen}, s == Closed || s == ForcedClosed || s == Disabled
}

// Passer returns b: its own Admit is what Pass stands for.
func (b *Breaker) Passer() policy.Gate { return b }

// admitRamp admits a share that grows from 10 % at the ramp's beginning to 100 % at its end.
func (b *Breaker) admitRamp(now policy.Time, rnd rand.Source, gen uint32, end policy.Time) policy.Verdict {
	done := 1 - float64(end.Sub(now))/float64(b.opt.Ramp)
	if uniform(rnd) < 0.1+0.9*max(done, 0) {
		return policy.Verdict{Permit: policy.Permit{Start: now, Gen: gen}}
	}
	return b.refuse(Ramp, now)
}

// uniform draws from [0, 1).
func uniform(rnd rand.Source) float64 { return float64(rnd.Uint64()>>11) / (1 << 53) }

func (b *Breaker) refuse(s State, at policy.Time) policy.Verdict {
	b.refused.Add(1)
	v := policy.Verdict{Decision: policy.Refuse, At: at, State: s.String()}
	switch s {
	case HalfOpen:
		v.Reason = "a probe has to succeed first"
	case Ramp:
		v.Reason = "it recovers, and not all calls are let through yet"
	case ForcedOpen:
		v.Reason = "it was opened by hand"
	default:
		v.Reason = "too many calls failed"
	}
	return v
}

// admitSlow asks again with the mutex held, once time has done its work.
func (b *Breaker) admitSlow(now policy.Time, rnd rand.Source) policy.Verdict {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(now, rnd)
	gen, s := split(b.word.Load())
	at := policy.Time(b.until.Load())
	switch s {
	case Closed, ForcedClosed, Disabled:
		return policy.Verdict{Permit: policy.Permit{Start: now, Gen: gen}}
	case Ramp:
		return b.admitRamp(now, rnd, gen, at)
	case ForcedOpen:
		return b.refuse(s, 0)
	case HalfOpen:
		if b.probe.out {
			return b.refuse(s, max(at, b.probe.lease))
		}
		if now >= at {
			b.probe = probe{out: true, seq: b.probe.seq + 1, lease: now.Add(b.opt.ProbeLease)}
			b.until.Store(int64(now.Add(b.opt.ProbeEvery)))
			return policy.Verdict{Decision: policy.Probe, Permit: policy.Permit{Start: now, Gen: gen, Slot: b.probe.seq}}
		}
	}
	return b.refuse(s, at)
}

// Done implements policy.Gate.
func (b *Breaker) Done(now policy.Time, rnd rand.Source, p policy.Permit, o policy.Outcome) {
	gen, s := split(b.word.Load())
	switch {
	case gen != p.Gen: // of another time
	case s == Closed && o == policy.Success && b.plain:
		b.window.Add(int64(now), gen, kindOK)
	case s == Closed || s == Ramp || s == ForcedClosed:
		b.count(now, rnd, gen, s, p, o)
	case s == HalfOpen:
		b.probed(now, rnd, p, o)
	}
}

// count counts a result and opens the breaker if that is one too many.
func (b *Breaker) count(now policy.Time, rnd rand.Source, gen uint32, s State, p policy.Permit, o policy.Outcome) {
	if o != policy.Success && o != policy.Failure && o != policy.TimedOut {
		return
	}
	failed := o != policy.Success
	slow := b.opt.Slow > 0 && now.Sub(p.Start) >= b.opt.Slow
	b.record(now, gen, failed, slow)
	row := 0
	if b.opt.Consecutive > 0 {
		row = b.row(gen, failed)
	}
	slow = slow && b.opt.SlowCalls > 0
	if (failed || slow) && s != ForcedClosed {
		if why := b.tooBad(now, gen, row, failed, slow); why != "" {
			b.trip(now, rnd, gen, why)
		}
	}
}

// record puts a result where it is counted.
func (b *Breaker) record(now policy.Time, gen uint32, failed, slow bool) {
	if b.last != nil {
		b.last.add(gen, failed, slow)
		return
	}
	kind := kindOK
	if failed {
		kind = kindFailed
	}
	b.window.Add(int64(now), gen, kind)
	if slow {
		b.window.Add(int64(now), gen, kindSlow)
	}
}

// sum returns the results that count at now.
func (b *Breaker) sum(now policy.Time, gen uint32) (calls, failed, slow int64) {
	if b.last != nil {
		return b.last.sum(gen)
	}
	n := b.window.Sum(int64(now), gen)
	return n[kindOK] + n[kindFailed], n[kindFailed], n[kindSlow]
}

// row takes a result in and returns how many failed in a row, those of a generation that is over apart.
func (b *Breaker) row(gen uint32, failed bool) int {
	for {
		w := b.streak.Load()
		n := int(uint32(w))
		switch {
		case uint32(w>>32) != gen, !failed && n == 0:
			return 0
		case !failed:
			n = 0
		case n < math.MaxInt32:
			n++
		}
		if b.streak.CompareAndSwap(w, uint64(gen)<<32|uint64(n)) {
			return n
		}
	}
}

// tooBad says why a result that failed, as the row-th in a row, was slow, or both, has to open the breaker, or "".
func (b *Breaker) tooBad(now policy.Time, gen uint32, row int, failed, slow bool) string {
	if failed && b.opt.Consecutive > 0 && row >= b.opt.Consecutive {
		return "too many calls failed in a row"
	}
	calls, bad, late := b.sum(now, gen)
	switch {
	case calls < int64(b.opt.MinCalls):
		return ""
	case failed && float64(bad) >= b.opt.Failures*float64(calls):
		return "too many calls failed"
	case slow && float64(late) >= b.opt.SlowCalls*float64(calls):
		return "too many calls were slow"
	}
	return ""
}

// trip opens a breaker that is still in generation gen.
func (b *Breaker) trip(now policy.Time, rnd rand.Source, gen uint32, why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(now, rnd)
	g, s := split(b.word.Load())
	if g != gen || (s != Closed && s != Ramp) {
		return // somebody else was faster
	}
	if s == Closed && now.Sub(b.since) >= b.opt.Window {
		b.openings = 0
	}
	b.open(now, rnd, why)
}

// probed takes in a probe's result. Only the probe that holds the lease counts.
func (b *Breaker) probed(now policy.Time, rnd rand.Source, p policy.Permit, o policy.Outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(now, rnd)
	if gen, s := split(b.word.Load()); gen != p.Gen || s != HalfOpen || !b.probe.out || b.probe.seq != p.Slot {
		return
	}
	b.probe.out = false
	switch o {
	case policy.Success:
		b.until.Store(0)
		if b.successes++; b.successes >= b.opt.Successes {
			b.close(now)
		}
	case policy.Failure, policy.TimedOut:
		b.open(now, rnd, "a probe failed")
	}
}

// advance does what was due by now. Without rnd it leaves alone what has to be drawn. The mutex is held.
func (b *Breaker) advance(now policy.Time, rnd rand.Source) {
	for {
		_, s := split(b.word.Load())
		at := policy.Time(b.until.Load())
		switch {
		case s == Open && now >= at:
			b.until.Store(0)
			b.enter(at, HalfOpen, "its time is over")
		case s == HalfOpen && b.probe.out && now >= b.probe.lease && rnd != nil:
			b.probe.out = false
			b.open(b.probe.lease, rnd, "a probe did not come back")
		case s == Ramp && now >= at:
			// The same generation: calls admitted during the ramp belong to the window that goes on.
			b.note(at, Ramp, Closed, "all calls are let through again")
			b.since = at
			b.word.Store(b.word.Load()&^0xff | uint64(Closed))
		default:
			return
		}
	}
}

// open opens the breaker at now, for longer each time in a row. The mutex is held.
func (b *Breaker) open(now policy.Time, rnd rand.Source, why string) {
	d := b.opt.Open
	for range b.openings {
		if d >= b.opt.OpenCap/2 {
			d = b.opt.OpenCap
			break
		}
		d *= 2
	}
	b.openings++
	b.successes = 0
	j := b.opt.Jitter
	// The cap bounds the longest draw, so that there is a spread at the cap as well.
	mean := min(float64(d), float64(b.opt.OpenCap)/(1+j))
	until := now.Add(time.Duration(mean * (1 - j + 2*j*uniform(rnd))))
	until = max(until, min(b.notBefore, now.Add(b.opt.PushbackCap)))
	b.until.Store(int64(until))
	b.enter(now, Open, why)
}

// close begins the ramp, or closes at once if there is none. The mutex is held.
func (b *Breaker) close(now policy.Time) {
	if b.opt.Ramp < 0 {
		b.enter(now, Closed, "enough probes succeeded")
		return
	}
	b.until.Store(int64(now.Add(b.opt.Ramp)))
	b.enter(now, Ramp, "enough probes succeeded")
}

// enter changes the state and begins a new generation. What the new state reads must be in place before. The mutex is held.
func (b *Breaker) enter(at policy.Time, to State, why string) {
	gen, from := split(b.word.Load())
	b.note(at, from, to, why)
	b.since = at
	b.streak.Store(uint64(gen+1) << 32)
	if b.last != nil {
		b.last.begin(gen + 1)
	}
	b.word.Store(uint64(gen+1)<<8 | uint64(to))
}

// note puts a change of state into the log. What ends the state by itself must be in place before. The mutex is held.
func (b *Breaker) note(at policy.Time, from, to State, why string) {
	e := policy.Event{At: at, From: from.String(), To: to.String(), Reason: why, Refusing: to.refuses()}
	if to == Open || to == Ramp {
		e.Until = policy.Time(b.until.Load())
	}
	b.log.Add(e)
}

// Holds implements policy.Revoker: a call that was admitted earlier makes no further attempt while the breaker is open, nor half-open
// unless it is the probe.
func (b *Breaker) Holds(_ policy.Time, p policy.Permit) bool {
	gen, s := split(b.word.Load())
	switch s {
	case Open, ForcedOpen:
		return false
	case HalfOpen:
		return gen == p.Gen
	}
	return true
}

package hedge

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/internal/quantile"
	"github.com/hull-go/hull/policy"
)

// Options describes hedging. Every zero means the default that stands beside it.
type Options struct {
	// Delay is how long after an attempt's start the next begins; 0 = learn it.
	Delay time.Duration
	// Quantile is the quantile of the latencies that is the delay: 0.95.
	Quantile float64
	// Min is the shortest delay that is learned: 1 ms.
	Min time.Duration
	// MinSamples is how many attempts must be known: 100.
	MinSamples int
	// Window is how far back attempts count: 10 s.
	Window time.Duration
	// Hedges is how many attempts a call may get beside its first: 1.
	Hedges int
	// Extra is the share of extra attempts to calls: 0.05. 1 = as many as there are calls.
	Extra float64
	// Burst is how many extra attempts can be saved up: 10.
	Burst int
}

// steps is how many times per window the delay is set.
const steps = 10

// unit is one attempt in the account.
const unit = 1 << 20

// Hedging implements policy.Hedging, as a rule for one method of one service. It is safe for concurrent use.
type Hedging struct {
	opt    Options
	extra  int64 // Extra in units
	full   int64 // Burst in units
	sample *quantile.Estimator

	delay   atomic.Int64 // 0 = not known yet
	next    atomic.Int64 // when it is set anew
	account atomic.Int64
	begun   atomic.Int64 // attempts beyond the first
	denied  atomic.Int64

	mu    sync.Mutex // one step at a time; guards noted
	noted int64      // the delay of the latest event
	log   policy.EventLog
}

var (
	_ policy.Hedging     = (*Hedging)(nil)
	_ policy.EventSource = (*Hedging)(nil)
)

// The states.
const (
	stateFixed   = "fixed"
	stateCold    = "cold"
	stateLearned = "learned"
)

// New returns hedging that knows nothing yet. The error names everything that is wrong with o.
func New(o Options) (*Hedging, error) {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	fault(o.Delay < 0, "option Delay is %v: want a positive time, or 0 to learn it", o.Delay)
	if o.Quantile == 0 {
		o.Quantile = 0.95
	}
	fault(!(o.Quantile > 0 && o.Quantile < 1), "option Quantile is %v: want something between 0 and 1, or 0 for 0.95", o.Quantile)
	if o.Min == 0 {
		o.Min = time.Millisecond
	}
	fault(o.Min < 0, "option Min is %v: want a positive time, or 0 for 1ms", o.Min)
	if o.MinSamples == 0 {
		o.MinSamples = 100
	}
	fault(o.MinSamples < 0, "option MinSamples is %d: want a positive number, or 0 for 100", o.MinSamples)
	if o.Window == 0 {
		o.Window = quantile.DefaultWindow
	}
	fault(o.Window < steps*time.Millisecond, "option Window is %v: want at least 10ms, or 0 for 10s", o.Window)
	if o.Hedges == 0 {
		o.Hedges = 1
	}
	fault(o.Hedges < 0 || o.Hedges >= policy.MaxAttempts, "option Hedges is %d: want 1 to %d, or 0 for 1", o.Hedges, policy.MaxAttempts-1)
	if o.Extra == 0 {
		o.Extra = 0.05
	}
	fault(!(o.Extra > 0 && o.Extra <= policy.MaxAttempts), "option Extra is %v: want a share above 0 and up to %d, or 0 for 0.05", o.Extra, policy.MaxAttempts)
	if o.Burst == 0 {
		o.Burst = 10
	}
	fault(o.Burst < 0 || o.Burst > 1<<30, "option Burst is %d: want a positive number, or 0 for 10", o.Burst)
	if len(errs) > 0 {
		return nil, fmt.Errorf("hedge: %w", errors.Join(errs...))
	}
	q, err := quantile.New(quantile.Options{Window: o.Window})
	if err != nil {
		return nil, fmt.Errorf("hedge: %w", err)
	}
	h := &Hedging{opt: o, extra: int64(o.Extra * unit), full: int64(o.Burst) * unit, sample: q}
	h.delay.Store(int64(o.Delay))
	state := stateCold
	if o.Delay > 0 {
		state = stateFixed
	}
	h.log.Add(policy.Event{To: state, Reason: "created", Is: o.Delay.Seconds()})
	return h, nil
}

// Delay implements policy.Hedging.
func (h *Hedging) Delay(now policy.Time, _ *policy.Call, n int) (time.Duration, bool) {
	if h.opt.Delay == 0 {
		h.step(now)
	}
	var left int64
	if n <= 1 {
		left = h.earn()
	} else { // an attempt beyond the first has begun
		left = h.account.Add(-unit)
		h.begun.Add(1)
	}
	d := time.Duration(h.delay.Load())
	if n > h.opt.Hedges || d == 0 {
		return 0, false
	}
	if left < unit {
		h.denied.Add(1)
		return 0, false
	}
	return d, true
}

// earn pays a call's share in and returns what is there.
func (h *Hedging) earn() int64 {
	for {
		a := h.account.Load()
		b := min(a+h.extra, h.full)
		if a == b || h.account.CompareAndSwap(a, b) {
			return b
		}
	}
}

// Done implements policy.Hedging.
func (h *Hedging) Done(now policy.Time, e policy.Ended) {
	if h.opt.Delay != 0 {
		return
	}
	c := e.Class.Counts()
	switch {
	case c.LowerBound:
		h.sample.AtLeast(now, e.Took)
	case c.Limit == policy.Success: // a handler ran
		h.sample.Observe(now, e.Took)
	}
}

// step sets the delay anew if it is time to.
func (h *Hedging) step(now policy.Time) {
	next := h.next.Load()
	if int64(now) < next || !h.next.CompareAndSwap(next, int64(now.Add(h.opt.Window/steps))) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if d, unknown, n := h.sample.Quantile(now, h.opt.Quantile); n >= h.opt.MinSamples && !unknown {
		h.delay.Store(int64(max(d, h.opt.Min)))
		h.note(now)
	}
}

// note makes an event of the first delay, and of one that is twice or half of what it was at the latest event. The mutex is held.
func (h *Hedging) note(now policy.Time) {
	was, is := h.noted, h.delay.Load()
	e := policy.Event{At: now, From: stateLearned, To: stateLearned, Was: time.Duration(was).Seconds(), Is: time.Duration(is).Seconds()}
	switch {
	case was == 0:
		e.From, e.Reason = stateCold, "enough attempts are known"
	case is >= 2*was:
		e.Reason = "attempts take longer"
	case 2*is <= was:
		e.Reason = "attempts take less"
	default:
		return
	}
	h.noted = is
	h.log.Add(e)
}

// Events implements policy.EventSource: when enough is known to learn from, and when the delay has become twice or half of what it
// was at the event before. Is and Was are in seconds.
func (h *Hedging) Events(now policy.Time, since uint64) []policy.Event {
	if h.opt.Delay == 0 {
		h.step(now)
	}
	return h.log.Since(since)
}

// Snapshot is a reading of hedging.
type Snapshot struct {
	// Delay is the present one; 0 = not known yet.
	Delay time.Duration
	// Account is how many extra attempts can be made now. Below 0: attempts that were under way overdrew it.
	Account float64
	// Begun counts the attempts beyond the first, Denied those that the account did not allow, since the hedging was made.
	Begun, Denied int64
}

// Snapshot reads the hedging at now.
func (h *Hedging) Snapshot(now policy.Time) Snapshot {
	if h.opt.Delay == 0 {
		h.step(now)
	}
	return Snapshot{
		Delay: time.Duration(h.delay.Load()), Account: float64(h.account.Load()) / unit,
		Begun: h.begun.Load(), Denied: h.denied.Load(),
	}
}

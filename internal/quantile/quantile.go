// Package quantile estimates quantiles of latencies over a sliding window: for timeouts that learn, hedge delays,
// ejection by latency, and benchmarks.
//
// # Mental model
//
// An Estimator is a ring of histograms, one per slice of the window; a slice is wiped when its turn comes again. Buckets
// grow with the value, eight to each doubling from 1 µs to 60 s, so that an answer is at most 6 % off. Recording is one
// atomic increment; reading adds the slices up, which takes microseconds: callers that ask per call keep the answer for a while.
//
// Not every latency is seen to its end. A call that timed out or was cancelled took at least so long, and leaving it out
// would make the service look faster the slower it gets. There are two honest ways to count it:
//
//   - Never: longer than anything, for attempts that timed out. A quantile that falls among these is unknown.
//   - AtLeast: as likely to end as those that are known to have taken longer, for calls that were given up for reasons of
//     their own (hedge losers, cancellation). This is the estimator of Kaplan and Meier, "Nonparametric estimation from
//     incomplete observations", 1958.
package quantile

import (
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/policy"
)

// Defaults and bounds of Options.
const (
	DefaultWindow = 10 * time.Second
	DefaultSlices = 5
	MaxSlices     = 64
)

// Least and Most bound the values that are told apart; values beyond count as these.
const (
	Least = time.Microsecond
	Most  = time.Minute
)

// Options configures an Estimator. The zero value has the defaults.
type Options struct {
	// Window is how long a sample counts, to within one slice; 0 = DefaultWindow.
	Window time.Duration
	// Slices is the number of parts that the window moves on by; 0 = DefaultSlices. Each costs 1.7 KiB.
	Slices int
}

// Buckets: the first holds all below 2^minExp ns, then each doubling is divided into 1<<subBits.
const (
	minExp  = 10 // 1.024 µs
	maxExp  = 35 // 60 s is below 2^36 ns
	subBits = 3
	buckets = 1 + (maxExp-minExp+1)<<subBits
)

// bucket returns where d belongs.
func bucket(d time.Duration) int {
	v := uint64(max(min(d, Most), 0))
	if v < 1<<minExp {
		return 0
	}
	e := bits.Len64(v) - 1
	sub := int(v>>(e-subBits)) & (1<<subBits - 1)
	return 1 + (e-minExp)<<subBits + sub
}

// value returns what stands for a bucket: the harmonic mean of its bounds, of which both are equally far in relation.
func value(i int) time.Duration {
	if i == 0 {
		return Least
	}
	e, sub := minExp+(i-1)>>subBits, (i-1)&(1<<subBits-1)
	lo := float64(uint64(1<<subBits+sub) << (e - subBits))
	hi := lo + float64(uint64(1)<<(e-subBits))
	return min(time.Duration(2*lo*hi/(lo+hi)), Most)
}

// slice is the histogram of one part of the window.
type slice struct {
	turn  atomic.Int64 // which part of time it holds; −1 = none
	seen  [buckets]atomic.Uint32
	least [buckets]atomic.Uint32 // AtLeast
	never atomic.Uint32
	top   atomic.Uint32 // highest bucket that Never was told
}

// Estimator estimates quantiles. It is safe for concurrent use.
type Estimator struct {
	length int64 // of a slice, in ns
	ring   []slice
	mu     sync.Mutex // wiping a slice
}

// New returns an empty Estimator.
func New(o Options) (*Estimator, error) {
	var errs []error
	if o.Window == 0 {
		o.Window = DefaultWindow
	}
	if o.Slices == 0 {
		o.Slices = DefaultSlices
	}
	if o.Slices < 1 || o.Slices > MaxSlices {
		errs = append(errs, fmt.Errorf("%d slices: want 1 to %d", o.Slices, MaxSlices))
	} else if o.Window < time.Duration(o.Slices) {
		errs = append(errs, fmt.Errorf("window %v: want a positive duration", o.Window))
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("quantile: %w", errors.Join(errs...))
	}
	e := &Estimator{length: int64(o.Window) / int64(o.Slices), ring: make([]slice, o.Slices)}
	for i := range e.ring {
		e.ring[i].turn.Store(-1)
	}
	return e, nil
}

// Observe records a latency.
func (e *Estimator) Observe(now policy.Time, d time.Duration) {
	if s := e.at(now); s != nil {
		s.seen[bucket(d)].Add(1)
	}
}

// AtLeast records a latency that is known to be d or more, and as likely to end as others that are.
func (e *Estimator) AtLeast(now policy.Time, d time.Duration) {
	if s := e.at(now); s != nil {
		s.least[bucket(d)].Add(1)
	}
}

// Never records that the end was not seen after d and counts as longer than anything.
func (e *Estimator) Never(now policy.Time, d time.Duration) {
	s := e.at(now)
	if s == nil {
		return
	}
	s.never.Add(1)
	b := uint32(bucket(d))
	for t := s.top.Load(); t < b && !s.top.CompareAndSwap(t, b); t = s.top.Load() {
	}
}

// at returns the slice of now, wiped if it held an older part of time, or nil if now is before the window.
func (e *Estimator) at(now policy.Time) *slice {
	turn := int64(now) / e.length
	s := &e.ring[turn%int64(len(e.ring))]
	if s.turn.Load() != turn && !e.wipe(s, turn) {
		return nil
	}
	return s
}

// wipe prepares s for a new part of time. It reports false if s holds a newer one.
func (e *Estimator) wipe(s *slice, turn int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if old := s.turn.Load(); old >= turn {
		return old == turn
	}
	for i := range s.seen {
		s.seen[i].Store(0)
		s.least[i].Store(0)
	}
	s.never.Store(0)
	s.top.Store(0)
	s.turn.Store(turn)
	return true
}

// Quantile returns the q-quantile (0 … 1) of the n samples in the window that ends now. If censored, the quantile is not
// known, and d is the longest time that is: it takes d or more. Without samples n is 0.
func (e *Estimator) Quantile(now policy.Time, q float64) (d time.Duration, censored bool, n int) {
	var h Histogram
	e.Snapshot(now, &h)
	d, censored = h.Quantile(q)
	return d, censored, h.n
}

// Snapshot puts the samples in the window that ends now into h, for those who want several quantiles.
func (e *Estimator) Snapshot(now policy.Time, h *Histogram) {
	*h = Histogram{}
	oldest := int64(now)/e.length - int64(len(e.ring)) + 1
	for i := range e.ring {
		if s := &e.ring[i]; s.turn.Load() >= max(oldest, 0) {
			h.add(s)
		}
	}
}

// Histogram is the sum of a window's samples. The zero value is empty.
type Histogram struct {
	seen, least [buckets]uint32
	n, never    int
	top         int // the highest bucket of all
}

// add adds one slice.
func (h *Histogram) add(s *slice) {
	for i := range buckets {
		a, b := s.seen[i].Load(), s.least[i].Load()
		if a|b == 0 {
			continue
		}
		h.seen[i] += a
		h.least[i] += b
		h.n += int(a) + int(b)
		h.top = max(h.top, i)
	}
	if never := int(s.never.Load()); never > 0 {
		h.never += never
		h.n += never
		h.top = max(h.top, int(s.top.Load()))
	}
}

// N returns the number of samples, of all kinds.
func (h *Histogram) N() int { return h.n }

// Quantile returns the q-quantile (0 … 1). If censored, it is not known, and d is the longest time that is. Without
// samples it returns 0, false.
func (h *Histogram) Quantile(q float64) (d time.Duration, censored bool) {
	if h.n == 0 {
		return 0, false
	}
	const rounding = 1e-9
	left := 1.0   // the share of calls that take longer than the buckets so far
	risk := h.n   // the samples that reach this bucket
	want := 1 - q // the share at which the answer is reached
	for i := 0; i <= h.top && risk > 0; i++ {
		if ends := int(h.seen[i]); ends > 0 {
			left *= 1 - float64(ends)/float64(risk)
			if left <= want+rounding {
				return value(i), false
			}
			risk -= ends
		}
		risk -= int(h.least[i])
	}
	return value(h.top), true
}

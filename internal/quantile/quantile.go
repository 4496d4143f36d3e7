// Package quantile estimates quantiles of latencies over a sliding window: for timeouts that learn, hedge delays,
// ejection by latency, and benchmarks.
//
// # Mental model
//
// An Estimator is a ring of histograms, one per slice of the window; a slice is wiped when its turn comes again. Buckets
// grow with the value, eight to each doubling from 1 µs to 60 s, so that an answer is at most 6 % off. Recording is one
// atomic increment; reading adds the slices up, which takes microseconds: callers that ask per call keep the answer for a while.
//
// Most methods of a large program are called now and then, so a slice begins as a list of its first samples and gets its
// tables with the next one. It keeps them as long as its turns are busy, and gives them back when one was not: an Estimator that
// sees little is 400 bytes, one that sees much 5 KiB, and allocates nothing any more. What it answers is the same.
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
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/internal/stripe"
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
	// Slices is the number of parts that the window moves on by; 0 = DefaultSlices. Each costs 1.7 KiB at most.
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

// slice is the histogram of one part of the window: the sum of its list and its tables.
type slice struct {
	from  atomic.Int64 // when the part of time begins that it holds; noTime = none
	seen  atomic.Pointer[table]
	least atomic.Pointer[table] // AtLeast
	never atomic.Uint32
	top   atomic.Uint32 // highest bucket that Never was told

	listed atomic.Uint32 // entries of list that were taken; more = it was full
	list   [few]atomic.Uint32

	// Where processors keep meeting in a bucket of seen: tables that they mostly do not share. nil = not so often.
	spread atomic.Pointer[[stripe.N]table]
	met    atomic.Uint32
}

// holds reports whether now is in its part of time, which is so long.
func (s *slice) holds(now policy.Time, length int64) bool {
	return uint64(int64(now)-s.from.Load()) < uint64(length)
}

// noTime is before all times, and so far that the distance from it to any is longer than a slice.
const noTime = math.MinInt64

// often is how many times processors meet in a part of time before they get tables of their own.
const often = 64

// table counts samples by bucket.
type table [buckets]atomic.Uint32

// few is how many samples a slice lists before it gets tables. A slice that had fewer gives its tables back.
const few = 8

// Entries of a list: bucket + 1, and a mark for AtLeast; zero = not written yet.
const leastMark = 1 << 16

// count counts a sample in t, or in the list while there is no table.
func (s *slice) count(t *atomic.Pointer[table], b int, mark uint32) {
	if have := t.Load(); have != nil {
		have[b].Add(1)
		return
	}
	if i := s.listed.Add(1) - 1; i < few {
		s.list[i].Store(uint32(b+1) | mark)
		return
	}
	t.CompareAndSwap(nil, new(table))
	if have := t.Load(); have != nil { // else the slice was wiped just now
		have[b].Add(1)
	}
}

// observed is how many samples of Observe it has.
func (s *slice) observed() (n int64) {
	n = s.seen.Load().sum()
	if spread := s.spread.Load(); spread != nil {
		for i := range spread {
			n += spread[i].sum()
		}
	}
	for i := range s.list {
		if is := s.list[i].Load(); is != 0 && is&leastMark == 0 {
			n++
		}
	}
	return n
}

// sum is how many samples t has; nil has none.
func (t *table) sum() (n int64) {
	if t == nil {
		return 0
	}
	for i := range t {
		n += int64(t[i].Load())
	}
	return n
}

// clearTable wipes a table for its next turn, or drops it if it had little to do, and returns how many samples it had.
func clearTable(t *atomic.Pointer[table]) int {
	have := t.Load()
	if have == nil {
		return 0
	}
	n := have.clear()
	if n < few {
		t.Store(nil)
	}
	return n
}

// clear wipes t and returns how many samples it had.
func (t *table) clear() (n int) {
	for i := range t {
		if t[i].Load() > 0 {
			n += int(t[i].Swap(0))
		}
	}
	return n
}

// Estimator estimates quantiles. It is safe for concurrent use.
type Estimator struct {
	length int64 // of a slice, in ns
	ring   []slice
	latest atomic.Pointer[slice] // the one that was asked for last, or an earlier one
	choice stripe.Choice         // of the tables of a slice's own

	mu   sync.Mutex // wiping a slice
	gone int64      // what Observe recorded in slices that were wiped
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
		e.ring[i].from.Store(noTime)
	}
	e.latest.Store(&e.ring[0])
	return e, nil
}

// Observe records a latency.
func (e *Estimator) Observe(now policy.Time, d time.Duration) {
	s := e.latest.Load()
	t := s.seen.Load()
	if !s.holds(now, e.length) || t == nil || s.spread.Load() != nil {
		e.observeOther(now, d)
		return
	}
	n := &t[bucket(d)]
	if v := n.Load(); !n.CompareAndSwap(v, v+1) {
		n.Add(1)
		if s.met.Add(1) == often {
			s.spread.CompareAndSwap(nil, new([stripe.N]table))
		}
	}
}

// observeOther is Observe for samples that go elsewhere than into the one table of the latest slice.
func (e *Estimator) observeOther(now policy.Time, d time.Duration) {
	s := e.at(now)
	if s == nil {
		return
	}
	spread := s.spread.Load()
	if spread == nil {
		s.count(&s.seen, bucket(d), 0)
		return
	}
	who := stripe.Here()
	n := &spread[e.choice.Of(who)][bucket(d)]
	if v := n.Load(); !n.CompareAndSwap(v, v+1) {
		n.Add(1)
		e.choice.Met(who)
	}
}

// AtLeast records a latency that is known to be d or more, and as likely to end as others that are.
func (e *Estimator) AtLeast(now policy.Time, d time.Duration) {
	if s := e.at(now); s != nil {
		s.count(&s.least, bucket(d), leastMark)
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
	if s := e.latest.Load(); s.holds(now, e.length) {
		return s
	}
	return e.find(now)
}

// find is at without knowing where to look.
func (e *Estimator) find(now policy.Time) *slice {
	turn := int64(now) / e.length
	s := &e.ring[turn%int64(len(e.ring))]
	if from := turn * e.length; s.from.Load() != from && !e.wipe(s, from) {
		return nil
	}
	e.latest.Store(s)
	return s
}

// wipe prepares s for a new part of time. It reports false if s holds a newer one.
func (e *Estimator) wipe(s *slice, from int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if old := s.from.Load(); old >= from {
		return old == from
	}
	e.gone += int64(clearTable(&s.seen))
	clearTable(&s.least)
	if spread := s.spread.Load(); spread != nil {
		n := 0
		for i := range spread {
			n += spread[i].clear()
		}
		e.gone += int64(n)
		if n < often {
			s.spread.Store(nil)
		}
	}
	s.met.Store(0)
	for i := range s.list {
		if was := s.list[i].Swap(0); was != 0 && was&leastMark == 0 {
			e.gone++
		}
	}
	s.listed.Store(0)
	s.never.Store(0)
	s.top.Store(0)
	s.from.Store(from)
	return true
}

// Observed returns how many latencies Observe has recorded since the Estimator was made. What is recorded at the same time may or may
// not be among them.
func (e *Estimator) Observed() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := e.gone
	for i := range e.ring {
		n += e.ring[i].observed()
	}
	return n
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
	oldest := (int64(now)/e.length - int64(len(e.ring)) + 1) * e.length
	for i := range e.ring {
		if s := &e.ring[i]; s.from.Load() >= max(oldest, 0) {
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
	h.n += h.addTable(&h.seen, s.seen.Load()) + h.addTable(&h.least, s.least.Load())
	if spread := s.spread.Load(); spread != nil {
		for i := range spread {
			h.n += h.addTable(&h.seen, &spread[i])
		}
	}
	for i := range min(s.listed.Load(), few) {
		e := s.list[i].Load()
		if e == 0 {
			continue
		}
		b := int(e&^leastMark) - 1
		if e&leastMark == 0 {
			h.seen[b]++
		} else {
			h.least[b]++
		}
		h.n++
		h.top = max(h.top, b)
	}
	if never := int(s.never.Load()); never > 0 {
		h.never += never
		h.n += never
		h.top = max(h.top, int(s.top.Load()))
	}
}

// addTable adds a table to sum and returns how many samples it has.
func (h *Histogram) addTable(sum *[buckets]uint32, t *table) (n int) {
	if t == nil {
		return 0
	}
	for i := range t {
		if c := t[i].Load(); c > 0 {
			sum[i] += c
			n += int(c)
			h.top = max(h.top, i)
		}
	}
	return n
}

// N returns the number of samples, of all kinds.
func (h *Histogram) N() int { return h.n }

// Less counts those among h that part has seen to their end as if they had never ended, and returns how many are left that have. part must not have more.
func (h *Histogram) Less(part *Histogram) (ended int) {
	for i := range h.seen {
		n := min(part.seen[i], h.seen[i]) // they were not read at one moment
		h.seen[i] -= n
		h.never += int(n)
		ended += int(h.seen[i])
	}
	return ended
}

// Longest returns the longest latency that was seen to its end, 0 if there was none.
func (h *Histogram) Longest() time.Duration {
	for i := h.top; i >= 0; i-- {
		if h.seen[i] > 0 {
			return value(i)
		}
	}
	return 0
}

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

package rolling

import (
	"math"
	"math/bits"
	"slices"
	"sync"
	"time"

	"github.com/hull-go/hull/policy"
)

const (
	// timingWindow is how many seconds a Timing looks back.
	timingWindow = 60
	// kept is how many durations are kept of each second, the number that Hystrix itself keeps.
	kept = 100
	// fresh is how long sorted durations serve before they are sorted anew.
	fresh = time.Second
)

// Timing is a sample of the durations of the last minute. It is made by NewTiming and safe for concurrent use.
type Timing struct {
	// Buckets are the durations by Unix second. Whoever looks at them holds Mutex.
	Buckets map[int64]*timingBucket
	Mutex   *sync.RWMutex

	// CachedSortedDurations is what SortedDurations answers, as of LastCachedTime in nanoseconds since the Unix epoch. Mutex guards both.
	CachedSortedDurations []time.Duration
	LastCachedTime        int64

	// The bucket of the latest second. Mutex guards it.
	second  int64
	current *timingBucket
}

type timingBucket struct {
	Durations []time.Duration
	seen      uint64 // how many there were, of which at most kept are in Durations
}

// NewTiming returns an empty Timing.
func NewTiming() *Timing {
	return &Timing{Buckets: make(map[int64]*timingBucket), Mutex: &sync.RWMutex{}}
}

// Add counts a duration in the current second.
func (r *Timing) Add(duration time.Duration) { r.AddAt(policy.Now(), duration) }

// AddAt counts a duration in the second of at. hystrix-go has no such method; it is for those who have just read the clock.
func (r *Timing) AddAt(at policy.Time, duration time.Duration) {
	s := second(at)
	r.Mutex.Lock()
	r.bucket(s).add(duration)
	r.Mutex.Unlock()
}

// add keeps the duration, or once there are enough keeps it in the place of another with the probability that leaves all an equal
// chance (Vitter, "Random sampling with a reservoir", 1985, algorithm R).
func (b *timingBucket) add(d time.Duration) {
	b.seen++
	if len(b.Durations) < kept {
		b.Durations = append(b.Durations, d)
		return
	}
	if i, _ := bits.Mul64(policy.Source{}.Uint64(), b.seen); i < kept {
		b.Durations[i] = d
	}
}

// bucket returns the bucket of second s. The mutex is held.
func (r *Timing) bucket(s int64) *timingBucket {
	if s == r.second && r.current != nil {
		return r.current
	}
	for at := range r.Buckets {
		if at <= s-timingWindow {
			delete(r.Buckets, at)
		}
	}
	b := r.Buckets[s]
	if b == nil {
		b = &timingBucket{}
		r.Buckets[s] = b
	}
	r.second, r.current = s, b
	return b
}

// SortedDurations returns the durations of the last minute, shortest first. The answer serves for a second, so it may
// be that old, and is shared: it must not be changed.
func (r *Timing) SortedDurations() []time.Duration {
	now := policy.Now()
	r.Mutex.RLock()
	sorted, at := r.CachedSortedDurations, policy.Time(r.LastCachedTime)
	r.Mutex.RUnlock()
	if at != 0 && now < at.Add(fresh) {
		return sorted
	}
	r.Mutex.Lock()
	defer r.Mutex.Unlock()
	sorted = nil
	for at, b := range r.Buckets {
		if at > second(now)-timingWindow {
			sorted = append(sorted, b.Durations...)
		}
	}
	slices.Sort(sorted)
	r.CachedSortedDurations, r.LastCachedTime = sorted, int64(now)
	return sorted
}

// Percentile returns, in whole milliseconds, the shortest duration that p percent of all do not exceed; 0 if there are none.
func (r *Timing) Percentile(p float64) uint32 {
	sorted := r.SortedDurations()
	if len(sorted) == 0 {
		return 0
	}
	return milliseconds(sorted[ordinal(len(sorted), p)-1])
}

// ordinal is the nearest rank of percentile p among n, from 1.
func ordinal(n int, p float64) int {
	return min(max(int(math.Ceil(p/100*float64(n))), 1), n)
}

// Mean returns the mean duration in whole milliseconds; 0 if there are none.
func (r *Timing) Mean() uint32 {
	sorted := r.SortedDurations()
	if len(sorted) == 0 {
		return 0
	}
	sum := 0.0
	for _, d := range sorted {
		sum += float64(d)
	}
	return milliseconds(time.Duration(sum / float64(len(sorted))))
}

func milliseconds(d time.Duration) uint32 {
	return uint32(min(max(d.Milliseconds(), 0), math.MaxUint32))
}

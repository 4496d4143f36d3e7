package balance

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/policy"
)

// estimate is a peak-sensitive moving average of latency (Finagle's PeakEwma): a sample above it replaces it, one
// below pulls it down with the time constant. Value and time share one word, so that no lock is needed: nanoseconds as
// float32 above, and time in units of 2¹⁸ ns (0.26 ms) below. Samples within one unit of the last count only as peaks.
type estimate struct{ bits atomic.Uint64 }

const unitShift = 18

func pack(v float32, stamp uint32) uint64 { return uint64(math.Float32bits(v))<<32 | uint64(stamp) }

func unpack(b uint64) (float32, uint32) { return math.Float32frombits(uint32(b >> 32)), uint32(b) }

func stampOf(now policy.Time) uint32 { return uint32(uint64(now) >> unitShift) }

// load returns the estimate, 0 = none, and how long ago it was made.
func (e *estimate) load(now policy.Time) (float32, time.Duration) {
	v, stamp := unpack(e.bits.Load())
	return v, since(now, stamp)
}

// since saturates at 6 days: stamps wrap after 13, and what is older is forgotten anyway.
func since(now policy.Time, stamp uint32) time.Duration {
	return max(0, time.Duration(int32(stampOf(now)-stamp))<<unitShift)
}

// observe takes a sample in nanoseconds.
func (e *estimate) observe(now policy.Time, sample float32, decay time.Duration) {
	if sample < 1 {
		sample = 1
	}
	for {
		old := e.bits.Load()
		v, stamp := unpack(old)
		next := sample
		if v > sample {
			age := since(now, stamp)
			if age == 0 {
				return
			}
			next = sample + (v-sample)*faded(float64(age)/float64(decay))
		}
		if e.bits.CompareAndSwap(old, pack(next, stampOf(now))) {
			return
		}
	}
}

// faded is e^-x.
func faded(x float64) float32 {
	if x < 1.0/64 {
		return float32(1 - x + x*x/2)
	}
	return float32(math.Exp(-x))
}

// set replaces the estimate.
func (e *estimate) set(now policy.Time, v float32) { e.bits.Store(pack(v, stampOf(now))) }

func (e *estimate) reset() { e.bits.Store(0) }

// histogram counts durations in buckets a quarter of an octave wide, from 1 µs to 68 s.
type histogram [bucketCount]atomic.Uint32

const bucketCount = 104

func bucketOf(d time.Duration) int {
	u := uint64(max(d, 0)) >> 10
	if u < 4 {
		return int(u)
	}
	shift := bits.Len64(u) - 3
	return min(shift*4+int(u>>shift), bucketCount-1)
}

// bucketEnd is the upper edge of a bucket.
func bucketEnd(i int) time.Duration {
	if i < 4 {
		return time.Duration(i+1) << 10
	}
	return time.Duration(i%4+5) << (i/4 - 1 + 10)
}

// bucketMiddle is what a duration in a bucket counts as.
func bucketMiddle(i int) time.Duration {
	if i == 0 {
		return bucketEnd(0) / 2
	}
	return (bucketEnd(i-1) + bucketEnd(i)) / 2
}

// mean is an average over the last minute or so, of what tick takes out of a histogram.
type mean struct{ n, sum float64 }

// add takes in n durations of bucket i.
func (m *mean) add(i int, n float64) {
	m.n += n
	m.sum += n * float64(bucketMiddle(i))
}

// fade forgets a tenth. Less than a hundredth of a duration is none.
func (m *mean) fade() {
	m.n, m.sum = 0.9*m.n, 0.9*m.sum
	if m.n < 0.01 {
		*m = mean{}
	}
}

// value is 0 for none.
func (m *mean) value() time.Duration {
	if m.n == 0 {
		return 0
	}
	return time.Duration(m.sum / m.n)
}

// measured is what successful attempts took of late, those that tick has not seen included. It is called with mu held.
func (n *Node) measured() time.Duration {
	m := n.mean
	for i := range n.took {
		if c := n.took[i].Load(); c > 0 {
			m.add(i, float64(c))
		}
	}
	return m.value()
}

// quantile returns the upper edge of the bucket with the q-th quantile, or 0 of fewer than least counts.
func quantile(counts *[bucketCount]float64, q, least float64) time.Duration {
	total := 0.0
	for _, c := range counts {
		total += c
	}
	if total < least {
		return 0
	}
	left := total * (1 - q)
	for i := bucketCount - 1; i > 0; i-- {
		if left -= counts[i]; left < 0 {
			return bucketEnd(i)
		}
	}
	return bucketEnd(0)
}

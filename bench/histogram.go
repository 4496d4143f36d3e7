package main

import (
	"math/bits"
	"time"
)

// subBuckets is how many buckets each power of two is divided into, so that a
// value is known to about 1.6 %.
const subBuckets = 32

// buckets is enough for durations of up to two minutes.
const buckets = 33 * subBuckets

// A histogram counts durations in logarithmic buckets. Adding one costs a few
// instructions and no allocation. The zero value is empty. It is for one
// goroutine; each worker has its own.
type histogram struct {
	counts [buckets]uint32
}

// add counts d; what is out of range counts at the end of the range.
func (h *histogram) add(d time.Duration) { h.counts[bucket(d)]++ }

// bucket returns the index of d: the nanoseconds themselves below 2 ×
// subBuckets, from there on the highest six bits and their position.
func bucket(d time.Duration) int {
	if d < 0 {
		return 0
	}
	shift := max(bits.Len64(uint64(d))-6, 0)
	return min(shift*subBuckets+int(d>>shift), buckets-1)
}

// middle returns the middle of the durations that bucket i counts.
func middle(i int) time.Duration {
	if i < 2*subBuckets {
		return time.Duration(i)
	}
	shift := i/subBuckets - 1
	low := time.Duration(i-shift*subBuckets) << shift
	return low + time.Duration(1)<<shift/2
}

// quantiles returns, for each q of qs, 0 to 1 and ascending, the duration that
// a share q of all counted in hs did not exceed. It is 0 if nothing was counted.
func quantiles(hs []*histogram, qs ...float64) []time.Duration {
	var sum [buckets]uint64
	var total uint64
	for _, h := range hs {
		for i, n := range h.counts {
			sum[i] += uint64(n)
			total += uint64(n)
		}
	}
	out := make([]time.Duration, len(qs))
	if total == 0 {
		return out
	}
	var seen uint64
	i := 0
	for k, q := range qs {
		rank := min(uint64(q*float64(total))+1, total)
		for seen+sum[i] < rank {
			seen += sum[i]
			i++
		}
		out[k] = middle(i)
	}
	return out
}

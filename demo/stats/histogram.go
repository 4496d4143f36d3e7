package stats

import (
	"math/bits"
	"time"
)

// Each power of two is divided into sub parts, so that a value is known to about 3 %.
const (
	subBits = 4
	sub     = 1 << subBits
	// buckets is enough for durations of up to three minutes in microseconds.
	buckets = (28 - subBits) * sub
)

// histogram counts durations in logarithmic buckets. The zero value is empty.
type histogram [buckets]uint32

// add counts d; what is out of range counts at the end of the range.
func (h *histogram) add(d time.Duration) { h[bucket(d)]++ }

// bucket returns the index of d: the microseconds themselves below 2 × sub, from there on the highest bits and their
// position.
func bucket(d time.Duration) int {
	us := uint64(max(d.Microseconds(), 0))
	shift := max(bits.Len64(us)-subBits-1, 0)
	return min(shift*sub+int(us>>shift), buckets-1)
}

// upper returns the largest duration that bucket i counts.
func upper(i int) time.Duration {
	if i < 2*sub {
		return time.Duration(i) * time.Microsecond
	}
	shift := i/sub - 1
	return (time.Duration(i-shift*sub+1)<<shift - 1) * time.Microsecond
}

// quantile returns a duration that a share q of all counted in hs did not exceed, 0 if nothing was counted.
func quantile(hs []*histogram, q float64) time.Duration {
	var sum [buckets]uint64
	var total uint64
	for _, h := range hs {
		for i, n := range h {
			sum[i] += uint64(n)
			total += uint64(n)
		}
	}
	if total == 0 {
		return 0
	}
	rank := max(uint64(q*float64(total)+0.5), 1)
	var seen uint64
	for i, n := range sum {
		if seen += n; seen >= rank {
			return upper(i)
		}
	}
	return upper(buckets - 1)
}

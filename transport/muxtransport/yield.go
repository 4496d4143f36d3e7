package muxtransport

import (
	"time"

	"github.com/hull-go/hull/policy"
)

// yielding decides whether whoever is about to write lets other goroutines run first, so that one write takes their frames along too. Go's scheduler
// puts it behind all that is ready, and further back as long as a processor has goroutines of its own: where handlers compute for a millisecond each, an
// answer waits for dozens of them, to gather few. So a yield that did not pay is not repeated for a while, which grows as long as none pays. The zero
// value yields. It belongs to whoever has the flusher's role.
type yielding struct {
	again policy.Time   // until then there is no yield
	pause time.Duration // of the latest yield that did not pay; 0 = the latest one did
}

const (
	// shortYield always pays: it is within what a caller waits for a reader, a writer and the network anyway.
	shortYield = time.Millisecond
	// paidPerSecond is how many bytes a longer one has to gather: those of an answer for every tenth of a millisecond, whose writes would take a tenth of that.
	paidPerSecond = 1e6
	// A yield that did not pay is followed by as long a pause, the next by four times that, up to the longest.
	pauseGrowth  = 4
	longestPause = 4 * time.Second
)

// wanted reports whether it is time for a yield.
func (y *yielding) wanted(now policy.Time) bool { return now >= y.again }

// took takes in what a yield took that ended at now, and how many bytes others added meanwhile.
func (y *yielding) took(now policy.Time, d time.Duration, gathered uint64) {
	if d <= shortYield || float64(gathered) >= d.Seconds()*paidPerSecond {
		y.pause = 0
		return
	}
	y.pause = min(max(d, pauseGrowth*y.pause), longestPause)
	y.again = now.Add(y.pause)
}

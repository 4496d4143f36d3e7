package muxtransport

import (
	"time"

	"github.com/hull-go/hull/policy"
)

// age tells how long requests have been on their way. The time left that a request carries counts from when it was
// sent; what it then spent in buffers, of a client that could not write or of a server that stood still, is gone.
//
// The clocks of both ends have nothing in common but their pace, so the quickest request of the last minute or two is
// taken for one that was not on its way at all. HELLO is the first of them.
type age struct {
	// low is the smallest difference between the clocks since the time since, lowBefore that of the minute before it.
	low, lowBefore time.Duration
	since          policy.Time
}

// ageWindow is how long a smallest difference counts: the clocks drift apart by less than 10 ms in that time.
const ageWindow = time.Minute

// newAge returns the age for a client whose HELLO, sent at 0 of its clock, was received at now.
func newAge(now policy.Time) age {
	return age{low: time.Duration(now), lowBefore: time.Duration(now), since: now}
}

// of returns the age of a request that was sent at sent, of the client's clock, and received at now; 0 if it does not say.
func (a *age) of(sent time.Duration, now policy.Time) time.Duration {
	if sent == 0 {
		return 0
	}
	diff := time.Duration(now) - sent
	if now.Sub(a.since) > ageWindow {
		// However long the pause: what comes first after it is measured by what was known before.
		a.lowBefore, a.low, a.since = a.low, diff, now
	}
	a.low = min(a.low, diff)
	return diff - min(a.low, a.lowBefore)
}

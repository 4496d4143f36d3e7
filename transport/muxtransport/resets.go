package muxtransport

import (
	"errors"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/transport"
)

// errFlood is the cause of the end of a connection whose peer sends too much of what is harmless in small numbers.
var errFlood = errors.New("a flood")

// resets counts the calls and streams that a client opens only to cancel them: each costs the server more than the client. It
// belongs to the reader's role.
type resets struct {
	n      int
	second policy.Time
}

// note takes in that the call in was cancelled at now, before it was answered. It reports whether there are too many of
// those. Calls that have used most of their time do not count: in an overload all of a client's calls end so, and nothing would be
// better for it if the connection ended too.
func (r *resets) note(in *transport.Incoming, now policy.Time, limit int) (flood bool) {
	if in.Deadline != 0 && in.Deadline.Sub(now) <= in.Deadline.Sub(in.Received)/4 {
		return false
	}
	if now.Sub(r.second) >= time.Second {
		r.n, r.second = 0, now
	}
	r.n++
	return r.n > limit
}

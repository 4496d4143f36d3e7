package muxtransport

import (
	"time"

	"github.com/hull-go/hull/policy"
)

// pace is how a stream's receiver has taken its latest window full of messages. The link's mutex guards it.
//
// Messages of kilobytes fill a connection whatever the window. Small ones are handled in turns, by all who send, carry and receive them, and a window full is
// what one turn handles: the less that is, the more of the time goes into waking the next. So a receiver that waits for small messages gets a larger
// window, and one that others wait for its first one.
type pace struct {
	since    policy.Time // when it began
	used     int64       // what of the window has been given back
	messages int         // and how many messages were received
	starved  bool        // the receiver had to wait for some
}

const (
	// maxGrowth is how many times what it is at first a stream's window may be.
	maxGrowth = 4
	// grownShare is the share of the connection's window that all growth together may have: streams that nobody receives from any more keep theirs.
	grownShare = 4
	// smallMessage is what a message may cost on average.
	smallMessage = 1 << 10
	// quickWindow is how long a window full may take: there is no gain where there is no haste.
	quickWindow = 250 * time.Millisecond
)

// adapt takes in that used of the stream's window is about to be given back, and makes the window larger or smaller when that was all of it. mu is held.
func (s *stream) adapt(used int64) {
	p, w, l := &s.pace, &s.recv, s.l
	if p.used += used; p.used < w.size || s.end != nil {
		return
	}
	first, now := int64(l.sh.opts.StreamWindow), policy.Now()
	switch {
	case !p.starved:
		s.resize(first - w.size)
	case now.Sub(p.since) <= quickWindow && p.used <= int64(p.messages)*smallMessage:
		s.resize(min(w.size, maxGrowth*first-w.size, int64(l.sh.opts.ConnWindow)/grownShare-l.grown))
	}
	*p = pace{since: now}
}

// resize makes the stream's window larger by n, or smaller. mu is held.
func (s *stream) resize(n int64) {
	s.recv.resize(n)
	s.l.grown += n
}

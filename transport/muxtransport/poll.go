package muxtransport

import (
	"net"
	"runtime"
	"syscall"
	"time"

	"github.com/hull-go/hull/policy"
)

// maxPoll is the longest that Options.BusyPoll may be: what a sleeping thread takes to wake up, more would not pay.
const maxPoll = 50 * time.Microsecond

// polling is how a reader asks the kernel again and again for a while whether something has arrived, before it goes to sleep. It pays where
// calls follow one another and a processor is free; where it does not, it stops by itself. It belongs to the reader's role.
type polling struct {
	habit
	raw   syscall.RawConn
	most  time.Duration
	found bool
	spin  func(fd uintptr) // made once
}

// newPolling returns nil where there is nothing to be polled.
func newPolling(nc net.Conn, o *Options) *polling {
	if o.BusyPoll == 0 || !canPoll {
		return nil
	}
	sc, ok := nc.(syscall.Conn)
	if !ok { // TLS reads ahead: what has arrived need not be with the kernel any more
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	p := &polling{raw: raw, most: o.BusyPoll}
	p.spin = p.poll
	return p
}

// arrives reports whether something arrives within the time. Not more than one frame has been handed out since the last read, or it does not try.
func (p *polling) arrives(sh *shared, frames int) {
	if !p.worth(frames) {
		return
	}
	p.found = false
	_ = p.raw.Control(p.spin) // a connection that is closed is noticed by the read that follows
	p.tried(p.found)
	if p.found {
		sh.polled.Add(1)
	} else {
		sh.polledInVain.Add(1)
	}
}

func (p *polling) poll(fd uintptr) {
	until := policy.Now().Add(p.most)
	for {
		if n, err := readable(fd); err != nil || n > 0 {
			p.found = n > 0
			return
		}
		if policy.Now() >= until {
			return
		}
		runtime.Gosched() // whoever has something to do goes first
	}
}

// habit is whether polling has paid lately: each time in vain it is left out for about twice as many reads as the time before.
type habit struct{ pause, left int }

// maxPause is for how many reads it is left out at most.
const maxPause = 1023

// worth reports whether to poll before the next read, when the last one brought so many frames: with several calls under way the next answer
// comes without, and whoever sleeps for it reads several at once.
func (h *habit) worth(frames int) bool {
	if frames > 1 {
		return false
	}
	if h.left > 0 {
		h.left--
		return false
	}
	return true
}

func (h *habit) tried(found bool) {
	h.pause = min(2*h.pause+1, maxPause)
	if found {
		h.pause = 0
	}
	h.left = h.pause
}

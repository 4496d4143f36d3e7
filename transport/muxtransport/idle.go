package muxtransport

import (
	"sync"
	"time"

	"github.com/hull-go/hull/policy"
)

// idleList has the connections without calls, which share one timer: thousands of them cost nothing but their place here.
// The zero value is ready. It is locked after a link, never before.
type idleList struct {
	mu    sync.Mutex
	links []idleLink
	timer *time.Timer
	at    policy.Time // when the timer fires, 0 = not set
}

// idleLink is a connection and when it has to be looked at.
type idleLink struct {
	l   *link
	due policy.Time
}

// idleGrid is into how many parts the time between two looks at a connection is divided: those that are due in the same part
// are looked at together, at its beginning.
const idleGrid = 64

// add puts l into the list, or changes when it is due.
func (i *idleList) add(l *link, now, due policy.Time) {
	grid := policy.Time(max(l.sh.opts.KeepaliveIdle/idleGrid, 1))
	if early := due / grid * grid; early > now {
		due = early
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if l.idle == 0 {
		i.links = append(i.links, idleLink{l, due})
		l.idle = len(i.links)
	} else {
		i.links[l.idle-1].due = due
	}
	if i.at == 0 || due < i.at {
		i.arm(now, due)
	}
}

func (i *idleList) arm(now, at policy.Time) {
	i.at = at
	if wait := max(at.Sub(now), 0); i.timer == nil {
		i.timer = time.AfterFunc(wait, i.look)
	} else {
		i.timer.Reset(wait)
	}
}

// remove takes l out of the list, if it is there.
func (i *idleList) remove(l *link) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.drop(l)
	if len(i.links) == 0 && i.timer != nil {
		i.timer.Stop()
		i.at = 0
	}
}

func (i *idleList) drop(l *link) {
	if l.idle == 0 {
		return
	}
	last := len(i.links) - 1
	i.links[l.idle-1] = i.links[last]
	i.links[l.idle-1].l.idle = l.idle
	i.links[last] = idleLink{}
	i.links = i.links[:last]
	l.idle = 0
}

// look is what the timer runs: it checks the connections that are due.
func (i *idleList) look() {
	now := policy.Now()
	var due []*link
	var next policy.Time
	i.mu.Lock()
	for k := range i.links {
		if at := i.links[k].due; at <= now {
			due = append(due, i.links[k].l)
		} else {
			next = policy.Earliest(next, at)
		}
	}
	for _, l := range due {
		i.drop(l)
	}
	i.at = 0
	if next != 0 {
		i.arm(now, next)
	}
	i.mu.Unlock()
	for _, l := range due {
		l.checkPeer()
	}
}

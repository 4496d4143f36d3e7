package muxtransport

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// keepalive finds out that the peer is gone when no packet says so. The link's mutex guards it.
type keepalive struct {
	timer    *time.Timer // nil while the connection is in the idle list
	slow     atomic.Bool // the connection is idle
	pinged   policy.Time // when a ping that has not been answered was sent, 0 = none
	lastPing policy.Time
	due      policy.Time // when the timer should fire
	deaf     bool        // the reader does not read, so that silence says nothing
}

// pingsPerSecond is how many pings a peer may send before it counts as a flood, unless Options.MaxPings says otherwise.
const pingsPerSecond = 100

// settleTime is after how much silence without calls a connection lets its buffers go.
const settleTime = time.Second

func (l *link) startKeepalive(now policy.Time) {
	l.lastPing = now
	l.due = now.Add(settleTime)
	l.slow.Store(true)
	l.sh.idle.add(l, now, l.due)
}

// hurryKeepalive sets the timer for a connection with calls. mu is held.
func (l *link) hurryKeepalive() {
	if l.slow.Load() {
		l.hurry()
	}
}

func (l *link) hurry() {
	if l.cause == nil {
		l.slow.Store(false)
		now := policy.Now()
		l.setTimer(now, now.Add(l.sh.opts.KeepaliveSilent))
	}
}

// setTimer has the peer checked at next. mu is held.
func (l *link) setTimer(now, next policy.Time) {
	l.due = next
	if l.timer != nil {
		l.timer.Reset(next.Sub(now))
		return
	}
	l.sh.idle.remove(l)
	l.timer = time.AfterFunc(next.Sub(now), l.checkPeer)
}

// stopTimer ends what setTimer began. mu is held.
func (l *link) stopTimer() {
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
}

// checkPeer is what the timer runs.
func (l *link) checkPeer() {
	o := &l.sh.opts
	now := policy.Now()
	heard := policy.Time(l.lastRead.Load())
	l.mu.Lock()
	if l.cause != nil {
		l.mu.Unlock()
		return
	}
	if l.deaf || heard >= l.pinged { // in virtual time an answer can come at the same moment
		l.pinged = 0
	}
	// A timer that fires late says that this process stood still, not the peer: it gets its time again.
	if l.pinged != 0 && now.Sub(l.due) > o.KeepaliveTimeout/4 {
		l.pinged = now
	}
	if l.pinged != 0 && now.Sub(l.pinged) >= o.KeepaliveTimeout {
		l.mu.Unlock()
		l.sh.keepaliveStalls.Add(1)
		l.fail(status.Reset, fmt.Errorf("the peer did not answer a ping for %v", o.KeepaliveTimeout))
		return
	}
	var next policy.Time
	busy := l.owner.busy()
	switch {
	case l.deaf:
		next = now.Add(o.KeepaliveSilent)
	case l.pinged != 0:
		next = l.pinged.Add(o.KeepaliveTimeout)
	case busy:
		next = policy.Earliest(max(heard, l.lastPing).Add(o.KeepaliveSilent), l.lastPing.Add(o.KeepaliveBusy))
	case now.Sub(heard) < settleTime:
		next = heard.Add(settleTime)
	default:
		l.settle()
		next = max(heard, l.lastPing).Add(o.KeepaliveIdle)
	}
	mine := false
	if next <= now {
		before := len(l.buf)
		var t [8]byte
		binary.LittleEndian.PutUint64(t[:], uint64(now))
		l.buf = appendFrame(l.buf, typePing, 0, t[:]...)
		mine = l.added(before)
		l.pinged, l.lastPing = now, now
		next = now.Add(o.KeepaliveTimeout)
	}
	if slow := !busy && l.pinged == 0 && next.Sub(now) > o.KeepaliveSilent; slow {
		l.slow.Store(true)
		l.stopTimer()
		l.due = next
		l.sh.idle.add(l, now, next)
	} else {
		l.slow.Store(false)
		l.setTimer(now, next)
	}
	l.mu.Unlock()
	if mine {
		l.flush(false)
	}
}

// settle lets go of what a connection without calls does not need. mu is held.
func (l *link) settle() {
	if !l.flushing && len(l.buf) == 0 {
		l.buf, l.spare = nil, nil
	}
	if l.fat.Swap(false) {
		// The reader wakes, and waits on with nothing.
		l.letGo.Store(true)
		_ = l.nc.SetReadDeadline(time.Unix(1, 0))
	}
}

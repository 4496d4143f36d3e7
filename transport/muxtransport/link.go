package muxtransport

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// link is what both ends of a connection have in common: writing, reading, keepalive and the end.
type link struct {
	nc    net.Conn
	sh    *shared
	peer  *hello // what the other side accepts
	owner owner
	entry watchEntry
	// kickable: a Write under way can be interrupted with a deadline and continued. It is not so under TLS.
	kickable bool
	done     chan struct{} // closed when the connection is gone; on a server made when somebody asks, by doneChan
	idle     int           // the place in the idle list, counted from 1; guarded by that
	lastRead atomic.Int64  // a policy.Time
	// fat: the reader has read something since it let go of everything; letGo: it is told to do that.
	fat, letGo atomic.Bool
	polling    *polling // nil without; belongs to the reader's role
	// pack is how what is sent is compressed where a call does not say.
	pack compression
	// namesIn belongs to the reader's role, namesOut is guarded by mu; nil until there is metadata, see inNames and outNames.
	namesIn  *recvNames
	namesOut *sentNames

	mu sync.Mutex
	writer
	keepalive
	flow
	cause *failure // why the connection ended, nil while it is up
	over  bool     // and all that has to be done about it is done
}

// owner is the side-specific part of a link.
type owner interface {
	// ended is called once, when nothing is being written any more; cause is set.
	ended()
	// busy reports whether calls are under way. mu is held.
	busy() bool
	// takeData takes in one DATA. mu is held. An error is the end of the connection, or of the one stream that it names.
	takeData(f frame) error
	// receiver returns the stream that messages can be put into at once, nil if takeData has to look at them. mu is held.
	receiver(id uint32) *stream
}

// failure says why a connection ended.
type failure struct {
	kind status.Kind
	err  error
}

var (
	errClosed     = errors.New("connection closed on this side")
	errPeerClosed = errors.New("connection closed by the peer")
)

func (l *link) init(nc net.Conn, sh *shared, peer hello, o owner) {
	l.nc, l.sh, l.owner = nc, sh, o
	l.peer = sh.intern(peer)
	l.choosePack(sh.opts.wish(nc.RemoteAddr()))
	_, wrapped := nc.(interface{ NetConn() net.Conn })
	l.kickable = !wrapped
	l.polling = newPolling(nc, &sh.opts)
	l.flow.init(sh.opts, peer)
	now := policy.Now()
	l.lastRead.Store(int64(now))
	l.mu.Lock()
	l.startKeepalive(now)
	l.mu.Unlock()
	sh.conns.Add(1)
	sh.accepted.Add(1)
}

// tlsState returns what is known of the TLS below, nil if there is none.
func tlsState(nc net.Conn) *tls.ConnectionState {
	for nc != nil {
		if t, ok := nc.(interface{ ConnectionState() tls.ConnectionState }); ok {
			state := t.ConnectionState()
			return &state
		}
		w, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		nc = w.NetConn()
	}
	return nil
}

// fail ends the connection, the first time it is called. Calls under way learn it through the owner.
func (l *link) fail(kind status.Kind, err error) {
	l.mu.Lock()
	if l.cause != nil {
		l.mu.Unlock()
		return
	}
	l.cause = &failure{kind, err}
	if kind == status.Protocol {
		l.sh.protocolErrors.Add(1)
	}
	l.stopTimer()
	l.sh.idle.remove(l)
	l.wakeRoom()
	l.wakeWindow()
	writing := l.writing
	l.mu.Unlock()
	l.nc.Close()
	// What the kernel took of a write under way is known when it returns, which is now that the connection is closed.
	if !writing {
		l.end()
	}
}

func (l *link) end() {
	l.sh.conns.Add(-1)
	l.owner.ended()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	if l.done != nil {
		close(l.done)
	}
}

// doneChan returns what is closed when the connection is gone. mu is held.
func (l *link) doneChan() <-chan struct{} {
	if l.done == nil {
		l.done = make(chan struct{})
		if l.over {
			close(l.done)
		}
	}
	return l.done
}

// look implements watched for the writing half.
func (l *link) lookWriter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.writing || !l.direct {
		return false
	}
	if l.writes == l.seenWrites && !l.kicked {
		l.kicked = true
		_ = l.nc.SetWriteDeadline(time.Unix(1, 0))
	}
	l.seenWrites = l.writes
	return true
}

package muxtransport

import (
	"encoding/binary"
	"errors"
)

// flow is the connection's share of flow control: how much of streams may be on the way in each direction. Unary calls
// are bounded by number and size instead. The link's mutex guards it.
type flow struct {
	sendLeft   int64 // what the peer's connection window still takes
	windowWait chan struct{}

	recv window
}

// window is a receive window: what the other side may still send, and what has been used since it was told.
type window struct{ size, left, credit int64 }

// take accounts for what has arrived. It returns false when the peer sent more than it was allowed.
func (w *window) take(cost int64) bool {
	w.left -= cost
	return w.left >= 0
}

// give notes that cost bytes have been used up, and returns how much to tell the peer, 0 for not yet. A peer that is
// running out is told at once, so that what is held back here never stops it.
func (w *window) give(cost int64) int64 {
	w.credit += cost
	if w.credit < w.size/4 && w.left > w.size/4 {
		return 0
	}
	n := w.credit
	w.left += n
	w.credit = 0
	return n
}

var errWindow = errors.New("the peer sent more than the window allows")

func (f *flow) init(o Options, peer hello) {
	f.sendLeft = int64(peer.connWindow)
	f.recv = window{size: int64(o.ConnWindow), left: int64(o.ConnWindow)}
}

// giveConn returns cost to the connection's window and appends what the peer has to know. mu is held.
func (l *link) giveConn(cost int64) {
	if n := l.recv.give(cost); n > 0 {
		l.appendWindow(0, n)
	}
}

func (l *link) appendWindow(id uint32, n int64) {
	if l.cause != nil {
		return
	}
	before := len(l.buf)
	var v [binary.MaxVarintLen64]byte
	l.buf = appendFrame(l.buf, typeWindow, id, v[:binary.PutUvarint(v[:], uint64(n))]...)
	l.appended += uint64(len(l.buf) - before)
}

// windowChan returns what is closed when the connection's send window grows. mu is held.
func (l *link) windowChan() <-chan struct{} {
	if l.windowWait == nil {
		l.windowWait = make(chan struct{})
	}
	return l.windowWait
}

func (l *link) wakeWindow() {
	if l.windowWait != nil {
		close(l.windowWait)
		l.windowWait = nil
	}
}

// maxWindow bounds what a peer can grant; beyond it something is wrong with it.
const maxWindow = 1 << 40

// parseWindow reads the payload of WINDOW.
func parseWindow(payload []byte) (int64, error) {
	c := cursor{b: payload}
	n := c.uvarint()
	if c.bad || len(c.b) > 0 || n == 0 || n > maxWindow {
		return 0, errMalformed
	}
	return int64(n), nil
}

package muxtransport

import (
	"encoding/binary"
	"fmt"
)

// flow is the connection's share of flow control: how much of streams may be on the way in each direction. Unary calls
// are bounded by number and size instead. The link's mutex guards it.
type flow struct {
	sendLeft   int64 // what the peer's connection window still takes
	windowWait chan struct{}

	recv window
	// grown is by how much the windows of streams have grown, together.
	grown int64
	// gathered is how many bytes of messages that are still arriving streams hold beyond the window.
	gathered int
	// wakes are streams that have got messages and whose Recv is still to be woken; they belong to the reader's role.
	wakes []*stream
}

// window is a receive window: what the other side may still send, and what has been used since it was told.
type window struct{ size, left, credit int64 }

// take accounts for what has arrived. It returns false when the other side sent more than it was allowed.
func (w *window) take(cost int64) bool {
	w.left -= cost
	return w.left >= 0
}

// tell returns how much to grant the other side, 0 for not yet. One that is running out is told of everything at once, so
// that what is held back here never stops it.
func (w *window) tell() int64 {
	n := w.credit
	if n <= 0 || n < w.size/4 && w.left > w.size/4 {
		return 0
	}
	w.left += n
	w.credit = 0
	return n
}

// resize makes the window larger by n. If that is negative, what is consumed is not granted again until the window is as small.
func (w *window) resize(n int64) {
	w.size += n
	w.credit += n
}

var errWindow = fmt.Errorf("the peer sent more than the window allows: %w", errMalformed)

func (f *flow) init(o Options, peer hello) {
	f.sendLeft = int64(peer.connWindow)
	f.recv = window{size: int64(o.ConnWindow), left: int64(o.ConnWindow)}
}

// takeConn accounts for the cost of a stream's frame that has arrived. mu is held.
func (l *link) takeConn(cost int64) error {
	if !l.recv.take(cost) {
		return fmt.Errorf("connection: %w", errWindow)
	}
	l.appendWindow(0, l.recv.tell())
	return nil
}

// giveConn notes that cost bytes of the connection's window have been used up. mu is held.
func (l *link) giveConn(cost int64) {
	l.recv.credit += cost
	l.appendWindow(0, l.recv.tell())
}

// grow takes in that the peer takes n more bytes on the connection. mu is held.
func (l *link) grow(n int64) error {
	if l.sendLeft += n; l.sendLeft > maxWindow {
		return fmt.Errorf("connection: a window of %d bytes: %w", l.sendLeft, errMalformed)
	}
	l.wakeWindow()
	return nil
}

func (l *link) appendWindow(id uint32, n int64) {
	if n == 0 || l.cause != nil {
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
	c := cursor{in: payload}
	n := c.uvarint()
	if c.bad || len(c.rest()) > 0 || n == 0 || n > maxWindow {
		return 0, errMalformed
	}
	return int64(n), nil
}

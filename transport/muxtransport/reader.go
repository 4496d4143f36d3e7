package muxtransport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

const (
	// smallBuffer is what a connection reads with while little arrives. One that is idle has nothing but room for the
	// beginning of a frame.
	smallBuffer = 512
	tinyBuffer  = 16
	// sparseReads is after how many small reads in a row a borrowed buffer goes back.
	sparseReads = 32
)

// reader cuts what arrives into frames. It belongs to the goroutine that has the reader's role.
type reader struct {
	l        *link
	buf      []byte
	r, w     int // what is in buf and has not been used
	borrowed *[]byte
	tiny     [tinyBuffer]byte
	full     bool // the last read filled the buffer
	limited  bool // a read deadline is set for it
	sparse   int
	handed   int         // frames since the last read
	partial  policy.Time // since when a part of a frame has been waiting for its rest
	now      policy.Time // of the last read
	// pings of the current second.
	pings      int
	pingSecond policy.Time
}

func newReader(l *link) *reader {
	r := &reader{l: l, now: policy.Now()}
	r.buf = r.tiny[:]
	return r
}

// fork returns a reader that goes on after what r has handed out, while r's last frame is still in use.
func (r *reader) fork() *reader {
	n := newReader(r.l)
	if r.w-r.r > 0 {
		n.grow(r.w - r.r)
	}
	n.w = copy(n.buf, r.buf[r.r:r.w])
	n.partial, n.limited, n.now = r.partial, r.limited, r.now
	n.pings, n.pingSecond = r.pings, r.pingSecond
	return n
}

// release gives a borrowed buffer back. What r handed out must not be used any more.
func (r *reader) release() {
	if r.borrowed != nil {
		r.l.sh.readBufs.Put(r.borrowed)
		r.borrowed = nil
	}
	r.buf, r.r, r.w, r.full = r.tiny[:], 0, 0, false
}

// grow moves what is in the buffer to a larger one with room for size bytes.
func (r *reader) grow(size int) {
	old := r.buf[r.r:r.w]
	if len(r.buf) < smallBuffer && size <= smallBuffer {
		r.buf = make([]byte, smallBuffer)
	} else {
		r.borrowed = r.l.sh.borrow()
		r.buf = *r.borrowed
	}
	r.w = copy(r.buf, old)
	r.r, r.sparse = 0, 0
}

// frameTooLongError means that what follows cannot be told apart any more.
type frameTooLongError int

func (e frameTooLongError) Error() string {
	return fmt.Sprintf("frame of %d bytes; none may be longer than %d", int(e), maxFrame)
}

// buffered puts the next frame into f if all of it has been read. Its payload is valid until fill is called.
func (r *reader) buffered(f *frame) (ok bool, err error) {
	b := r.buf[r.r:r.w]
	if len(b) < headerLen {
		return false, nil
	}
	n := frameSize(b)
	if n > len(b) {
		if n > maxFrame { // no buffer holds one
			return false, frameTooLongError(n)
		}
		return false, nil
	}
	r.r += n
	r.handed++
	f.parse(b[:n:n])
	return true, nil
}

// moreData returns the next frame if all of it has been read and it is an ordinary DATA too.
func (r *reader) moreData() (f frame, ok bool) {
	if _, ok = r.dataNext(); !ok {
		return frame{}, false
	}
	ok, _ = r.buffered(&f) // one that is too long is met again
	return f, ok
}

// dataNext reports whether an ordinary DATA follows, of which at least the header has been read, and of which stream.
func (r *reader) dataNext() (id uint32, ok bool) {
	b := r.buf[r.r:r.w]
	if len(b) < headerLen || b[3] != typeData {
		return 0, false
	}
	return binary.LittleEndian.Uint32(b[4:]), true
}

// errIdle says that nothing has arrived for long, and that the buffer is gone.
var errIdle = errors.New("idle")

// errTime says that fill's time is over.
var errTime = errors.New("time is over")

// fill waits for more bytes. While *until, a policy.Time, is not 0 it does so until then, and returns errTime; whoever sets it
// while somebody waits has to end that wait with a deadline that has passed. until may be nil.
func (r *reader) fill(until *atomic.Int64) error {
	rest := r.w - r.r
	if rest == 0 {
		r.r, r.w, r.partial = 0, 0, 0
	}
	need := 0
	if rest >= headerLen {
		need = frameSize(r.buf[r.r:])
	}
	switch {
	case r.borrowed == nil && (r.full || need > len(r.buf)):
		r.grow(max(need, 2*rest))
	case rest == 0 && r.borrowed != nil && r.sparse >= sparseReads:
		r.release()
		r.grow(smallBuffer)
	case r.r > 0:
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	}
	if rest > 0 && r.partial == 0 {
		r.partial = r.now
	}
	for {
		if err := r.limit(); err != nil {
			return err
		}
		if r.w == r.r && r.l.letGo.Load() { // limit may have taken the deadline away that says so
			return r.idle()
		}
		var end policy.Time
		if until != nil { // looked at after the deadline was set, so that a wake-up is not lost
			if end = policy.Time(until.Load()); end != 0 {
				r.limited = true
				_ = r.l.nc.SetReadDeadline(end.Clock())
			}
		}
		if r.l.polling != nil && r.w == r.r {
			r.l.polling.arrives(r.l.sh, r.handed)
		}
		r.handed = 0
		n, err := r.l.nc.Read(r.buf[r.w:])
		if n > 0 {
			r.w += n
			r.now = policy.Now()
			r.l.lastRead.Store(int64(r.now))
			if !r.l.fat.Load() {
				r.l.fat.Store(true)
			}
			r.full = r.w == len(r.buf)
			if r.sparse++; n >= smallBuffer {
				r.sparse = 0
			}
			return nil
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			// Told to let the buffer go, or out of time for the frame; limit finds out which.
			r.limited = true
			if end != 0 && policy.Now() >= end {
				return errTime
			}
			if r.w == r.r && r.l.letGo.Load() {
				return r.idle()
			}
		case errors.Is(err, io.EOF) && r.w > r.r:
			return io.ErrUnexpectedEOF
		default:
			return err
		}
	}
}

// idle lets go of the buffer, as the reader was told to.
func (r *reader) idle() error {
	r.l.letGo.Store(false)
	r.release()
	r.limited = false // here, and not on the small stack of whoever waits next
	_ = r.l.nc.SetReadDeadline(time.Time{})
	return errIdle
}

// stalledError means that a frame did not arrive whole in time.
type stalledError time.Duration

func (e stalledError) Error() string {
	return fmt.Sprintf("the peer began a frame and did not finish it within %v", time.Duration(e))
}

// limit sets the read deadline that a partly received frame has, and takes it away when there is none.
func (r *reader) limit() error {
	if r.partial == 0 {
		if r.limited {
			r.limited = false
			_ = r.l.nc.SetReadDeadline(time.Time{})
		}
		return nil
	}
	timeout := r.l.sh.opts.FrameTimeout
	if policy.Now().Sub(r.partial) >= timeout {
		return stalledError(timeout)
	}
	r.limited = true
	_ = r.l.nc.SetReadDeadline(r.partial.Add(timeout).Clock())
	return nil
}

// readFailed ends the connection after err.
func (l *link) readFailed(err error) {
	var long frameTooLongError
	var stalled stalledError
	switch {
	case errors.As(err, &long), errors.Is(err, errMalformed), errors.Is(err, errFlood):
		l.fail(status.Protocol, err)
	case errors.As(err, &stalled):
		l.sh.readStalls.Add(1)
		l.fail(status.Protocol, err)
	case errors.Is(err, io.EOF):
		l.fail(status.Reset, errPeerClosed)
	case errors.Is(err, io.ErrUnexpectedEOF):
		l.fail(status.Reset, fmt.Errorf("%w in the middle of a frame", errPeerClosed))
	default:
		l.fail(status.Reset, fmt.Errorf("read: %w", err))
	}
}

// ping answers a ping, or reports a flood of them.
func (r *reader) ping(f frame) error {
	if len(f.payload) != 8 {
		return fmt.Errorf("ping of %d bytes: %w", len(f.payload), errMalformed)
	}
	if r.now.Sub(r.pingSecond) >= time.Second {
		r.pings, r.pingSecond = 0, r.now
	}
	if r.pings++; r.pings > r.l.sh.opts.MaxPings {
		r.l.sh.pingFloods.Add(1)
		return fmt.Errorf("more than %d pings in a second: %w", r.l.sh.opts.MaxPings, errFlood)
	}
	r.l.send(typePong, 0, f.payload...)
	return nil
}

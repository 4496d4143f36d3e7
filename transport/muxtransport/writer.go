package muxtransport

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

const (
	// pendingLimit is how much output may wait before those who want to add more have to wait too; deafLimit is how much of it
	// a server lets wait before it reads no more.
	pendingLimit = 512 << 10
	deafLimit    = 128 << 10
	// flushSize is how much a reader that answers calls itself lets gather before it writes.
	flushSize = 32 << 10
	// flushInterval is how long it lets them gather: whoever waits for the first has something to do while the last are being made.
	flushInterval = 30 * time.Microsecond
	// flushRounds is how often one caller writes what others have added before a goroutine goes on for it.
	flushRounds = 4
	keepBuffer  = 768 << 10
)

// writer gathers frames from many goroutines into few writes. Whoever adds a frame while nobody writes becomes the one
// that flushes, and writes what others add meanwhile as well. The link's mutex guards it.
type writer struct {
	buf, spare []byte
	// appended is the position in the outgoing stream of the end of buf, taken how far the kernel has accepted it. The
	// difference decides whether a call can have been sent.
	appended, taken uint64
	flushing        bool     // somebody has the flusher's role
	claimed         uint64   // appended when it was taken
	yield           yielding // whose it is
	writing, direct bool     // a Write is under way; by a caller, not by the goroutine that finishes slow ones
	kicked          bool     // that Write has been told to stop
	writes          uint64
	seenWrites      uint64        // writes at the last look of the watch
	bulks           []*stream     // those that were opened since the latest look
	roomWait        chan struct{} // closed when there is room again; nil = nobody waits
}

// added notes that frames have been appended to buf since it had length before. It reports whether the caller must flush.
func (l *link) added(before int) bool {
	l.appended += uint64(len(l.buf) - before)
	return l.claimFlush()
}

// claimFlush takes the flusher's role if it is free and there is something to write.
func (l *link) claimFlush() bool {
	if l.flushing || len(l.buf) == 0 || l.cause != nil {
		return false
	}
	l.flushing, l.claimed = true, l.appended
	return true
}

// letOthersAdd lets others add their frames before a flush, unless that takes too long here. It returns with mu locked.
func (l *link) letOthersAdd() {
	began := policy.Now()
	if !l.yield.wanted(began) {
		l.mu.Lock()
		return
	}
	runtime.Gosched()
	now := policy.Now()
	l.mu.Lock()
	l.collect()
	l.yield.took(now, now.Sub(began), l.appended-l.claimed)
}

// flush writes all that is waiting. The caller has claimed the role. With yield it lets others add their frames first:
// one write for many frames is what makes the protocol fast.
func (l *link) flush(yield bool) {
	if !l.kickable {
		go l.finishWrites(nil)
		return
	}
	if yield {
		l.letOthersAdd()
	} else {
		l.mu.Lock()
	}
	for round := 0; ; round++ {
		l.collect()
		if len(l.buf) == 0 || l.cause != nil {
			l.endFlush()
			return
		}
		if round == flushRounds {
			l.mu.Unlock()
			go l.finishWrites(nil)
			return
		}
		out := l.take()
		l.direct = true
		l.mu.Unlock()
		if !l.entry.hot.Load() {
			l.sh.watch.add(&l.entry)
		}
		n, err := l.nc.Write(out)
		l.mu.Lock()
		l.direct = false
		kicked := l.kicked
		if kicked {
			l.kicked = false
			_ = l.nc.SetWriteDeadline(time.Time{})
		}
		if !l.wrote(out, n, err, kicked) {
			return
		}
		if n < len(out) {
			l.mu.Unlock()
			l.sh.handedOver.Add(1)
			go l.finishWrites(out[n:])
			return
		}
	}
}

// take swaps the buffers and begins a write.
func (l *link) take() []byte {
	out := l.buf
	l.buf, l.spare = l.spare[:0], nil
	l.writing = true
	l.writes++
	return out
}

// wrote notes the end of a write. It reports, with mu held, whether the flusher may go on; if not, mu is released.
func (l *link) wrote(out []byte, n int, err error, mayTimeOut bool) bool {
	l.taken += uint64(n)
	l.writing = false
	if l.cause != nil { // ended meanwhile; the other side of it left the rest to us
		l.mu.Unlock()
		l.end()
		return false
	}
	if err != nil && (!mayTimeOut || !errors.Is(err, os.ErrDeadlineExceeded)) {
		l.mu.Unlock()
		l.fail(status.Reset, fmt.Errorf("write: %w", err))
		return false
	}
	if n == len(out) && cap(out) <= keepBuffer {
		l.spare = out[:0]
	}
	if len(l.buf) <= pendingLimit/2 {
		l.wakeRoom()
	}
	return true
}

// endFlush gives the role back and releases mu.
func (l *link) endFlush() {
	l.flushing = false
	l.mu.Unlock()
}

// finishWrites is the flusher as a goroutine of its own: it writes rest, which a write did not get rid of, and all that
// comes after, and ends the connection if the peer takes nothing for the write timeout.
func (l *link) finishWrites(rest []byte) {
	timeout := l.sh.opts.WriteTimeout
	for {
		l.mu.Lock()
		if l.cause != nil {
			l.endFlush()
			return
		}
		if len(rest) == 0 {
			l.collect()
			if len(l.buf) == 0 {
				_ = l.nc.SetWriteDeadline(time.Time{})
				l.endFlush()
				return
			}
			rest = l.take()
		} else {
			l.writing = true
		}
		l.mu.Unlock()
		began := policy.Now()
		_ = l.nc.SetWriteDeadline(time.Now().Add(timeout))
		n, err := l.nc.Write(rest)
		stalled := n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && policy.Now().Sub(began) >= timeout
		l.mu.Lock()
		if !l.wrote(rest, n, err, true) {
			return
		}
		l.mu.Unlock()
		if stalled {
			l.sh.writeStalls.Add(1)
			l.fail(status.Reset, fmt.Errorf("the peer took nothing for %v", timeout))
			return
		}
		rest = rest[n:]
	}
}

// roomFull reports whether output has to wait. mu is held.
func (l *link) roomFull() bool { return l.waiting(pendingLimit) }

// waiting reports whether at least limit of output waits. mu is held.
func (l *link) waiting(limit int) bool { return len(l.buf) >= limit && l.cause == nil }

// roomChan returns what is closed when there is room again. mu is held.
func (l *link) roomChan() <-chan struct{} {
	if l.roomWait == nil {
		l.roomWait = make(chan struct{})
	}
	return l.roomWait
}

func (l *link) wakeRoom() {
	if l.roomWait != nil {
		close(l.roomWait)
		l.roomWait = nil
	}
}

// send appends one small frame that nobody waits for, and flushes it.
func (l *link) send(typ byte, id uint32, payload ...byte) {
	l.mu.Lock()
	before := len(l.buf)
	l.buf = appendFrame(l.buf, typ, id, payload...)
	mine := l.added(before)
	l.mu.Unlock()
	if mine {
		l.flush(false)
	}
}

// flushPending writes what has been appended without being flushed.
func (l *link) flushPending() {
	l.mu.Lock()
	mine := l.claimFlush()
	l.mu.Unlock()
	if mine {
		l.flush(false)
	}
}

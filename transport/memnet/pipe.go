package memnet

import (
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// pipe is one direction of a connection. Offsets count bytes since its beginning:
// acked ≤ rd ≤ avail ≤ sched ≤ wr. Bytes up to avail have arrived, those up to sched are on the way with a known time,
// the rest is held back by a drop.
//
// Lock order: Network.mu, then connection.mu.
type pipe struct {
	size int   // bytes that writer and reader may be apart
	back *pipe // the other direction

	mu   *sync.Mutex // the connection's: everything below, in both directions
	r, w side
	ring []byte // length is a power of two; byte i is at (i − base) & (len − 1)
	base int64

	acked, rd, avail, sched, wr int64
	marks                       []mark // arrivals to come, in order

	end      ending // how the writer ended
	endSched bool   // the end is on its way
	ended    ending // the end that has arrived at the reader

	shape   shape
	ackLost bool // the other direction drops
	rnd     *rand.Rand
	line    time.Time // when the rate lets the next byte go
	last    time.Time // latest arrival given out

	writing  bool      // a Write is under way; others wait
	werr     error     // why writing fails for good; nil = it does not
	werrAt   time.Time // when the writer learns of werr
	cutAt    int64     // −1 = off
	cutShort bool
}

// mark says that bytes up to off arrive at a time, and with them the end.
type mark struct {
	off int64
	at  time.Time
	end bool
}

// ending is how a direction ends.
type ending uint8

const (
	open ending = iota
	finished
	aborted
)

// side is what Read and Write have in common: each is the one end's call on the pipe.
type side struct {
	cond     sync.Cond
	deadline time.Time
	timer    *time.Timer
	waiting  int
	frozen   bool
	closed   bool
}

// late reports whether the deadline has passed.
func (s *side) late() bool { return !s.deadline.IsZero() && !time.Now().Before(s.deadline) }

// wait waits for a change, the deadline or next (zero = never), whichever comes first. A frozen or closed side sees no times.
func (s *side) wait(next time.Time) {
	if at := s.deadline; !s.frozen {
		if at.IsZero() || (!next.IsZero() && next.Before(at)) {
			at = next
		}
		if !at.IsZero() {
			d := time.Until(at)
			if s.timer == nil {
				s.timer = time.AfterFunc(d, func() {
					s.cond.L.Lock()
					s.cond.Broadcast()
					s.cond.L.Unlock()
				})
			} else {
				s.timer.Reset(d)
			}
		}
	}
	s.waiting++
	s.cond.Wait()
	if s.waiting--; s.waiting == 0 && s.timer != nil {
		s.timer.Stop()
	}
}

// setDeadline sets the deadline and wakes those that wait for the old one.
func (p *pipe) setDeadline(s *side, t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.deadline = t
	s.cond.Broadcast()
	return nil
}

// read waits for data and copies it into b.
func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if p.r.closed {
			return 0, net.ErrClosed
		}
		if !p.r.frozen {
			switch p.arrive(); {
			case p.r.late():
				return 0, os.ErrDeadlineExceeded
			case len(b) == 0:
				return 0, nil
			case p.rd < p.avail:
				return p.take(b), nil
			case p.ended == finished:
				return 0, io.EOF
			case p.ended == aborted:
				return 0, os.NewSyscallError("read", syscall.ECONNRESET)
			}
		}
		var next time.Time
		if len(p.marks) > 0 {
			next = p.marks[0].at
		}
		p.r.wait(next)
	}
}

// arrive moves what is due to the reader.
func (p *pipe) arrive() {
	if len(p.marks) == 0 {
		return
	}
	now, i := time.Now(), 0
	for ; i < len(p.marks) && !p.marks[i].at.After(now); i++ {
		p.avail = p.marks[i].off
		if p.marks[i].end {
			p.ended = p.end
		}
	}
	if i > 0 {
		p.marks = p.marks[:copy(p.marks, p.marks[i:])]
	}
}

// take copies arrived bytes into b and gives their room back to the writer.
func (p *pipe) take(b []byte) int {
	n := p.peek(b, p.avail)
	p.rd += int64(n)
	if !p.ackLost {
		p.acked = p.rd
		p.w.cond.Broadcast()
	}
	return n
}

// peek copies bytes from rd up to limit into b.
func (p *pipe) peek(b []byte, limit int64) int {
	b = b[:min(int64(len(b)), limit-p.rd)]
	if len(b) == 0 {
		return 0
	}
	n := copy(b, p.ring[(p.rd-p.base)&int64(len(p.ring)-1):])
	return n + copy(b[n:], p.ring)
}

// write puts b into the pipe, waiting for room. Writes do not mix.
func (p *pipe) write(b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	mine := false
	defer func() {
		if mine {
			p.writing = false
			p.w.cond.Broadcast()
		}
	}()
	for {
		if p.w.closed {
			return n, net.ErrClosed
		}
		if !p.w.frozen {
			switch {
			case mine && n == len(b):
				return n, nil
			case p.w.late():
				return n, os.ErrDeadlineExceeded
			case p.werr != nil && !time.Now().Before(p.werrAt):
				return n, os.NewSyscallError("write", p.werr)
			}
			if !mine && !p.writing {
				mine, p.writing = true, true
				continue
			}
			if room := int64(p.size) - (p.wr - p.acked); mine && room > 0 {
				m := min(room, int64(len(b)-n))
				if left := p.cutAt - p.wr; p.cutAt >= 0 && left <= m {
					p.put(b[n : n+int(left)])
					n += int(left)
					if !p.cutShort {
						n = len(b)
					}
					p.cut()
					continue
				}
				p.put(b[n : n+int(m)])
				n += int(m)
				p.schedule()
				continue
			}
		}
		p.w.wait(p.werrAt)
	}
}

// put appends to the ring, which grows up to the pipe's size. What nobody will read is not kept.
func (p *pipe) put(b []byte) {
	if p.r.closed {
		p.wr += int64(len(b))
		return
	}
	if need := p.wr - p.rd + int64(len(b)); need > int64(len(p.ring)) {
		size := max(512, int64(len(p.ring)))
		for size < need {
			size *= 2
		}
		ring := make([]byte, size)
		p.peek(ring, p.wr)
		p.ring, p.base = ring, p.rd
	}
	n := copy(p.ring[(p.wr-p.base)&int64(len(p.ring)-1):], b)
	copy(p.ring, b[n:])
	p.wr += int64(len(b))
}

// piece is how many bytes of a write arrive at once when the rate is bounded.
const piece = 4 << 10

// schedule sends what has been written, and the end, on its way, and wakes the reader.
func (p *pipe) schedule() {
	end := p.end != open && !p.endSched
	if p.shape.drop || (p.sched == p.wr && !end) {
		return
	}
	if p.r.closed || p.ended == aborted {
		// The receiving system knows no such connection any more and answers with a reset.
		if p.sched < p.wr {
			p.failWriter(p.shape.delay+p.back.shape.delay, syscall.EPIPE)
		}
		p.wr, p.endSched = p.sched, p.endSched || end
		p.w.cond.Broadcast()
		return
	}
	p.endSched = p.endSched || end
	if s := p.shape; s.delay == 0 && s.jitter == 0 && s.rate == 0 && len(p.marks) == 0 {
		p.sched, p.avail = p.wr, p.wr
		if end {
			p.ended = p.end
		}
	} else {
		p.mark(end)
	}
	p.r.cond.Broadcast()
	if end && p.end == aborted {
		// Whoever is told of the reset cannot write either.
		p.back.failWriter(time.Until(p.last), syscall.ECONNRESET)
	}
}

// mark gives arrival times to what has been written.
func (p *pipe) mark(end bool) {
	s, now := p.shape, time.Now()
	for done := false; !done; {
		m := p.wr - p.sched
		if p.line.Before(now) {
			p.line = now
		}
		if s.rate > 0 {
			m = min(m, piece)
			p.line = p.line.Add(time.Duration(m) * time.Second / time.Duration(s.rate))
		}
		p.sched += m
		at := p.line.Add(s.delay + draw(p.rnd, s.jitter))
		if at.Before(p.last) {
			at = p.last
		}
		p.last = at
		done = p.sched == p.wr
		p.marks = append(p.marks, mark{p.sched, at, end && done})
	}
}

// failWriter makes writing fail with err after d.
func (p *pipe) failWriter(d time.Duration, err error) {
	if at := time.Now().Add(d); p.werr == nil || at.Before(p.werrAt) {
		p.werr, p.werrAt = err, at
		p.w.cond.Broadcast()
	}
}

// finish ends the direction behind what was written.
func (p *pipe) finish(e ending) {
	if p.end == open {
		p.end = e
		p.schedule()
	}
}

// abort ends the direction for its reader at once. What has arrived stays readable, what is under way is lost.
func (p *pipe) abort() {
	p.arrive()
	if p.ended == open {
		p.wr, p.sched, p.marks = p.avail, p.avail, nil
		p.end, p.endSched, p.ended = aborted, true, aborted
		p.r.cond.Broadcast()
	}
}

// reset ends the direction at once for both, and loses all that was not read.
func (p *pipe) reset() {
	p.abort()
	p.wr, p.sched, p.avail = p.rd, p.rd, p.rd
	p.failWriter(0, syscall.ECONNRESET)
}

// closeReader is the reader's part of closing. It reports whether bytes were left that the reader will never see.
func (p *pipe) closeReader() (unread bool) {
	unread = p.sched > p.rd
	p.rd, p.avail = p.sched, p.sched
	if !p.ackLost {
		p.acked = p.rd
	}
	p.marks, p.ring, p.base = nil, nil, 0
	p.r.closed = true
	p.r.cond.Broadcast()
	p.w.cond.Broadcast()
	return unread
}

// closeWriter is the writer's part of closing.
func (p *pipe) closeWriter(e ending) {
	p.w.closed = true
	p.finish(e)
	p.w.cond.Broadcast()
}

// cut resets the connection behind what was written: the writer learns of it now, the reader when that has arrived.
func (p *pipe) cut() {
	p.cutAt = -1
	p.failWriter(0, syscall.ECONNRESET)
	p.finish(aborted)
	p.back.abort()
}

// setCut plants a cut n bytes from here; a negative n takes it away.
func (p *pipe) setCut(n int64, short bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutAt, p.cutShort = -1, short
	if n >= 0 {
		p.cutAt = p.wr + n
	}
}

// reshape sets how data travels from now on.
func (p *pipe) reshape(s shape, ackLost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shape, p.ackLost = s, ackLost
	if !ackLost && p.acked < p.rd {
		p.acked = p.rd
		p.w.cond.Broadcast()
	}
	p.schedule()
}

package muxtransport

import (
	"encoding/binary"
	"sync/atomic"
)

// bulk is where a stream's Send puts small messages while somebody is about to write anyway: the link's mutex, which the reader, the
// flusher and other streams want too, costs it more than all the rest of a message, mostly by having it wait until the processor has what
// was written before. The flusher moves all that there is to the other frames, and closes it. The first messages of each write go there
// themselves, so that a stream that sends now and then has no bulk.
type bulk struct {
	// ready is what has been put in: the bytes, and from messageShift on the messages. It is closedBulk while nothing may be.
	// Only Send adds, by exchanging it for what it was, and only with mu held is it opened and closed.
	ready  atomic.Int64
	buf    []byte // Send's own, but for what is ready; nil until there is a first
	room   int64  // what of the windows it may use; not changed while it is open
	listed bool   // it is among the link's, open or not; mu guards it
	turn   uint64 // the writer's write of the latest message that was not put in; Send's own
	alone  int    // how many of those in a row were the first of their write; Send's own
}

const (
	closedBulk   = -1
	messageShift = 32
	// bulkSize is how many bytes it takes before mu is asked again.
	bulkSize = 4 << 10
	// maxBulked is how large a message may be that is put in: with larger ones there is little to gain.
	maxBulked = bulkSize / 4
	// rarelyBulk is after how many messages in a row that had a write each the memory is let go.
	rarelyBulk = 32
)

// bulkCost is what of the windows is used by what ready says.
func bulkCost(ready int64) int64 {
	return ready&(1<<messageShift-1) + ready>>messageShift*(frameCost-headerLen)
}

// add puts in a message, if it is open and has room.
func (b *bulk) add(id uint32, typ byte, msg []byte) bool {
	old := b.ready.Load()
	if old == closedBulk || len(msg) > maxBulked {
		return false
	}
	size := headerLen + len(msg)
	next := old + int64(size) + 1<<messageShift
	start := int(old & (1<<messageShift - 1))
	if start+size > len(b.buf) || bulkCost(next) > b.room {
		return false
	}
	to := b.buf[start : start+size]
	binary.LittleEndian.PutUint64(to, uint64(len(msg))|uint64(typ)<<24|uint64(id)<<32)
	copy(to[headerLen:], msg)
	return b.ready.CompareAndSwap(old, next)
}

// openBulk lets Send, which calls it after a message that was not put in, go on without mu if it has sent another one since the latest
// write. mu is held.
func (s *stream) openBulk() {
	l, b := s.l, &s.bulk
	if b.turn != l.writes {
		b.turn = l.writes
		if b.alone++; b.alone == rarelyBulk {
			b.buf = nil
		}
		return
	}
	b.alone = 0
	room := min(s.sendLeft, l.sendLeft/4, 2*bulkSize)
	if room < bulkSize/2 {
		return
	}
	if b.buf == nil {
		b.buf = make([]byte, bulkSize)
	}
	b.room = room
	s.sendLeft -= room
	l.sendLeft -= room
	if !b.listed {
		b.listed = true
		l.bulks = append(l.bulks, s)
	}
	b.ready.Store(0)
}

// closeBulk moves what Send has put in to the other frames, or drops it. mu is held.
func (s *stream) closeBulk(drop bool) {
	l, b := s.l, &s.bulk
	if b.ready.Load() == closedBulk {
		return
	}
	ready := b.ready.Swap(closedBulk)
	rest := b.room
	if !drop {
		rest -= bulkCost(ready)
		frames := b.buf[:ready&(1<<messageShift-1)]
		l.buf = append(l.buf, frames...)
		l.appended += uint64(len(frames))
	}
	s.sendLeft += rest
	if l.sendLeft += rest; rest > 0 {
		l.wakeWindow()
	}
}

// collect closes the bulks of all streams. mu is held.
func (l *link) collect() {
	for i, s := range l.bulks {
		s.closeBulk(false)
		s.bulk.listed = false
		l.bulks[i] = nil
	}
	l.bulks = l.bulks[:0]
}

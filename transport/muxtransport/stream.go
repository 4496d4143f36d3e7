package muxtransport

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/internal/callctx"
	"github.com/hull-go/hull/status"
)

// stream is what both ends of a stream have in common. The link's mutex guards what is not said to belong to one
// goroutine.
type stream struct {
	l      *link
	id     uint32
	server bool        // this end is the server's
	pack   compression // how messages are compressed
	ctx    *callctx.Context
	codec  codec.Codec // chosen before the first message
	limit  int         // of a received message

	// Receiving.
	batch     batch  // Recv's own
	plain     []byte // what Recv decompresses into
	in        inbox  // what nobody has taken yet
	taken     int64  // what of batch the windows still count
	spare     *page  // a page of the stream's own that is not in use
	recv      window
	pace      pace
	gathering bool
	part      message // arriving
	partTotal int
	end       error         // what Recv fails with when there is nothing left
	aborted   *status.Error // what everything fails with at once
	dead      atomic.Bool   // aborted is set
	waiting   bool          // Recv waits for wake, which has room for one token: only one goroutine receives
	wake      chan struct{}

	// Who sends and who receives are often on two processors, which would take this line of their caches from each other.
	_ [64]byte

	// Sending.
	out      []byte // Send's own
	packed   []byte // what Send compresses into
	bulk     bulk
	sendLeft int64
	sendEnd  *status.Error // why no more can be sent
	sendWake chan struct{}
}

// minChunk is the least of a large message that is worth a frame; with less window than that Send waits.
const minChunk = 4 << 10

func (s *stream) init(l *link, id uint32, ctx *callctx.Context) {
	s.l, s.id, s.ctx = l, id, ctx
	s.limit = l.sh.opts.MaxMessage
	s.recv = window{size: int64(l.sh.opts.StreamWindow), left: int64(l.sh.opts.StreamWindow)}
	s.sendLeft = int64(l.peer.streamWindow)
	s.bulk.ready.Store(closedBulk)
	s.wake = make(chan struct{}, 1)
	s.sendWake = make(chan struct{}, 1)
}

// Context implements transport.Stream.
func (s *stream) Context() context.Context { return s.ctx }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// grow takes in that the peer takes n more bytes of the stream. mu is held.
func (s *stream) grow(n int64) error {
	if s.sendLeft += n; s.sendLeft > maxWindow {
		return fmt.Errorf("stream %#x: a window of %d bytes: %w", s.id, s.sendLeft, errMalformed)
	}
	poke(s.sendWake)
	return nil
}

// finish says that nothing more arrives: after what is queued Recv fails with end. mu is held.
func (s *stream) finish(end error) {
	if s.end == nil {
		s.end = end
		s.resize(int64(s.l.sh.opts.StreamWindow) - s.recv.size) // nothing is granted any more
	}
	s.rouse()
}

// rouse has Recv look again. mu is held.
func (s *stream) rouse() {
	if s.waiting {
		s.waiting = false
		poke(s.wake)
	}
}

// stopSending makes Send fail. mu is held.
func (s *stream) stopSending(e *status.Error) {
	if s.sendEnd == nil {
		s.sendEnd = e
	}
	s.closeBulk(true)
	poke(s.sendWake)
}

// Send implements transport.Stream.
func (s *stream) Send(v any) *status.Error {
	if s.codec == nil {
		return &status.Error{Code: status.Internal, Message: "choose a codec with SetCodec before the first message"}
	}
	var err error
	if s.out, err = s.codec.Append(s.out[:0], v); err != nil {
		return &status.Error{Code: status.Internal, Message: "the message does not encode", Cause: err}
	}
	if uint64(len(s.out)) > s.l.peer.maxMessage {
		s.l.sh.tooLarge.Add(1)
		return &status.Error{Code: status.ResourceExhausted, Kind: status.TooLarge,
			Message: fmt.Sprintf("message of %d bytes is over the peer's limit of %d", len(s.out), s.l.peer.maxMessage)}
	}
	msg, packed := s.out, false
	if s.pack != packNone {
		if s.packed, packed = s.l.sh.tryPack(s.packed, s.out, s.pack); packed {
			msg = s.packed
		}
	}
	e := s.sendMessage(msg, packed)
	if cap(s.out) > keepScratch {
		s.out = nil
	}
	if cap(s.packed) > keepScratch {
		s.packed = nil
	}
	return e
}

// sendMessage sends msg, which may be compressed, in as many frames as the windows and the frame size ask for.
func (s *stream) sendMessage(msg []byte, packed bool) *status.Error {
	l := s.l
	typ := byte(typeData)
	if packed {
		typ |= flagPacked
	}
	if s.bulk.add(s.id, typ, msg) {
		return nil
	}
	l.mu.Lock()
	s.closeBulk(false) // before what comes now
	for rest, first := msg, true; first || len(rest) > 0; first = false {
		n, e := s.awaitWindow(len(rest))
		if e != nil {
			l.mu.Unlock()
			return e
		}
		before := len(l.buf)
		b := append(l.buf, 0, 0, 0, 0, 0, 0, 0, 0)
		if n < len(rest) {
			typ |= flagMore
			if first {
				b = binary.AppendUvarint(b, uint64(len(msg)))
			}
		}
		b = append(b, rest[:n]...)
		rest = rest[n:]
		size := len(b) - before - headerLen
		putHeader(b[before:], size, typ, s.id)
		typ = typeData
		l.buf = b
		s.sendLeft -= int64(size) + frameCost
		l.sendLeft -= int64(size) + frameCost
		if l.added(before) {
			// One goroutine that sends message after message is not to write each of them itself: it goes on, and what it and
			// the streams beside it add until the flusher has its turn goes out together.
			go l.flush(true)
		}
	}
	s.openBulk()
	l.mu.Unlock()
	return nil
}

// awaitWindow waits until a frame of a message of which rest bytes are left may be sent, and returns how many of them. mu
// is held before and after.
func (s *stream) awaitWindow(rest int) (int, *status.Error) {
	l := s.l
	for {
		if s.sendEnd != nil {
			return 0, s.sendEnd
		}
		left := int(min(s.sendLeft, l.sendLeft)) - frameCost - binary.MaxVarintLen32
		n := min(rest, partSize)
		if left < n && left >= minChunk {
			n = left
		}
		full := l.roomFull()
		if left >= n && !full {
			return n, nil
		}
		room, window, done := l.roomChan(), l.windowChan(), l.doneChan()
		if !full {
			room = nil
		}
		l.mu.Unlock()
		select {
		case <-s.sendWake:
		case <-window:
		case <-room:
		case <-done:
		}
		l.mu.Lock()
		if l.cause != nil && s.sendEnd == nil {
			return 0, &status.Error{Code: status.Unavailable, Kind: status.Reset, Message: "connection lost", Cause: l.cause.err}
		}
	}
}

package muxtransport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/internal/callctx"
	"github.com/hull-go/hull/status"
)

// stream is what both ends of a stream have in common. The link's mutex guards what is not said to belong to one
// goroutine.
type stream struct {
	l     *link
	id    uint32
	ctx   *callctx.Context
	codec codec.Codec // chosen before the first message
	limit int         // of a received message
	out   []byte      // Send's own
	pack  compression // how messages are compressed
	// packed is what Send compresses into, plain what Recv decompresses into.
	packed, plain []byte

	// Receiving. wake has room for one token: only one goroutine receives.
	queue     []message // from head on
	head      int
	spare     [][]byte // buffers to use again
	recv      window
	gathering bool
	part      message // arriving
	partTotal int
	end       error         // what Recv fails with when the queue is empty
	aborted   *status.Error // what everything fails with at once
	wake      chan struct{}

	// Sending.
	sendLeft int64
	sendEnd  *status.Error // why no more can be sent
	sendWake chan struct{}
}

// message is a received message and what it takes from the windows.
type message struct {
	b      []byte
	cost   int64
	packed bool // b is compressed
}

const (
	maxSpares = 64
	// minChunk is the least of a large message that is worth a frame; with less window than that Send waits.
	minChunk = 4 << 10
)

func (s *stream) init(l *link, id uint32, ctx *callctx.Context) {
	s.l, s.id, s.ctx = l, id, ctx
	s.limit = l.sh.opts.MaxMessage
	s.recv = window{size: int64(l.sh.opts.StreamWindow), left: int64(l.sh.opts.StreamWindow)}
	s.sendLeft = int64(l.peer.streamWindow)
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
	}
	poke(s.wake)
}

// stopSending makes Send fail. mu is held.
func (s *stream) stopSending(e *status.Error) {
	if s.sendEnd == nil {
		s.sendEnd = e
	}
	poke(s.sendWake)
}

// abort ends the stream in both directions at once and forgets what is queued. mu is held.
func (s *stream) abort(e *status.Error) {
	if s.aborted == nil {
		s.aborted = e
	}
	s.drop()
	s.stopSending(e)
	s.finish(e)
}

// drop forgets what has been received. mu is held.
func (s *stream) drop() {
	cost := s.part.cost
	for _, m := range s.queue[s.head:] {
		cost += m.cost
	}
	if s.gathering {
		s.l.gathered -= len(s.part.b)
	}
	s.queue, s.head, s.part, s.spare, s.gathering = nil, 0, message{}, nil, false
	s.l.giveConn(cost)
}

// use returns cost to the windows. mu is held.
func (s *stream) use(cost int64) {
	s.recv.credit += cost
	if s.end == nil {
		s.l.appendWindow(s.id, s.recv.tell())
	}
	s.l.giveConn(cost)
}

// arrive takes in DATA. mu is held. A message over the limit is a *status.Error and ends the stream only.
func (s *stream) arrive(f frame) error {
	cost := int64(len(f.payload)) + frameCost
	if !s.recv.take(cost) {
		return fmt.Errorf("stream %#x: %w", s.id, errWindow)
	}
	if err := s.l.takeConn(cost); err != nil {
		return err
	}
	if s.end != nil {
		s.l.giveConn(cost)
		if errors.Is(s.end, io.EOF) {
			return fmt.Errorf("stream %#x: message after the last one: %w", s.id, errMalformed)
		}
		return nil
	}
	content := f.payload
	if s.gathering && f.packed {
		return fmt.Errorf("stream %#x: a part that says it is compressed: %w", s.id, errMalformed)
	}
	if !s.gathering {
		s.part = message{b: s.buffer(), packed: f.packed}
		s.partTotal = len(content)
		if f.more {
			cur := cursor{b: content}
			total := cur.uvarint()
			if cur.bad || total > 1<<40 {
				return fmt.Errorf("stream %#x: %w", s.id, errMalformed)
			}
			content, s.partTotal = cur.b, int(total)
		}
	}
	s.part.cost += cost
	if s.partTotal > s.limit {
		s.l.sh.tooLarge.Add(1)
		return &status.Error{Code: status.ResourceExhausted, Kind: status.TooLarge, Fate: status.Processed,
			Message: fmt.Sprintf("message of %d bytes is over the limit of %d", s.partTotal, s.limit)}
	}
	if f.packed {
		size, err := packedSize(content)
		if err != nil {
			return fmt.Errorf("stream %#x: %w", s.id, err)
		}
		if size > s.limit {
			return s.l.sh.bombed("message", size, s.limit)
		}
	}
	s.part.b = append(s.part.b, content...)
	if len(s.part.b) > s.partTotal || !f.more && len(s.part.b) < s.partTotal {
		return fmt.Errorf("stream %#x: parts that do not fit the message's size: %w", s.id, errMalformed)
	}
	if s.gathering {
		s.l.gathered += len(content)
	} else if f.more {
		s.l.gathered += len(s.part.b)
	}
	if f.more {
		s.gathering = true
		if s.l.gathered > s.l.sh.opts.MaxBuffered {
			s.l.sh.shed.Add(1)
			return &status.Error{Code: status.ResourceExhausted, Kind: status.Shed, Fate: status.Processed,
				Message: "the connection has too many large messages under way"}
		}
		s.passPart()
		return nil
	}
	if s.gathering {
		s.gathering = false
		s.l.gathered -= len(s.part.b)
	}
	if s.head > 0 && len(s.queue) == cap(s.queue) { // use the places of what has been taken
		n := copy(s.queue, s.queue[s.head:])
		clear(s.queue[n:])
		s.queue, s.head = s.queue[:n], 0
	}
	s.queue = append(s.queue, s.part)
	s.part = message{}
	poke(s.wake)
	return nil
}

// passPart lets a message that may be larger than the window go on arriving: when nothing is queued before it, what is
// there of it gives its cost back early. mu is held.
func (s *stream) passPart() {
	if s.gathering && s.head == len(s.queue) && s.part.cost > 0 {
		s.use(s.part.cost)
		s.part.cost = 0
	}
}

func (s *stream) buffer() []byte {
	n := len(s.spare)
	if n == 0 {
		return nil
	}
	b := s.spare[n-1]
	s.spare = s.spare[:n-1]
	return b
}

// Recv implements transport.Stream.
func (s *stream) Recv(v any) error {
	if s.codec == nil {
		return &status.Error{Code: status.Internal, Message: "choose a codec with SetCodec before the first message"}
	}
	l := s.l
	l.mu.Lock()
	for s.head == len(s.queue) && s.end == nil {
		l.mu.Unlock()
		<-s.wake
		l.mu.Lock()
	}
	if s.aborted != nil || s.head == len(s.queue) {
		err := s.end
		if s.aborted != nil {
			err = s.aborted
		}
		poke(s.wake) // for the next Recv
		l.mu.Unlock()
		return err
	}
	m := s.queue[s.head]
	s.queue[s.head] = message{}
	if s.head++; s.head == len(s.queue) {
		s.queue, s.head = s.queue[:0], 0
	}
	s.use(m.cost)
	s.passPart()
	mine := l.claimFlush()
	l.mu.Unlock()
	if mine {
		l.flush(false)
	}
	err := s.decode(m, v)
	if cap(m.b) > 0 && cap(m.b) <= keepScratch {
		l.mu.Lock()
		if len(s.spare) < maxSpares && s.end == nil {
			s.spare = append(s.spare, m.b[:0])
		}
		l.mu.Unlock()
	}
	if err != nil {
		return err
	}
	return nil
}

// decode turns m into v.
func (s *stream) decode(m message, v any) *status.Error {
	b := m.b
	if m.packed {
		var err error
		if s.plain, err = s.l.sh.unpack(s.plain, b); err != nil {
			return s.l.sh.unpackError("the message", err)
		}
		b = s.plain
		if cap(s.plain) > keepScratch {
			s.plain = nil
		}
	}
	if err := s.codec.Unmarshal(b, v); err != nil {
		return &status.Error{Code: status.Internal, Fate: status.Processed, Message: "the message does not decode", Cause: err}
	}
	return nil
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
	l.mu.Lock()
	for rest, first := msg, true; first || len(rest) > 0; first = false {
		n, e := s.awaitWindow(len(rest))
		if e != nil {
			l.mu.Unlock()
			return e
		}
		before := len(l.buf)
		b := append(l.buf, 0, 0, 0, 0, 0, 0, 0, 0)
		typ := byte(typeData)
		if first && packed {
			typ |= flagPacked
		}
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
		l.buf = b
		s.sendLeft -= int64(size) + frameCost
		l.sendLeft -= int64(size) + frameCost
		if l.added(before) {
			// One goroutine that sends message after message is not to write each of them itself: it goes on, and what it and
			// the streams beside it add until the flusher has its turn goes out together.
			go l.flush(true)
		}
	}
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

package muxtransport

import (
	"errors"
	"fmt"
	"io"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/status"
)

// abort ends the stream in both directions at once and forgets what is queued. mu is held.
func (s *stream) abort(e *status.Error) {
	if s.aborted == nil {
		s.aborted = e
		s.dead.Store(true)
	}
	s.drop()
	s.stopSending(e)
	s.finish(e)
}

// drop forgets what has been received. mu is held. What Recv has taken already it forgets itself.
func (s *stream) drop() {
	cost := s.part.cost + s.in.cost + s.taken
	if s.gathering {
		s.l.gathered -= len(s.part.b)
	}
	s.in.recycle(s.l.sh)
	s.in, s.part, s.spare, s.gathering, s.taken = inbox{}, message{}, nil, false, 0
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

// dataRun is how many DATA frames that have been read in one go are taken in while the lock is held.
const dataRun = 256

// takeRuns takes in f, a DATA, and those after it that r has read. mu is held.
func (l *link) takeRuns(r *reader, f frame) error {
	err := l.owner.takeData(f)
	for most := dataRun - 1; most > 0 && err == nil; {
		id, ok := r.dataNext()
		if !ok {
			break
		}
		if s := l.owner.receiver(id); s != nil {
			var n int
			if n, err = l.takeRun(s, r, most); n > 0 || err != nil {
				most -= n
				continue
			}
		}
		next, ok := r.moreData()
		if !ok {
			break
		}
		err = l.owner.takeData(next)
		most--
	}
	return err
}

// takeRun takes in the small messages of s that have been read and are next, and returns how many. mu is held.
func (l *link) takeRun(s *stream, r *reader, most int) (int, error) {
	n, size, err := s.arriveRun(r.buf[r.r:r.w], most)
	r.r += size
	r.handed += n
	return n, err
}

// stray accounts for DATA of a stream that has ended. mu is held.
func (l *link) stray(f frame) error {
	cost := int64(len(f.payload)) + frameCost
	if err := l.takeConn(cost); err != nil {
		return err
	}
	l.giveConn(cost)
	return nil
}

// arrive takes in DATA. mu is held. A message over the limit is a *status.Error and ends the stream only. Whoever waits for what came
// is woken by wakeReceivers.
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
	if s.gathering || f.more {
		return s.arrivePart(f, cost)
	}
	s.part.cost = cost // for abort
	if err := s.fits(len(f.payload), f.payload, f.packed); err != nil {
		return err
	}
	s.part.cost = 0
	if len(f.payload) <= maxInline {
		s.putOne(f, cost)
	} else {
		b := append(s.l.sh.room(nil, len(f.payload)), f.payload...)
		s.putApart(message{b: b, cost: cost, packed: f.packed})
	}
	s.arrived()
	return nil
}

// arriveRun takes in the small messages of the stream that what has been read begins with. mu is held. It returns how many there were,
// and how many bytes of what has been read they are; none are taken where arrive has to look closer.
func (s *stream) arriveRun(read []byte, most int) (messages, size int, err error) {
	if s.gathering || s.end != nil {
		return 0, 0, nil //nolint:nilerr // arrive looks at it
	}
	messages, size, cost := s.put(read, most)
	if messages == 0 {
		return 0, 0, nil
	}
	if !s.recv.take(cost) {
		return 0, 0, fmt.Errorf("stream %#x: %w", s.id, errWindow)
	}
	s.arrived()
	return messages, size, s.l.takeConn(cost)
}

// fits refuses a message of total bytes that is too large, or will be when it is decompressed; b is its beginning.
func (s *stream) fits(total int, b []byte, packed bool) error {
	if total > s.limit {
		s.l.sh.tooLarge.Add(1)
		return &status.Error{Code: status.ResourceExhausted, Kind: status.TooLarge, Fate: status.Processed,
			Message: fmt.Sprintf("message of %d bytes is over the limit of %d", total, s.limit)}
	}
	if packed {
		size, err := packedSize(b)
		if err != nil {
			return fmt.Errorf("stream %#x: %w", s.id, err)
		}
		if size > s.limit {
			return s.l.sh.bombed("message", size, s.limit)
		}
	}
	return nil
}

// arrivePart takes in DATA with a part of a message. mu is held.
func (s *stream) arrivePart(f frame, cost int64) error {
	content := f.payload
	if s.gathering && f.packed {
		return fmt.Errorf("stream %#x: a part that says it is compressed: %w", s.id, errMalformed)
	}
	if !s.gathering {
		cur := cursor{in: content}
		total := cur.uvarint()
		if cur.bad || total > 1<<40 {
			return fmt.Errorf("stream %#x: %w", s.id, errMalformed)
		}
		content = cur.rest()
		s.part = message{packed: f.packed, cost: cost}
		s.partTotal = int(total)
		if err := s.fits(s.partTotal, content, f.packed); err != nil {
			return err
		}
	} else {
		s.part.cost += cost
	}
	if s.addPart(content); len(s.part.b) > s.partTotal || !f.more && len(s.part.b) < s.partTotal {
		return fmt.Errorf("stream %#x: parts that do not fit the message's size: %w", s.id, errMalformed)
	}
	s.l.gathered += len(content)
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
	s.gathering = false
	s.l.gathered -= len(s.part.b)
	s.putApart(s.part)
	s.part = message{}
	s.arrived()
	return nil
}

// partAhead is for how many times what has come of a large message room is made: what the other side says is no reason for more.
const partAhead = 8

// addPart appends to the message that is arriving.
func (s *stream) addPart(content []byte) {
	old, sh := s.part.b, s.l.sh
	if n := len(old) + len(content); n > cap(old) {
		s.part.b = append(sh.room(nil, max(n, min(s.partTotal, partAhead*n))), old...)
		sh.keep(old)
	}
	s.part.b = append(s.part.b, content...)
}

// arrived has Recv woken when the run of frames has been taken in. mu is held.
func (s *stream) arrived() {
	if s.waiting {
		s.waiting = false
		s.l.wakes = append(s.l.wakes, s)
	}
}

// wakeReceivers wakes those for whom messages have arrived. mu is not held, so that they do not wait for it at once. It runs with the
// reader's role.
func (l *link) wakeReceivers() {
	for i, s := range l.wakes {
		poke(s.wake)
		l.wakes[i] = nil
	}
	l.wakes = l.wakes[:0]
}

// passPart lets a message that may be larger than the window go on arriving: when nothing is queued before it, what is
// there of it gives its cost back early. mu is held.
func (s *stream) passPart() {
	if s.gathering && s.in.n == 0 && s.taken == 0 && s.part.cost > 0 {
		s.use(s.part.cost)
		s.part.cost = 0
	}
}

// Recv implements transport.Stream.
func (s *stream) Recv(v any) error {
	if s.codec == nil {
		return &status.Error{Code: status.Internal, Message: "choose a codec with SetCodec before the first message"}
	}
	b := &s.batch
	if b.n == 0 || s.dead.Load() {
		if err := s.refill(); err != nil {
			return err
		}
	}
	msg, cost, packed, apart := s.take()
	// The other side is told what has been taken of its window not for each message, but before it has to wait.
	if b.used += cost; b.used > 0 && (b.n == 0 || b.used >= int64(s.l.sh.opts.StreamWindow)/8) {
		s.settle()
	}
	err := s.decode(msg, packed, v)
	if apart {
		s.l.sh.keep(msg)
	}
	if err != nil {
		return err
	}
	return nil
}

// refill waits for messages and takes them. It fails when the stream has ended and none is left.
func (s *stream) refill() error {
	l := s.l
	own := s.batch.recycle(l.sh)
	l.mu.Lock()
	if own != nil && s.end == nil {
		s.spare = own
	}
	for s.in.n == 0 && s.end == nil {
		s.waiting, s.pace.starved = true, true
		l.mu.Unlock()
		<-s.wake
		l.mu.Lock()
	}
	if s.aborted != nil || s.in.n == 0 {
		err := s.end
		if s.aborted != nil {
			err = s.aborted
		}
		l.mu.Unlock()
		return err
	}
	s.in, s.batch.inbox = s.batch.inbox, s.in
	s.pace.messages += s.batch.n
	mine := false
	if s.taken = s.batch.cost; s.batch.n == 1 { // it is as good as taken, and the lock is held
		s.batch.used = -s.taken
		mine = s.give(s.taken)
	}
	l.mu.Unlock()
	if mine {
		l.flush(false)
	}
	return nil
}

// settle tells the windows what has been handed out.
func (s *stream) settle() {
	l := s.l
	l.mu.Lock()
	mine := s.give(s.batch.used)
	l.mu.Unlock()
	s.batch.used = 0
	if mine {
		l.flush(false)
	}
}

// give returns what Recv has handed out to the windows, unless abort has done so. mu is held. It reports whether the caller must
// flush.
func (s *stream) give(cost int64) bool {
	cost = min(cost, s.taken)
	s.taken -= cost
	s.adapt(cost)
	s.use(cost)
	s.passPart()
	return s.l.claimFlush()
}

// decode turns b into v. Its arguments are words: a struct that is written word by word and copied at once has the processor wait for it.
func (s *stream) decode(b []byte, packed bool, v any) *status.Error {
	if packed {
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
		if s.server { // its sender's fault, as in every other protocol
			return &status.Error{Code: status.InvalidArgument, Fate: status.Processed, Message: "the message cannot be decoded: " + codec.Reason(err)}
		}
		return &status.Error{Code: status.Internal, Fate: status.Processed, Message: "the message does not decode", Cause: err}
	}
	return nil
}

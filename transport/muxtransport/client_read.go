package muxtransport

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// read is the goroutine that takes in what the server sends. It never waits for anything else.
func (c *clientConn) read() {
	for {
		if c.rd.w == c.rd.r && c.stepAside() {
			return
		}
		if err := c.readOn(nil); err != nil {
			c.readFailed(err)
			c.rd.release()
			return
		}
	}
}

// handle takes in one frame. An error ends the connection.
func (c *clientConn) handle(r *reader, f *frame) error {
	if f.packed && (f.typ != typeAnswer && f.typ != typeData || c.sh.opts.unpacks() == 0) {
		return fmt.Errorf("a frame of type %d from a server: %w", f.typ|flagPacked, errMalformed)
	}
	switch f.typ {
	case typeAnswer:
		return c.answer(f)
	case typePart:
		return c.part(*f)
	case typeData:
		return c.data(*f)
	case typeHeader, typeEnd:
		return c.streamHead(*f)
	case typeWindow:
		return c.window(*f)
	case typePing:
		return r.ping(*f)
	case typePong:
		return nil
	case typeGoAway:
		return c.goneAway(*f)
	}
	return fmt.Errorf("a frame of type %d from a server: %w", f.typ, errMalformed)
}

// answer takes in ANSWER: usually the whole of it.
func (c *clientConn) answer(f *frame) error {
	c.mu.Lock()
	ca := c.lookup(f.id)
	if ca == nil { // given up meanwhile
		c.mu.Unlock()
		return c.learn(f.payload)
	}
	if ca.stream != nil || ca.gathering {
		c.mu.Unlock()
		return fmt.Errorf("ANSWER to call %#x out of place: %w", f.id, errMalformed)
	}
	if f.more {
		return c.gather(ca, f)
	}
	c.leave(ca)
	c.took(ca)
	c.mu.Unlock()
	return c.deliver(ca, f)
}

// gather takes in an ANSWER whose rest is in parts. mu is held, and released. The call stays in the table, so all is done under the lock.
func (c *clientConn) gather(ca *call, f *frame) error {
	cur := cursor{in: f.payload}
	var head answerHead
	err := parseAnswer(&cur, maxSendHeader, c.inNames(f.payload, answerHeader|answerTrailer), &head)
	ca.heard(&head)
	size := 0
	if f.packed && err == nil {
		size, err = packedSize(cur.rest())
	}
	if err != nil || head.status != nil {
		c.leave(ca)
		c.mu.Unlock()
		return c.broken(ca, errors.Join(err, errMalformed))
	}
	if max(head.total, size) > ca.limit {
		_, flush := c.abandon(ca)
		c.mu.Unlock()
		ca.complete(c.answerTooLarge(head.total, size, ca.limit))
		if flush {
			c.flush(false)
		}
		return nil
	}
	ca.makeRoom(c.sh, head.total)
	ca.gathering, ca.packed, ca.total = true, f.packed, head.total
	ca.buf = append(ca.buf[:0], cur.rest()...)
	c.mu.Unlock()
	return nil
}

// learn takes in what the head of an ANSWER that nobody waits for says for those that follow.
func (c *clientConn) learn(payload []byte) error {
	names := c.inNames(payload, answerHeader|answerTrailer)
	if names == nil {
		return nil
	}
	cur := cursor{in: payload}
	if err := parseAnswer(&cur, maxSendHeader, names, new(answerHead)); err != nil {
		return fmt.Errorf("ANSWER: %w", errMalformed)
	}
	return nil
}

// answerTooLarge says why an answer is refused: for its size, or the size it would have once decompressed.
func (c *clientConn) answerTooLarge(size, unpacked, limit int) *status.Error {
	if unpacked > limit {
		return c.sh.bombed("answer", unpacked, limit)
	}
	c.sh.tooLarge.Add(1)
	return answerTooLarge(size, limit)
}

func answerTooLarge(size, limit int) *status.Error {
	return &status.Error{Code: status.ResourceExhausted, Kind: status.TooLarge, Fate: status.Processed,
		Message: fmt.Sprintf("answer of %d bytes is over the limit of %d; hull.WithMaxReply raises it", size, limit)}
}

// deliver ends a call, which has left the table, with an ANSWER in one piece.
func (c *clientConn) deliver(ca *call, f *frame) error {
	cur := cursor{in: f.payload}
	var head answerHead
	err := parseAnswer(&cur, maxSendHeader, c.inNames(f.payload, answerHeader|answerTrailer), &head)
	ca.heard(&head)
	if err != nil {
		return c.broken(ca, err)
	}
	msg := cur.rest()
	size := len(msg)
	if f.packed {
		if size, err = packedSize(msg); err != nil || head.status != nil {
			return c.broken(ca, errors.Join(err, errMalformed))
		}
	}
	if size > ca.limit {
		unpacked := 0
		if f.packed {
			unpacked = size
		}
		ca.complete(c.answerTooLarge(size, unpacked, ca.limit))
		return nil
	}
	ca.makeRoom(c.sh, len(msg))
	ca.buf, ca.packed = append(ca.buf[:0], msg...), f.packed
	if head.status != nil {
		ca.excuse(head.status)
	}
	ca.complete(head.status)
	return nil
}

// excuse looks closer at a server's word that the call's time was up when it came. Had this process not stood still, it would have ended the call by itself:
// so the request lay here, and that is nobody's fault.
func (ca *call) excuse(e *status.Error) {
	if e.Kind == status.Expired && ca.deadline != 0 && policy.Now().Sub(ca.deadline) > stallAfter {
		e.Kind = status.Stalled
	}
}

// broken ends a call whose answer makes no sense, and with the error it returns the connection.
func (c *clientConn) broken(ca *call, err error) error {
	ca.complete(&status.Error{Code: status.Internal, Kind: status.Protocol, Message: "the server's answer is malformed", Cause: err})
	return fmt.Errorf("ANSWER: %w", errMalformed)
}

// part takes in PART, the continuation of an ANSWER.
func (c *clientConn) part(f frame) error {
	c.mu.Lock()
	ca := c.lookup(f.id)
	if ca == nil {
		c.mu.Unlock()
		return nil
	}
	if ca.stream != nil {
		c.mu.Unlock()
		return fmt.Errorf("PART on stream %#x: %w", f.id, errMalformed)
	}
	if !ca.gathering || len(ca.buf)+len(f.payload) > ca.total {
		c.leave(ca)
		c.mu.Unlock()
		return c.broken(ca, errMalformed)
	}
	ca.buf = append(ca.buf, f.payload...)
	if f.more {
		c.mu.Unlock()
		return nil
	}
	c.leave(ca)
	c.mu.Unlock()
	if len(ca.buf) != ca.total {
		return c.broken(ca, errMalformed)
	}
	ca.complete(nil)
	return nil
}

// window takes in WINDOW: the server takes more of a stream, or of all.
func (c *clientConn) window(f frame) error {
	n, err := parseWindow(f.payload)
	if err != nil {
		return fmt.Errorf("WINDOW: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.id == 0 {
		return c.grow(n)
	}
	if ca := c.lookup(f.id); ca != nil && ca.stream != nil {
		return ca.stream.grow(n)
	}
	return nil
}

// The reasons of GOAWAY.
const (
	goAwayDraining = 0
	goAwayError    = 1
	goAwayFlood    = 2
)

// appendGoAway appends a GOAWAY: how many of the opening frames were accepted, why, and a text for people.
func appendGoAway(b []byte, accepted uint64, reason byte, text string) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	b = binary.AppendUvarint(b, accepted)
	b = append(b, reason)
	b = appendBytes(b, text)
	putHeader(b[start:], len(b)-start-headerLen, typeGoAway, 0)
	return b
}

// goneAway takes in GOAWAY. Calls that the server did not accept end at once: it never starts them.
func (c *clientConn) goneAway(f frame) error {
	cur := cursor{in: f.payload}
	accepted, reason, text := cur.uvarint(), cur.byte(), string(cur.bytes())
	if cur.bad {
		return fmt.Errorf("GOAWAY: %w", errMalformed)
	}
	c.unusable.Store(true)
	c.mu.Lock()
	c.goAway = &failure{status.Draining, errors.New(text)}
	if reason != goAwayDraining {
		c.goAway.kind = status.Protocol
	}
	c.drain = true
	var refused []*call
	for i := range c.table {
		// One that has no ordinal yet is still to be appended; it finds itself gone from the table.
		if ca := c.table[i].call; ca != nil && (ca.ordinal > accepted || ca.ordinal == 0) {
			c.leave(ca)
			refused = append(refused, ca)
		}
	}
	idle := c.inFlight.Load() == 0
	c.mu.Unlock()
	for _, ca := range refused {
		ca.complete(draining("the server is going away and did not take the call"))
	}
	if idle {
		c.Close()
	}
	return nil
}

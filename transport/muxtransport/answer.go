package muxtransport

import (
	"encoding/binary"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// appendAnswer appends ANSWER, or END for a stream, with a message or the first part of one of total bytes. mu is held.
func (c *serverConn) appendAnswer(ca *serverCall, typ byte, msg []byte, total int) {
	if c.cause != nil {
		return
	}
	before := len(c.buf)
	b := append(c.buf, 0, 0, 0, 0, 0, 0, 0, 0)
	ca.head.total = total
	var names *sentNames
	if len(ca.head.header)+len(ca.head.trailer) > 0 {
		names = c.outNames()
	}
	if ca.packed {
		typ |= flagPacked
	}
	b = ca.head.append(b, names)
	b = append(b, msg...)
	putHeader(b[before:], len(b)-before-headerLen, typ, ca.id)
	c.buf = b
	c.appended += uint64(len(b) - before)
}

// plain reports whether an answer that has been encoded has nothing but its message and the load.
func (ca *serverCall) plain() bool {
	return ca.head.status == nil && len(ca.head.header)+len(ca.head.trailer) == 0 && !ca.packed
}

// appendPlain appends ANSWER to answers in one go, of a call whose answer is plain. Its caller has the reader's role.
func (c *serverConn) appendPlain(ca *serverCall) {
	at := len(c.answers)
	if room := headerLen + 1 + binary.MaxVarintLen32 + len(ca.out); room > cap(c.answers)-at {
		c.answers = slices.Grow(c.answers, room)
	}
	b := c.answers[at:at]
	if n := ca.head.load.InFlight; n != 0 {
		b = appendUvarint(append(b, 0, 0, 0, 0, 0, 0, 0, 0, answerLoad), uint64(n))
	} else {
		b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	}
	b = append(b, ca.out...)
	putHeader(b, len(b)-headerLen, typeAnswer, ca.id)
	c.answers = c.answers[:at+len(b)] // where b lies
}

// refuse answers a call that is not going to start. The call is not in the table.
func (c *serverConn) refuse(ca *serverCall, e *status.Error) {
	typ := byte(typeAnswer)
	if ca.opening {
		typ = typeEnd
	}
	ca.head = answerHead{status: e}
	c.mu.Lock()
	c.appendAnswer(ca, typ, nil, 0)
	c.mu.Unlock()
	c.s.recycle(ca)
}

// sendAnswer sends the answer of a unary call, in parts if it is large, unless nobody waits for it any more. registered
// says that the call is in the table for as long as somebody does.
func (c *serverConn) sendAnswer(ca *serverCall, registered bool) {
	ca.answered = true
	rest := ca.out
	first := true
	for first || len(rest) > 0 {
		c.mu.Lock()
		if !c.awaitRoom() || registered && c.lookup(ca.id) != ca {
			c.mu.Unlock()
			return
		}
		part := rest[:min(len(rest), partSize)]
		rest = rest[len(part):]
		more := byte(0)
		if len(rest) > 0 {
			more = flagMore
		} else {
			c.leave(ca)
		}
		if first {
			total := 0
			if more != 0 {
				total = len(ca.out)
			}
			c.appendAnswer(ca, typeAnswer|more, part, total)
			first = false
		} else {
			before := len(c.buf)
			c.buf = appendFrame(c.buf, typePart|more, ca.id, part...)
			c.appended += uint64(len(c.buf) - before)
		}
		mine := c.claimFlush()
		c.mu.Unlock()
		if mine {
			c.flush(true)
		}
	}
}

// awaitRoom waits until more may be appended, with mu held before and after. It returns false when the connection is gone.
func (c *serverConn) awaitRoom() bool { return c.awaitOutput(pendingLimit) }

// awaitOutput waits until less than limit of output waits, with mu held before and after. It returns false when the
// connection is gone.
func (c *serverConn) awaitOutput(limit int) bool {
	for c.waiting(limit) {
		room, done := c.roomChan(), c.doneChan()
		c.mu.Unlock()
		select {
		case <-room:
		case <-done:
		}
		c.mu.Lock()
	}
	return c.cause == nil
}

// gather begins a request that comes in parts.
func (c *serverConn) gather(ca *serverCall, first []byte) error {
	c.mu.Lock()
	var refusal *status.Error
	switch {
	case ca.total <= len(first):
		c.mu.Unlock()
		return fmt.Errorf("call %#x: parts that do not fit its size: %w", ca.id, errMalformed)
	case ca.total > c.sh.opts.MaxMessage:
		refusal = c.tooLarge(ca.total)
	case c.buffered+ca.total > c.sh.opts.MaxBuffered:
		refusal = c.shedding("bytes")
	default:
		err := c.register(ca)
		if err == nil {
			ca.gathering, ca.kept = true, ca.total
			c.buffered += ca.kept
			ca.buf = append(ca.buf[:0], first...)
		}
		c.mu.Unlock()
		return err
	}
	c.mu.Unlock()
	c.refuse(ca, refusal)
	return nil
}

// part takes in PART, the continuation of a request.
func (c *serverConn) part(f frame) error {
	c.mu.Lock()
	ca := c.lookup(f.id)
	if ca == nil { // refused or given up meanwhile
		c.mu.Unlock()
		return nil
	}
	if !ca.gathering {
		c.mu.Unlock()
		return fmt.Errorf("PART of call %#x out of place: %w", f.id, errMalformed)
	}
	ca.buf = append(ca.buf, f.payload...)
	if len(ca.buf) > ca.total || !f.more && len(ca.buf) < ca.total {
		c.mu.Unlock()
		return fmt.Errorf("call %#x: parts that do not fit its size: %w", ca.id, errMalformed)
	}
	if f.more {
		c.mu.Unlock()
		return nil
	}
	c.leave(ca)
	c.buffered -= ca.kept
	ca.gathering, ca.kept = false, 0
	c.mu.Unlock()
	return c.dispatch(ca)
}

// encodeAnswer turns what the handler returned into ca.head and ca.out.
func (c *serverConn) encodeAnswer(ca *serverCall, out *transport.Outgoing) {
	h := &ca.head
	h.status, h.header, h.trailer, h.load = out.Status, out.Header, out.Trailer, out.Load
	last := ca.m.answer.Load()
	if ca.out = ca.out[:0]; last > keepScratch {
		ca.out = c.sh.room(ca.out, int(last))
	}
	ca.packed = false
	if h.status == nil {
		cd := out.Codec
		if cd == nil {
			cd = codecByName(ca.in.Codec)
		}
		var err error
		if ca.out, err = cd.Append(ca.out, out.Message); err != nil {
			h.status = &status.Error{Code: status.Internal, Message: "the answer does not encode: " + err.Error()}
		} else if uint64(len(ca.out)) > c.peer.maxMessage {
			c.sh.tooLarge.Add(1)
			h.status = answerTooLarge(len(ca.out), int(c.peer.maxMessage))
		}
		if n := int64(len(ca.out)); n > keepScratch || last > keepScratch {
			ca.m.answer.Store(n)
		}
	}
	if h.status != nil || h.header != nil || h.trailer != nil {
		c.checkAnswer(h)
	}
	if h.status != nil {
		ca.out = ca.out[:0]
	} else if ca.pack != packNone {
		if ca.spare, ca.packed = c.sh.tryPack(ca.spare, ca.out, ca.pack); ca.packed {
			ca.out, ca.spare = ca.spare, ca.out
		}
	}
}

// checkAnswer makes sure that the head fits a frame, and that it claims nothing that only this package can know.
func (c *serverConn) checkAnswer(h *answerHead) {
	limit := int(min(c.peer.maxHeader, maxSendHeader))
	if n := metadataSize(h.header) + metadataSize(h.trailer); n > limit && (h.header != nil || h.trailer != nil) {
		c.sh.tooLarge.Add(1)
		h.header, h.trailer = nil, nil
		h.status = &status.Error{Code: status.ResourceExhausted, Kind: status.TooLarge, Message: headerTooLargeError{n, limit}.Error()}
	}
	if h.status != nil {
		h.status = presentable(h.status)
	}
}

// maxStatus is how much of a status' message and details travels; its message says what was left out.
const maxStatus = 16 << 10

// presentable returns e as it may travel: its fate is that of this call, not of one below it.
func presentable(e *status.Error) *status.Error {
	c := status.Error{Code: e.Code, Message: e.Message, Kind: e.Kind, Origin: e.Origin, Pushback: e.Pushback, Details: e.Details,
		Fate: status.Processed}
	if c.Message == "" && e.Cause != nil {
		c.Message = e.Cause.Error()
	}
	if c.Code == status.OK {
		c.Code = status.Unknown
	}
	refusal := false
	switch e.Kind {
	case status.Expired, status.Shed, status.Quota, status.Draining, status.NoMethod, status.TooLarge:
		refusal = true
	case status.Panicked:
	default:
		c.Kind = status.Answered
	}
	switch {
	case e.Origin == status.Downstream:
		c.Kind = status.Answered
	case refusal && e.Fate == status.NotSent:
		c.Fate = status.NotSent
	}
	if len(c.Message) > maxStatus/2 {
		c.Message = cut(c.Message, maxStatus/2) + "…"
	}
	size := min(len(c.Message), maxStatus/2)
	for i, d := range c.Details {
		if size += sizeOf(d); size > maxStatus {
			leaveOut(&c, i)
			break
		}
	}
	return &c
}

// cut returns the first bytes of s, at most n, which is less than it has, without a letter's first half at the end.
func cut(s string, n int) string {
	for i := n; i > n-utf8.UTFMax && i > 0; i-- {
		if utf8.RuneStart(s[i]) {
			return s[:i]
		}
	}
	return s[:n] // no text
}

// sizeOf is what a detail counts for.
func sizeOf(d status.Detail) int { return len(d.TypeURL) + len(d.Value) + 8 }

// leaveOut leaves only the first details, and says so.
func leaveOut(e *status.Error, first int) {
	n := 0
	for _, d := range e.Details[first:] {
		n += sizeOf(d)
	}
	e.Details = e.Details[:first:first]
	note := fmt.Sprintf("details left out: %d bytes, at most %d with the message", n, maxStatus)
	if e.Message == "" {
		e.Message = note
		return
	}
	e.Message += " (" + note + ")"
}

// codecByName returns the built-in codec of that name, JSON if there is none.
func codecByName(name string) codec.Codec {
	switch name {
	case "proto":
		return codec.Proto{}
	case "bytes":
		return codec.Bytes{}
	}
	return codec.JSON{}
}

package muxtransport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// serverStream is a stream as its handler holds it.
type serverStream struct {
	stream
	c          *serverConn
	headerSent bool // guarded by the link's mutex
	spoke      bool // Send's own: headerSent is set
}

var _ transport.ServerStream = (*serverStream)(nil)

// SetCodec implements transport.ServerStream.
func (s *serverStream) SetCodec(cd codec.Codec) { s.codec = cd }

// SendHeader implements transport.ServerStream.
func (s *serverStream) SendHeader(h transport.Metadata) *status.Error {
	limit := int(min(s.l.peer.maxHeader, maxSendHeader))
	if n := metadataSize(h); n > limit {
		s.l.sh.tooLarge.Add(1)
		return &status.Error{Code: status.ResourceExhausted, Kind: status.TooLarge, Message: headerTooLargeError{n, limit}.Error()}
	}
	l := s.l
	l.mu.Lock()
	if s.sendEnd != nil || s.headerSent {
		e := s.sendEnd
		l.mu.Unlock()
		if e == nil {
			e = &status.Error{Code: status.Internal, Message: "the header has been sent already"}
		}
		return e
	}
	s.headerSent = true
	before := len(l.buf)
	head := answerHead{header: h}
	var names *sentNames
	if len(h) > 0 {
		names = l.outNames()
	}
	b := head.append(append(l.buf, 0, 0, 0, 0, 0, 0, 0, 0), names)
	putHeader(b[before:], len(b)-before-headerLen, typeHeader, s.id)
	l.buf = b
	mine := l.added(before)
	l.mu.Unlock()
	if mine {
		l.flush(true)
	}
	return nil
}

// Send implements transport.Stream. The first message says that there is no header any more.
func (s *serverStream) Send(v any) *status.Error {
	if !s.spoke {
		s.l.mu.Lock()
		s.headerSent = true
		s.l.mu.Unlock()
		s.spoke = true
	}
	return s.stream.Send(v)
}

// open takes in OPEN.
func (c *serverConn) open(f *frame) error {
	ca, msg, err := c.begin(f)
	if ca == nil {
		return err
	}
	if len(msg) > 0 || f.more {
		return fmt.Errorf("OPEN of stream %#x with a message: %w", f.id, errMalformed)
	}
	late := c.late(ca)
	c.mu.Lock()
	if c.running >= c.sh.opts.MaxCalls {
		c.mu.Unlock()
		c.refuse(ca, c.shedding("calls"))
		return nil
	}
	if err := c.register(ca); err != nil {
		c.mu.Unlock()
		return err
	}
	c.running++
	s := &serverStream{c: c}
	s.server = true
	s.init(&c.link, ca.id, ca.ctx)
	s.pack = ca.pack
	ca.stream = s
	held := late && c.hold(ca)
	c.mu.Unlock()
	if !held {
		go c.runStream(ca)
	}
	return nil
}

// runStream is the goroutine of one stream.
func (c *serverConn) runStream(ca *serverCall) {
	defer c.finish(ca)
	ca.answered = true // END is sent here
	if !ca.state.CompareAndSwap(callWaiting, callStarted) {
		return
	}
	if ca.in.Deadline != 0 && ca.in.Deadline <= policy.Now() {
		c.endStream(ca, &transport.Outgoing{Status: c.expired()})
		return
	}
	s := ca.stream
	stop := context.AfterFunc(ca.ctx, func() {
		c.mu.Lock()
		s.abort(status.From(s.ctx.Err()))
		c.mu.Unlock()
	})
	returned := false
	defer func() {
		if !returned {
			out := c.panicked(ca, recover(), debug.Stack())
			c.endStream(ca, &out)
		}
		stop()
		ca.ctx.End()
	}()
	out := c.s.handler.Stream(ca.ctx, &ca.in, s)
	c.endStream(ca, &out)
	returned = true
}

// endStream sends END, unless nobody waits for it any more.
func (c *serverConn) endStream(ca *serverCall, out *transport.Outgoing) {
	ca.head = answerHead{status: out.Status, trailer: out.Trailer, load: out.Load}
	c.mu.Lock()
	s := ca.stream
	if !s.headerSent {
		ca.head.header = out.Header
	}
	c.checkAnswer(&ca.head)
	waited := c.awaitRoom() && c.leave(ca)
	if waited {
		s.closeBulk(false)
		c.appendAnswer(ca, typeEnd, nil, 0)
	}
	s.abort(&status.Error{Code: status.Canceled, Kind: status.Cancelled, Message: "the handler has returned"})
	mine := c.claimFlush()
	c.mu.Unlock()
	if mine {
		c.flush(true)
	}
}

// data takes in DATA, and what else of it has been read.
func (c *serverConn) data(f frame) error {
	c.mu.Lock()
	err := c.takeRuns(c.rd, f)
	c.mu.Unlock()
	c.wakeReceivers()
	return err
}

// receiver implements owner.
func (c *serverConn) receiver(id uint32) *stream {
	if ca := c.lookup(id); ca != nil && ca.stream != nil {
		return &ca.stream.stream
	}
	return nil
}

// takeData implements owner.
func (c *serverConn) takeData(f frame) error {
	ca := c.lookup(f.id)
	if ca == nil {
		return c.stray(f)
	}
	if ca.stream == nil {
		return fmt.Errorf("DATA of unary call %#x: %w", f.id, errMalformed)
	}
	err := ca.stream.arrive(f)
	if e, ok := errors.AsType[*status.Error](err); ok { // only this stream ends, and its handler with it
		if c.leave(ca) { // its handler may be writing to ca
			c.appendAnswer(&serverCall{id: ca.id, head: answerHead{status: e}}, typeEnd, nil, 0)
		}
		ca.stream.abort(e)
		ca.ctx.End()
		return nil
	}
	return err
}

// half takes in HALF: the client sends no more messages.
func (c *serverConn) half(f frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	ca := c.lookup(f.id)
	if ca == nil {
		return nil
	}
	if ca.stream == nil || ca.stream.gathering || len(f.payload) > 0 {
		return fmt.Errorf("HALF of call %#x out of place: %w", f.id, errMalformed)
	}
	ca.stream.finish(io.EOF)
	return nil
}

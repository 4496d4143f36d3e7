package muxtransport

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/hull-go/hull/internal/callctx"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// clientStream is a stream as its caller holds it.
type clientStream struct {
	stream
	c        *clientConn
	ca       *call
	stopping func() bool // undoes the wait for the caller's context

	// The fields below are guarded by the link's mutex until headed is closed, and the trailer until the stream has ended.
	header, trailer transport.Metadata
	failed          *status.Error
	isHeaded        bool
	headed          chan struct{}
}

var _ transport.ClientStream = (*clientStream)(nil)

// Open implements transport.Conn.
func (c *clientConn) Open(ctx context.Context, req *transport.Request) (transport.ClientStream, *status.Error) {
	if err := ctx.Err(); err != nil {
		return nil, gaveUp(err, status.NotSent)
	}
	if err := c.checkRequest(req); err != nil {
		return nil, err
	}
	deadline := req.Deadline
	if t, ok := ctx.Deadline(); ok {
		deadline = policy.Earliest(deadline, policy.At(t))
	}
	now := policy.Now()
	if deadline != 0 && now >= deadline {
		return nil, &status.Error{Code: status.DeadlineExceeded, Kind: status.Timeout, Fate: status.NotSent,
			Message: "the deadline had passed before the stream was opened"}
	}
	s := &clientStream{c: c, headed: make(chan struct{})}
	s.ca = &call{deadline: deadline, stream: s, done: make(chan struct{}, 1)}
	c.mu.Lock()
	if err := c.enter(s.ca); err != nil {
		c.mu.Unlock()
		return nil, err
	}
	s.init(&c.link, s.ca.id, callctx.New(deadline, ctx))
	s.codec, s.pack = req.Codec, c.packWith(req.Compressor)
	if req.MaxReply > 0 {
		s.limit = min(s.limit, req.MaxReply)
	}
	for c.roomFull() && s.sendEnd == nil && ctx.Err() == nil {
		room := c.roomChan()
		c.mu.Unlock()
		select {
		case <-room:
		case <-s.sendWake:
		case <-ctx.Done():
		}
		c.mu.Lock()
	}
	if s.sendEnd == nil && c.cause == nil {
		before := len(c.buf)
		c.buf = c.appendHead(c.buf, s.ca, req, now, 0)
		putHeader(c.buf[before:], len(c.buf)-before-headerLen, typeOpen, s.id)
		mine := c.addedFor(s.ca, before)
		s.ca.whole = true
		c.mu.Unlock()
		if mine {
			c.flush(true)
		}
	} else {
		c.mu.Unlock()
	}
	if ctx.Done() != nil {
		s.stopping = context.AfterFunc(ctx, func() { s.giveUp(ctx.Err()) })
	}
	return s, nil
}

// giveUp ends the stream because the caller's context ended, with why.
func (s *clientStream) giveUp(why error) {
	c := s.c
	c.mu.Lock()
	if c.lookup(s.id) != s.ca {
		// It has ended, but messages that nobody may take any more are still counted by the connection's window.
		if s.aborted == nil && (s.in.n > 0 || s.taken > 0) {
			s.abort(gaveUp(why, status.Processed))
		}
		mine := c.claimFlush()
		c.mu.Unlock()
		if mine {
			c.flush(false)
		}
		return
	}
	fate, flush := c.abandon(s.ca)
	c.mu.Unlock()
	s.ended(gaveUp(s.ctx.Err(), fate), &answerHead{})
	if flush {
		c.flush(false)
	}
}

// ended ends the stream with err, nil for success. Whoever took it out of the table calls it.
func (s *clientStream) ended(err *status.Error, head *answerHead) {
	l := s.l
	cause := context.Canceled
	if err != nil && err.Code == status.DeadlineExceeded {
		cause = context.DeadlineExceeded
	}
	s.ctx.Cancel(cause) // before Recv can tell of the end
	l.mu.Lock()
	if !s.isHeaded {
		s.header = head.header
		s.isHeaded = true
		s.failed = err
		close(s.headed)
	}
	s.trailer = head.trailer
	s.stopSending(&status.Error{Code: status.Unavailable, Message: "the stream has ended; receive its status", Cause: io.EOF})
	if s.gathering { // the rest of the message does not come any more
		l.gathered -= len(s.part.b)
		l.giveConn(s.part.cost)
		s.part, s.gathering = message{}, false
	}
	switch {
	case err == nil:
		s.finish(io.EOF)
	case err.Kind == status.Timeout || err.Kind == status.Cancelled:
		s.abort(err)
	default:
		s.finish(err)
	}
	mine := l.claimFlush()
	l.mu.Unlock()
	if mine {
		l.flush(false)
	}
}

// Recv implements transport.Stream.
func (s *clientStream) Recv(v any) error {
	err := s.stream.Recv(v)
	if err != nil && s.stopping != nil && s.over() {
		s.stopping()
	}
	return err
}

// over reports whether the stream has ended and nothing is left to be received. A message that does not decode ends nothing: the caller gives up
// then. Only Recv calls it.
func (s *clientStream) over() bool {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	return s.aborted != nil || s.end != nil && s.in.n == 0 && s.batch.n == 0
}

// Header implements transport.ClientStream.
func (s *clientStream) Header() (transport.Metadata, *status.Error) {
	<-s.headed
	return s.header, s.failed
}

// Trailer implements transport.ClientStream.
func (s *clientStream) Trailer() transport.Metadata {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	return s.trailer
}

// CloseSend implements transport.ClientStream.
func (s *clientStream) CloseSend() *status.Error {
	l := s.l
	l.mu.Lock()
	if s.sendEnd != nil {
		l.mu.Unlock()
		return nil //nolint:nilerr // the stream has ended, or this has been said before
	}
	s.closeBulk(false)
	s.sendEnd = &status.Error{Code: status.Internal, Message: "a message was sent after CloseSend"}
	before := len(l.buf)
	l.buf = appendFrame(l.buf, typeHalf, s.id)
	mine := l.added(before)
	l.mu.Unlock()
	if mine {
		l.flush(true)
	}
	return nil
}

// data takes in DATA, and what else of it has been read.
func (c *clientConn) data(f frame) error {
	c.mu.Lock()
	err := c.takeRuns(c.rd, f)
	c.mu.Unlock()
	c.wakeReceivers()
	if over, ok := errors.AsType[overError](err); ok {
		over.s.ended(over.s.aborted, &answerHead{})
		if over.flush {
			c.flush(false)
		}
		return nil
	}
	return err
}

// overError says that a stream ended, aborted, with a DATA, but not the connection. flush is whether that must be flushed.
type overError struct {
	s     *clientStream
	flush bool
}

func (e overError) Error() string { return e.s.aborted.Error() }

// takeData implements owner.
func (c *clientConn) takeData(f frame) error {
	ca := c.lookup(f.id)
	if ca == nil {
		return c.stray(f)
	}
	s := ca.stream
	if s == nil {
		return fmt.Errorf("DATA of unary call %#x: %w", f.id, errMalformed)
	}
	if !s.isHeaded {
		s.isHeaded = true
		close(s.headed)
	}
	err := s.arrive(f)
	if e, ok := errors.AsType[*status.Error](err); ok {
		_, flush := c.abandon(ca)
		s.abort(e)
		return overError{s, flush}
	}
	return err
}

// receiver implements owner.
func (c *clientConn) receiver(id uint32) *stream {
	if ca := c.lookup(id); ca != nil && ca.stream != nil && ca.stream.isHeaded {
		return &ca.stream.stream
	}
	return nil
}

// streamHead takes in HEADER and END.
func (c *clientConn) streamHead(f frame) error {
	var h answerHead
	cur := cursor{in: f.payload}
	if err := parseAnswer(&cur, maxSendHeader, c.inNames(f.payload, answerHeader|answerTrailer), &h); err != nil || len(cur.rest()) > 0 {
		return fmt.Errorf("the head of stream %#x: %w", f.id, errMalformed)
	}
	c.mu.Lock()
	ca := c.lookup(f.id)
	if ca == nil {
		c.mu.Unlock()
		return nil
	}
	s := ca.stream
	if s == nil || f.typ == typeHeader && s.isHeaded {
		c.mu.Unlock()
		return fmt.Errorf("the head of call %#x is out of place: %w", f.id, errMalformed)
	}
	if f.typ == typeHeader {
		s.header = h.header
		s.isHeaded = true
		close(s.headed)
		c.mu.Unlock()
		return nil
	}
	c.leave(ca)
	c.mu.Unlock()
	s.ended(h.status, &h)
	return nil
}

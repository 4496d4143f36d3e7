package muxtransport

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// call is a call or stream as its client keeps it. Unary calls are reused; done has room for one token, which is sent
// exactly once per use, by whoever took the call out of the table.
//
// What is touched when an answer comes, by who reads it and who waited for it, fills one line of the cache, since with many calls under way none of
// it is left there by then. What comes next is touched once a call, when it begins, and the rest by few calls.
type call struct {
	id    uint32
	load  transport.Load // of the answer
	whole bool           // nothing of the request is left to append
	plain bool           // the request is, see there
	// mayRead: its caller may take in what arrives while it waits, having nothing else to wait for. reads: it does; see lone.
	mayRead, reads bool
	packed         bool // what is in buf is compressed
	gathering      bool // the answer comes in parts
	more           bool // err, header or trailer are set
	kept           bool // a Reply keeps it for its next call
	done           chan struct{}
	stream         *clientStream
	limit          int    // of the answer's message
	buf            []byte // the encoded request until it is whole, and then the answer's message

	deadline policy.Time
	ordinal  uint64 // which CALL or OPEN of the connection it was; 0 = its first frame has not been appended
	at, end  uint64 // positions of the first and behind the last byte of the latest frame appended, of OPEN for a stream

	err             *status.Error
	header, trailer transport.Metadata
	total           int    // of the answer's message, when it comes in parts
	spare           []byte // to compress into and decompress; or buf's place, while that is too large to be kept
}

// unsent reports whether the call cannot have been processed when the kernel took the first taken bytes.
func (ca *call) unsent(taken uint64) bool { return !ca.whole || ca.end > taken }

// complete ends the call. It must have been taken out of the table.
func (ca *call) complete(err *status.Error) {
	if ca.stream != nil {
		ca.stream.ended(err, &answerHead{})
		return
	}
	if err != nil {
		ca.err, ca.more = err, true
	}
	ca.done <- struct{}{}
}

// heard notes what the answer's head says beside a status.
func (ca *call) heard(h *answerHead) {
	ca.load = h.load
	if h.header != nil || h.trailer != nil {
		ca.header, ca.trailer, ca.more = h.header, h.trailer, true
	}
}

// makeRoom sees to it that an answer of n bytes can be put into buf, which it may have to itself from now on.
func (ca *call) makeRoom(s *shared, n int) {
	if !ca.whole { // the rest of the request is still being sent from it
		ca.buf = nil
	}
	if n > keepScratch && n > cap(ca.buf) {
		ca.buf, ca.spare = s.room(nil, n), ca.buf
	}
}

// call returns a call that nobody uses: the one that rep keeps, or else one that it keeps from now on, if it can.
func (d *Dialer) call(rep *transport.Reply) *call {
	if rep.Scratch != nil {
		if ca, ok := (*rep.Scratch).(*call); ok {
			return ca
		}
	}
	ca := d.calls.Get().(*call)
	if rep.Scratch != nil && *rep.Scratch == nil {
		*rep.Scratch, ca.kept = ca, true
	}
	return ca
}

// Call implements transport.Conn.
func (c *clientConn) Call(ctx context.Context, req *transport.Request, rep *transport.Reply) *status.Error {
	ca := c.d.call(rep)
	ca.whole, ca.gathering, ca.load = false, false, transport.Load{}
	ca.deadline, ca.limit = req.Deadline, c.sh.opts.MaxMessage
	if req.MaxReply > 0 {
		ca.limit = min(req.MaxReply, ca.limit)
	}
	ctxDone := ctx.Done()
	if ctxDone != nil {
		if t, ok := ctx.Deadline(); ok {
			ca.deadline = policy.Earliest(ca.deadline, policy.At(t))
		}
		if err := ctx.Err(); err != nil {
			c.recycle(ca)
			return gaveUp(err, status.NotSent)
		}
	}
	err := c.encode(ca, req)
	if err == nil {
		ca.mayRead, ca.reads = ctxDone == nil && len(ca.buf) <= partSize, false
		err = c.start(ctx, ca, req)
	}
	if err != nil {
		c.recycle(ca)
		return err
	}
	switch {
	case ca.reads:
		c.readFor(ca)
	case ctxDone == nil:
		<-ca.done
	default:
		select {
		case <-ca.done:
		case <-ctxDone:
			if err := c.giveUp(ctx, ca); err != nil {
				c.recycle(ca)
				return err
			}
		}
	}
	rep.Load = ca.load
	if ca.more {
		rep.Header, rep.Trailer, err = ca.header, ca.trailer, ca.err
	}
	if err == nil && ca.packed {
		err = c.unpack(ca)
	}
	if err == nil {
		if cause := req.Codec.Unmarshal(ca.buf, rep.Message); cause != nil {
			err = undecodable(cause)
		}
	}
	c.recycle(ca)
	return err
}

// unpack undoes the compression of the answer.
func (c *clientConn) unpack(ca *call) *status.Error {
	plain, err := c.sh.unpack(ca.spare, ca.buf)
	if ca.buf, ca.spare = plain, ca.buf; err != nil {
		return c.sh.unpackError("the answer", err)
	}
	return nil
}

// undecodable is how a call ends whose answer the codec makes nothing of.
func undecodable(err error) *status.Error {
	return &status.Error{Code: status.Internal, Fate: status.Processed, Message: "the answer does not decode", Cause: err}
}

// recycle lets go of what ca holds and keeps it for another call. Nobody else may know ca any more.
func (c *clientConn) recycle(ca *call) {
	if ca.packed || cap(ca.buf) > keepScratch {
		if ca.buf, ca.spare = c.sh.keep(ca.buf), c.sh.keep(ca.spare); ca.buf == nil {
			ca.buf, ca.spare = ca.spare, nil
		}
	}
	if ca.more {
		ca.err, ca.header, ca.trailer, ca.more = nil, nil, nil, false
	}
	if !ca.kept {
		c.d.calls.Put(ca)
	}
}

// gaveUp is the error of a call whose context ended.
func gaveUp(err error, fate status.Fate) *status.Error {
	if errors.Is(err, context.DeadlineExceeded) {
		return &status.Error{Code: status.DeadlineExceeded, Kind: status.Timeout, Fate: fate, Message: "no answer within the deadline", Cause: err}
	}
	return &status.Error{Code: status.Canceled, Kind: status.Cancelled, Fate: fate, Message: "the caller gave up", Cause: err}
}

// encode fills ca.buf. It runs without any lock: codecs are foreign code.
func (c *clientConn) encode(ca *call, req *transport.Request) *status.Error {
	b, err := req.Codec.Append(ca.buf[:0], req.Message)
	ca.buf, ca.packed = b, false
	if err != nil {
		return &status.Error{Code: status.Internal, Fate: status.NotSent, Kind: status.Refused, Message: "the request does not encode", Cause: err}
	}
	if uint64(len(b)) > c.peer.maxMessage {
		c.sh.tooLarge.Add(1)
		return &status.Error{Code: status.ResourceExhausted, Fate: status.NotSent, Kind: status.TooLarge,
			Message: fmt.Sprintf("request of %d bytes is over the server's limit of %d", len(b), c.peer.maxMessage)}
	}
	k := c.pack
	if ca.plain = plain(req); !ca.plain {
		if e := c.checkRequest(req); e != nil {
			return e
		}
		k = c.packWith(req.Compressor)
	}
	if k != packNone {
		if ca.spare, ca.packed = c.sh.tryPack(ca.spare, b, k); ca.packed {
			ca.buf, ca.spare = ca.spare, ca.buf
		}
		ca.spare = c.sh.keep(ca.spare)
	}
	return nil
}

// plain reports whether req says nothing that few do, and nothing that checkRequest could refuse.
func plain(req *transport.Request) bool {
	return len(req.Metadata) == 0 && req.Compressor == "" && req.PathAttempt <= 1 && req.Criticality == 0 &&
		0 < len(req.Method) && len(req.Method) <= maxNameLen
}

// checkRequest checks what unary calls and streams have in common.
func (c *clientConn) checkRequest(req *transport.Request) *status.Error {
	if len(req.Metadata) > 0 {
		if n := metadataSize(req.Metadata); uint64(n) > min(c.peer.maxHeader, maxSendHeader) {
			c.sh.tooLarge.Add(1)
			return &status.Error{Code: status.ResourceExhausted, Fate: status.NotSent, Kind: status.TooLarge,
				Message: headerTooLargeError{n, int(min(c.peer.maxHeader, maxSendHeader))}.Error()}
		}
	}
	if len(req.Method) == 0 || len(req.Method) > maxNameLen {
		return &status.Error{Code: status.InvalidArgument, Fate: status.NotSent, Kind: status.Refused,
			Message: fmt.Sprintf("the method's name has %d bytes; names have 1 to %d", len(req.Method), maxNameLen)}
	}
	return checkCompressor(req.Compressor)
}

// maxSendHeader is the most metadata that leaves room for the rest of a frame's head.
const maxSendHeader = 24 << 10

// start sends the request. When it fails the call has not been sent and is in nobody's hands.
func (c *clientConn) start(ctx context.Context, ca *call, req *transport.Request) *status.Error {
	now := policy.Now()
	if ca.deadline != 0 && now >= ca.deadline {
		return &status.Error{Code: status.DeadlineExceeded, Kind: status.Timeout, Fate: status.NotSent,
			Message: "the deadline had passed before the call was sent"}
	}
	c.mu.Lock()
	if err := c.enter(ca); err != nil {
		c.mu.Unlock()
		return err
	}
	if len(c.buf) >= pendingLimit && !c.awaitRoom(ctx, ca) {
		return nil // the call has ended, or its context has: the caller finds out which
	}
	before := len(c.buf)
	first, typ, total := ca.buf, byte(typeCall), 0
	var rest []byte
	if len(first) > partSize {
		typ, total = typeCall|flagMore, len(first)
		first, rest = first[:partSize], first[partSize:]
	}
	if ca.packed {
		typ |= flagPacked
	}
	b := append(c.appendHead(c.buf, ca, req, now, total), first...)
	putHeader(b[before:], len(b)-before-headerLen, typ, ca.id)
	c.buf = b
	mine := c.addedFor(ca, before)
	ca.whole = total == 0
	c.mu.Unlock()
	if mine {
		c.flush(!ca.reads)
	}
	if len(rest) > 0 {
		c.sendParts(ctx, ca, rest)
	}
	return nil
}

// addedFor is added for a frame of ca.
func (c *clientConn) addedFor(ca *call, before int) (flush bool) {
	ca.at = c.appended
	flush = c.added(before)
	ca.end = c.appended
	return flush
}

// appendHead appends to b the frame's header, to be filled in, and the head of CALL or OPEN. mu is held.
func (c *clientConn) appendHead(b []byte, ca *call, req *transport.Request, now policy.Time, total int) []byte {
	c.opened++
	ca.ordinal = c.opened
	if sent := now.Sub(c.began); ca.plain && total == 0 && ca.deadline != 0 && sent > 0 && req.Method == c.lastMethod {
		if id := codecID(req.Codec.Name()); id != codecNamed {
			return appendPlain(b, c.lastNumber, id, ca.deadline.Sub(now), sent)
		}
	}
	return c.appendFull(b, ca, req, now, total)
}

// appendFull appends what appendHead does for the others. It is apart for the room on the stack that it takes: most calls need not touch so much.
func (c *clientConn) appendFull(b []byte, ca *call, req *transport.Request, now policy.Time, total int) []byte {
	h := callHead{codec: req.Codec.Name(), sent: now.Sub(c.began), attempt: req.PathAttempt, criticality: req.Criticality, total: total}
	if ca.deadline != 0 {
		h.hasDeadline, h.timeout = true, ca.deadline.Sub(now)
	}
	if req.Method == c.lastMethod {
		h.method = c.lastNumber
	} else {
		h.method, h.name = c.number(req.Method)
	}
	if req.Compressor != "" && c.peer.unpacks != 0 {
		h.reply, h.hasReply = c.packWith(req.Compressor), true
	}
	var names *sentNames
	if len(req.Metadata) > 0 {
		h.metadata, names = req.Metadata, c.outNames()
		if c.peer.features&featureTrace != 0 {
			h.trace = findTrace(req.Metadata)
		}
	}
	return h.append(append(b, 0, 0, 0, 0, 0, 0, 0, 0), names)
}

// appendPlain appends what appendHead does for most calls, in one go: the same as with a callHead that has this and nothing else.
func appendPlain(b []byte, method uint32, codec byte, timeout, sent time.Duration) []byte {
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, callDeadline|callSent)
	b = append(appendUvarint(b, uint64(method)), codec)
	b = appendUvarint(b, uint64(timeout)/uint64(time.Microsecond))
	return appendUvarint(b, uint64(sent)/uint64(time.Microsecond))
}

// number returns the number of a method, and its name if the server has to be told.
func (c *clientConn) number(method string) (uint32, string) {
	n, known := c.methods[method]
	name := ""
	if !known {
		if name = method; len(c.methods) >= maxMethods || c.nameBytes+len(name) > maxMethodBytes {
			return 0, name
		}
		c.nameBytes += len(name)
		n = uint32(len(c.methods) + 1)
		c.methods[method] = n
	}
	c.lastMethod, c.lastNumber = method, n
	return n, name
}

// awaitRoom waits until more may be appended. mu is held at the start and, when it returns true, at the end. It returns
// false when the call ended meanwhile, or ctx did.
func (c *clientConn) awaitRoom(ctx context.Context, ca *call) bool {
	for c.roomFull() {
		room := c.roomChan()
		c.mu.Unlock()
		select {
		case <-room:
		case <-c.done:
		case <-ca.done:
			ca.done <- struct{}{} // leave the token to whoever waits for the call
			return false
		case <-ctx.Done():
			return false
		}
		c.mu.Lock()
		if c.lookup(ca.id) != ca {
			c.mu.Unlock()
			return false
		}
	}
	return true
}

// sendParts sends the rest of a large request, so that smaller ones find room in between. It stops when the call
// has ended.
func (c *clientConn) sendParts(ctx context.Context, ca *call, rest []byte) {
	for len(rest) > 0 {
		part, typ := rest, byte(typePart)
		if len(part) > partSize {
			part, typ = part[:partSize], typePart|flagMore
		}
		c.mu.Lock()
		if c.lookup(ca.id) != ca {
			c.mu.Unlock()
			return
		}
		if !c.awaitRoom(ctx, ca) {
			return
		}
		before := len(c.buf)
		c.buf = appendFrame(c.buf, typ, ca.id, part...)
		mine := c.addedFor(ca, before)
		rest = rest[len(part):]
		ca.whole = len(rest) == 0
		c.mu.Unlock()
		if mine {
			c.flush(false)
		}
	}
}

// giveUp ends a call because its context has. It returns nil when an answer came at the same time, which then counts, or if the call has ended otherwise.
func (c *clientConn) giveUp(ctx context.Context, ca *call) *status.Error {
	c.mu.Lock()
	// A deadline that is told of so late has passed while this process stood still. The look at the deadlines has what is here read first, and blames nobody.
	stood := ca.deadline != 0 && policy.Now().Sub(ca.deadline) > stallAfter && errors.Is(ctx.Err(), context.DeadlineExceeded)
	if c.lookup(ca.id) != ca || stood {
		c.mu.Unlock()
		<-ca.done // whoever took it out is about to complete it
		return nil
	}
	fate, flush := c.abandon(ca)
	c.mu.Unlock()
	if flush {
		c.flush(false)
	}
	return gaveUp(ctx.Err(), fate)
}

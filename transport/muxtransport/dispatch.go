package muxtransport

import (
	"errors"
	"fmt"
	"hash/maphash"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/internal/callctx"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// serverCall is a call as its server keeps it. It is reused when its handler has returned; its context is not.
type serverCall struct {
	id     uint32
	pack   compression
	in     transport.Incoming
	ctx    *callctx.Context
	m      *method
	stream *serverStream
	state  atomic.Int32
	age    time.Duration // what it spent on its way
	next   *serverCall   // in the queue; guarded by the connection's mutex

	buf   []byte // the request, when it does not stay in the read buffer
	out   []byte // the encoded answer
	spare []byte // to compress into, and to decompress
	head  answerHead

	progress
}

// progress is what a call begins without.
type progress struct {
	unpacked int  // the size of the request once decompressed; 0 = it is not compressed
	packed   bool // the answer is compressed
	answered bool // nothing is left to send
	opening  bool // it came with OPEN
	held     bool // has been held back once
	asked    bool // the handler knows of it, see admitter
	waits    bool // and has it wait before it runs

	// Guarded by the connection's mutex.
	gathering bool // parts of the request are still to come
	kept      int  // what buf counts for in the connection's buffered
	total     int
}

const (
	callWaiting = iota
	callStarted
	callDropped // given up before it started
)

// method is what a connection knows about one method.
type method struct {
	name  string // "" = one without a number, see anonymous
	found any    // what the handler's FindMethod returned; nil if it was not asked
	// took is a moving average of how long the handler takes, in nanoseconds.
	took atomic.Int64
	// answer is the size of the last answer, if it or the one before it was large.
	answer atomic.Int64
	// goUntil is until when the handler runs on goroutines because it held up the reader; penalty is for how long it was sent
	// there last. Never before it was 0.
	goUntil, penalty atomic.Int64
}

const (
	// noted is the least by which the average of how long a handler takes is changed: less is not worth writing it.
	noted = int64(quick) / 256
	// quick is how long a handler may take on average to be run by the reader: more than that outweighs a goroutine's cost.
	quick = 20 * time.Microsecond
	// minPenalty to maxPenalty is how long a handler that held up the reader is kept away from it; each time four times longer.
	minPenalty = 10 * time.Millisecond
	maxPenalty = 10 * time.Second
	// forgiven is how long a handler must not have held up the reader for the next time to be an accident: on a busy machine
	// any handler loses its processor for a moment now and then. Taking the role over is all that is done about those.
	forgiven = 50 * time.Millisecond
)

// inlineAt reports whether the reader may run the handler itself.
func (m *method) inlineAt(now policy.Time) bool {
	return !m.slow() && int64(now) >= m.goUntil.Load()
}

// slow reports whether the handler takes longer than a goroutine costs.
func (m *method) slow() bool { return m.took.Load() >= int64(quick) }

// note learns from one run of the handler.
func (m *method) note(took time.Duration) {
	took = min(took, 10*quick) // one outlier must not weigh for long: punish deals with those
	old := m.took.Load()
	if step := (int64(took) - old) / 8; step >= noted || step <= -noted {
		m.took.Store(old + step)
	}
}

// punish keeps a handler that held up the reader away from it, unless it had done well for long: then all is forgiven.
func (m *method) punish(now policy.Time) {
	p := m.penalty.Load()
	if until := m.goUntil.Load(); until != 0 && int64(now)-until > max(4*p, int64(forgiven)) {
		p = 0
	} else {
		p = min(max(4*p, int64(minPenalty)), int64(maxPenalty))
	}
	m.penalty.Store(p)
	m.goUntil.Store(int64(now) + p)
}

// call takes in CALL.
func (c *serverConn) call(f *frame, t *turn) (keep bool, err error) {
	ca, msg, err := c.begin(f)
	if ca == nil {
		return true, err
	}
	if f.packed || f.more || len(msg) > c.sh.opts.MaxMessage {
		return true, c.callApart(ca, f, msg)
	}
	if ca.m.inlineAt(c.clock) && !c.late(ca) {
		if waits, refusal := c.arrive(ca); refusal != nil {
			c.refuse(ca, refusal)
			return true, nil
		} else if !waits {
			ca.in.Payload = msg
			return c.runInline(ca, t), nil
		}
	}
	ca.buf = append(ca.buf[:0], msg...)
	return true, c.dispatch(ca)
}

// callApart takes in CALL with a message that the reader does not run: it is compressed, which takes its time, not complete or too large.
func (c *serverConn) callApart(ca *serverCall, f *frame, msg []byte) error {
	var err error
	switch {
	case f.packed && !c.unpackable(ca, msg, &err):
		return err
	case f.more:
		return c.gather(ca, msg)
	case len(msg) > c.sh.opts.MaxMessage:
		c.refuse(ca, c.tooLarge(len(msg)))
		return nil
	}
	ca.buf = append(ca.buf[:0], msg...)
	return c.dispatch(ca)
}

// arrive asks the handler, once, whether a call may run.
func (c *serverConn) arrive(ca *serverCall) (waits bool, refusal *status.Error) {
	if c.s.admits == nil || ca.asked {
		return false, nil
	}
	waits, refusal = c.s.admits.Arrive(ca.ctx, &ca.in, c.clock)
	ca.asked, ca.waits = refusal == nil, waits
	return waits, refusal
}

// forget tells the handler of a call that it has let in and that is not going to start.
func (c *serverConn) forget(ca *serverCall) {
	if ca.asked {
		c.s.admits.Forget(ca.ctx)
	}
}

// unpackable finds out how large a compressed request becomes. If it returns false, the call was refused or makes no sense,
// which is err.
func (c *serverConn) unpackable(ca *serverCall, msg []byte, err *error) bool {
	if ca.unpacked, *err = packedSize(msg); *err != nil {
		*err = fmt.Errorf("call %#x: %w", ca.id, *err)
		return false
	}
	if ca.unpacked > c.sh.opts.MaxMessage {
		e := c.sh.bombed("request", ca.unpacked, c.sh.opts.MaxMessage)
		e.Fate = status.NotSent
		c.refuse(ca, e)
		return false
	}
	return true
}

// unpack decompresses the request of a call that is about to start.
func (c *serverConn) unpack(ca *serverCall) *status.Error {
	var err error
	if ca.spare, err = c.sh.unpack(ca.spare, ca.buf); err != nil {
		e := c.sh.unpackError("the request", err)
		e.Fate = status.NotSent
		return e
	}
	ca.in.Payload = ca.spare
	return nil
}

// begin reads the head of CALL or OPEN into a call, and returns what follows it. The call is nil if there is nothing to be done: it was
// refused, or the frame makes no sense, which is the error.
func (c *serverConn) begin(f *frame) (ca *serverCall, msg []byte, err error) {
	c.accepted.Add(1)
	if int(f.id&0xffff) >= c.sh.opts.MaxCalls {
		return nil, nil, malformedCall(f.id, errMalformed)
	}
	if c.slow.Load() {
		c.hurry()
	}
	if ca = c.current; c.spare {
		c.spare = false
	} else {
		ca = c.s.calls.Get().(*serverCall)
	}
	ca.progress = progress{}
	ca.id, ca.pack, ca.opening = f.id, c.pack, f.typ == typeOpen
	in, now := &ca.in, c.rd.now
	in.Metadata, in.Payload, in.Peer, in.TLS = nil, nil, c.remoteAddr, c.tls
	in.Received, in.Deadline, in.PathAttempt, in.Criticality = now, 0, 1, 0
	h, msg, plain := parsePlain(f.payload)
	if plain && int(h.method) <= len(c.methods) {
		if m := c.methods[h.method-1]; ca.m != m {
			ca.m = m
		}
		in.Method, in.Codec = ca.m.name, codecNames[h.codec]
	} else if h, msg, err = c.readHead(ca, f.payload); msg == nil {
		return nil, nil, err
	}
	ca.age = c.age.of(h.sent, now)
	if h.hasDeadline {
		in.Deadline = now.Add(h.timeout - ca.age)
	}
	if c.draining.Load() || in.Deadline != 0 && in.Deadline <= c.clock {
		c.refuseNew(ca)
		return nil, nil, nil
	}
	if c.s.contexts != nil {
		ca.ctx = c.s.contexts.CallContext(c.info, ca.m.found, in)
	} else {
		ca.ctx = callctx.New(in.Deadline, nil)
	}
	return ca, msg, nil
}

// readHead reads a head that is not that of a plain call: into the call, but for the times in h. It returns what follows it, not nil unless there is nothing
// to be done, as in begin.
func (c *serverConn) readHead(ca *serverCall, payload []byte) (h plainCall, msg []byte, err error) {
	cur := cursor{in: payload}
	var said rawCall
	if err := parseCall(&cur, c.sh.opts.MaxHeader, c.inNames(payload, callMetadata), &said); err != nil {
		return h, nil, c.badHead(ca, &said, err)
	}
	m, err := c.method(&said)
	if err != nil {
		return h, nil, err
	}
	ca.m, ca.total = m, said.total
	if said.hasReply {
		ca.pack = c.replyPack(said.reply)
	}
	in := &ca.in
	in.Method, in.Codec, in.Metadata = m.name, said.codec, said.metadata
	in.PathAttempt, in.Criticality = max(said.attempt, 1), said.criticality
	if m.name == "" {
		in.Method = string(said.rawName)
	}
	if said.rawCodec != nil {
		in.Codec = string(said.rawCodec)
	}
	h.hasDeadline, h.timeout, h.sent = said.hasDeadline, said.timeout, said.sent
	return h, cur.rest(), nil
}

func malformedCall(id uint32, err error) error { return fmt.Errorf("call %#x: %w", id, err) }

// hurry has the peer looked after sooner, now that there are calls.
func (c *serverConn) hurry() {
	c.mu.Lock()
	c.hurryKeepalive()
	c.mu.Unlock()
}

// replyPack returns how to compress what is sent in return for a call that asks for that.
func (c *serverConn) replyPack(asked compression) compression {
	if c.sh.opts.unpacks() != 0 && asked.in(c.peer.unpacks) {
		return asked
	}
	return packNone
}

// refuseNew refuses a call that came too late: for this connection, or for its caller.
func (c *serverConn) refuseNew(ca *serverCall) {
	if c.draining.Load() {
		c.refuse(ca, draining("the server is shutting down"))
	} else {
		c.refuse(ca, c.expired())
	}
}

// badHead refuses a call whose head does not parse, if nothing is wrong with it but its size; else it returns the error.
func (c *serverConn) badHead(ca *serverCall, h *rawCall, err error) error {
	var large headerTooLargeError
	if !errors.As(err, &large) {
		return malformedCall(ca.id, err)
	}
	// The name that came with it, if any, still has to be remembered.
	if _, err := c.method(h); err != nil {
		return err
	}
	c.sh.tooLarge.Add(1)
	c.refuse(ca, &status.Error{Code: status.ResourceExhausted, Kind: status.TooLarge, Fate: status.NotSent, Message: large.Error()})
	return nil
}

func (c *serverConn) expired() *status.Error {
	c.sh.expired.Add(1)
	return &status.Error{Code: status.DeadlineExceeded, Kind: status.Expired, Fate: status.NotSent,
		Message: "the deadline had passed before the call could start"}
}

func (c *serverConn) tooLarge(size int) *status.Error {
	c.sh.tooLarge.Add(1)
	return &status.Error{Code: status.ResourceExhausted, Kind: status.TooLarge, Fate: status.NotSent,
		Message: fmt.Sprintf("request of %d bytes is over the limit of %d", size, c.sh.opts.MaxMessage)}
}

func (c *serverConn) shedding(what string) *status.Error {
	c.sh.shed.Add(1)
	return &status.Error{Code: status.ResourceExhausted, Kind: status.Shed, Fate: status.NotSent,
		Message: "the connection has too many " + what + " under way"}
}

// method finds the method that h means, and remembers it when it is new.
func (c *serverConn) method(h *rawCall) (*method, error) {
	switch {
	case h.rawName == nil && h.method > 0 && int(h.method) <= len(c.methods):
		return c.methods[h.method-1], nil
	case h.method == 0 && h.rawName != nil:
		return c.anonymous(h.rawName), nil
	case h.rawName != nil && int(h.method) == len(c.methods)+1:
		return c.newMethod(h.rawName)
	}
	return nil, fmt.Errorf("method number %d out of order: %w", h.method, errMalformed)
}

// newMethod remembers a method under the next number.
func (c *serverConn) newMethod(name []byte) (*method, error) {
	if c.nameBytes += len(name); c.nameBytes > maxMethodBytes {
		return nil, fmt.Errorf("more than %d bytes of names of methods to be remembered: %w", maxMethodBytes, errMalformed)
	}
	m := &method{name: string(name)}
	if c.s.contexts != nil {
		m.found = c.s.contexts.FindMethod(m.name)
	}
	c.methods = append(c.methods, m)
	return m, nil
}

// unnumbered is how many records a connection keeps of the methods that have no number. Those whose names hash alike share one: it says how their
// handlers behave, and with a fresh one each time a slow handler would hold up the reader again and again.
const unnumbered = 64

// anonymous returns the record of a method that has no number.
func (c *serverConn) anonymous(name []byte) *method {
	if c.unnumbered == nil {
		c.unnumbered = new([unnumbered]method)
	}
	return &c.unnumbered[maphash.Bytes(c.s.seed, name)%unnumbered]
}

// turn is a handler that a reader runs. It belongs to the reader's goroutine: by the time the handler returns, the role may be another's.
type turn struct {
	ca      *serverCall
	running bool   // it has not returned
	seq     uint64 // of inline meanwhile
	began   policy.Time
}

// runInline runs the handler on the reader's own goroutine. It returns false when the role was taken over meanwhile.
func (c *serverConn) runInline(ca *serverCall, t *turn) (keep bool) {
	// What changes rarely is only written when it does: while the collector marks, it is told of each pointer.
	if c.current != ca {
		c.current = ca
	}
	if t.ca != ca {
		t.ca = ca
	}
	t.running, t.began = true, c.clock
	c.lendRole(t)
	out := c.s.handler.Unary(ca.ctx, &ca.in)
	c.encodeAnswer(ca, &out)
	t.running = false
	return c.finishInline(ca, t, &out)
}

// lendRole begins what may take long: from here on the role may be taken over.
func (c *serverConn) lendRole(t *turn) {
	t.seq = c.inline.Add(1)
	if !c.entry.hot.Load() {
		c.sh.watch.add(&c.entry)
	}
}

// regainRole ends what may take long. It returns false if the role was taken over meanwhile.
func (c *serverConn) regainRole(t *turn) bool { return c.inline.CompareAndSwap(t.seq, t.seq+1) }

// unreturned ends a turn whose handler did not return, and with it the goroutine that had the role: it panicked with cause, or called
// runtime.Goexit.
func (c *serverConn) unreturned(rd *reader, t turn, cause any) {
	out := c.panicked(t.ca, cause, debug.Stack())
	c.encodeAnswer(t.ca, &out)
	if c.finishInline(t.ca, &t, &out) {
		go c.read()
	} else {
		rd.release()
	}
}

// finishInline answers a call that the reader ran, and finds out whether it is still the reader.
func (c *serverConn) finishInline(ca *serverCall, t *turn, out *transport.Outgoing) (keep bool) {
	ca.ctx.End()
	if len(ca.out) > partSize { // may have to wait, so the role can be lost over it
		if c.regainRole(t) {
			c.handIn() // what came before need not wait as well
			c.lendRole(t)
		}
		c.sendAnswer(ca, false)
	}
	if !c.regainRole(t) {
		c.finish(ca)
		return false
	}
	c.clock = ca.over(out)
	ca.m.note(c.clock.Sub(t.began))
	switch {
	case ca.answered:
	case ca.plain():
		c.appendPlain(ca)
	default: // not beside the writer's buffer: keys of metadata are numbered in the order in which they are sent
		c.mu.Lock()
		c.appendAnswer(ca, typeAnswer, ca.out, 0)
		c.mu.Unlock()
	}
	if len(c.answers) >= flushSize || c.clock > c.flushAt {
		c.handIn()
		c.flushPending()
		c.flushAt = c.clock.Add(flushInterval)
	}
	c.spare = true
	return true
}

// handIn gives the writer what the reader has answered. Its caller has the reader's role.
func (c *serverConn) handIn() {
	c.mu.Lock()
	c.handInLocked()
	c.mu.Unlock()
}

// handInLocked is handIn with mu held.
func (c *serverConn) handInLocked() {
	if c.cause == nil {
		c.buf = append(c.buf, c.answers...)
		c.appended += uint64(len(c.answers))
	}
	c.answers = c.answers[:0]
}

// shortAnswer is the size of answers that take no longer to encode than it takes to read the clock a few times.
const shortAnswer = 1 << 10

// over is when a call that the reader has run was over, its answer encoded. Mostly that is as good as when its handler was done.
func (ca *serverCall) over(out *transport.Outgoing) policy.Time {
	if _, quick := out.Codec.(codec.Proto); quick && out.Ended != 0 && len(ca.out) <= shortAnswer && ca.pack == packNone {
		return out.Ended
	}
	return policy.Now()
}

// lookInline takes the reader's role over from a handler that has held it since the last look. It returns false when
// the reader runs no handler.
func (c *serverConn) lookInline() bool {
	seq := c.inline.Load()
	if seq&1 == 0 {
		return false
	}
	if seq != c.seenInline {
		c.seenInline = seq
		return true
	}
	c.mu.Lock()
	taken := c.cause == nil && c.takeRole()
	c.mu.Unlock()
	if taken {
		c.sh.takeovers.Add(1)
		go func() {
			c.handIn() // what was answered before the handler got stuck: the next may get stuck as well
			c.flushPending()
			c.read()
		}()
	}
	return false
}

// look implements watched.
func (c *serverConn) look() bool {
	writing := c.lookWriter()
	return c.lookInline() || writing
}

// takeRole takes the reader's role from a handler that has it. The call becomes one like those on goroutines. mu is held.
func (c *serverConn) takeRole() bool {
	seq := c.inline.Load()
	if seq&1 == 0 {
		return false
	}
	if !c.inline.CompareAndSwap(seq, seq+1) {
		return false
	}
	ca := c.current
	ca.m.punish(policy.Now())
	ca.state.Store(callStarted)
	c.running++
	// A client that uses an id twice is found out here at the latest: then this call is in nobody's table and unanswered.
	_ = c.register(ca)
	c.rd = c.rd.fork()
	return true
}

// dispatch has the handler run beside the reader.
func (c *serverConn) dispatch(ca *serverCall) error {
	late := c.late(ca)
	// Asked here, a batch of calls would hold its places while it waits for a goroutine. So they ask when they start, unless a refusal is
	// likely, which is cheaper here, or the processors do not keep up: what waits has to stand in the line then, where the important come first.
	if !late && c.s.admits != nil && (c.crowded || c.s.admits.Refusing(c.clock)) {
		if _, refusal := c.arrive(ca); refusal != nil {
			c.refuse(ca, refusal)
			return nil
		}
	}
	spawn := false
	c.mu.Lock()
	var refusal *status.Error
	switch {
	case c.running >= c.sh.opts.MaxCalls:
		refusal = c.shedding("calls")
	case c.buffered+len(ca.buf)+ca.unpacked > c.sh.opts.MaxBuffered:
		refusal = c.shedding("bytes")
	default:
		if err := c.register(ca); err != nil {
			c.mu.Unlock()
			c.forget(ca)
			return err
		}
		ca.kept = len(ca.buf) + ca.unpacked
		c.buffered += ca.kept
		c.running++
		ca.in.Payload = ca.buf
		c.crowded = c.first != nil && c.clock.Sub(c.first.in.Received) > crowdedAge
		if !late || !c.hold(ca) {
			spawn = c.enqueue(ca, c.clock)
		}
	}
	c.mu.Unlock()
	if refusal != nil {
		c.forget(ca)
		c.refuse(ca, refusal)
	}
	if spawn {
		go c.work()
	}
	return nil
}

// run runs the handler of a unary call that was taken from the queue at began.
func (c *serverConn) run(ca *serverCall, began policy.Time) {
	defer c.finish(ca)
	if !ca.state.CompareAndSwap(callWaiting, callStarted) {
		ca.answered = true
		c.forget(ca)
		return
	}
	if ca.in.Deadline != 0 && ca.in.Deadline <= began {
		c.forget(ca)
		ca.out, ca.head = ca.out[:0], answerHead{status: c.expired()}
		return
	}
	returned, unstarted := false, false
	defer func() {
		if !returned {
			out := c.panicked(ca, recover(), debug.Stack())
			c.encodeAnswer(ca, &out)
		}
		ca.ctx.End()
		if !ca.waits && !unstarted { // that says nothing about the handler
			ca.m.note(policy.Now().Sub(began))
		}
	}()
	var out transport.Outgoing
	if ca.unpacked > 0 {
		if out.Status = c.unpack(ca); out.Status != nil {
			c.forget(ca)
		}
	}
	if out.Status == nil {
		out = c.s.handler.Unary(ca.ctx, &ca.in)
	}
	unstarted = out.Status != nil && out.Status.Fate == status.NotSent
	c.encodeAnswer(ca, &out)
	returned = true
}

// finish answers a call that ran beside the reader and gives back what it held.
func (c *serverConn) finish(ca *serverCall) {
	if !ca.answered {
		c.sendAnswer(ca, true)
	}
	c.mu.Lock()
	c.leave(ca)
	c.running--
	c.buffered -= ca.kept
	if c.draining.Load() {
		c.checkDrained()
	}
	gone := c.closed && c.running == 0
	c.mu.Unlock()
	if gone {
		c.s.gone(c)
	}
	c.s.recycle(ca)
}

package oneport

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// firstWindow is how much may be sent on a stream, and on a connection, before the peer has said anything about it: RFC 9113 section 6.9.2.
	firstWindow = 65535
	// settingWindow is the setting that changes it for streams.
	settingWindow = 4
	// settingHeader is the setting that bounds what the peer takes of an answer's header, or trailer.
	settingHeader = 6
	// pace is how much room a peer that lets an answer wait must make within its time. One that makes it a byte at a time does not keep it.
	pace = 64 << 10
	// sweeps is how often, within Options.SlowReader, awaited answers are looked at.
	sweeps = 4
	// mostPatience bounds what large windows give beside that, in times of Options.SlowReader.
	mostPatience = 30
)

// flows knows which HTTP/2 streams are open and how much the peer lets the server send on each, from the frames that pass both ways. grpc-go keeps an answer
// until the peer takes it, for as long as the connection lives, so whoever has handed one over lets it be awaited here. It is safe for concurrent use.
type flows struct {
	conn *Conn
	grpc bool // grpc-go serves the connection, else net/http

	mu      sync.Mutex
	first   int64 // window of new streams
	total   room  // of the connection
	kept    int64 // bytes of streams that have ended, which may still fill the connection's window
	open    map[uint32]*flow
	last    uint32 // the newest stream
	upTo    uint32 // the newest that the server takes in
	bye     farewell
	large   uint32 // the last stream whose header was counted as too large
	longest uint32 // a stream that has begun with a long header, the last thing that has come, and nothing been sent on it; 0 = none
	awaited int
	lastCut time.Duration // when streams were cut off last, because of what they are sent; 0 = never
	hope    time.Duration // when those were whose room the connection waits for, which has been shut since; 0 = for none's
	relief  time.Duration // when those were that filled the connection's window, which has been shut since; 0 = not yet
	timer   *time.Timer   // runs while anything is awaited
	senders *time.Timer   // runs while a request has not come whole
	patient bool          // no request is waited for any shorter than its caller likes
	closed  bool
	spare   *flow // of a stream that has ended

	cuts    cuts
	cutting atomic.Int32 // streams that are being cut off

	said atomic.Int64 // frames of answers, and PINGs of the server's own, that were written

	header atomic.Uint32 // how large a header the peer takes; 0 = it has not said

	// Of what is written; the connection's writer alone.
	out     framing
	telling uint32 // the reason for the reset that was begun last, if it is one of the port's; 0 = it is not
	counted bool   // so is that
}

// flow is one stream that has not ended.
type flow struct {
	room
	limit time.Duration // how long what is awaited may be without room; 0 = nothing is
	from  time.Duration // since when it is awaited
	once  bool          // it is a call with one answer
	cut   int           // it is being cut off, since so many sweeps

	whole  bool   // the request has come, or may take as long as it likes
	sweeps int    // that it was waited for
	reason uint32 // why it is cut off

	after time.Duration // net/http may reset it from then on for that reason
	told  bool          // that has been counted
}

// room is a window, and since when there is none, or only now and then a little.
type room struct {
	left    int64
	opened  time.Duration // when there was some again
	since   time.Duration // since the port was made; 0 = there is room
	granted int64         // since then
	out     int64         // sent, and not given back
	size    int64         // the most there was
}

// lull is how long there must be room that nobody needs for it to count as enough.
const lull = 100 * time.Millisecond

// take uses n bytes up.
func (r *room) take(n int64, now time.Duration) {
	had := r.left > 0
	r.out += n
	if r.left -= n; r.left <= 0 && (r.since == 0 || had && now-r.opened >= lull) {
		r.since, r.granted = now, 0
	}
}

// grant adds n bytes, which may be negative.
func (r *room) grant(n int64, now time.Duration) {
	if r.left <= 0 {
		r.opened = now
	}
	r.left += n
	r.size = max(r.size, r.left)
	r.granted += n
	r.out = max(r.out-max(n, 0), 0)
	if r.since != 0 && r.granted >= pace {
		r.since = 0
	}
	r.take(0, now)
}

// starving says since when there has been no room; 0 = there is.
func (r *room) starving() time.Duration {
	if r.left > 0 {
		return 0 // what waits goes out just now
	}
	return r.since
}

func newFlows(c *Conn, grpc bool) *flows {
	return &flows{conn: c, grpc: grpc, first: firstWindow, total: room{left: firstWindow, size: firstWindow}, open: map[uint32]*flow{}, upTo: math.MaxInt32}
}

func (f *flows) now() time.Duration { return max(time.Since(f.conn.port.start), 1) }

// opened notes a HEADERS frame of the peer's, whole if nothing follows it.
func (f *flows) opened(stream uint32, whole bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if stream <= f.last || stream > f.upTo {
		return // the trailer of one that is known, or was; one that the server passes over
	}
	f.last = stream
	if n := f.conn.port.opt.MaxStreams; n > 0 && len(f.open) >= n {
		f.conn.port.n.overStreams.Add(1)
	}
	s := f.spare
	if f.spare = nil; s == nil {
		s = new(flow)
	}
	*s = flow{room: room{left: f.first}, whole: whole}
	f.open[stream] = s
	if !whole {
		f.expect()
	}
}

// ended notes that a stream was reset, or answered.
func (f *flows) ended(stream uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.end(stream)
}

// end is ended with mu held.
func (f *flows) end(stream uint32) {
	s := f.open[stream]
	if s == nil {
		return
	}
	if s.limit > 0 {
		f.awaited--
	}
	if s.cut > 0 {
		f.cutting.Add(-1)
	}
	if !s.once {
		f.kept += s.out
	}
	delete(f.open, stream)
	f.spare = s
}

// granted notes a WINDOW_UPDATE frame of the peer's.
func (f *flows) granted(stream uint32, n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if stream == 0 {
		f.total.grant(n, f.now())
		f.kept = max(f.kept-n, 0)
	} else if s := f.open[stream]; s != nil {
		s.grant(n, f.now())
	}
}

// resized notes that the peer's SETTINGS change the windows of all streams.
func (f *flows) resized(first int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	by := first - f.first
	f.first = first
	now := f.now()
	for _, s := range f.open {
		s.grant(by, now)
	}
}

// wrote follows what the server has sent.
func (f *flows) wrote(p []byte) {
	for len(p) > 0 {
		var ok bool
		if p, ok = f.out.next(p); !ok {
			continue
		}
		hdr := &f.out.hdr
		typ, ends, stream := hdr[3], hdr[4]&flagEndStream != 0, streamOf(hdr[:])
		if typ == frameData || typ == frameHeaders || typ == framePing && hdr[4]&flagAck == 0 {
			f.said.Add(1)
		}
		if typ != frameData && typ != frameReset && typ != frameGoAway && typ != frameHeaders {
			continue
		}
		f.mu.Lock()
		if typ != frameGoAway && stream == f.longest {
			f.longest = 0
		}
		switch n := int64(f.out.left); {
		case typ == frameData && n > 0:
			now := f.now()
			f.total.take(n, now)
			if s := f.open[stream]; s != nil {
				s.take(n, now)
			}
			if !f.grpc && bytes.HasPrefix(p, tooLargeHTTP2) {
				f.tooLarge(stream)
			}
		case typ == frameReset && f.grpc && len(p) >= 4 && binary.BigEndian.Uint32(p) == codeFrameSize:
			f.tooLarge(stream) // grpc-go's word for it
		case typ == frameGoAway && len(p) >= 8:
			f.goesAway(binary.BigEndian.Uint32(p)&^(1<<31), binary.BigEndian.Uint32(p[4:]))
		}
		if typ == frameReset || typ != frameGoAway && ends {
			f.end(stream)
		}
		f.mu.Unlock()
	}
}

// tooLarge counts a stream whose header is too large, once. mu is held.
func (f *flows) tooLarge(stream uint32) {
	if stream != f.large {
		f.large = stream
		f.conn.port.n.largeHeaders.Add(1)
	}
}

// largeHeader notes that a header's block alone is over the limit.
func (f *flows) largeHeader(stream uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tooLarge(stream)
}

// await bounds how long what waits on a stream may be without room; 0 = not any more. On stream 0 it is what waits on any of them, for as long as is ever bounded.
func (f *flows) await(stream uint32, limit time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	if s := f.open[stream]; s != nil {
		f.awaitOn(s, limit)
	}
	if stream == 0 && limit > 0 {
		for _, s := range f.open {
			if s.limit == 0 {
				f.awaitOn(s, max(limit, mostPatience*f.conn.port.opt.SlowReader))
			}
		}
	}
}

// awaitOn is await for a stream that is open. mu is held.
func (f *flows) awaitOn(s *flow, limit time.Duration) {
	if (limit > 0) != (s.limit > 0) {
		if limit > 0 {
			f.awaited++
		} else {
			f.awaited--
		}
	}
	s.limit, s.from = limit, f.now()
	if limit > 0 {
		s.once = limit <= f.conn.port.opt.SlowReader
	}
	s.take(0, s.from) // a window may have been closed from the beginning
	if f.awaited > 0 && f.timer == nil {
		f.timer = time.AfterFunc(f.conn.port.opt.SlowReader/sweeps, f.sweep)
	}
}

// sweep cuts off the streams whose peer leaves them without room for too long, and ends the connection if it does so with all of them.
func (f *flows) sweep() {
	f.mu.Lock()
	if f.closed || f.awaited == 0 {
		f.timer = nil
		f.mu.Unlock()
		return
	}
	late, shut, cut := f.tooSlow()
	if !late {
		f.timer.Reset(f.conn.port.opt.SlowReader / sweeps)
	}
	f.mu.Unlock()
	n := &f.conn.port.n.slowReaders
	switch {
	case late:
		n.Add(1)
		if shut {
			f.conn.port.tellShut(f.conn)
		}
		f.conn.Close()
	case len(cut) > 0:
		n.Add(int64(len(cut)))
		f.cuts.add(f.conn.Conn, cut)
	}
}

// tooSlow judges what is awaited: whether the connection has to end, because it is shut or otherwise, and if not which streams. mu is held.
func (f *flows) tooSlow() (late, shut bool, cut []uint32) {
	now := f.now()
	for id, s := range f.open {
		switch {
		case s.limit == 0:
		case s.cut > 0:
			s.cut++
			late = late || s.cut > 1+sweeps // the peer does not end the frame that it has begun, or grpc-go does not read
		case f.late(s, now, s.starving(), s.limit, f.first):
			f.calm(s)
			cut = append(cut, id)
		}
	}
	if len(cut) > 0 {
		f.lastCut = now
	}
	if f.total.since == 0 || f.total.since > max(f.hope, f.relief) { // there has been room since
		f.hope, f.relief = 0, 0
	}
	waits := false
	for _, s := range f.open {
		waits = waits || s.limit > 0 && f.late(s, now, f.total.starving(), f.shared(s.limit), f.total.size)
	}
	if waits {
		var more []uint32
		more, shut = f.relieve(now)
		cut = append(cut, more...)
	}
	return late || shut, shut, cut
}

// calm has a stream cut off whose peer does not take what it is sent. mu is held.
func (f *flows) calm(s *flow) {
	s.cut, s.reason = 1, codeCalm
	f.cutting.Add(1)
}

// relieve is for a connection whose window has been shut for too long: nobody on it gets an answer. Those streams are cut off which fill the window, since most peers give back what
// is not read any more: first those that are late by themselves, for whose room it waits as long as a reader has, and then answers, unless it is streams that have waited for their
// longer time which fill it. If that was long ago, or there are none, nothing but another connection helps. mu is held.
func (f *flows) relieve(now time.Duration) (cut []uint32, gone bool) {
	slow := f.conn.port.opt.SlowReader
	if f.relief != 0 {
		return nil, now-f.relief >= slow
	}
	if f.hope == 0 && f.lastCut != 0 && now-f.lastCut < slow {
		f.hope = f.lastCut // once: a peer may have streams be late all the time
	}
	if f.hope != 0 && now-f.hope < slow {
		return nil, false
	}
	freed, answers := int64(0), false
	for id, s := range f.open {
		switch {
		case s.cut > 0:
			freed += s.out
		case s.out > 0:
			cut, answers = append(cut, id), answers || s.once
		}
	}
	if answers && !f.patientlyFilled() {
		cut = slices.DeleteFunc(cut, func(id uint32) bool { return !f.open[id].once })
	}
	slices.SortFunc(cut, func(a, b uint32) int { return cmp.Or(cmp.Compare(f.open[b].out, f.open[a].out), cmp.Compare(a, b)) })
	n := 0
	for ; n < len(cut) && 2*(f.total.out-freed) > f.total.size; n++ {
		s := f.open[cut[n]]
		freed += s.out
		f.calm(s)
	}
	if cut = cut[:n]; n == 0 && f.cutting.Load() == 0 {
		return nil, true
	}
	f.relief = now
	return cut, false
}

// late reports whether what waits on s has waited too long for a window of that size, which has been shut since then.
func (f *flows) late(s *flow, now, since, limit time.Duration, window int64) bool {
	return since != 0 && now-max(since, s.from) >= patience(limit, f.conn.port.opt.SlowReader, window)
}

// shared is how long what may wait for that long may wait for the connection's window. If streams fill most of that, whose messages may wait for longer, an
// answer that waits behind them does so too: their peer has done nothing that it may not, and would lose them all.
func (f *flows) shared(limit time.Duration) time.Duration {
	if f.patientlyFilled() {
		return max(limit, mostPatience*f.conn.port.opt.SlowReader)
	}
	return limit
}

// patientlyFilled reports whether most of what fills the connection's window is streams' messages. mu is held.
func (f *flows) patientlyFilled() bool {
	held := f.kept
	for _, s := range f.open {
		if !s.once {
			held += s.out
		}
	}
	return held > 0 && 2*held >= f.total.out
}

// patience is limit times what peers with a window of that size need: they make room by halves of it, so who has a large one does so less often.
func patience(limit, slow time.Duration, window int64) time.Duration {
	times := min(max(window/2/pace, 1), mostPatience)
	return min(limit*time.Duration(times), max(limit, mostPatience*slow))
}

// Patience says how long the peer of an HTTP/2 connection may take no more of an answer if it is given that long for 64 KiB: longer if its windows are larger.
func (c *Conn) Patience(limit time.Duration) time.Duration {
	f := c.flows
	if f == nil {
		return limit
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	window := f.first
	if f.total.starving() != 0 {
		window = max(window, f.total.size)
	}
	return patience(limit, c.port.opt.SlowReader, window)
}

// long notes that a long header has come whole on a stream, and nothing else since; 0 = something has.
func (f *flows) long(stream uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.longest = stream
}

func (f *flows) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.longest != 0 { // servers have no other answer to a single field over the limit
		f.tooLarge(f.longest)
		f.longest = 0
	}
	f.closed = true
	for _, t := range []*time.Timer{f.timer, f.senders} {
		if t != nil {
			t.Stop()
		}
	}
}

// framing finds the frames in a stream of bytes.
type framing struct {
	left int               // bytes of the present frame's payload that have not come yet
	hdr  [frameHeader]byte // the next frame's header, as far as it has come
	have int
}

// next takes bytes from p, and says whether a frame's header is complete now.
func (f *framing) next(p []byte) (rest []byte, header bool) {
	if f.left > 0 {
		k := min(f.left, len(p))
		f.left -= k
		return p[k:], false
	}
	k := copy(f.hdr[f.have:], p)
	if f.have += k; f.have < frameHeader {
		return p[k:], false
	}
	f.have, f.left = 0, payloadLen(f.hdr[:])
	return p[k:], true
}

func streamOf(hdr []byte) uint32 { return binary.BigEndian.Uint32(hdr[5:]) &^ (1 << 31) }

package oneport

import (
	"encoding/binary"
	"sync"
	"time"
)

const (
	// firstWindow is how much may be sent on a stream, and on a connection, before the peer has said anything about it: RFC 9113 section 6.9.2.
	firstWindow = 65535
	// settingWindow is the setting that changes it for streams.
	settingWindow = 4
	// pace is how much room a peer that lets an answer wait must make within its time. One that makes it a byte at a time does not keep it.
	pace = 64 << 10
	// sweeps is how often, within Options.SlowReader, awaited answers are looked at.
	sweeps = 4
	// mostPatience bounds what large windows give beside that, in times of Options.SlowReader.
	mostPatience = 30
)

// flows knows how much a peer lets the server send on each HTTP/2 stream, from the frames that pass both ways. grpc-go keeps an answer until the peer takes
// it, for as long as the connection lives, so whoever has handed one over lets it be awaited here. It is safe for concurrent use.
type flows struct {
	conn *Conn

	mu      sync.Mutex
	first   int64 // window of new streams
	total   room  // of the connection
	open    map[uint32]*flow
	last    uint32 // the newest stream
	awaited int
	timer   *time.Timer // runs while anything is awaited
	closed  bool
	spare   *flow // of a stream that has ended

	out framing // of what is written; the connection's writer alone
}

// flow is one stream that has not ended.
type flow struct {
	room
	limit time.Duration // how long what is awaited may be without room; 0 = nothing is
	from  time.Duration // since when it is awaited
}

// room is a window, and since when there is none, or only now and then a little.
type room struct {
	left    int64
	opened  time.Duration // when there was some again
	since   time.Duration // since the port was made; 0 = there is room
	granted int64         // since then
}

// lull is how long there must be room that nobody needs for it to count as enough.
const lull = 100 * time.Millisecond

// take uses n bytes up.
func (r *room) take(n int64, now time.Duration) {
	had := r.left > 0
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
	r.granted += n
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

func newFlows(c *Conn) *flows {
	return &flows{conn: c, first: firstWindow, total: room{left: firstWindow}, open: map[uint32]*flow{}}
}

func (f *flows) now() time.Duration { return max(time.Since(f.conn.port.start), 1) }

// opened notes a HEADERS frame of the peer's.
func (f *flows) opened(stream uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if stream <= f.last {
		return // the trailer of one that is known, or was
	}
	f.last = stream
	s := f.spare
	if f.spare = nil; s == nil {
		s = new(flow)
	}
	*s = flow{room: room{left: f.first}}
	f.open[stream] = s
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
	delete(f.open, stream)
	f.spare = s
}

// granted notes a WINDOW_UPDATE frame of the peer's.
func (f *flows) granted(stream uint32, n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if stream == 0 {
		f.total.grant(n, f.now())
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
		if typ != frameData && typ != frameReset && (typ != frameHeaders || !ends) {
			continue
		}
		f.mu.Lock()
		if n := int64(f.out.left); typ == frameData && n > 0 {
			now := f.now()
			f.total.take(n, now)
			if s := f.open[stream]; s != nil {
				s.take(n, now)
			}
		}
		if typ == frameReset || ends {
			f.end(stream)
		}
		f.mu.Unlock()
	}
}

// await bounds how long what waits on a stream may be without room; 0 = not any more.
func (f *flows) await(stream uint32, limit time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.open[stream]
	if s == nil || f.closed {
		return
	}
	if (limit > 0) != (s.limit > 0) {
		if limit > 0 {
			f.awaited++
		} else {
			f.awaited--
		}
	}
	s.limit, s.from = limit, f.now()
	s.take(0, s.from) // a window may have been closed from the beginning
	if f.awaited > 0 && f.timer == nil {
		f.timer = time.AfterFunc(f.conn.port.opt.SlowReader/sweeps, f.sweep)
	}
}

// sweep ends the connection if its peer lets an answer wait too long.
func (f *flows) sweep() {
	f.mu.Lock()
	if f.closed || f.awaited == 0 {
		f.timer = nil
		f.mu.Unlock()
		return
	}
	now, late := f.now(), false
	whole := f.total.starving()
	grain := max(f.first/2/pace, 1) // peers make room by halves of their windows: who has large ones does so less often
	for _, s := range f.open {
		if s.limit == 0 {
			continue
		}
		since := s.starving()
		if whole != 0 && (since == 0 || whole < since) {
			since = whole
		}
		late = late || since != 0 && now-max(since, s.from) >= min(s.limit*time.Duration(grain), max(s.limit, mostPatience*f.conn.port.opt.SlowReader))
	}
	if !late {
		f.timer.Reset(f.conn.port.opt.SlowReader / sweeps)
	}
	f.mu.Unlock()
	if late {
		f.conn.port.n.slowReaders.Add(1)
		f.conn.Close()
	}
}

func (f *flows) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.timer != nil {
		f.timer.Stop()
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

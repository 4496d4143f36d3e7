package oneport

import (
	"encoding/binary"
	"errors"
	"io"
	"time"
)

// Errors that a flooded connection's Read ends with.
var (
	errResetFlood   = errors.New("the peer resets more HTTP/2 streams per second than it may: closing its connection")
	errControlFlood = errors.New("the peer sends more HTTP/2 control frames per second than it may: closing its connection")
)

// HTTP/2 frame types and flags, RFC 9113 section 6.
const (
	frameData         = 0
	frameHeaders      = 1
	framePriority     = 2
	frameReset        = 3
	frameSettings     = 4
	framePing         = 6
	frameGoAway       = 7
	frameWindow       = 8
	frameContinuation = 9

	flagAck        = 1
	flagEndStream  = 1
	flagEndHeaders = 4
	flagPadded     = 8
	flagPriority   = 0x20

	frameHeader = 9
	// maxFramePayload is what a peer may send in one frame unless it was told otherwise, and nobody is.
	maxFramePayload = 16 << 10
)

// guard follows the frames that an HTTP/2 peer sends, without keeping them. Until it has met the acknowledgement of the SETTINGS that
// the port sent it takes that out of the stream; from then on it only counts.
type guard struct {
	port  *Port
	flows *flows
	acked bool

	framing
	out   []byte // what the server has still to be given: of hdr, before acked, or of frames that cut streams off
	first int64  // the window of streams that a SETTINGS frame sets last, plus one; 0 = it sets none
	part  []byte // of a payload that flows must know, what has come; at most one setting or PING

	block   int        // bytes in the header's block that came last; its frames count as they begin
	inBlock bool       // it has not come whole
	last    bool       // the present frame is its last
	long    bool       // flows knows that it is long
	late    *blockTime // how long it may take; nil until a read waits for one

	window          time.Time
	resets, control int
	said            int64 // of flows, when the window began
}

// read fills b with what the server may see. It may return 0 bytes and no error.
func (g *guard) read(b []byte, from func([]byte) (int, error)) (int, error) {
	if len(g.out) > 0 {
		n := copy(b, g.out)
		g.out = g.out[n:]
		return n, nil
	}
	if g.left == 0 && g.have == 0 && !g.inBlock && g.flows.cuts.waiting.Load() {
		if g.out = g.flows.cutFrames(); len(g.out) > 0 {
			return 0, nil
		}
	}
	if g.flows.over() {
		return 0, io.EOF
	}
	n, err := g.follow(b, from)
	if g.last && g.left == 0 {
		g.inBlock = false
	}
	if err != nil {
		g.after()
	}
	return n, err
}

// follow is read for what comes from the peer.
func (g *guard) follow(b []byte, from func([]byte) (int, error)) (int, error) {
	if !g.acked {
		return g.filter(b, from)
	}
	if g.flows.cuts.waiting.Load() { // else a peer that sends all the time might never let anybody get a word in
		ahead := g.left
		if ahead == 0 {
			ahead = frameHeader - g.have
		}
		b = b[:min(len(b), ahead)]
	}
	n, err := g.fetch(b, from)
	for p := b[:n]; len(p) > 0; {
		if g.left > 0 {
			g.payload(p[:min(g.left, len(p))])
		}
		rest, header := g.next(p)
		if p = rest; header {
			if ferr := g.count(); ferr != nil {
				return 0, ferr
			}
		}
	}
	return n, err
}

// filter gives the server one frame at a time, so that one of them can be left out.
func (g *guard) filter(b []byte, from func([]byte) (int, error)) (int, error) {
	if g.left > 0 {
		n, err := g.fetch(b[:min(len(b), g.left)], from)
		g.payload(b[:n])
		g.left -= n
		return n, err
	}
	n, err := g.fetch(g.hdr[g.have:], from)
	g.have += n
	if g.have < frameHeader {
		return 0, err
	}
	g.have = 0
	g.left = payloadLen(g.hdr[:])
	if isSettingsAck(g.hdr[:]) {
		g.acked = true
		return 0, err
	}
	if ferr := g.count(); ferr != nil {
		return 0, ferr
	}
	k := copy(b, g.hdr[:])
	g.out = g.hdr[k:]
	return k, err
}

// payload looks at what the present frame carries, before left is reduced by it.
func (g *guard) payload(p []byte) {
	unit := 6 // a setting
	switch {
	case g.hdr[3] == frameWindow:
		unit = 4
	case g.hdr[3] == framePing && g.hdr[4]&flagAck != 0:
		unit = 8
	case g.hdr[3] != frameSettings:
		return
	}
	last := len(p) == g.left
	for len(p) > 0 {
		k := min(unit-len(g.part), len(p))
		g.part = append(g.part, p[:k]...)
		if p = p[k:]; len(g.part) < unit {
			break
		}
		v := g.part
		g.part = g.part[:0]
		switch {
		case unit == 8:
			g.flows.answered(v)
		case unit == 4:
			g.flows.granted(streamOf(g.hdr[:]), int64(binary.BigEndian.Uint32(v)&^(1<<31)))
		case binary.BigEndian.Uint16(v) == settingWindow:
			g.first = int64(binary.BigEndian.Uint32(v[2:])) + 1
		case binary.BigEndian.Uint16(v) == settingHeader:
			g.flows.header.Store(binary.BigEndian.Uint32(v[2:]))
		}
	}
	if last && g.first > 0 {
		g.flows.resized(g.first - 1)
		g.first = 0
	}
}

// count judges the frame whose header has come.
func (g *guard) count() error {
	flags := g.hdr[4]
	g.part = g.part[:0]
	g.after()
	if g.hdr[3] != frameContinuation {
		g.inBlock = false // whatever came of it
	}
	switch g.hdr[3] {
	case frameHeaders:
		g.flows.opened(streamOf(g.hdr[:]), flags&flagEndStream != 0)
		g.header(true)
	case frameContinuation:
		g.header(false)
	case frameData:
		if g.flows.grpc && flags&flagEndStream != 0 {
			g.flows.whole(streamOf(g.hdr[:]))
		}
	case frameReset:
		g.flows.ended(streamOf(g.hdr[:]))
	}
	switch g.hdr[3] {
	case frameReset:
		g.tick()
		if g.resets++; g.resets > g.port.opt.MaxResets {
			g.port.n.resetFloods.Add(1)
			return errResetFlood
		}
		return nil
	case framePing, frameSettings, framePriority:
	case frameData:
		if g.left > 0 || flags&flagEndStream != 0 {
			return nil
		}
	default:
		return nil
	}
	g.tick()
	// grpc-go's clients ping whenever something of an answer has come, and answer the server's PINGs: who gets many answers may say as much.
	if g.control++; g.control > g.port.opt.MaxControl && int64(g.control-g.port.opt.MaxControl) > g.flows.said.Load()-g.said {
		g.port.n.controlFloods.Add(1)
		return errControlFlood
	}
	return nil
}

// after notes that the header that came last is not the last thing any more.
func (g *guard) after() {
	if g.long {
		g.long = false
		g.flows.long(0)
	}
}

// header follows the frames of a header's block.
func (g *guard) header(first bool) {
	if first {
		g.block = 0
		if g.late != nil {
			g.late.anew()
		}
	}
	was, limit := g.block, g.port.opt.MaxHeader
	g.block += g.left
	g.inBlock, g.last = true, g.hdr[4]&flagEndHeaders != 0
	if limit == 0 {
		return
	}
	if was <= limit && g.block > limit {
		g.flows.largeHeader(streamOf(g.hdr[:]))
	} else if g.last && g.block > limit/2 { // HPACK makes no text shorter than that
		g.long = true
		g.flows.long(streamOf(g.hdr[:]))
	}
}

// fetch reads from the peer, and bounds how long that may take where a header's block has not come whole.
func (g *guard) fetch(b []byte, from func([]byte) (int, error)) (int, error) {
	if !g.inBlock {
		return from(b)
	}
	if g.late == nil {
		c, n := g.flows.conn, &g.port.n
		g.late = &blockTime{limit: g.port.opt.Handshake, late: func() {
			n.slowHeaders.Add(1)
			c.Close()
		}}
	}
	g.late.begin()
	defer g.late.end()
	return from(b)
}

// tick begins a new second of counting when the last is over.
func (g *guard) tick() {
	if now := time.Now(); now.Sub(g.window) >= time.Second {
		g.window, g.resets, g.control, g.said = now, 0, 0, g.flows.said.Load()
	}
}

func payloadLen(hdr []byte) int { return int(hdr[0])<<16 | int(hdr[1])<<8 | int(hdr[2]) }

func isSettingsAck(hdr []byte) bool {
	return hdr[3] == frameSettings && hdr[4]&flagAck != 0 && payloadLen(hdr) == 0
}

package muxtransport_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
)

// The peer in this file speaks version 1 as docs/protocol.md described it before HELLO had any key beyond 5. It stands for the programs
// that are out there, so it is not changed, and it shares nothing with the package that it is tested against. It is stricter than
// the document asks: what an old peer could not have known it reports.

const (
	frozenHello  = 1
	frozenCall   = 2
	frozenOpen   = 3
	frozenAnswer = 4
	frozenPart   = 5
	frozenData   = 6
	frozenHalf   = 7
	frozenEnd    = 8
	frozenHeader = 9
	frozenCancel = 10
	frozenWindow = 11
	frozenPing   = 12
	frozenPong   = 13
	frozenGoAway = 14
	frozenMore   = 0x80
)

// frozenPeer is either end of a connection. What goes wrong it panics with: tests recover nothing, so it fails them.
type frozenPeer struct {
	nc net.Conn
	r  *bufio.Reader
	// said is what HELLO of the other side said, by key.
	said map[uint64]uint64
}

type frozenFrame struct {
	typ     byte
	more    bool
	id      uint32
	payload []byte
}

func frozenFatal(format string, args ...any) { panic(fmt.Sprintf("the frozen peer: "+format, args...)) }

// frozenGreeting is preface and HELLO: 4 MiB of message, 16 KiB of metadata, 1,000 calls, windows of 256 KiB and 16 MiB.
func frozenGreeting(chosen byte) []byte {
	b := []byte{0x9e, 0x48, 0x55, 0x4c, 0x4c, chosen, 1, 1}
	b = append(b, 0x15, 0, 0, frozenHello, 0, 0, 0, 0)
	return append(b, 1, 0x80, 0x80, 0x80, 2, 2, 0x80, 0x80, 1, 3, 0xe8, 7, 4, 0x80, 0x80, 0x10, 5, 0x80, 0x80, 0x80, 8)
}

// frozenDial shakes hands as a client.
func frozenDial(nc net.Conn) *frozenPeer {
	p := &frozenPeer{nc: nc, r: bufio.NewReader(nc)}
	p.write(frozenGreeting(0))
	b := p.preface()
	if b[0] != 1 {
		frozenFatal("the server chose version %d", b[0])
	}
	p.readHello()
	return p
}

// frozenAccept shakes hands as a server.
func frozenAccept(nc net.Conn) *frozenPeer {
	p := &frozenPeer{nc: nc, r: bufio.NewReader(nc)}
	b := p.preface()
	if b[0] != 0 || b[1] > 1 || b[2] < 1 {
		frozenFatal("the client speaks versions %d to %d", b[1], b[2])
	}
	p.readHello()
	p.write(frozenGreeting(1))
	return p
}

func (p *frozenPeer) write(b []byte) {
	_, _ = p.nc.Write(b) // a connection that ends is noticed by reading
}

// preface reads the magic and returns the three bytes behind it.
func (p *frozenPeer) preface() []byte {
	b := make([]byte, 8)
	if _, err := io.ReadFull(p.r, b); err != nil || string(b[:5]) != "\x9eHULL" {
		frozenFatal("a preface of % x: %v", b, err)
	}
	return b[5:]
}

func (p *frozenPeer) readHello() {
	f, err := p.read()
	if err != nil || f.typ != frozenHello || f.id != 0 || f.more || len(f.payload) > 1024-8 {
		frozenFatal("HELLO: %v, %v", f, err)
	}
	p.said = map[uint64]uint64{}
	for c := (&frozenCursor{f.payload}); len(c.b) > 0; {
		k := c.uvarint()
		p.said[k] = c.uvarint()
	}
	for k := uint64(1); k <= 5; k++ {
		if p.said[k] == 0 {
			frozenFatal("HELLO without key %d", k)
		}
	}
}

func (p *frozenPeer) read() (frozenFrame, error) {
	h := make([]byte, 8)
	if _, err := io.ReadFull(p.r, h); err != nil {
		return frozenFrame{}, err
	}
	n := int(h[0]) | int(h[1])<<8 | int(h[2])<<16
	if n > 65528 {
		frozenFatal("a frame of %d bytes", n)
	}
	f := frozenFrame{h[3] &^ frozenMore, h[3]&frozenMore != 0, binary.LittleEndian.Uint32(h[4:]), make([]byte, n)}
	if f.typ == 0 || f.typ > frozenGoAway {
		frozenFatal("a frame of type %d", f.typ)
	}
	_, err := io.ReadFull(p.r, f.payload)
	return f, err
}

// next reads until something comes that is not said to the connection alone.
func (p *frozenPeer) next() (frozenFrame, error) {
	for {
		f, err := p.read()
		if err != nil {
			return f, err
		}
		switch f.typ {
		case frozenPing:
			p.send(frozenPong, 0, f.payload)
		case frozenPong, frozenWindow:
		default:
			return f, nil
		}
	}
}

func (p *frozenPeer) send(typ byte, id uint32, payload ...[]byte) {
	b := append([]byte(nil), 0, 0, 0, 0, 0, 0, 0, 0)
	for _, part := range payload {
		b = append(b, part...)
	}
	n := len(b) - 8
	b[0], b[1], b[2], b[3] = byte(n), byte(n>>8), byte(n>>16), typ
	binary.LittleEndian.PutUint32(b[4:], id)
	p.write(b)
}

type frozenCursor struct{ b []byte }

func (c *frozenCursor) byte() byte {
	if len(c.b) == 0 {
		frozenFatal("a payload that ends too early")
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

func (c *frozenCursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		frozenFatal("a uvarint of % x", c.b)
	}
	c.b = c.b[n:]
	return v
}

func (c *frozenCursor) varint() int64 {
	v, n := binary.Varint(c.b)
	if n <= 0 {
		frozenFatal("a varint of % x", c.b)
	}
	c.b = c.b[n:]
	return v
}

func (c *frozenCursor) bytes() string {
	n := c.uvarint()
	if n > uint64(len(c.b)) {
		frozenFatal("%d bytes, of which %d are there", n, len(c.b))
	}
	v := string(c.b[:n])
	c.b = c.b[n:]
	return v
}

func (c *frozenCursor) metadata() (md []string) {
	for in := (&frozenCursor{[]byte(c.bytes())}); len(in.b) > 0; {
		md = append(md, in.bytes()+"="+in.bytes())
	}
	return md
}

func frozenBytes(s string) []byte { return append(binary.AppendUvarint(nil, uint64(len(s))), s...) }

// frozenMetadata takes keys and values in turn.
func frozenMetadata(kv ...string) []byte {
	var b []byte
	for _, s := range kv {
		b = append(b, frozenBytes(s)...)
	}
	return frozenBytes(string(b))
}

// frozenAnswerHead is the head of ANSWER, END and HEADER.
type frozenAnswerHead struct {
	code               uint64
	fate, kind, origin byte
	pushback           int64
	message            string
	details            []string
	header, trailer    []string
	load, total        uint64
	failed             bool
	rest               []byte
}

func frozenParseAnswer(payload []byte) (h frozenAnswerHead) {
	c := &frozenCursor{payload}
	flags := c.byte()
	if flags > 31 {
		frozenFatal("an answer with flags %#x", flags)
	}
	if flags&1 != 0 {
		h.failed = true
		h.code = c.uvarint()
		h.fate, h.kind, h.origin = c.byte(), c.byte(), c.byte()
		h.pushback = c.varint()
		h.message = c.bytes()
		for range c.uvarint() {
			h.details = append(h.details, c.bytes(), c.bytes())
		}
	}
	if flags&2 != 0 {
		h.header = c.metadata()
	}
	if flags&4 != 0 {
		h.trailer = c.metadata()
	}
	if flags&8 != 0 {
		h.load = c.uvarint()
	}
	if flags&16 != 0 {
		h.total = c.uvarint()
	}
	h.rest = c.b
	return h
}

// frozenCallHead is the head of CALL and OPEN.
type frozenCallHead struct {
	number      uint64
	name, codec string
	left, sent  uint64
	hasLeft     bool
	attempt     uint64
	criticality byte
	total       uint64
	metadata    []string
	rest        []byte
}

func frozenParseCall(payload []byte) (h frozenCallHead) {
	c := &frozenCursor{payload}
	flags := c.byte()
	if flags > 127 {
		frozenFatal("a call with flags %#x", flags)
	}
	h.number = c.uvarint()
	if flags&16 != 0 {
		h.name = c.bytes()
	}
	switch id := c.byte(); id {
	case 0:
		h.codec = c.bytes()
	case 1, 2, 3:
		h.codec = [...]string{"", "proto", "json", "bytes"}[id]
	default:
		frozenFatal("codec %d", id)
	}
	if flags&1 != 0 {
		h.left, h.hasLeft = c.uvarint(), true
	}
	if flags&64 != 0 {
		h.sent = c.uvarint()
	}
	if flags&2 != 0 {
		h.attempt = c.uvarint()
	}
	if flags&4 != 0 {
		h.criticality = c.byte()
	}
	if flags&32 != 0 {
		h.total = c.uvarint()
	}
	if flags&8 != 0 {
		h.metadata = c.metadata()
	}
	h.rest = c.b
	return h
}

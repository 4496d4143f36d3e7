package muxtransport

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hull-go/hull/internal/varint"
)

// Magic opens every connection. Its first byte cannot begin a request of HTTP/1.1, HTTP/2 or TLS, so that a port which
// speaks several protocols can tell this one from the first byte.
const Magic = "\x9eHULL"

// ALPN is the protocol's name inside TLS.
const ALPN = "hull/1"

// The versions of the protocol that this package speaks.
const (
	minVersion = 1
	maxVersion = 1
)

const (
	prefaceLen = len(Magic) + 3
	headerLen  = 8
	// maxFrame bounds a whole frame. Longer messages travel in parts, so a reader never needs more than this, whatever the
	// other side sends, and a large message cannot keep small ones waiting.
	maxFrame   = 64 << 10
	maxPayload = maxFrame - headerLen
	// partSize is how much of a large message goes into one frame.
	partSize = 32 << 10
	// frameCost is what a frame of a stream takes from the windows beside its content, so that empty messages are bounded too.
	frameCost = 32
	// maxMethods and maxMethodBytes bound the names of methods that one connection remembers.
	maxMethods     = 4096
	maxMethodBytes = 256 << 10
	// maxCallsCeiling is how many calls an id can tell apart.
	maxCallsCeiling = 1 << 16
	maxNameLen      = 1024
)

// The frame types.
const (
	typeHello  = 1
	typeCall   = 2
	typeOpen   = 3
	typeAnswer = 4
	typePart   = 5
	typeData   = 6
	typeHalf   = 7
	typeEnd    = 8
	typeHeader = 9
	typeCancel = 10
	typeWindow = 11
	typePing   = 12
	typePong   = 13
	typeGoAway = 14
	// flagMore is set in the type byte when more of the same message follows, flagPacked when the message that begins is
	// compressed. withdrawn is added to CALL, OPEN and PART: nobody waits any more.
	flagMore   = 0x80
	flagPacked = 0x40
	withdrawn  = 0x20
)

// frame is one frame as it lies in the read buffer; payload is valid until the next one is asked for.
type frame struct {
	typ     byte
	more    bool
	packed  bool
	id      uint32
	payload []byte
}

// putHeader writes a frame's header into the first bytes of b.
func putHeader(b []byte, payload int, typ byte, id uint32) {
	binary.LittleEndian.PutUint64(b, uint64(payload)|uint64(typ)<<24|uint64(id)<<32)
}

// appendFrame appends a frame whose payload is known.
func appendFrame(b []byte, typ byte, id uint32, payload ...byte) []byte {
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	putHeader(b[len(b)-headerLen:], len(payload), typ, id)
	return append(b, payload...)
}

// frameSize returns the size of the whole frame that begins with b, which holds at least a header.
func frameSize(b []byte) int { return headerLen + int(binary.LittleEndian.Uint32(b)&0xffffff) }

// parseFrame takes b, which is one whole frame, apart.
func parseFrame(b []byte) (f frame) {
	f.parse(b)
	return f
}

func (f *frame) parse(b []byte) {
	t := b[3]
	f.typ, f.more, f.packed = t&^(flagMore|flagPacked), t&flagMore != 0, t&flagPacked != 0
	f.id = binary.LittleEndian.Uint32(b[4:])
	f.payload = b[headerLen:]
}

// errMalformed is the cause of every payload that does not parse.
var errMalformed = errors.New("malformed payload")

// cursor reads a payload from its start. After the first thing that does not fit, everything it returns is zero or empty and bad is true.
type cursor struct {
	in  []byte
	at  int // what of in has been read
	bad bool
}

func (c *cursor) fail() { c.at, c.bad = len(c.in), true }

// rest returns what has not been read, which aliases the payload.
func (c *cursor) rest() []byte { return c.in[c.at:] }

func (c *cursor) byte() byte {
	if c.at >= len(c.in) {
		c.fail()
		return 0
	}
	v := c.in[c.at]
	c.at++
	return v
}

func (c *cursor) uvarint() uint64 {
	if c.at < len(c.in) && c.in[c.at] < 0x80 {
		v := c.in[c.at]
		c.at++
		return uint64(v)
	}
	v, next := varint.Read(c.in, c.at)
	if next < 0 {
		c.fail()
		return 0
	}
	c.at = next
	return v
}

func (c *cursor) varint() int64 {
	v := c.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

// bytes returns the next length-prefixed bytes, which alias the payload.
func (c *cursor) bytes() []byte {
	n := c.uvarint()
	if n > uint64(len(c.in)-c.at) {
		c.fail()
		return nil
	}
	return c.take(int(n))
}

// take returns the next n bytes, which alias the payload.
func (c *cursor) take(n int) []byte {
	if n > len(c.in)-c.at {
		c.fail()
		return nil
	}
	v := c.in[c.at : c.at+n : c.at+n]
	c.at += n
	return v
}

// appendUvarint is binary.AppendUvarint for where the call would cost more than the work.
func appendUvarint(b []byte, v uint64) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func appendBytes[T string | []byte](b []byte, s T) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// preface is what opens a connection in each direction. The client's says which versions it speaks; in the server's,
// chosen is the version to use, or 0 if there is none in common.
type preface struct{ chosen, min, max byte }

// bytes encodes p. The client's preface has no choice in it yet: chosen is 0.
func (p preface) bytes() []byte { return append([]byte(Magic), p.chosen, p.min, p.max) }

func parsePreface(b []byte) (preface, error) {
	if string(b[:len(Magic)]) != Magic {
		return preface{}, handshakeError(fmt.Sprintf("the peer does not speak this protocol: it began with %q", b))
	}
	b = b[len(Magic):]
	return preface{b[0], b[1], b[2]}, nil
}

// negotiate picks the newest version that both sides speak, 0 if there is none.
func negotiate(client preface) byte {
	v := min(client.max, maxVersion)
	if v < max(client.min, minVersion) {
		return 0
	}
	return v
}

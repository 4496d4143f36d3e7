package muxtransport

import (
	"encoding/binary"
	"net"
)

// The keys of HELLO.
const (
	helloMaxMessage   = 1
	helloMaxHeader    = 2
	helloMaxCalls     = 3
	helloStreamWindow = 4
	helloConnWindow   = 5
	helloUnpacks      = 6
	helloWish         = 7
	helloNames        = 8
	helloFeatures     = 9
	helloInstance     = 10
)

// The bits of helloFeatures.
const (
	featureTrace    = 1 << 0 // reads the trace context as a field of its own
	featureInstance = 1 << 1 // a client: reads which instance the server is
	featureWithdraw = 1 << 2 // a server: reads frames that are withdrawn
	featuresKnown   = featureTrace | featureInstance | featureWithdraw
)

// hello is what each side tells the other about itself: what it accepts. Comparable, see shared.intern.
type hello struct {
	maxMessage, maxHeader, maxCalls, streamWindow, connWindow uint64
	// unpacks is the set of compressions that it can undo, wish the one that it would like to be sent.
	unpacks, wish compression
	names         uint16 // how many keys of metadata it remembers
	features      uint8
	instance      string // which instance the server is; "" = it does not say
}

// maxInstance bounds the name of an instance: HELLO has to fit its limit.
const maxInstance = 512

// hello returns what this side says to a peer at addr.
func (o *Options) hello(addr net.Addr) hello {
	return hello{
		maxMessage: uint64(o.MaxMessage), maxHeader: uint64(o.MaxHeader), maxCalls: uint64(o.MaxCalls),
		streamWindow: uint64(o.StreamWindow), connWindow: uint64(o.ConnWindow),
		unpacks: o.unpacks(), wish: o.wish(addr), names: maxNames, features: featureTrace,
	}
}

func appendHello(b []byte, h hello) []byte {
	start := len(b)
	b = append(b, make([]byte, headerLen)...)
	for _, kv := range [...]struct{ key, value uint64 }{
		{helloMaxMessage, h.maxMessage}, {helloMaxHeader, h.maxHeader}, {helloMaxCalls, h.maxCalls},
		{helloStreamWindow, h.streamWindow}, {helloConnWindow, h.connWindow},
		{helloUnpacks, uint64(h.unpacks)}, {helloWish, uint64(h.wish)}, {helloNames, uint64(h.names)},
		{helloFeatures, uint64(h.features)}, {helloInstance, uint64(len(h.instance))},
	} {
		if kv.value == 0 && kv.key > helloConnWindow {
			continue
		}
		b = binary.AppendUvarint(b, kv.key)
		b = binary.AppendUvarint(b, kv.value)
	}
	b = append(b, h.instance...)
	putHeader(b[start:], len(b)-start-headerLen, typeHello, 0)
	return b
}

// parseHello reads what the peer says. Keys it does not know belong to later versions and are passed over; limits
// that it does not mention are the defaults.
func parseHello(payload []byte) (hello, error) {
	h := hello{maxMessage: defaultMaxMessage, maxHeader: defaultMaxHeader, maxCalls: defaultMaxCalls,
		streamWindow: defaultStreamWindow, connWindow: defaultConnWindow}
	c := cursor{in: payload}
	for len(c.rest()) > 0 {
		k, v := c.uvarint(), c.uvarint()
		switch k {
		case helloMaxMessage:
			h.maxMessage = v
		case helloMaxHeader:
			h.maxHeader = v
		case helloMaxCalls:
			h.maxCalls = min(v, maxCallsCeiling)
		case helloStreamWindow:
			h.streamWindow = v
		case helloConnWindow:
			h.connWindow = v
		case helloUnpacks:
			h.unpacks = compression(v & packAll)
		case helloWish:
			if h.wish = 0; v <= packLast {
				h.wish = compression(v)
			}
		case helloNames:
			h.names = uint16(min(v, maxNamesCeiling))
		case helloFeatures:
			h.features = uint8(v & featuresKnown)
		case helloInstance:
			if v > maxInstance {
				c.fail()
				break
			}
			h.instance = string(c.take(int(v)))
		}
	}
	const ceiling = 1 << 40
	if c.bad || h.maxMessage > ceiling || h.maxHeader > ceiling || h.streamWindow > ceiling || h.connWindow > ceiling {
		return hello{}, handshakeError("a HELLO that is malformed")
	}
	return h, nil
}

package muxtransport

import (
	"cmp"
	"encoding/binary"
	"math"
	"time"

	"github.com/hull-go/hull/internal/varint"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// The flags of CALL and OPEN.
const (
	callDeadline    = 1 << 0
	callAttempt     = 1 << 1
	callCriticality = 1 << 2
	callMetadata    = 1 << 3
	callName        = 1 << 4 // the method's name follows its number
	callTotal       = 1 << 5 // the size of the whole message follows
	callSent        = 1 << 6 // when it was sent follows
	callMore        = 1 << 7 // a second byte of flags follows
	// callRare are those of what comes after the rest.
	callRare = callAttempt | callCriticality | callTotal | callMetadata | callMore

	// The second byte.
	callTrace  = 1 << 0 // the trace context follows
	callReply  = 1 << 1 // how to compress what is sent in return follows
	callKnown2 = 1<<2 - 1
)

// The codecs that have a number. Others send their name.
const (
	codecNamed = 0
	codecProto = 1
	codecJSON  = 2
	codecBytes = 3
)

var codecNames = [...]string{codecProto: "proto", codecJSON: "json", codecBytes: "bytes"}

func codecID(name string) byte {
	switch name {
	case "proto":
		return codecProto
	case "json":
		return codecJSON
	case "bytes":
		return codecBytes
	}
	return codecNamed
}

// callHead is the head of CALL and OPEN.
type callHead struct {
	// method is the number under which the connection knows the method, 0 if it is not to be remembered. name is set where
	// the number is used for the first time.
	method      uint32
	name        string
	codec       string
	hasDeadline bool
	timeout     time.Duration
	sent        time.Duration // since the connection began, by the client's clock
	attempt     int
	criticality policy.Criticality
	total       int // of the message, when it comes in parts
	metadata    transport.Metadata
	trace       int // the place in metadata, counted from 1, of what travels as the trace context; 0 = nothing
	// reply is how to compress what is sent in return, where hasReply says that it is not what HELLO said.
	reply    compression
	hasReply bool
}

func (h *callHead) append(b []byte, names *sentNames) []byte {
	at := len(b)
	id := codecID(h.codec)
	var flags byte
	if h.trace != 0 || h.hasReply || h.name != "" || id == codecNamed {
		b, flags = h.appendNames(b, id)
	} else {
		b = append(appendUvarint(append(b, 0), uint64(h.method)), id)
	}
	if h.hasDeadline {
		flags |= callDeadline
		b = appendUvarint(b, uint64(max(h.timeout, 0))/uint64(time.Microsecond))
	}
	if h.sent > 0 {
		flags |= callSent
		b = appendUvarint(b, uint64(h.sent)/uint64(time.Microsecond))
	}
	if h.attempt > 1 || h.criticality != 0 || h.total > 0 || h.hasReply || len(h.metadata) > 0 {
		b, flags = h.appendRest(b, names, flags)
	}
	b[at] = flags
	return b
}

// appendNames appends what comes first, of a head that says more there than numbers for the method and the codec.
func (h *callHead) appendNames(b []byte, codec byte) ([]byte, byte) {
	var flags byte
	b = append(b, 0)
	if h.trace != 0 || h.hasReply {
		flags |= callMore
		var second byte
		if h.trace != 0 {
			second |= callTrace
		}
		if h.hasReply {
			second |= callReply
		}
		b = append(b, second)
	}
	b = binary.AppendUvarint(b, uint64(h.method))
	if h.name != "" {
		flags |= callName
		b = appendBytes(b, h.name)
	}
	b = append(b, codec)
	if codec == codecNamed {
		b = appendBytes(b, h.codec)
	}
	return b, flags
}

// appendRest appends what comes last, of which most calls have nothing.
func (h *callHead) appendRest(b []byte, names *sentNames, flags byte) ([]byte, byte) {
	if h.attempt > 1 {
		flags |= callAttempt
		b = binary.AppendUvarint(b, uint64(h.attempt))
	}
	if h.criticality != 0 {
		flags |= callCriticality
		b = append(b, byte(h.criticality))
	}
	if h.total > 0 {
		flags |= callTotal
		b = binary.AppendUvarint(b, uint64(h.total))
	}
	if h.trace != 0 {
		b = appendTrace(b, h.metadata[h.trace-1].Value)
	}
	if h.hasReply {
		b = append(b, byte(h.reply))
	}
	if len(h.metadata) > 1 || len(h.metadata) == 1 && h.trace == 0 {
		flags |= callMetadata
		b = appendMetadata(b, h.metadata, names, h.trace)
	}
	return b, flags
}

// rawCall is a callHead as it lies in the read buffer.
type rawCall struct {
	callHead
	rawName, rawCodec []byte
}

// plainCall is what the head of a plain call says, as nearly all are: the numbers of its codec and of a method that has been named before, and perhaps
// how long it may take and when it was sent.
type plainCall struct {
	method        uint32
	codec         byte
	hasDeadline   bool
	timeout, sent time.Duration
}

// parsePlain reads the head of CALL or OPEN, and returns the message behind it. It leaves all but plain calls to parseCall, and what makes no sense.
func parsePlain(in []byte) (h plainCall, msg []byte, ok bool) {
	if len(in) < 3 || in[0]&^(callDeadline|callSent) != 0 || in[1]-1 >= 0x7f || in[2] == codecNamed || int(in[2]) >= len(codecNames) {
		return h, nil, false
	}
	h.method, h.codec = uint32(in[1]), in[2]
	at := 3
	if in[0]&callDeadline != 0 {
		var us uint64
		if us, at = varint.Read(in, at); at < 0 {
			return h, nil, false
		}
		h.hasDeadline, h.timeout = true, microseconds(us)
	}
	if in[0]&callSent != 0 {
		var us uint64
		if us, at = varint.Read(in, at); at < 0 {
			return h, nil, false
		}
		h.sent = microseconds(us)
	}
	return h, in[at:], true
}

// parseCall reads the head of CALL or OPEN into h, which is the zero value, and leaves the message in c.
func parseCall(c *cursor, maxHeader int, names *recvNames, h *rawCall) error {
	flags := c.byte()
	var second byte
	if flags&callMore != 0 {
		second = c.byte()
	}
	method := c.uvarint()
	if second&^callKnown2 != 0 || method > maxMethods {
		return errMalformed
	}
	h.method = uint32(method)
	if flags&callName != 0 {
		h.rawName = c.bytes()
		if len(h.rawName) == 0 || len(h.rawName) > maxNameLen {
			return errMalformed
		}
	}
	switch id := c.byte(); {
	case id == codecNamed:
		h.rawCodec = c.bytes()
		if len(h.rawCodec) > maxNameLen {
			return errMalformed
		}
	case int(id) < len(codecNames):
		h.codec = codecNames[id]
	default:
		return errMalformed
	}
	if flags&callDeadline != 0 {
		h.hasDeadline = true
		h.timeout = microseconds(c.uvarint())
	}
	if flags&callSent != 0 {
		h.sent = microseconds(c.uvarint())
	}
	if flags&callRare != 0 {
		if err := parseRare(c, flags, second, maxHeader, names, h); err != nil {
			return err
		}
	}
	if c.bad {
		return errMalformed
	}
	return nil
}

// parseRare reads what only some calls say, which is the end of their head.
func parseRare(c *cursor, flags, second byte, maxHeader int, names *recvNames, h *rawCall) error {
	if flags&callAttempt != 0 {
		h.attempt = int(min(c.uvarint(), math.MaxInt32))
	}
	if flags&callCriticality != 0 {
		h.criticality = policy.Criticality(c.byte())
		if h.criticality > policy.Sheddable {
			h.criticality = policy.Critical
		}
	}
	if flags&callTotal != 0 {
		h.total = int(min(c.uvarint(), math.MaxInt))
	}
	var trace []byte
	if second&callTrace != 0 {
		trace = c.take(traceSize)
		h.trace = 1
	}
	if second&callReply != 0 {
		h.hasReply = true
		if h.reply = compression(c.byte()); h.reply > packLast {
			h.reply = packNone
		}
	}
	if flags&callMetadata == 0 && trace == nil {
		return nil
	}
	var err error
	h.metadata, err = parseMetadata(c, maxHeader, names, flags&callMetadata != 0, trace)
	return err
}

// microseconds turns a count from the wire into a duration without overflow.
func microseconds(us uint64) time.Duration {
	return time.Duration(min(us, math.MaxInt64/1000)) * time.Microsecond
}

// The flags of ANSWER and END.
const (
	answerStatus  = 1 << 0
	answerHeader  = 1 << 1
	answerTrailer = 1 << 2
	answerLoad    = 1 << 3
	answerTotal   = 1 << 4
	answerKnown   = 1<<5 - 1
)

// answerHead is the head of ANSWER and the whole of END.
type answerHead struct {
	status          *status.Error
	header, trailer transport.Metadata
	load            transport.Load
	total           int
}

func (h *answerHead) append(b []byte, names *sentNames) []byte {
	at := len(b)
	b = append(b, 0)
	var flags byte
	if h.status != nil || len(h.header)+len(h.trailer) > 0 {
		b, flags = h.appendFirst(b, names)
	}
	if h.load != (transport.Load{}) {
		flags |= answerLoad
		b = appendUvarint(b, uint64(h.load.InFlight))
	}
	if h.total > 0 {
		flags |= answerTotal
		b = binary.AppendUvarint(b, uint64(h.total))
	}
	b[at] = flags
	return b
}

// appendFirst appends what comes before the load, of which most answers have nothing.
func (h *answerHead) appendFirst(b []byte, names *sentNames) (_ []byte, flags byte) {
	if h.status != nil {
		flags |= answerStatus
		b = appendStatus(b, h.status)
	}
	if len(h.header) > 0 {
		flags |= answerHeader
		b = appendMetadata(b, h.header, names, 0)
	}
	if len(h.trailer) > 0 {
		flags |= answerTrailer
		b = appendMetadata(b, h.trailer, names, 0)
	}
	return b, flags
}

// parseAnswer reads the head of ANSWER or END into h, which is zero, and leaves the message in c.
func parseAnswer(c *cursor, maxHeader int, names *recvNames, h *answerHead) error {
	flags := c.byte()
	if flags&^answerLoad != 0 { // few say more beside their message
		if err := h.parseFirst(c, flags, maxHeader, names); err != nil {
			return err
		}
	}
	if flags&answerLoad != 0 {
		h.load.InFlight = uint32(min(c.uvarint(), math.MaxUint32))
	}
	if flags&answerTotal != 0 {
		h.total = int(min(c.uvarint(), math.MaxInt))
	}
	if c.bad {
		return errMalformed
	}
	return nil
}

// parseFirst reads what comes before the load.
func (h *answerHead) parseFirst(c *cursor, flags byte, maxHeader int, names *recvNames) (err error) {
	if flags&^answerKnown != 0 {
		return errMalformed
	}
	if flags&answerStatus != 0 {
		if h.status, err = parseStatus(c); err != nil {
			return err
		}
	}
	if flags&answerHeader != 0 {
		if h.header, err = parseMetadata(c, maxHeader, names, true, nil); err != nil {
			return err
		}
	}
	if flags&answerTrailer != 0 {
		h.trailer, err = parseMetadata(c, maxHeader, names, true, nil)
	}
	return err
}

func appendStatus(b []byte, e *status.Error) []byte {
	b = binary.AppendUvarint(b, uint64(e.Code))
	b = append(b, byte(e.Fate), byte(e.Kind), byte(e.Origin))
	push := int64(e.Pushback / time.Microsecond)
	if push == 0 {
		push = int64(cmp.Compare(e.Pushback, 0)) // less than a microsecond is not nothing, and -1 ns means never
	}
	b = binary.AppendVarint(b, push)
	b = appendBytes(b, e.Message)
	b = binary.AppendUvarint(b, uint64(len(e.Details)))
	for _, d := range e.Details {
		b = appendBytes(b, d.TypeURL)
		b = appendBytes(b, d.Value)
	}
	return b
}

// parseStatus reads a status. Values that this version does not know become the careful ones: an unknown code Unknown,
// an unknown kind Answered, an unknown fate Maybe.
func parseStatus(c *cursor) (*status.Error, error) {
	e := &status.Error{Code: status.Code(min(c.uvarint(), math.MaxUint32))}
	e.Fate, e.Kind, e.Origin = status.Fate(c.byte()), status.Kind(c.byte()), status.Origin(c.byte())
	push := c.varint()
	e.Message = string(c.bytes())
	n := c.uvarint()
	if n > uint64(len(c.rest())/2) {
		return nil, errMalformed
	}
	for range n {
		e.Details = append(e.Details, status.Detail{TypeURL: string(c.bytes()), Value: append([]byte(nil), c.bytes()...)})
	}
	if c.bad {
		return nil, errMalformed
	}
	if push > 0 {
		e.Pushback = microseconds(uint64(push))
	} else if push < 0 {
		e.Pushback = -1
	}
	if !e.Code.Valid() || e.Code == status.OK {
		e.Code = status.Unknown
	}
	if !e.Kind.Valid() {
		e.Kind = status.Answered
	}
	if e.Fate > status.Processed {
		e.Fate = status.Maybe
	}
	if e.Origin > status.Downstream {
		e.Origin = status.Self
	}
	return e, nil
}

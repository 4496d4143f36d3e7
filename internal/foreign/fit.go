package foreign

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

const (
	// StatusRoom is how much a gRPC answer's status may take of its trailer. With 16 KiB of metadata it is 64 KiB, which is what most clients take that do not say.
	StatusRoom = 48 << 10
	// ofField is what HTTP/2 counts for each field beside its text: RFC 9113 section 6.5.2.
	ofField = 32
	// AnswerRoom is how much every gRPC answer's trailer, or header, needs for what is in it whatever happens.
	AnswerRoom = 256
)

// FieldsSize is the size of metadata as HTTP/2 counts it, where what is binary is base64: no protocol needs more room.
func FieldsSize(md transport.Metadata) (n int) {
	for _, f := range md {
		v := len(f.Value)
		if strings.HasSuffix(f.Key, "-bin") {
			v = base64.RawStdEncoding.EncodedLen(v)
		}
		n += len(f.Key) + v + ofField
	}
	return n
}

// FitMetadata leaves out what a handler says beside its answer if the peer, which takes limit bytes in a header, 0 = who knows, would not take that: the answer
// fails then, unless it has failed already. Header and trailer are judged apart, or together where one header carries both. It returns how often it left something out.
func FitMetadata(out *transport.Outgoing, limit int, together bool) (left int) {
	if limit == 0 || len(out.Header) == 0 && len(out.Trailer) == 0 {
		return 0
	}
	fail := func(e *status.Error) bool {
		if e == nil {
			return false
		}
		if left++; out.Status == nil {
			out.Status = e
		}
		return true
	}
	if together {
		if fail(TooMuch(slices.Concat(out.Header, out.Trailer), limit)) {
			out.Header, out.Trailer = nil, nil
		}
		return left
	}
	for _, md := range []*transport.Metadata{&out.Header, &out.Trailer} {
		if fail(TooMuch(*md, limit)) {
			*md = nil
		}
	}
	return left
}

// FitStatus is Fit for a peer that takes limit bytes in a trailer, 0 = who knows, of which what stands beside the status needs so many.
func FitStatus(e *status.Error, limit, beside int) *status.Error {
	room := StatusRoom
	if limit > 0 {
		room = min(room, limit-beside-AnswerRoom)
	}
	return Fit(e, room)
}

// TooMuch is the error of metadata that a peer would not take which takes limit bytes of header, 0 = who knows; nil = it does. Such a peer ends the call, or the
// connection, and learns nothing of the answer.
func TooMuch(md transport.Metadata, limit int) *status.Error {
	size := FieldsSize(md)
	if limit == 0 || len(md) == 0 || size+2*AnswerRoom <= limit {
		return nil
	}
	return &status.Error{Code: status.ResourceExhausted, Kind: status.TooLarge, Fate: status.Processed, Message: fmt.Sprintf(
		"the answer's metadata of %d bytes is over the limit of %d that the caller has", size, limit)}
}

// Fit returns e as it fits into that many bytes of a gRPC answer's trailer: e itself, or with less to say. A peer that gets more than it takes loses all of it, and
// the code. Details that do not fit, and those behind them, are left out, which the message says then.
func Fit(e *status.Error, room int) *status.Error {
	message := Message(e)
	if statusSize(message, e.Details) <= room {
		return e
	}
	c := *e
	c.Details, c.Cause = nil, nil // the message has what the cause says
	note := ""
	if len(e.Details) > 0 {
		c.Message, note = cutTo(message, max(room/8, room-statusSize("", e.Details))), fmt.Sprintf(" (details left out, which are more than %d bytes)", room)
		for i := range e.Details {
			if statusSize(c.Message+note, e.Details[:i+1]) > room {
				break
			}
			c.Details = e.Details[: i+1 : i+1]
		}
		if len(c.Details) == len(e.Details) {
			note = ""
		}
	}
	if len(c.Details) == 0 {
		c.Message = cutTo(message, room-statusSize(note, nil))
	}
	c.Message += note
	return &c
}

// statusSize is about what a status counts for in a trailer, and not less.
func statusSize(message string, details []status.Detail) int {
	n := len("grpc-status") + 2 + ofField + len("grpc-message") + percentLen(message) + ofField
	raw := len(message) + 16 // connect-go says it again even if there are no details
	for _, d := range details {
		raw += len(d.TypeURL) + len(d.Value) + 24
	}
	return n + len("grpc-status-details-bin") + base64.RawStdEncoding.EncodedLen(raw) + ofField
}

// percentLen is the length of a message as gRPC writes it.
func percentLen(s string) int {
	n := len(s)
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			n += 2
		}
	}
	return n
}

// cutTo returns as much of the beginning of s as takes that many bytes of a trailer.
func cutTo(s string, room int) string {
	cost := func(s string) int { return percentLen(s) + base64.RawStdEncoding.EncodedLen(len(s)) }
	const more = "…"
	if cost(s) <= room {
		return s
	}
	room -= cost(more)
	at := 0
	for at < len(s) {
		_, size := utf8.DecodeRuneInString(s[at:])
		if room -= percentLen(s[at:at+size]) + 2*size; room < 0 { // base64 makes less than twice of it
			break
		}
		at += size
	}
	if at == 0 {
		return ""
	}
	return s[:at] + more
}

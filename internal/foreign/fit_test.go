package foreign_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/hull-go/hull/internal/foreign"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// trailerSize is what HTTP/2 counts for an error in a trailer of gRPC's, at most.
func trailerSize(t *testing.T, e *status.Error) int {
	t.Helper()
	message := foreign.Message(e)
	p := &spb.Status{Code: int32(e.Code), Message: message}
	if !utf8.ValidString(message) { // it goes nowhere but into the header
		p.Message = strings.Repeat("x", len(message))
	}
	for _, d := range e.Details {
		p.Details = append(p.Details, &anypb.Any{TypeUrl: d.TypeURL, Value: d.Value})
	}
	b, err := proto.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	n := 32 + len("grpc-status") + 2 + 32 + len("grpc-message") + 32 + len("grpc-status-details-bin") + base64.RawStdEncoding.EncodedLen(len(b))
	for i := range len(message) {
		if c := message[i]; c < ' ' || c > '~' || c == '%' {
			n += 2
		}
	}
	return n + len(message)
}

// TestFit: an error that is too long for its trailer keeps its code and as much as fits of the rest, whatever is long.
func TestFit(t *testing.T) {
	detail := func(n int) status.Detail {
		return status.Detail{TypeURL: "type.googleapis.com/a.B", Value: make([]byte, n)}
	}
	few, many := []status.Detail{detail(10)}, make([]status.Detail, 300)
	for i := range many {
		many[i] = detail(500)
	}
	for _, tt := range []struct {
		name    string
		e       status.Error
		details int    // that are left in 48 KiB
		begins  string // the message
		same    bool
	}{
		{"nothing", status.Error{}, 0, "", true},
		{"little", status.Error{Message: "no", Details: few}, 1, "no", true},
		{"a large detail that fits", status.Error{Message: "no", Details: []status.Detail{detail(32 << 10)}}, 1, "no", true},
		{"a detail too large", status.Error{Message: "no", Details: []status.Detail{detail(64 << 10)}}, 0, "no (details left out", false},
		{"the second is too large", status.Error{Message: "no", Details: []status.Detail{detail(100), detail(64 << 10), detail(1)}}, 1, "no (details left out", false},
		{"many details", status.Error{Message: "no", Details: many}, 60, "no (details left out", false},
		{"a long message", status.Error{Message: strings.Repeat("x", 100<<10)}, 0, strings.Repeat("x", 12<<10), false},
		{"a long message in another script", status.Error{Message: strings.Repeat("щ", 50<<10)}, 0, strings.Repeat("щ", 4<<10), false},
		{"no text", status.Error{Message: strings.Repeat("\xff", 100<<10)}, 0, strings.Repeat("\xff", 4<<10), false},
		{"a long message and a detail", status.Error{Message: strings.Repeat("%", 100<<10), Details: few}, 1, strings.Repeat("%", 4<<10), false},
		{"both too large", status.Error{Message: strings.Repeat("x", 100<<10), Details: many}, 30, strings.Repeat("x", 2000), false},
		{"a long cause", status.Error{Cause: errors.New(strings.Repeat("x", 100<<10))}, 0, strings.Repeat("x", 12<<10), false},
	} {
		tt.e.Code = status.FailedPrecondition
		before := tt.e
		got := foreign.Fit(&tt.e, foreign.StatusRoom)
		message := foreign.Message(got)
		if size := trailerSize(t, got); size > foreign.StatusRoom || got.Code != status.FailedPrecondition || len(got.Details) < tt.details ||
			!strings.HasPrefix(message, tt.begins) || (got == &tt.e) != tt.same || utf8.ValidString(foreign.Message(&before)) != utf8.ValidString(message) {
			t.Errorf("%s: %d bytes, %v, %d details, %d bytes of message", tt.name, size, got.Code, len(got.Details), len(message))
		}
		if !tt.same && len(tt.e.Details) > tt.details && !strings.HasSuffix(message, "bytes)") {
			t.Errorf("%s: the message does not say that details were left out: …%s", tt.name, message[max(0, len(message)-100):])
		}
		if tt.e.Message != before.Message || len(tt.e.Details) != len(before.Details) {
			t.Errorf("%s: the error itself was changed", tt.name)
		}
		for _, room := range []int{-100, 0, 300, 1000, 8 << 10} { // a message may not have room at all
			if size := trailerSize(t, foreign.Fit(&tt.e, room)); size > max(room, 350) {
				t.Errorf("%s, %d bytes of room: %d", tt.name, room, size)
			}
		}
	}
}

// TestFieldsSize: metadata is counted as HTTP/2 does.
func TestFieldsSize(t *testing.T) {
	md := transport.Metadata{{Key: "a", Value: "bc"}, {Key: "a-bin", Value: "\x00\x01\x02\x03"}}
	if n := foreign.FieldsSize(md); n != 1+2+32+5+6+32 {
		t.Errorf("%d", n)
	}
}

package status

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

func TestFrom(t *testing.T) {
	shed := &Error{Code: Unavailable, Kind: Shed, Fate: NotSent, Origin: Downstream, Pushback: time.Second, Message: "full"}
	tests := []struct {
		name string
		err  error
		want Error
	}{
		{"itself", shed, *shed},
		{"wrapped", fmt.Errorf("calling: %w", shed), Error{Code: Unavailable, Kind: Shed, Fate: NotSent, Origin: Downstream, Pushback: time.Second}},
		{"deadline", context.DeadlineExceeded, Error{Code: DeadlineExceeded, Kind: Timeout}},
		{"wrapped deadline", fmt.Errorf("reading: %w", context.DeadlineExceeded), Error{Code: DeadlineExceeded, Kind: Timeout}},
		{"cancelled", context.Canceled, Error{Code: Canceled, Kind: Cancelled}},
		{"anything", io.EOF, Error{Code: Unknown, Fate: Processed}},
	}
	for _, tt := range tests {
		got := *From(tt.err)
		if got.Code != tt.want.Code || got.Kind != tt.want.Kind || got.Fate != tt.want.Fate || got.Origin != tt.want.Origin || got.Pushback != tt.want.Pushback {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
		if !errors.Is(&got, tt.err) && !errors.Is(tt.err, shed) {
			t.Errorf("%s: the cause was lost", tt.name)
		}
	}
	if From(nil) != nil || CodeOf(nil) != OK || FateOf(nil) != Processed {
		t.Error("nil is no failure")
	}
}

func TestErrorText(t *testing.T) {
	r := &Refusal{Policy: "breaker", Key: "greeter/greeter.Greeter/Hello", State: "open", Reason: "too many calls failed", RetryAfter: 1900 * time.Millisecond}
	tests := []struct {
		err  error
		want string
	}{
		{&Error{Code: NotFound, Message: "no message 7"}, "NotFound: no message 7"},
		{&Error{Code: Unavailable, Kind: Dial, Cause: io.EOF}, "Unavailable (dial): EOF"},
		{&Error{Code: Unavailable, Kind: Refused, Refusal: r},
			"Unavailable (refused): refused by breaker of greeter/greeter.Greeter/Hello (open): too many calls failed; retry after 1.9s"},
		{Errorf(NotFound, "no message %d", 7), "NotFound: no message 7"},
		{Errorf(Internal, "reading: %w", io.EOF), "Internal: reading: EOF"},
		{&Error{Code: Unavailable, Cause: &Error{Code: Unavailable, Message: "no"}}, "Unavailable: no"},
		{&Error{Code: Unavailable, Cause: &Error{Code: Unavailable, Kind: Dial, Message: "no"}}, "Unavailable: Unavailable (dial): no"},
		{&Error{Code: Unavailable, Kind: Dial, Cause: fmt.Errorf("%w; instead: %w", &Error{Code: Unavailable, Kind: Dial}, io.EOF)}, "Unavailable (dial); instead: EOF"},
	}
	for _, tt := range tests {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
	refused := &Error{Code: Unavailable, Kind: Refused, Refusal: r}
	again := From(fmt.Errorf("saving: %w", refused))
	if again.Refusal != r || strings.Count(again.Error(), "breaker") != 1 {
		t.Errorf("%q: want the refusal, said once", again)
	}
}

func TestContextErrorsAreRecognised(t *testing.T) {
	if !errors.Is(&Error{Code: DeadlineExceeded}, context.DeadlineExceeded) || !errors.Is(&Error{Code: Canceled}, context.Canceled) ||
		errors.Is(&Error{Code: Unavailable}, context.Canceled) {
		t.Error("errors.Is and the codes disagree")
	}
	if !errors.Is(Errorf(Unavailable, "down: %w", io.ErrUnexpectedEOF), io.ErrUnexpectedEOF) {
		t.Error("the cause is lost")
	}
}

func TestNames(t *testing.T) {
	for c := OK; c <= maxCode; c++ {
		if strings.HasPrefix(c.String(), "Code(") || !c.Valid() {
			t.Errorf("code %d has no name", uint32(c))
		}
	}
	if Code(17).Valid() || Code(17).String() != "Code(17)" {
		t.Errorf("%v", Code(17))
	}
	for k := Answered; k <= Stalled; k++ {
		if !k.Valid() || strings.HasPrefix(k.String(), "Kind(") {
			t.Errorf("kind %d has no name", uint8(k))
		}
	}
	if Kind(len(kindNames)).Valid() {
		t.Error("there are more names than kinds")
	}
}

package codec_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/internal/echopb"
)

// TestReason: what a sender is told says where it went wrong in its own terms, and names no Go type.
func TestReason(t *testing.T) {
	type inner struct {
		Size  int8   `json:"size"`
		Names []int  `json:"names"`
		Data  []byte `json:"data"`
	}
	type order struct {
		Name  string           `json:"name"`
		Paid  bool             `json:"paid"`
		Price float64          `json:"price"`
		Count uint32           `json:"count"`
		Lines []inner          `json:"lines"`
		Sizes map[string]inner `json:"sizes"`
		Next  *order           `json:"next"`
		When  time.Time        `json:"when"`
	}
	tests := []struct{ json, want string }{
		{`{"name":7}`, `at "name": expected a string, got a number`},
		{`{"paid":"yes"}`, `at "paid": expected true or false, got a string`},
		{`{"price":true}`, `at "price": expected a number, got true or false`},
		{`{"count":-1}`, `at "count": expected an integer of 32 bits that is not negative, got -1`},
		{`{"lines":[{"size":300}]}`, `at "lines.size": expected an integer of 8 bits, got 300`},
		{`{"lines":{}}`, `at "lines": expected an array, got an object`},
		{`{"next":{"next":[]}}`, `at "next.next": expected an object, got an array`},
		{`{"lines":[{"data":[1]}]}`, ``},
		{`[]`, `at byte 1: expected an object, got an array`},
		{`{"name":`, `at byte 8: unexpected end of JSON input`},
		{`{"name":x}`, `at byte 9: invalid character 'x'`},
		{`{"name":"a"}}`, `at byte 13: invalid character '}' after top-level value`},
		{`{"when":"soon"}`, `parsing time`},
		{``, `the input is empty; an empty message is {}`},
	}
	for _, tt := range tests {
		err := codec.JSON{}.Unmarshal([]byte(tt.json), new(order))
		if err == nil {
			if tt.want != "" {
				t.Errorf("%s is decoded", tt.json)
			}
			continue
		}
		got := codec.Reason(err)
		if !strings.HasPrefix(got, tt.want) || strings.Contains(got, "order") || strings.Contains(got, "inner") || strings.Contains(got, "codec") || strings.Contains(got, "json:") {
			t.Errorf("%s: %q, want %q", tt.json, got, tt.want)
		}
	}
	for _, c := range []codec.Codec{codec.JSON{}, codec.Proto{}} {
		if got := codec.Reason(c.Unmarshal([]byte(`{"id":7}`), new(echopb.EchoMessage))); got == "" || strings.Contains(got, "echopb") || strings.Contains(got, "codec") {
			t.Errorf("%s: %q", c.Name(), got)
		}
	}
	if got := codec.Reason(errors.New("a codec's own")); got != "a codec's own" {
		t.Error(got)
	}
}

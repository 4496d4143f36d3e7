package codec_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/internal/echopb"
)

// person is an ordinary Go value.
type person struct {
	Name string            `json:"name"`
	Age  int               `json:"age,omitempty"`
	Tags map[string]string `json:"tags,omitempty"`
}

// vtMessage has generated-looking fast methods and is no proto.Message. Its
// encoding is its text.
type vtMessage struct {
	text  string
	lies  int // added to the size it says
	fails bool
	reset bool
}

func (m *vtMessage) SizeVT() int { return len(m.text) + m.lies }

func (m *vtMessage) MarshalToSizedBufferVT(b []byte) (int, error) {
	if m.fails {
		return 0, errors.New("broken message")
	}
	return copy(b[len(b)-len(m.text):], m.text), nil
}

func (m *vtMessage) UnmarshalVT(b []byte) error {
	if m.fails {
		return errors.New("broken message")
	}
	m.text += string(b) // merges, as the real ones do
	return nil
}

func (m *vtMessage) Reset() { *m = vtMessage{reset: true, fails: m.fails} }

func echo() *echopb.EchoMessage {
	return &echopb.EchoMessage{
		Id:   "0123456789abcdef",
		Text: strings.Repeat("hull ", 8),
		N:    1 << 40,
		Ok:   true,
		Data: bytes.Repeat([]byte{7}, 32),
	}
}

func TestNames(t *testing.T) {
	for want, c := range map[string]codec.Codec{"proto": codec.Proto{}, "json": codec.JSON{}, "bytes": codec.Bytes{}} {
		if got := c.Name(); got != want {
			t.Errorf("%T.Name() = %q, want %q", c, got, want)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	payload := []byte{0, 1, 255}
	empty := []byte{}
	tests := []struct {
		name   string
		c      codec.Codec
		in     any
		target any // holds something else before
	}{
		{"proto", codec.Proto{}, echo(), &echopb.EchoMessage{Id: "old", Data: []byte("old")}},
		{"proto empty", codec.Proto{}, &echopb.EchoMessage{}, echo()},
		{"proto fast", codec.Proto{}, &vtMessage{text: "ahoy"}, &vtMessage{text: "old"}},
		{"json struct", codec.JSON{}, &person{Name: "Ada", Tags: map[string]string{"a": "b"}}, &person{Age: 36, Tags: map[string]string{"old": "x"}}},
		{"json value", codec.JSON{}, person{Name: "Ada"}, &person{Age: 36}},
		{"json proto", codec.JSON{}, echo(), &echopb.EchoMessage{Id: "old"}},
		{"json proto empty", codec.JSON{}, &echopb.EchoMessage{}, echo()},
		{"json map", codec.JSON{}, map[string]int{"a": 1}, &map[string]int{"old": 2}},
		{"json nil", codec.JSON{}, nil, new(any)},
		{"bytes", codec.Bytes{}, payload, &[]byte{9, 9, 9, 9, 9}},
		{"bytes pointer", codec.Bytes{}, &payload, new([]byte)},
		{"bytes empty", codec.Bytes{}, empty, &[]byte{9}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			const prefix = "before"
			b, err := tt.c.Append([]byte(prefix), tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(b, []byte(prefix)) {
				t.Fatalf("Append lost what dst held: %q", b)
			}
			data := b[len(prefix):]
			if err := tt.c.Unmarshal(data, tt.target); err != nil {
				t.Fatal(err)
			}
			for i := range data {
				data[i] = 'x' // the target must keep no reference to it
			}
			if !same(tt.in, tt.target) {
				t.Errorf("sent %+v, got %+v", tt.in, tt.target)
			}
		})
	}
}

// same reports whether target, a pointer, holds what in was.
func same(in, target any) bool {
	switch got := target.(type) {
	case proto.Message:
		return proto.Equal(in.(proto.Message), got)
	case *vtMessage:
		return got.reset && got.text == in.(*vtMessage).text
	}
	want := reflect.ValueOf(in)
	if want.Kind() == reflect.Pointer {
		want = want.Elem()
	}
	got := reflect.ValueOf(target).Elem()
	if !want.IsValid() {
		return got.IsZero()
	}
	return reflect.DeepEqual(want.Interface(), got.Interface())
}

func TestEncodeErrors(t *testing.T) {
	tests := []struct {
		name string
		c    codec.Codec
		in   any
		want []string
	}{
		{"proto, wrong type", codec.Proto{}, person{}, []string{"codec proto", "codec_test.person", "proto.Message"}},
		{"proto, nil", codec.Proto{}, nil, []string{"codec proto", "<nil>", "proto.Message"}},
		{"proto, nil message", codec.Proto{}, (*echopb.EchoMessage)(nil), []string{"nil *echopb.EchoMessage", "pass a message"}},
		{"proto, nil fast message", codec.Proto{}, (*vtMessage)(nil), []string{"nil *codec_test.vtMessage"}},
		{"proto, bad text", codec.Proto{}, &echopb.EchoMessage{Text: "\xff"}, []string{"encode *echopb.EchoMessage", "UTF-8"}},
		{"proto, fast fails", codec.Proto{}, &vtMessage{fails: true}, []string{"encode *codec_test.vtMessage", "broken message"}},
		{"proto, fast lies", codec.Proto{}, &vtMessage{text: "abc", lies: 2}, []string{"said 5 bytes and wrote 3"}},
		{"json, no such form", codec.JSON{}, make(chan int), []string{"codec json", "encode chan int", "unsupported type"}},
		{"json, not a number", codec.JSON{}, math.NaN(), []string{"encode float64", "NaN"}},
		{"json, nil message", codec.JSON{}, (*echopb.EchoMessage)(nil), []string{"nil *echopb.EchoMessage"}},
		{"json, bad message", codec.JSON{}, structpb.NewNumberValue(math.Inf(1)), []string{"encode *structpb.Value"}},
		{"bytes, string", codec.Bytes{}, "text", []string{"codec bytes", "cannot encode string", "[]byte"}},
		{"bytes, nil pointer", codec.Bytes{}, (*[]byte)(nil), []string{"nil *[]byte"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := tt.c.Append([]byte("before"), tt.in)
			checkError(t, err, tt.want)
			if string(b) != "before" {
				t.Errorf("after an error Append returned %q, want dst as it was", b)
			}
		})
	}
}

func TestDecodeErrors(t *testing.T) {
	tests := []struct {
		name   string
		c      codec.Codec
		data   string
		target any
		want   []string
	}{
		{"proto, wrong type", codec.Proto{}, "", &person{}, []string{"codec proto", "*codec_test.person", "proto.Message"}},
		{"proto, nil", codec.Proto{}, "", nil, []string{"codec proto", "nil"}},
		{"proto, nil message", codec.Proto{}, "", (*echopb.EchoMessage)(nil), []string{"nil *echopb.EchoMessage"}},
		{"proto, nil fast message", codec.Proto{}, "", (*vtMessage)(nil), []string{"nil *codec_test.vtMessage"}},
		{"proto, cut", codec.Proto{}, "\x0a\x05ab", new(echopb.EchoMessage), []string{"decode 4 bytes into *echopb.EchoMessage"}},
		{"proto, fast fails", codec.Proto{}, "x", &vtMessage{fails: true}, []string{"decode 1 bytes into *codec_test.vtMessage", "broken message"}},
		{"json, no pointer", codec.JSON{}, "{}", person{}, []string{"codec json", "codec_test.person", "pass a pointer"}},
		{"json, nil", codec.JSON{}, "{}", nil, []string{"codec json", "pass a pointer"}},
		{"json, nil pointer", codec.JSON{}, "{}", (*person)(nil), []string{"nil *codec_test.person"}},
		{"json, nil message", codec.JSON{}, "{}", (*echopb.EchoMessage)(nil), []string{"nil *echopb.EchoMessage"}},
		{"json, empty", codec.JSON{}, " \n", &person{}, []string{"decode 2 bytes into *codec_test.person", "empty message is {}"}},
		{"json, empty message", codec.JSON{}, "", new(echopb.EchoMessage), []string{"*echopb.EchoMessage", "empty message is {}"}},
		{"json, cut", codec.JSON{}, `{"name":`, &person{}, []string{"into *codec_test.person", "unexpected end"}},
		{"json, wrong kind", codec.JSON{}, `{"name":1}`, &person{}, []string{"into *codec_test.person", "person.name"}},
		{"json, two values", codec.JSON{}, `{} {}`, &person{}, []string{"after top-level value"}},
		{"json, bad message", codec.JSON{}, `{"n":"x"}`, new(echopb.EchoMessage), []string{"into *echopb.EchoMessage", "int64"}},
		{"bytes, no pointer", codec.Bytes{}, "x", []byte{}, []string{"codec bytes", "[]uint8", "*[]byte"}},
		{"bytes, nil", codec.Bytes{}, "x", nil, []string{"codec bytes", "*[]byte"}},
		{"bytes, nil pointer", codec.Bytes{}, "x", (*[]byte)(nil), []string{"nil *[]byte"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			checkError(t, tt.c.Unmarshal([]byte(tt.data), tt.target), tt.want)
		})
	}
}

func checkError(t *testing.T, err error, want []string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}

func TestCauseIsKept(t *testing.T) {
	err := codec.JSON{}.Unmarshal([]byte(`{"age":"x"}`), &person{})
	var cause *json.UnmarshalTypeError
	if !errors.As(err, &cause) || cause.Field != "age" {
		t.Errorf("error %v does not lead to its cause", err)
	}
}

func TestJSONToleratesUnknownFields(t *testing.T) {
	const data = `{"name":"Ada","text":"hi","from_the_future":[1,{"x":2}]}`
	var p person
	if err := (codec.JSON{}).Unmarshal([]byte(data), &p); err != nil || p.Name != "Ada" {
		t.Errorf("struct: %+v, %v", p, err)
	}
	var m echopb.EchoMessage
	if err := (codec.JSON{}).Unmarshal([]byte(data), &m); err != nil || m.GetText() != "hi" {
		t.Errorf("message: %v, %v", &m, err)
	}
}

// A reader's buffer is reused for each frame, so Append must use the space
// that dst has.
func TestAppendUsesCapacity(t *testing.T) {
	tests := []struct {
		c codec.Codec
		v any
	}{
		{codec.Proto{}, echo()},
		{codec.Proto{}, &vtMessage{text: "ahoy"}},
		{codec.JSON{}, echo()},
		{codec.JSON{}, &person{Name: "Ada"}},
		{codec.Bytes{}, []byte("payload")},
	}
	for _, tt := range tests {
		dst := make([]byte, 2, 4096)
		b, err := tt.c.Append(dst, tt.v)
		if err != nil {
			t.Fatal(err)
		}
		if &b[0] != &dst[0] {
			t.Errorf("%s of %T moved to a new array although dst had space", tt.c.Name(), tt.v)
		}
	}
}

func TestBytesPathAllocatesNothing(t *testing.T) {
	in, out, buf := []byte("a payload of some length"), make([]byte, 0, 64), make([]byte, 0, 64)
	var c codec.Codec = codec.Bytes{}
	n := testing.AllocsPerRun(100, func() {
		b, err := c.Append(buf, &in)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Unmarshal(b, &out); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations per round trip, want 0", n)
	}
}

// A wrapper around a message without one has nobody who could say what it is.
func TestProtoNilInside(t *testing.T) {
	type wrapper struct{ *echopb.EchoMessage }
	var none *wrapper
	if _, err := (codec.Proto{}).Append(nil, none); err == nil || !strings.Contains(err.Error(), "cannot encode a nil") {
		t.Errorf("Append of a nil wrapper: %v", err)
	}
	if err := (codec.Proto{}).Unmarshal(nil, none); err == nil || !strings.Contains(err.Error(), "cannot decode into a nil") {
		t.Errorf("Unmarshal into a nil wrapper: %v", err)
	}
	full := &wrapper{echo()}
	data, err := codec.Proto{}.Append(nil, full)
	if err != nil {
		t.Fatal(err)
	}
	got := &wrapper{new(echopb.EchoMessage)}
	if err := (codec.Proto{}).Unmarshal(data, got); err != nil || !proto.Equal(got.EchoMessage, echo()) {
		t.Errorf("a wrapped message comes back as %v: %v", got.EchoMessage, err)
	}
}

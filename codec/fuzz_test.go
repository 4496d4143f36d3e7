package codec_test

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/internal/echopb"
)

// Whatever bytes come in, decoding neither panics nor accepts a message that
// cannot be encoded again to the same one.

func FuzzProto(f *testing.F) {
	seed, err := codec.Proto{}.Append(nil, echo())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add(seed[:len(seed)/2])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) { checkMessage(t, codec.Proto{}, data) })
}

func FuzzJSONMessage(f *testing.F) {
	seed, err := codec.JSON{}.Append(nil, echo())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"unknown":{"n":[1,2]}}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) { checkMessage(t, codec.JSON{}, data) })
}

func checkMessage(t *testing.T, c codec.Codec, data []byte) {
	t.Helper()
	var first, second echopb.EchoMessage
	if c.Unmarshal(data, &first) != nil {
		return
	}
	b, err := c.Append(nil, &first)
	if err != nil {
		t.Fatalf("decoded %q and cannot encode it: %v", data, err)
	}
	if err := c.Unmarshal(b, &second); err != nil {
		t.Fatalf("cannot decode its own %q: %v", b, err)
	}
	if !proto.Equal(&first, &second) {
		t.Fatalf("%q became %v, then %v", data, &first, &second)
	}
}

func FuzzJSONValue(f *testing.F) {
	f.Add([]byte(`{"name":"Ada","age":36,"tags":{"a":"b"}}`))
	f.Add([]byte(`{"name":"Ada"`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var first, second person
		c := codec.JSON{}
		if c.Unmarshal(data, &first) != nil {
			return
		}
		b, err := c.Append(nil, &first)
		if err != nil {
			t.Fatalf("decoded %q and cannot encode it: %v", data, err)
		}
		if err := c.Unmarshal(b, &second); err != nil {
			t.Fatalf("cannot decode its own %q: %v", b, err)
		}
		again, err := c.Append(nil, &second)
		if err != nil || !bytes.Equal(b, again) {
			t.Fatalf("%q became %q, then %q (%v)", data, b, again, err)
		}
	})
}

package codec_test

import (
	"strings"
	"testing"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/internal/echopb"
)

func BenchmarkAppend(b *testing.B) {
	payload := []byte(strings.Repeat("x", 100))
	for _, bb := range []struct {
		name string
		c    codec.Codec
		v    any
	}{
		{"proto", codec.Proto{}, echo()},
		{"proto-fast", codec.Proto{}, &vtMessage{text: string(payload)}},
		{"json", codec.JSON{}, &person{Name: "Ada", Age: 36}},
		{"json-message", codec.JSON{}, echo()},
		{"bytes", codec.Bytes{}, payload},
		{"bytes-pointer", codec.Bytes{}, &payload},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			buf := make([]byte, 0, 1024)
			for b.Loop() {
				if _, err := bb.c.Append(buf, bb.v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	for _, bb := range []struct {
		name      string
		c         codec.Codec
		v, target any
	}{
		{"proto", codec.Proto{}, echo(), new(echopb.EchoMessage)},
		{"json", codec.JSON{}, &person{Name: "Ada", Age: 36}, new(person)},
		{"json-message", codec.JSON{}, echo(), new(echopb.EchoMessage)},
		{"bytes", codec.Bytes{}, []byte(strings.Repeat("x", 100)), new([]byte)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			data, err := bb.c.Append(nil, bb.v)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if err := bb.c.Unmarshal(data, bb.target); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

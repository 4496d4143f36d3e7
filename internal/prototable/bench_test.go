package prototable_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/hull-go/hull/internal/prototable"
	"github.com/hull-go/hull/internal/prototable/testpb"
)

// A benchmark is a message, and how a program makes an empty one.
type benchmark struct {
	name  string
	m     proto.Message
	empty func() proto.Message
}

// benchmarked has messages as services send them, beside package proto.
func benchmarked() []benchmark {
	text := func(n int) string { return strings.Repeat("text of ASCII; ", n/15+1)[:n] }
	order := &testpb.Order{
		Id:       "order-0123456789",
		Customer: &testpb.Order_Customer{Id: 1 << 40, Name: "Ada Lovelace", Email: "ada@example.com"},
		Tags:     []string{"express", "gift", "first-order"},
		Created:  1_700_000_000_000,
		Color:    testpb.Color_COLOR_BLUE,
	}
	for i := range 20 {
		order.Lines = append(order.Lines, &testpb.Order_Line{
			Sku: "sku-00112233", Quantity: int32(i), Price: int64(i) * 1999, Weight: 0.25, Gift: i%3 == 0, Options: []int32{1, 2, 300},
		})
	}
	lists := &testpb.Lists{}
	for i := range 100 {
		lists.FInt64 = append(lists.FInt64, int64(i)<<i%60)
		lists.FDouble = append(lists.FDouble, float64(i))
		lists.FString = append(lists.FString, "element")
	}
	deep := &testpb.Tree{Branch: &testpb.Branch{Name: text(100)}}
	for range 100 {
		deep = &testpb.Tree{Value: 1, Left: deep}
	}
	newSmall := func() proto.Message { return &testpb.Small{} }
	return []benchmark{
		{"100B", &testpb.Small{Id: "0123456789abcdef", Text: text(44), N: 1 << 40, Ok: true, Data: []byte(text(24))}, newSmall},
		{"1KiB", &testpb.Small{Id: "0123456789abcdef", Text: text(480), N: 1 << 40, Ok: true, Data: []byte(text(512))}, newSmall},
		{"nested", order, func() proto.Message { return &testpb.Order{} }},
		{"lists", lists, func() proto.Message { return &testpb.Lists{} }},
		{"deep", deep, func() proto.Message { return &testpb.Tree{} }},
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, bm := range benchmarked() {
		size := int64(proto.Size(bm.m))
		b.Run(bm.name+"/table", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(size)
			var buf []byte
			for b.Loop() {
				var ok bool
				if buf, ok = prototable.Encode(buf[:0], bm.m); !ok {
					b.Fatal("does not encode")
				}
			}
		})
		b.Run(bm.name+"/proto", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(size)
			var buf []byte
			for b.Loop() {
				var err error
				if buf, err = (proto.MarshalOptions{}).MarshalAppend(buf[:0], bm.m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Each decodes into a new message, as a server does.
func BenchmarkUnmarshal(b *testing.B) {
	for _, bm := range benchmarked() {
		data, err := proto.Marshal(bm.m)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(bm.name+"/table", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if !prototable.Decode(data, bm.empty()) {
					b.Fatal("does not decode")
				}
			}
		})
		b.Run(bm.name+"/proto", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if err := proto.Unmarshal(data, bm.empty()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

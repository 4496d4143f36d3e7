package spec

import (
	"fmt"
	"strings"
	"testing"
)

func BenchmarkParseLarge(b *testing.B) {
	var t strings.Builder
	t.WriteString("services:\n")
	for i := range 100 {
		fmt.Fprintf(&t, "  s%d:\n    methods:\n", i)
		for j := range 100 {
			fmt.Fprintf(&t, "      a.B/C%d: {timeout: 1s, retry: {attempts: 2}, idempotent: true}\n", j)
		}
	}
	b.SetBytes(int64(t.Len()))
	for b.Loop() {
		if _, err := Parse("", []byte(t.String())); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkNewMethod shows what a method costs that is called for the first time.
func BenchmarkNewMethod(b *testing.B) {
	book := mustBook(b, doc)
	book.most = 100
	n := 0
	for b.Loop() {
		n++
		if _, err := book.Method("greeter", fmt.Sprint("greeter.Greeter/M", n), nil, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMethod(b *testing.B) {
	book := mustBook(b, doc)
	for b.Loop() {
		if _, err := book.Method("greeter", "greeter.Greeter/Hello", nil, nil); err != nil {
			b.Fatal(err)
		}
	}
}

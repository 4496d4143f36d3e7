package hystrix

import (
	"context"
	"testing"
)

func BenchmarkDo(b *testing.B) {
	Flush()
	b.ReportAllocs()
	for b.Loop() {
		if err := Do("bench", succeed, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDoC(b *testing.B) {
	Flush()
	b.ReportAllocs()
	run := func(context.Context) error { return nil }
	for b.Loop() {
		if err := DoC(b.Context(), "bench", run, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDoRefused(b *testing.B) {
	Flush()
	defer Flush()
	c, _, err := GetCircuit("bench")
	if err != nil {
		b.Fatal(err)
	}
	for range c.pool.max {
		c.pool.take(1)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := Do("bench", succeed, nil); err == nil {
			b.Fatal("not refused")
		}
	}
}

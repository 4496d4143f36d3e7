package breaker

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// gate returns the breaker as pipelines see it, so that calls go through the interface.
func gate(b *testing.B, o Options) policy.Gate {
	b.Helper()
	return must(b, o)
}

func BenchmarkClosed(b *testing.B) {
	g, rnd, c := gate(b, Options{}), rand.NewPCG(1, 2), &policy.Call{}
	b.ReportAllocs()
	now := t0
	for b.Loop() {
		now++
		v := g.Admit(now, rnd, c)
		g.Done(now, rnd, v.Permit, policy.Success)
	}
}

func BenchmarkClosedParallel(b *testing.B) {
	g, c := gate(b, Options{}), &policy.Call{}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		rnd, now := rand.NewPCG(1, 2), t0
		for pb.Next() {
			now++
			v := g.Admit(now, rnd, c)
			g.Done(now, rnd, v.Permit, policy.Success)
		}
	})
}

func BenchmarkClosedFailing(b *testing.B) {
	g, rnd, c := gate(b, Options{Failures: 1}), rand.NewPCG(1, 2), &policy.Call{}
	b.ReportAllocs()
	o := policy.Success
	for b.Loop() {
		v := g.Admit(t0, rnd, c)
		g.Done(t0, rnd, v.Permit, o)
		o = policy.Failure
	}
}

func BenchmarkOpen(b *testing.B) {
	br := must(b, Options{})
	br.ForceOpen(t0)
	benchRefused(b, br, t0)
}

func BenchmarkHalfOpen(b *testing.B) {
	br := opened(b, Options{})
	now := br.Snapshot(t0).Until
	br.Admit(now, mid, nil)
	benchRefused(b, br, now.Add(2*time.Second))
}

func benchRefused(b *testing.B, g policy.Gate, now policy.Time) {
	b.Helper()
	rnd, c := rand.NewPCG(1, 2), &policy.Call{}
	b.ReportAllocs()
	for b.Loop() {
		if g.Admit(now, rnd, c).Decision != policy.Refuse {
			b.Fatal("admitted")
		}
	}
}

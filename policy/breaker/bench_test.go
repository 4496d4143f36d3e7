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

func BenchmarkClosedLastCalls(b *testing.B) {
	g, rnd, c := gate(b, Options{LastCalls: 100}), rand.NewPCG(1, 2), &policy.Call{}
	b.ReportAllocs()
	now := t0
	for b.Loop() {
		now++
		v := g.Admit(now, rnd, c)
		g.Done(now, rnd, v.Permit, policy.Success)
	}
}

func BenchmarkClosedParallel(b *testing.B) { benchParallel(b, Options{}) }

func BenchmarkClosedLastCallsParallel(b *testing.B) { benchParallel(b, Options{LastCalls: 100}) }

func benchParallel(b *testing.B, o Options) {
	b.Helper()
	g := gate(b, o)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		rnd, c, now := rand.NewPCG(1, 2), &policy.Call{}, t0
		for pb.Next() {
			now++
			v := g.Admit(now, rnd, c)
			g.Done(now, rnd, v.Permit, policy.Success)
		}
	})
}

func BenchmarkClosedFailing(b *testing.B) { benchFailing(b, Options{Failures: 1}) }

func BenchmarkClosedFailingLastCalls(b *testing.B) {
	benchFailing(b, Options{Failures: 1, LastCalls: 100})
}

// benchFailing lets nearly all calls fail through a breaker that opens only when all do.
func benchFailing(b *testing.B, o Options) {
	b.Helper()
	g, rnd, c := gate(b, o), rand.NewPCG(1, 2), &policy.Call{}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		o := policy.Failure
		if i%50 == 0 {
			o = policy.Success
		}
		i++
		v := g.Admit(t0, rnd, c)
		if v.Decision != policy.Admit {
			b.Fatal("opened")
		}
		g.Done(t0, rnd, v.Permit, o)
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

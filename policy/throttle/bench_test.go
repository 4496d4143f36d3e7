package throttle

import (
	"math/rand/v2"
	"testing"

	"github.com/hull-go/hull/policy"
)

func bench(b *testing.B, th *Throttle) {
	b.Helper()
	var g policy.Gate = th
	rnd, c := rand.NewPCG(1, 2), &policy.Call{}
	b.ReportAllocs()
	for b.Loop() {
		v := g.Admit(t0, rnd, c)
		g.Done(t0, rnd, v.Permit, policy.Success)
	}
}

func BenchmarkQuiet(b *testing.B) { bench(b, must(b, Options{})) }

func BenchmarkAfterARejection(b *testing.B) {
	th := must(b, Options{})
	done(th, t0, 1, policy.Overloaded)
	bench(b, th)
}

func BenchmarkQuietParallel(b *testing.B) {
	var g policy.Gate = must(b, Options{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		rnd, c := rand.NewPCG(1, 2), &policy.Call{}
		for pb.Next() {
			v := g.Admit(t0, rnd, c)
			g.Done(t0, rnd, v.Permit, policy.Success)
		}
	})
}

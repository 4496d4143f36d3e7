package rate

import (
	"strconv"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// gate returns the limiter as pipelines see it, so that calls go through the interface.
func gate(b *testing.B, o Options) policy.Gate {
	b.Helper()
	return must(b, o)
}

func benchOne(b *testing.B, g policy.Gate, calls []policy.Call) {
	b.Helper()
	b.ReportAllocs()
	now, i := t0, 0
	for b.Loop() {
		now += 100
		if i++; i == len(calls) {
			i = 0
		}
		v := g.Admit(now, nil, &calls[i])
		g.Done(now, nil, v.Permit, policy.Success)
	}
}

func benchAll(b *testing.B, g policy.Gate, calls []policy.Call) {
	b.Helper()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		now, i := t0, 0
		for pb.Next() {
			now += 100
			if i++; i == len(calls) {
				i = 0
			}
			v := g.Admit(now, nil, &calls[i])
			g.Done(now, nil, v.Permit, policy.Success)
		}
	})
}

func users(n int) []policy.Call {
	calls := make([]policy.Call, n)
	for i := range calls {
		calls[i].Service, calls[i].Method = "greeter", "greeter.Greeter/Hello"+strconv.Itoa(i)
		calls[i].Hash = uint64(i) + 1
	}
	return calls
}

func BenchmarkGoes(b *testing.B)         { benchOne(b, gate(b, Options{Limit: 1e8}), users(1)) }
func BenchmarkGoesParallel(b *testing.B) { benchAll(b, gate(b, Options{Limit: 1e8}), users(1)) }

func BenchmarkRefused(b *testing.B) {
	benchOne(b, gate(b, Options{Limit: 1, Per: time.Hour}), users(1))
}

func BenchmarkRefusedParallel(b *testing.B) {
	benchAll(b, gate(b, Options{Limit: 1, Per: time.Hour}), users(1))
}

func BenchmarkNumberKeys(b *testing.B) {
	benchOne(b, gate(b, Options{Limit: 1e8, Key: ByHash()}), users(1000))
}

func BenchmarkNumberKeysParallel(b *testing.B) {
	benchAll(b, gate(b, Options{Limit: 1e8, Key: ByHash()}), users(1000))
}

func BenchmarkMethodKeys(b *testing.B) {
	benchOne(b, gate(b, Options{Limit: 1e8, Key: ByMethod()}), users(1000))
}

// More keys than are remembered.
func BenchmarkEvicting(b *testing.B) {
	benchOne(b, gate(b, Options{Limit: 1e8, Key: ByHash(), Keys: 100}), users(10_000))
}

func BenchmarkWaits(b *testing.B) {
	g := gate(b, Options{Limit: 1e6, Burst: 1, MaxWait: time.Hour})
	c := &policy.Call{}
	b.ReportAllocs()
	for b.Loop() {
		v := g.Admit(t0, nil, c)
		g.Done(t0, nil, v.Permit, policy.Ignored)
	}
}

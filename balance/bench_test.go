package balance

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

func BenchmarkPickDone(b *testing.B) {
	strategies := []func() Strategy{P2C, RoundRobin, Random, LeastConnections}
	for _, strategy := range strategies {
		for _, size := range []int{3, 10, 100, 1000} {
			b.Run(fmt.Sprintf("%s/%d", strategyName(strategy()), size), func(b *testing.B) {
				p := picker(b, Options{Strategy: strategy()}, fleet(size)...)
				rnd := rand.NewPCG(1, 2)
				c := &policy.Call{Idempotent: true}
				now := policy.Time(time.Hour)
				b.ReportAllocs()
				for b.Loop() {
					n, v := p.Pick(now, rnd, c, nil)
					now = now.Add(20 * time.Microsecond)
					p.Done(now, rnd, n, v.Permit, policy.Ended{Took: 20 * time.Microsecond})
				}
			})
		}
	}
}

func BenchmarkPick(b *testing.B) {
	p := picker(b, Options{}, fleet(10)...)
	rnd := rand.NewPCG(1, 2)
	c := &policy.Call{Idempotent: true}
	now := policy.Time(time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		p.Pick(now, rnd, c, nil)
	}
}

func BenchmarkPickDoneParallel(b *testing.B) {
	p := picker(b, Options{}, fleet(10)...)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		rnd := rand.NewPCG(1, 2)
		c := &policy.Call{Idempotent: true}
		now := policy.Time(time.Hour)
		for pb.Next() {
			n, v := p.Pick(now, rnd, c, nil)
			now = now.Add(20 * time.Microsecond)
			p.Done(now, rnd, n, v.Permit, policy.Ended{Took: 20 * time.Microsecond})
		}
	})
}

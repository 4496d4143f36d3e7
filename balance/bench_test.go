package balance

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

func BenchmarkPickDone(b *testing.B) {
	for _, name := range StrategyNames() {
		for _, size := range []int{3, 10, 100, 1000} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				p := picker(b, Options{Strategy: strategyOf(b, name)}, fleet(size)...)
				rnd := rand.NewPCG(1, 2)
				c := &policy.Call{Idempotent: true, Hash: 7}
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

// BenchmarkChange is what it costs that one node changes: the update, or the ejection, and the next Pick.
func BenchmarkChange(b *testing.B) {
	for _, size := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("update/%d", size), func(b *testing.B) {
			p := picker(b, Options{}, fleet(size)...)
			svc := service(fleet(size)...)
			rnd := rand.NewPCG(1, 2)
			b.ReportAllocs()
			for b.Loop() {
				p.Update(start, svc)
				n, v := p.Pick(start, rnd, idempotent, nil)
				p.Done(start, rnd, n, v.Permit, policy.Ended{})
			}
		})
		b.Run(fmt.Sprintf("down/%d", size), func(b *testing.B) {
			d := newDriver(b, Options{}, fleet(size)...)
			b.ReportAllocs()
			for b.Loop() {
				d.force("n00", time.Second, policy.ClassUnsent)
				d.force("n00", time.Second, policy.ClassOK)
				d.call(0, policy.ClassOK)
			}
		})
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

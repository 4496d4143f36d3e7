package concurrency

import (
	"testing"

	"github.com/hull-go/hull/policy"
)

func BenchmarkFree(b *testing.B) {
	var g policy.Gate = must(b, Options{})
	c := &policy.Call{}
	b.ReportAllocs()
	for b.Loop() {
		v := g.Admit(t0, nil, c)
		g.Done(t0, nil, v.Permit, policy.Success)
	}
}

func BenchmarkFreeParallel(b *testing.B) {
	var g policy.Gate = must(b, Options{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		c := &policy.Call{}
		for pb.Next() {
			v := g.Admit(t0, nil, c)
			g.Done(t0, nil, v.Permit, policy.Success)
		}
	})
}

func BenchmarkFull(b *testing.B) {
	l := must(b, Options{Limit: 1})
	l.Admit(t0, nil, nil)
	var g policy.Gate = l
	c := &policy.Call{}
	b.ReportAllocs()
	for b.Loop() {
		g.Admit(t0, nil, c)
	}
}

// A place passes from one to the next through the line.
func BenchmarkLine(b *testing.B) {
	l := must(b, Options{Limit: 1, Queue: 4})
	l.Admit(t0, nil, nil)
	c := &policy.Call{}
	b.ReportAllocs()
	for b.Loop() {
		l.Admit(t0, nil, c)
		l.Join(t0, nil, c, policy.Waiting{})
		l.Done(t0, nil, policy.Permit{}, policy.Success)
		l.Next(t0, nil)
	}
}

func BenchmarkAdaptive(b *testing.B) {
	var g policy.Gate = must(b, Options{Source: mustTwoArm(b, TwoArmOptions{})})
	c := &policy.Call{}
	b.ReportAllocs()
	now := t0
	for b.Loop() {
		now += 100
		v := g.Admit(now, nil, c)
		g.Done(now, nil, v.Permit, policy.Success)
	}
}

func BenchmarkAdaptiveParallel(b *testing.B) {
	var g policy.Gate = must(b, Options{Source: mustTwoArm(b, TwoArmOptions{})})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		c, now := &policy.Call{}, t0
		for pb.Next() {
			now += 100
			v := g.Admit(now, nil, c)
			g.Done(now, nil, v.Permit, policy.Success)
		}
	})
}

func BenchmarkAIMD(b *testing.B) {
	src, err := NewAIMD(AIMDOptions{})
	if err != nil {
		b.Fatal(err)
	}
	var g policy.Gate = must(b, Options{Source: src})
	c := &policy.Call{}
	b.ReportAllocs()
	for b.Loop() {
		v := g.Admit(t0, nil, c)
		g.Done(t0, nil, v.Permit, policy.Success)
	}
}

// All places are taken and roots are shed: what an overloaded server does most of all.
func BenchmarkAdaptiveOverloaded(b *testing.B) {
	l := must(b, Options{Source: mustTwoArm(b, TwoArmOptions{Start: 4}), NoQueue: true})
	c := &policy.Call{Hash: 5}
	for l.Admit(t0, nil, c).Decision == policy.Admit {
	}
	b.ReportAllocs()
	for b.Loop() {
		l.Admit(t0, nil, c)
	}
}

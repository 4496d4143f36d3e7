package retry

import (
	"math/rand/v2"
	"testing"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

func BenchmarkAgain(b *testing.B) {
	var r policy.Retries = must(b, Options{})
	rnd, c := rand.NewPCG(1, 2), &policy.Call{Idempotent: true}
	b.ReportAllocs()
	for b.Loop() {
		r.Again(t0, rnd, c, 1, policy.ClassReset, status.Maybe, 0)
	}
}

func BenchmarkBudgetEarnFull(b *testing.B) {
	var g policy.Budget = budget(b, BudgetOptions{})
	b.ReportAllocs()
	for b.Loop() {
		g.Earn(t0, 1)
	}
}

func BenchmarkBudgetEarnFullParallel(b *testing.B) {
	var g policy.Budget = budget(b, BudgetOptions{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			g.Earn(t0, 1)
		}
	})
}

func BenchmarkBudgetSpendEarn(b *testing.B) {
	var g policy.Budget = budget(b, BudgetOptions{})
	b.ReportAllocs()
	for b.Loop() {
		g.Spend(t0, policy.Critical, 10)
		g.Earn(t0, 10)
	}
}

func BenchmarkBudgetSpendEarnParallel(b *testing.B) {
	var g policy.Budget = budget(b, BudgetOptions{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			g.Spend(t0, policy.Critical, 10)
			g.Earn(t0, 10)
		}
	})
}

func BenchmarkBudgetPeak(b *testing.B) {
	g := budget(b, BudgetOptions{})
	b.ReportAllocs()
	for b.Loop() {
		g.Peak(t0, 10)
	}
}

package retry

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

func budget(t testing.TB, o BudgetOptions) *Budget {
	t.Helper()
	b, err := NewBudget(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wantTokens(t *testing.T, b *Budget, now policy.Time, tokens, capacity int64) {
	t.Helper()
	if s := b.Snapshot(now); s.Tokens != tokens || s.Capacity != capacity {
		t.Errorf("%d of %d tokens, want %d of %d", s.Tokens, s.Capacity, tokens, capacity)
	}
}

func TestBudgetSpendsAndEarns(t *testing.T) {
	b := budget(t, BudgetOptions{})
	wantTokens(t, b, t0, 1000, 1000)
	b.Earn(t0, 50)
	wantTokens(t, b, t0, 1000, 1000)
	for i := range 100 {
		if !b.Spend(t0, policy.Critical, 10) {
			t.Fatalf("extra attempt %d is not paid", i)
		}
	}
	if b.Spend(t0, policy.Critical, 10) {
		t.Error("an empty budget pays")
	}
	// No trickle: an hour without successes brings nothing.
	if b.Spend(t0.Add(time.Hour), policy.Critical, 1) {
		t.Error("time alone brought tokens")
	}
	for range 19 {
		b.Earn(t0, 1)
	}
	if b.Spend(t0, policy.Critical, 20) {
		t.Error("19 tokens pay for 20")
	}
	if b.Spend(t0, policy.Critical, 10) != true || !b.Spend(t0, policy.Critical, 0) {
		t.Error("19 tokens do not pay for 10, or nothing costs something")
	}
	if s := b.Snapshot(t0); s.Spent != 1010 || s.Refused != 3 {
		t.Errorf("%+v, want 1010 spent and 3 refused", s)
	}
}

func TestCapacityFollowsThePeak(t *testing.T) {
	b := budget(t, BudgetOptions{})
	b.Peak(t0, 40)
	wantTokens(t, b, t0, 1000, 1000)
	b.Peak(t0, 500)
	wantTokens(t, b, t0, 10_000, 10_000)
	b.Peak(t0, 100)
	b.Peak(t0.Add(5*time.Second), 300)
	wantTokens(t, b, t0.Add(9*time.Second), 10_000, 10_000)
	wantTokens(t, b, t0.Add(11*time.Second), 6_000, 6_000)
	wantTokens(t, b, t0.Add(16*time.Second), 1_000, 1_000)
	if s := b.Snapshot(t0.Add(16 * time.Second)); s.Peak != 0 {
		t.Errorf("peak %d", s.Peak)
	}
	b = budget(t, BudgetOptions{PerPeak: -1, Capacity: 70})
	b.Peak(t0, 5000)
	wantTokens(t, b, t0, 70, 70)
}

// A peak that comes and goes must not fill an empty budget: while a dependency hangs, calls pile up and then time out.
func TestAPeakMakesNoTokens(t *testing.T) {
	b := budget(t, BudgetOptions{})
	b.Peak(t0, 1000)
	for b.Spend(t0, policy.Critical, 10) {
	}
	now := t0
	for range 100 {
		now = now.Add(11 * time.Second)
		b.Snapshot(now)
		b.Peak(now, 5000)
	}
	if b.Spend(now, policy.Critical, 1) {
		t.Errorf("%+v after peaks alone", b.Snapshot(now))
	}
	b = budget(t, BudgetOptions{})
	for b.Snapshot(t0).Tokens > 500 {
		b.Spend(t0, policy.Critical, 10)
	}
	b.Peak(t0, 1000)
	wantTokens(t, b, t0, 10_000, 20_000)
	wantTokens(t, b, t0.Add(time.Minute), 500, 1000)
}

// Prefetching that is refused in masses must leave something for users.
func TestBudgetKeepsHalfForTheCritical(t *testing.T) {
	b := budget(t, BudgetOptions{})
	for _, c := range []policy.Criticality{policy.Sheddable, policy.SheddablePlus} {
		for b.Spend(t0, c, 10) {
		}
		if got := b.Snapshot(t0).Tokens; got != 500 {
			t.Errorf("%v calls left %d tokens, want 500", c, got)
		}
	}
	for _, c := range []policy.Criticality{policy.Critical, policy.CriticalPlus} {
		if !b.Spend(t0, c, 10) {
			t.Errorf("nothing is left for %v calls", c)
		}
	}
}

// Check-then-add lets parallel spenders overdraw.
func TestBudgetIsNeverOverdrawn(t *testing.T) {
	b := budget(t, BudgetOptions{})
	var paid atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if b.Spend(t0, policy.Critical, 7) {
					paid.Add(7)
				}
			}
		})
	}
	wg.Wait()
	if got := paid.Load(); got != 994 {
		t.Errorf("paid %d of 1000 tokens in sevens, want 994", got)
	}
}

func TestBudgetParallel(t *testing.T) {
	b := budget(t, BudgetOptions{Window: 100 * time.Millisecond})
	var wg sync.WaitGroup
	for g := range uint64(4) {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(g, 0))
			now := t0
			for range 5000 {
				now = now.Add(time.Duration(rnd.IntN(1_000_000)))
				switch rnd.IntN(4) {
				case 0:
					b.Spend(now, policy.Critical, 10)
				case 1:
					b.Peak(now, rnd.IntN(500))
				default:
					b.Earn(now, 1)
				}
				if s := b.Snapshot(now); s.Tokens < 0 || s.Capacity < 1000 {
					t.Errorf("%+v", s)
					return
				}
			}
		})
	}
	wg.Wait()
	end := t0.Add(time.Hour)
	if s := b.Snapshot(end); s.Capacity != 1000 || s.Tokens > 1000 {
		t.Errorf("in the end %+v", s)
	}
}

// In the long run there are at most 10 % more attempts than calls, whatever fails.
func TestAmplification(t *testing.T) {
	for _, failing := range []float64{0.01, 0.1, 0.5, 0.9, 1} {
		b, rnd := budget(t, BudgetOptions{}), rand.New(rand.NewPCG(1, 2))
		const n = 200_000
		extra, earned := 0, 0
		for range n {
			if rnd.Float64() >= failing {
				b.Earn(t0, 1)
				earned++
				continue
			}
			for tries := 1; tries < 3 && b.Spend(t0, policy.Critical, 10); tries++ {
				extra++
				if rnd.Float64() >= failing {
					break
				}
			}
		}
		if bound := earned/10 + 100; extra > bound {
			t.Errorf("%v failing: %d extra attempts for %d calls, want at most %d", failing, extra, n, bound)
		}
	}
}

func TestNothingAllocates(t *testing.T) {
	b, r := budget(t, BudgetOptions{}), must(t, Options{})
	c := &policy.Call{Idempotent: true}
	if n := testing.AllocsPerRun(1000, func() {
		b.Spend(t0, policy.Critical, 10)
		b.Earn(t0, 1)
		b.Peak(t0, 10)
		r.Again(t0, high, c, 1, policy.ClassReset, 0, 0)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

package hedge

import (
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

const (
	t0 = policy.Time(1_700_000_000 * time.Second)
	ms = time.Millisecond
)

func must(t testing.TB, o Options) *Hedging {
	t.Helper()
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func done(h *Hedging, now policy.Time, n int, cl policy.Class, took time.Duration) {
	for range n {
		h.Done(now, policy.Ended{Class: cl, Took: took})
	}
}

// saved is hedging whose account is full.
func saved(t testing.TB, o Options) *Hedging {
	t.Helper()
	h := must(t, o)
	h.account.Store(h.full)
	return h
}

func TestDelayIsLearned(t *testing.T) {
	h := saved(t, Options{})
	if _, ok := h.Delay(t0, nil, 1); ok {
		t.Error("hedges though nothing is known")
	}
	done(h, t0, 94, policy.ClassOK, 10*ms)
	done(h, t0, 5, policy.ClassOK, 80*ms)
	now := t0.Add(time.Second)
	if _, ok := h.Delay(now, nil, 1); ok {
		t.Error("hedges with 99 samples")
	}
	done(h, t0, 1, policy.ClassOK, 80*ms)
	now = now.Add(time.Second)
	if d, ok := h.Delay(now, nil, 1); !ok || d < 74*ms || d > 86*ms {
		t.Errorf("%v, %v, want about 80ms", d, ok)
	}
}

func TestDelayHasAFloor(t *testing.T) {
	h := saved(t, Options{})
	done(h, t0, 1000, policy.ClassOK, 20*time.Microsecond)
	if d, ok := h.Delay(t0.Add(time.Second), nil, 1); !ok || d != ms {
		t.Errorf("%v, %v, want 1ms", d, ok)
	}
}

// Losers of hedges are cut off at about the delay. Leaving them out, or counting them as ends, would draw the delay down for ever.
func TestLosersDoNotDrawTheDelayDown(t *testing.T) {
	h := saved(t, Options{})
	rnd := rand.New(rand.NewPCG(1, 2))
	now := t0
	latency := func() time.Duration { return time.Duration(float64(20*ms) * math.Exp(0.5*rnd.NormFloat64())) }
	for range 1000 {
		h.Done(now, policy.Ended{Class: policy.ClassOK, Took: latency()})
	}
	now = now.Add(time.Second)
	first := h.Snapshot(now).Delay
	for range 120_000 {
		now = now.Add(ms)
		d := h.Snapshot(now).Delay
		a := latency()
		if a <= d {
			h.Done(now, policy.Ended{Class: policy.ClassOK, Took: a})
			continue
		}
		if b := latency(); d+b < a {
			h.Done(now, policy.Ended{Class: policy.ClassOK, Took: b})
			h.Done(now, policy.Ended{Class: policy.ClassLoser, Took: d + b})
		} else {
			h.Done(now, policy.Ended{Class: policy.ClassOK, Took: a})
			h.Done(now, policy.Ended{Class: policy.ClassLoser, Took: a - d})
		}
	}
	if last := h.Snapshot(now).Delay; last < first*8/10 || last > first*12/10 {
		t.Errorf("the delay went from %v to %v", first, last)
	}
}

func TestAnUnknownQuantileLeavesTheDelay(t *testing.T) {
	h := saved(t, Options{})
	done(h, t0, 1000, policy.ClassOK, 20*ms)
	first := h.Snapshot(t0.Add(time.Second)).Delay
	done(h, t0.Add(time.Second), 1000, policy.ClassTimeout, 300*ms)
	if d := h.Snapshot(t0.Add(3 * time.Second)).Delay; d != first {
		t.Errorf("from %v to %v", first, d)
	}
}

func TestHowMany(t *testing.T) {
	for _, tt := range []struct {
		hedges int
		n      int
		want   bool
	}{{1, 1, true}, {1, 2, false}, {2, 2, true}, {2, 3, false}, {7, 7, true}} {
		h := saved(t, Options{Delay: 10 * ms, Hedges: tt.hedges})
		if d, ok := h.Delay(t0, nil, tt.n); ok != tt.want || (ok && d != 10*ms) {
			t.Errorf("%d hedges, %d begun: %v, %v", tt.hedges, tt.n, d, ok)
		}
	}
}

// When everything becomes slower than the delay at once, every call would be hedged: the account keeps extra attempts at 5 %.
func TestExtraAttemptsStayWithinTheShare(t *testing.T) {
	h := must(t, Options{Delay: 10 * ms})
	extra := 0
	const calls = 10_000
	for range calls {
		if _, ok := h.Delay(t0, nil, 1); ok {
			extra++ // its delay passes
			h.Delay(t0, nil, 2)
		}
	}
	if extra < calls*4/100 || extra > calls*5/100 {
		t.Errorf("%d extra attempts for %d calls, want 5 %%", extra, calls)
	}
	if s := h.Snapshot(t0); s.Begun != int64(extra) || s.Denied == 0 {
		t.Errorf("%+v", s)
	}
}

// Many under way overdraw the account; no hedge until that is paid back.
func TestOverdraft(t *testing.T) {
	h := saved(t, Options{Delay: 10 * ms})
	for range 100 {
		if _, ok := h.Delay(t0, nil, 1); !ok {
			t.Fatal("not armed")
		}
	}
	for range 100 {
		h.Delay(t0, nil, 2)
	}
	if s := h.Snapshot(t0); s.Account > -89 || s.Account < -91 {
		t.Errorf("%+v, want 90 overdrawn", s)
	}
	calls := 0
	for ; ; calls++ {
		if _, ok := h.Delay(t0, nil, 1); ok {
			break
		}
	}
	if calls < 1810 || calls > 1830 {
		t.Errorf("hedges again after %d calls, want 91 × 20", calls)
	}
}

func TestWrongOptions(t *testing.T) {
	_, err := New(Options{Delay: -1, Quantile: 1, Min: -1, MinSamples: -1, Window: -1, Hedges: 8, Extra: -1, Burst: -1})
	if err == nil {
		t.Fatal("no error")
	}
	for _, word := range []string{"hedge: ", "Delay", "Quantile", "Min ", "MinSamples", "Window", "Hedges", "Extra", "Burst"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not name %s: %v", word, err)
		}
	}
}

func TestParallel(t *testing.T) {
	h := must(t, Options{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			now := t0
			for i := range 5000 {
				now = now.Add(ms)
				if _, ok := h.Delay(now, nil, 1); ok && i%10 == 0 {
					h.Delay(now, nil, 2)
				}
				h.Done(now, policy.Ended{Took: time.Duration(i%100) * ms})
				if i%100 == 0 {
					h.Snapshot(now)
				}
			}
		})
	}
	wg.Wait()
	if s := h.Snapshot(t0.Add(5 * time.Second)); s.Delay < 85*ms || s.Delay > 105*ms || s.Begun == 0 {
		t.Errorf("%+v", s)
	}
}

func TestNothingAllocates(t *testing.T) {
	h := must(t, Options{})
	now := t0
	if n := testing.AllocsPerRun(1000, func() {
		now = now.Add(time.Second)
		h.Delay(now, nil, 1)
		h.Done(now, policy.Ended{Took: ms})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

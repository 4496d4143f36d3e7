package throttle

import (
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

const t0 = policy.Time(1_700_000_000 * time.Second)

func must(t testing.TB, o Options) *Throttle {
	t.Helper()
	th, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return th
}

func done(th *Throttle, now policy.Time, n int, o policy.Outcome) {
	for range n {
		th.Done(now, nil, policy.Permit{}, o)
	}
}

func TestShare(t *testing.T) {
	tests := []struct {
		name               string
		o                  Options
		accepted, rejected int
		want               float64
	}{
		{"nothing yet", Options{}, 0, 0, 0},
		{"all accepted", Options{}, 1000, 0, 0},
		{"one in two accepted", Options{}, 50, 50, 0},
		{"one in four accepted", Options{}, 25, 75, 50.0 / 101},
		{"none accepted", Options{}, 0, 1000, 0.9},
		{"too few", Options{}, 0, 19, 0},
		{"just enough", Options{}, 0, 20, 0.9},
		{"a smaller K", Options{K: 1}, 50, 50, 50.0 / 101},
		{"a smaller Max", Options{Max: 0.3}, 0, 1000, 0.3},
		{"a smaller minimum", Options{MinCalls: 3}, 0, 3, 3.0 / 4},
	}
	for _, tt := range tests {
		th := must(t, tt.o)
		done(th, t0, tt.accepted, policy.Success)
		done(th, t0, tt.rejected, policy.Overloaded)
		if got := th.Snapshot(t0).Share; math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestOnlyTheServersWordCounts(t *testing.T) {
	th := must(t, Options{})
	for _, o := range []policy.Outcome{policy.Ignored, policy.Failure, policy.TimedOut} {
		done(th, t0, 1000, o)
	}
	if s := th.Snapshot(t0); s != (Snapshot{}) {
		t.Errorf("%+v, want nothing counted", s)
	}
}

func TestRefusalsCountAsRequests(t *testing.T) {
	th := must(t, Options{})
	done(th, t0, 30, policy.Success)
	done(th, t0, 70, policy.Overloaded)
	before := th.Snapshot(t0).Share
	rnd := rand.NewPCG(1, 2)
	for range 100 {
		if v := th.Admit(t0, rnd, nil); v.Decision == policy.Refuse && (v.State != "throttling" || v.Reason == "") {
			t.Fatalf("%+v", v)
		}
	}
	s := th.Snapshot(t0)
	if s.Refused == 0 || s.Refused != s.RefusedEver || s.Share <= before {
		t.Errorf("%+v, before %v", s, before)
	}
}

func TestItPasses(t *testing.T) {
	th := must(t, Options{})
	done(th, t0, 1000, policy.Overloaded)
	rnd := rand.NewPCG(1, 2)
	now := t0.Add(31 * time.Second)
	for range 1000 {
		if v := th.Admit(now, rnd, nil); v.Decision != policy.Admit {
			t.Fatalf("a window later: %+v", v)
		}
	}
}

// A service that takes 100 calls per second on is offered 1000: it gets about K times what it takes, all the time, and all of
// them again soon after it can.
func TestOverloadAndRecovery(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.NewPCG(seed, 0)
	th := must(t, Options{})
	second := func(s, capacity int) (sent int) {
		for i := range 1000 {
			now := t0.Add(time.Duration(s)*time.Second + time.Duration(i)*time.Millisecond)
			v := th.Admit(now, rnd, nil)
			if v.Decision == policy.Refuse {
				continue
			}
			sent++
			o := policy.Success
			if sent > capacity {
				o = policy.Overloaded
			}
			th.Done(now, rnd, v.Permit, o)
		}
		return sent
	}
	for s := range 120 {
		if sent := second(s, 100); s > 40 && (sent < 130 || sent > 300) {
			t.Fatalf("second %d: %d sent, want about 200", s, sent)
		}
	}
	for s := 120; ; s++ {
		if second(s, 1000) == 1000 {
			if s > 120+31 {
				t.Errorf("recovered after %d s", s-120)
			}
			return
		}
		if s > 200 {
			t.Fatal("never recovers")
		}
	}
}

func TestWrongOptions(t *testing.T) {
	_, err := New(Options{Window: -1, K: 0.5, Max: 1, MinCalls: -1})
	if err == nil {
		t.Fatal("no error")
	}
	for _, word := range []string{"throttle: ", "Window", "K is", "Max", "MinCalls"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not name %s: %v", word, err)
		}
	}
	if _, err := New(Options{K: math.NaN(), Max: math.NaN()}); err == nil {
		t.Error("NaN: no error")
	}
}

func TestParallel(t *testing.T) {
	th := must(t, Options{})
	var wg sync.WaitGroup
	for g := range uint64(4) {
		wg.Go(func() {
			rnd := rand.NewPCG(g, 0)
			now := t0
			for i := range 5000 {
				now = now.Add(time.Millisecond)
				v := th.Admit(now, rnd, nil)
				if v.Decision == policy.Refuse {
					continue
				}
				o := policy.Overloaded
				if i%5 == 0 {
					o = policy.Success
				}
				th.Done(now, rnd, v.Permit, o)
			}
		})
	}
	wg.Wait()
	if s := th.Snapshot(t0.Add(5 * time.Second)); s.Accepted+s.Rejected+s.Refused != 20_000 || s.Refused == 0 {
		t.Errorf("%+v, want 20000 calls and some of them held back", s)
	}
}

func TestNothingAllocates(t *testing.T) {
	th := must(t, Options{})
	done(th, t0, 100, policy.Overloaded)
	rnd := rand.NewPCG(1, 2)
	if n := testing.AllocsPerRun(1000, func() {
		v := th.Admit(t0, rnd, nil)
		th.Done(t0, rnd, v.Permit, policy.Success)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// When the service takes on all that comes its earlier refusals are forgiven; while it refuses one in ten they are not.
func TestForgives(t *testing.T) {
	now := policy.Time(time.Hour)
	overloaded := func() *Throttle {
		th, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		for range 1000 {
			th.Done(now, nil, policy.Permit{Slot: uint32(policy.Critical)}, policy.Overloaded)
		}
		return th
	}
	th := overloaded()
	shares := []float64{th.Snapshot(now).Share}
	for range 10 {
		for range 10 {
			th.Done(now, nil, policy.Permit{Slot: uint32(policy.Critical)}, policy.Success)
		}
		shares = append(shares, th.Snapshot(now).Share)
	}
	if shares[0] != 0.9 || shares[2] != 0.9 || shares[9] <= 0 || shares[10] != 0 {
		t.Errorf("by tens of calls that are taken on: %.2f", shares)
	}
	for range 4 {
		th.Done(now, nil, policy.Permit{Slot: uint32(policy.Critical)}, policy.Overloaded)
	}
	if s := th.Snapshot(now).Share; s < 0.7 {
		t.Errorf("after four new refusals %.2f", s)
	}
	if s := th.Snapshot(now).Shares[policy.Sheddable]; s < 0.7 {
		t.Errorf("of less important calls %.2f", s)
	}

	for _, accepted := range []int{1, 2, 4, 8} { // of those that are sent, for each that is refused
		th, held := overloaded(), 0
		for i := range 20_000 {
			o := policy.Success
			if i%(accepted+1) == 0 {
				o = policy.Overloaded
			}
			th.Done(now, nil, policy.Permit{Slot: uint32(policy.Critical)}, o)
			if th.classes[policy.Critical].weight() < 1 {
				held++
			}
		}
		if held > 0 {
			t.Errorf("though one call in %d is refused, %d times something was forgiven", accepted+1, held)
		}
	}
}

// Pass gives the permit that Admit gives, and leaves calls to Admit as long as a refusal is remembered.
func TestPass(t *testing.T) {
	th := must(t, Options{Window: time.Second})
	for _, k := range []policy.Criticality{policy.Critical, policy.Sheddable, 9} {
		p, ok := th.Pass(t0, 0, k)
		if v := th.Admit(t0, nil, &policy.Call{Criticality: k}); !ok || p != v.Permit {
			t.Errorf("class %d: %+v %t, want %+v", k, p, ok, v.Permit)
		}
	}
	th.Done(t0, nil, policy.Permit{}, policy.Overloaded)
	if _, ok := th.Pass(t0.Add(time.Second), 0, policy.Critical); ok {
		t.Error("a call passes though the service has just refused one")
	}
	if _, ok := th.Pass(t0.Add(time.Second+1), 0, policy.Critical); !ok {
		t.Error("a call does not pass when the refusal is forgotten")
	}
}

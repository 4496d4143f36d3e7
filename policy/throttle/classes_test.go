package throttle

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// told has a throttle hear what became of n calls of a class.
func told(th *Throttle, now policy.Time, class policy.Criticality, n int, o policy.Outcome) {
	for range n {
		v := th.Admit(now, only(1<<63|1<<62|1<<61|1<<60), &policy.Call{Criticality: class}) // a draw of 0.94 is above Max
		th.Done(now, nil, v.Permit, o)
	}
}

func TestClasses(t *testing.T) {
	type said struct{ accepted, rejected int }
	tests := []struct {
		name string
		said map[policy.Criticality]said
		want [classes]float64 // by criticality: critical, critical-plus, sheddable-plus, sheddable
	}{
		{"sheddable calls are refused", map[policy.Criticality]said{policy.Sheddable: {0, 99}, policy.Critical: {100, 0}},
			[classes]float64{policy.Sheddable: 0.9}},
		{"critical ones are", map[policy.Criticality]said{policy.Critical: {25, 74}, policy.CriticalPlus: {100, 0}},
			[classes]float64{policy.Critical: 0.49, policy.SheddablePlus: 0.49, policy.Sheddable: 0.49}},
		{"the most important are", map[policy.Criticality]said{policy.CriticalPlus: {0, 99}, policy.Critical: {100, 0}, policy.Sheddable: {100, 0}},
			[classes]float64{0.9, 0.9, 0.9, 0.9}},
		{"each has a share of its own", map[policy.Criticality]said{policy.Critical: {25, 74}, policy.Sheddable: {10, 89}},
			[classes]float64{policy.Critical: 0.49, policy.SheddablePlus: 0.49, policy.Sheddable: 0.79}},
		{"a class with few calls goes with a more important one", map[policy.Criticality]said{policy.SheddablePlus: {25, 74}, policy.Sheddable: {3, 1}},
			[classes]float64{policy.SheddablePlus: 0.49, policy.Sheddable: 0.49}},
		{"few calls say nothing", map[policy.Criticality]said{policy.Sheddable: {0, 19}}, [classes]float64{}},
	}
	for _, tt := range tests {
		th := must(t, Options{})
		var accepted, rejected int
		for class, s := range tt.said {
			told(th, t0, class, s.accepted, policy.Success)
			told(th, t0, class, s.rejected, policy.Overloaded)
			accepted, rejected = accepted+s.accepted, rejected+s.rejected
		}
		s := th.Snapshot(t0)
		for k, want := range tt.want {
			if got := s.Shares[k]; got < want-0.005 || got > want+0.005 {
				t.Errorf("%s: of %v calls %.3f are held back, want %.2f", tt.name, policy.Criticality(k), got, want)
			}
		}
		if s.Accepted != int64(accepted) || s.Rejected != int64(rejected) || s.Share != s.Shares[policy.Critical] {
			t.Errorf("%s: %+v", tt.name, s)
		}
	}
}

// TestCriticalCallsGoWhileOthersAreHeldBack is the point of it: a server with room for the critical calls alone gets all of these, and next to
// nothing else.
func TestCriticalCallsGoWhileOthersAreHeldBack(t *testing.T) {
	th := must(t, Options{})
	src := rand.NewPCG(1, 2)
	var sent, held [classes]int
	for now := t0; now < t0.Add(time.Minute); now = now.Add(5 * time.Millisecond) {
		for _, class := range []policy.Criticality{policy.Critical, policy.Sheddable} {
			v := th.Admit(now, src, &policy.Call{Criticality: class})
			if v.Decision == policy.Refuse {
				held[class]++
				continue
			}
			sent[class]++
			o := policy.Success
			if class == policy.Sheddable {
				o = policy.Overloaded
			}
			th.Done(now, src, v.Permit, o)
		}
	}
	if held[policy.Critical] != 0 {
		t.Errorf("%d critical calls were held back that the server takes", held[policy.Critical])
	}
	if sent[policy.Sheddable] > held[policy.Sheddable]/5 {
		t.Errorf("of the sheddable calls %d were sent and %d held back", sent[policy.Sheddable], held[policy.Sheddable])
	}
}

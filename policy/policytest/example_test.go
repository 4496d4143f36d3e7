package policytest_test

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/policytest"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/policy/timeout"
)

// Maintenance is a gate of one's own: it refuses calls while somebody works on the database.
type Maintenance struct{ until atomic.Int64 }

// Close lets nothing through until t.
func (m *Maintenance) Close(t policy.Time) { m.until.Store(int64(t)) }

// Admit implements policy.Gate.
func (m *Maintenance) Admit(now policy.Time, _ rand.Source, _ *policy.Call) policy.Verdict {
	if until := policy.Time(m.until.Load()); now < until {
		return policy.Verdict{Decision: policy.Refuse, At: until, State: "closed", Reason: "the database is being worked on"}
	}
	return policy.Verdict{}
}

// Done implements policy.Gate.
func (*Maintenance) Done(policy.Time, rand.Source, policy.Permit, policy.Outcome) {}

// A gate of one's own is tested like Hull's: call this from a test, here TestMaintenance.
func ExampleTestGate() {
	testMaintenance := func(t *testing.T) {
		policytest.TestGate(t, func() policy.Gate { return new(Maintenance) }, policytest.Caps{})
	}
	_ = testMaintenance
	// Output:
}

func TestMaintenance(t *testing.T) {
	policytest.TestGate(t, func() policy.Gate { return new(Maintenance) }, policytest.Caps{})
}

// What a gate of one's own does to a service can be seen in virtual time.
func ExampleWorld() {
	w := policytest.NewWorld(1)
	gate := new(Maintenance)
	p := must(policy.New(policy.Options{Gates: []policy.Slot{{Name: "maintenance", Gate: gate}}}))
	database := policytest.NewServer(policytest.ServerOptions{Workers: 10, Work: policytest.Every(20 * time.Millisecond)})

	ok, refused := 0, 0
	w.Arrive(func() float64 { return 100 }, func() {
		w.Call(p, policy.Call{}, database, func(c *policytest.Call) {
			switch c.Class {
			case policy.ClassOK:
				ok++
			case policy.ClassRefused:
				refused++
			}
		})
	})
	w.At(10*time.Second, func() { gate.Close(w.Now().Add(20 * time.Second)) })
	w.Until(30 * time.Second)
	fmt.Printf("%d %% refused\n", 100*refused/(ok+refused))
	// Output: 67 % refused
}

// A stall of 10 s in a service with 93 % load: retries make it last.
func ExampleServer_Stall() {
	for _, attempts := range []int{1, 2} {
		w := policytest.NewWorld(1)
		p := must(policy.New(policy.Options{
			Retries:  must(retry.New(retry.Options{Attempts: attempts})),
			Timeouts: must(timeout.New(timeout.Options{Fixed: time.Second})),
		}))
		server := policytest.NewServer(policytest.ServerOptions{Work: policytest.Every(time.Second / 300)})
		good := 0
		w.Arrive(func() float64 { return 280 }, func() {
			w.Call(p, policy.Call{Idempotent: true}, server, func(c *policytest.Call) {
				if c.Err == nil && w.Elapsed() > 180*time.Second {
					good++
				}
			})
		})
		w.At(5*time.Second, func() { server.Stall(w, 10*time.Second) })
		w.Until(200 * time.Second)
		fmt.Printf("%d attempts: well again three minutes later: %v\n", attempts, good > 5000)
	}
	// Output:
	// 1 attempts: well again three minutes later: true
	// 2 attempts: well again three minutes later: false
}

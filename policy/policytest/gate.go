package policytest

import (
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// Caps says how a gate differs from others. The zero value is a gate that admits everything that comes at a moderate pace
// and has no state that could stick.
type Caps struct {
	// Places is how many permits may be out at once. That many are, and never more. 0 = the gate does not bound that, or its bound
	// changes.
	Places int
	// Recovers is the longest time for which the gate refuses calls of a dependency that is well again, whatever happened before.
	Recovers time.Duration
	// Pace is the time between calls of a load that a gate in good health admits: 10 ms.
	Pace time.Duration
	// Generations: a result that arrives when the gate's state is not the one that gave the permit counts for nothing. Then the gate
	// must refuse calls at some time while all calls fail, and must not have Places.
	Generations bool
	// Call is the call that is asked for: an empty one.
	Call policy.Call
}

// TestGate runs the suite that a gate has to pass to be used in a pipeline, as subtests of t. newGate returns a new gate each
// time; it is also called in testing/synctest bubbles, so that it must not share goroutines or channels. It takes a second
// or two. A gate that is a policy.Line is tested by TestLine.
//
// Done is called once for each permit, as executors do: what a gate makes of a second time is its own affair.
func TestGate(t *testing.T, newGate func() policy.Gate, caps Caps) {
	t.Helper()
	run(t, newSuite(newGate, caps).gateChecks())
}

// TestLine is TestGate for a gate in which calls can wait.
func TestLine(t *testing.T, newLine func() policy.Line, caps Caps) {
	t.Helper()
	s := newSuite(func() policy.Gate { return newLine() }, caps)
	run(t, append(s.gateChecks(), s.lineChecks()...))
}

func newSuite(newGate func() policy.Gate, caps Caps) *suite {
	if caps.Pace == 0 {
		caps.Pace = 10 * time.Millisecond
	}
	return &suite{new: newGate, caps: caps}
}

func run(t *testing.T, checks []check) {
	t.Helper()
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { c.run(t, t) })
	}
}

// check is one property. What is wrong is told to r, which tests of the suite itself replace; t is for bubbles.
type check struct {
	name string
	run  func(t *testing.T, r reporter)
}

type reporter interface {
	Helper()
	Errorf(format string, args ...any)
}

type suite struct {
	new  func() policy.Gate
	caps Caps
}

func (s *suite) gateChecks() []check {
	return []check{
		{"verdicts are complete", s.verdicts},
		{"it recovers", s.recovers},
		{"results under an older state", s.generations},
		{"results that are late", s.late},
		{"the clock jumps", s.jumps},
		{"places", s.places},
		{"panic and Goexit", s.panics},
		{"another policy panics", s.panicsElsewhere},
		{"a function that never returns", s.hangs},
		{"cancel at any moment", s.cancels},
		{"events", s.events},
		{"advice to stay away", s.advice},
		{"no allocations", s.allocations},
		{"in parallel", s.parallel},
	}
}

func (s *suite) lineChecks() []check {
	return []check{
		{"a place that comes back", s.handedOn},
		{"nobody who waits is forgotten", s.waiters},
		{"waiters in parallel", s.parallelWaiters},
	}
}

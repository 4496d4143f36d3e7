package invariant

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// Rule is the number of an invariant, 1 to Rules.
type Rule int

// Rules is how many there are.
const Rules = 15

var ruleTexts = [Rules + 1]string{
	1:  "every call ends exactly once",
	2:  "no call outlives its deadline by more than 50 ms and what the process stood still",
	3:  "what is not idempotent runs once at most, and not at all if it is said not to have been sent",
	4:  "a key starts once among nodes that share a store, but for declared reruns",
	5:  "attempts at a service are at most 1.1 times the root calls, and the declared burst",
	6:  "nothing is tried again after a downstream failure, a negative pushback, or without budget",
	7:  "no node is tried twice while another may be",
	8:  "permits, places and calls in flight are back at zero in the end; abandoned ones are within their cap",
	9:  "no more nodes are ejected than the cap allows, never all, and failing open is said",
	10: "a breaker opens from failures of the service, not from sheds, cancellations and refusals alone",
	11: "every open, ejected or disbelieving state ends when its cause has",
	12: "overload leaves goodput at 90 % of capacity, and at 80 % load nearly nothing is shed",
	13: "a class is shed beyond its reserve only while the lower ones are at theirs",
	14: "no handler starts when its server knows that nobody waits",
	15: "discovery never loses a live node, and no call reaches the wrong instance",
}

// String says what the rule is.
func (r Rule) String() string {
	if r < 1 || r > Rules {
		return fmt.Sprintf("rule %d of %d", int(r), Rules)
	}
	return ruleTexts[r]
}

// Violation is an invariant that was broken.
type Violation struct {
	Rule Rule
	At   policy.Time // 0 = found at the end
	What string
}

// String says which, when and what.
func (v Violation) String() string {
	if v.At == 0 {
		return fmt.Sprintf("invariant %d: %s", int(v.Rule), v.What)
	}
	return fmt.Sprintf("invariant %d at %s: %s", int(v.Rule), v.At.Clock().Format("15:04:05.000"), v.What)
}

// usualGrace is what the contract says.
const usualGrace = 50 * time.Millisecond

// Options of a Checker. The zero value checks what the contract says.
type Options struct {
	// Grace is what a call may be late beside measured stalls; 0 = 50 ms.
	Grace time.Duration
	// Burst is how many attempts a service may see beyond 1.1 per root call.
	Burst int
	// Recovery is what a state may last beyond its maximum after its cause has ended; 0 = 1 s.
	Recovery time.Duration
	// Reserve is the share that each class of criticality keeps; 0 = 0.02.
	Reserve float64
	// Keep is how long what has ended is remembered, for a checker that looks on for hours: what comes later than that cannot be compared with it any more.
	// Look forgets; 0 = nothing is ever forgotten.
	Keep time.Duration
}

// maxTold bounds how many violations of one rule are kept; all are counted.
const maxTold = 20

// Checker collects what is seen. It is safe for concurrent use. Its memory grows with the calls, 150 bytes or so each, unless Options.Keep says for how long.
type Checker struct {
	o Options

	mu sync.Mutex
	tally

	ended     map[Outcome]int
	late      []late
	open      map[uint64]*Call
	done      map[uint64]policy.Time // ended, to notice a second end
	starts    map[uint64]begun       // of calls that may start once
	neverSent map[uint64]policy.Time
	keys      map[string]begun
	roots     int
	attempts  map[string]int    // by service
	stalls    map[string][]span // by process
	spells    []Spell
	causes    map[string][]span
	opened    []opening
	failures  map[string][]policy.Time // that count in a breaker, by key
	ends      []end                    // what invariants 12 and 13 look at
	phases    []Phase
}

// tally is what was judged so far.
type tally struct {
	told   [Rules + 1][]Violation
	broken [Rules + 1]int
	seen   [Rules + 1]int // how often a rule had something to judge
	latest time.Duration  // see Report
}

// begun is how often something has started, and when it did last.
type begun struct {
	n  int
	at policy.Time
}

type span struct{ from, to policy.Time }

// late is a call that ended after its deadline. Whether that was its process's standing still is known in the end.
type late struct {
	Call
	by time.Duration
	at policy.Time
}

// New returns a Checker.
func New(o Options) *Checker {
	if o.Grace == 0 {
		o.Grace = usualGrace
	}
	if o.Recovery == 0 {
		o.Recovery = time.Second
	}
	if o.Reserve == 0 {
		o.Reserve = 0.02
	}
	return &Checker{o: o, stalls: map[string][]span{}, ended: map[Outcome]int{}, open: map[uint64]*Call{}, done: map[uint64]policy.Time{}, starts: map[uint64]begun{},
		neverSent: map[uint64]policy.Time{}, keys: map[string]begun{}, attempts: map[string]int{}, causes: map[string][]span{}, failures: map[string][]policy.Time{}}
}

// violated notes one. The Checker's lock is held.
func (t *tally) violated(r Rule, at policy.Time, format string, args ...any) {
	t.broken[r]++
	if len(t.told[r]) < maxTold {
		t.told[r] = append(t.told[r], Violation{r, at, fmt.Sprintf(format, args...)})
	}
}

// Outcome is how a call ended for who made it.
type Outcome string

// The outcomes.
const (
	OK       Outcome = "ok"
	Fallback Outcome = "fallback"
	Refused  Outcome = "refused" // by a policy of the caller's, or shed
	Failed   Outcome = "failed"
)

// Call is a call that somebody wants answered.
type Call struct {
	ID      uint64
	Service string
	// Root: it stands at the root of its tree, and counts for invariant 5.
	Root bool
	// Once: it is neither idempotent nor keyed, so it may start once.
	Once        bool
	Deadline    policy.Time // 0 = none
	Criticality policy.Criticality
	// Process is which one makes the call.
	Process string
	At      policy.Time
}

// Offer says that a call begins.
func (c *Checker) Offer(call Call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, again := c.open[call.ID]; again {
		c.violated(1, call.At, "call %d begins twice", call.ID)
		return
	}
	c.open[call.ID] = &call
	if call.Root {
		c.roots++
	}
}

// End is how a call ended.
type End struct {
	ID      uint64
	Outcome Outcome
	// Class is what it counts for, and Key whose breaker counts it; Key may be empty.
	Class policy.Class
	Key   string
	Fate  status.Fate
	// Shed: it was refused for want of capacity, by a server or on its behalf.
	Shed bool
	At   policy.Time
}

// end is what is kept of one.
type end struct {
	service     string
	began, at   policy.Time
	good, shed  bool
	criticality policy.Criticality
}

// End says that a call has ended.
func (c *Checker) End(e End) {
	c.mu.Lock()
	defer c.mu.Unlock()
	call := c.open[e.ID]
	c.seen[1]++
	if _, again := c.done[e.ID]; again {
		c.violated(1, e.At, "call %d ends twice, this time as %s", e.ID, e.Outcome)
		return
	}
	if call == nil {
		c.violated(1, e.At, "call %d ends and never began", e.ID)
		return
	}
	delete(c.open, e.ID)
	c.done[e.ID] = e.At
	c.ended[e.Outcome]++
	if call.Deadline != 0 {
		c.seen[2]++
		if by := e.At.Sub(call.Deadline); by > min(c.o.Grace, usualGrace) {
			c.late = append(c.late, late{*call, by, e.At})
		}
	}
	if call.Once && e.Outcome != OK && e.Fate == status.NotSent {
		c.neverSent[e.ID] = e.At
		if c.starts[e.ID].n > 0 {
			c.violated(3, e.At, "call %d ran, and its caller was told that it was not sent", e.ID)
		}
	}
	if e.Key != "" && e.Class.Counts().Breaker == policy.Failure {
		c.failures[e.Key] = append(c.failures[e.Key], e.At)
	}
	c.ends = append(c.ends, end{call.Service, call.At, e.At, e.Outcome == OK && (call.Deadline == 0 || e.At <= call.Deadline), e.Shed, call.Criticality})
}

// Stall says that a process that makes calls stood still.
func (c *Checker) Stall(process string, from, to policy.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stalls[process] = append(c.stalls[process], span{from, to})
}

// stalled is how long a process stood still between two times; who told may have told of the same time more than once.
func (c *Checker) stalled(process string, from, to policy.Time) (d time.Duration) {
	var all []span
	for _, s := range c.stalls[process] {
		if a, b := max(s.from, from), min(s.to, to); b > a {
			all = append(all, span{a, b})
		}
	}
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	for _, s := range all {
		if s.from = max(s.from, from); s.to > s.from {
			d += s.to.Sub(s.from)
			from = s.to
		}
	}
	return d
}

// Attempt is one attempt of a call, as its caller decided on it.
type Attempt struct {
	Call    uint64
	N       int // 0 is the first
	Service string
	Node    string
	At      policy.Time
	// Hedge: it runs beside another and answers no failure.
	Hedge bool
	// Before is the failure that it follows; nil for first attempts and hedges.
	Before *status.Error
	// Paid: the budget had what it cost, or it was free.
	Paid bool
	// Tried are the nodes of the call's attempts before it, Eligible those that could be chosen; Same excuses it from another node
	// because of a key that only its first node knows.
	Tried, Eligible []string
	Same            bool
}

// Attempt says that an attempt starts.
func (c *Checker) Attempt(a Attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attempts[a.Service]++
	if a.N == 0 {
		return
	}
	c.seen[6]++
	if b := a.Before; b != nil {
		if b.Origin == status.Downstream {
			c.violated(6, a.At, "attempt %d of call %d answers a failure from further down: %v", a.N+1, a.Call, b)
		}
		if b.Pushback < 0 {
			c.violated(6, a.At, "attempt %d of call %d although the server said not to: %v", a.N+1, a.Call, b)
		}
	}
	if !a.Paid {
		c.violated(6, a.At, "attempt %d of call %d was not paid for", a.N+1, a.Call)
	}
	if len(a.Eligible) > 0 {
		c.seen[7]++
	}
	if a.Same || !slices.Contains(a.Tried, a.Node) {
		return
	}
	for _, n := range a.Eligible {
		if !slices.Contains(a.Tried, n) {
			c.violated(7, a.At, "attempt %d of call %d goes to %s again, and %s was not tried", a.N+1, a.Call, a.Node, n)
			return
		}
	}
}

// Start is a handler that begins, as its server saw it.
type Start struct {
	Call    uint64 // 0 = not known
	Service string
	Node    string // the instance
	// WantService is what the caller meant; empty = not known.
	WantService string
	// Key is the call's idempotency key where nodes share them; Rerun: it runs again because that was declared harmless.
	Key   string
	Rerun bool
	Once  bool
	// Over is when the server learned that nobody waits any more; 0 = never.
	Over policy.Time
	At   policy.Time
}

// Start says that a handler begins.
func (c *Checker) Start(s Start) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.Once && s.Call != 0 {
		c.seen[3]++
		n := c.starts[s.Call].n + 1
		if c.starts[s.Call] = (begun{n, s.At}); n > 1 {
			c.violated(3, s.At, "call %d runs for the %s time, on %s", s.Call, ordinal(n), s.Node)
		}
		if _, never := c.neverSent[s.Call]; never {
			c.violated(3, s.At, "call %d runs on %s, and its caller was told that it was not sent", s.Call, s.Node)
		}
	}
	if s.Key != "" {
		c.seen[4]++
		if !s.Rerun {
			n := c.keys[s.Key].n + 1
			if c.keys[s.Key] = (begun{n, s.At}); n > 1 {
				c.violated(4, s.At, "key %q starts for the %s time, on %s", s.Key, ordinal(n), s.Node)
			}
		}
	}
	c.seen[14]++
	if s.Over != 0 && s.Over < s.At {
		c.violated(14, s.At, "%s starts a handler %v after it knew that nobody waits", s.Node, s.At.Sub(s.Over))
	}
	if s.WantService != "" {
		c.seen[15]++
		if s.WantService != s.Service {
			c.violated(15, s.At, "a call to %s reached %s of %s", s.WantService, s.Node, s.Service)
		}
	}
}

// Answered says that a node answered a call, and which one its caller believes that it was.
func (c *Checker) Answered(node, meant string, at policy.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen[15]++; node != meant {
		c.violated(15, at, "a call to node %s reached %s", meant, node)
	}
}

func ordinal(n int) string {
	switch n {
	case 2:
		return "second"
	case 3:
		return "third"
	}
	return fmt.Sprintf("%dth", n)
}

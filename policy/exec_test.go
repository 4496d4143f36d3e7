package policy_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

const ms = time.Millisecond

var (
	errUnavailable = &status.Error{Code: status.Unavailable, Fate: status.Processed}
	errRefusedConn = &status.Error{Code: status.Unavailable, Kind: status.Dial, Fate: status.NotSent}
	errTimeout     = &status.Error{Code: status.DeadlineExceeded, Kind: status.Timeout}
	errCancelled   = &status.Error{Code: status.Canceled, Kind: status.Cancelled}
	errLateBelow   = &status.Error{Code: status.DeadlineExceeded, Origin: status.Downstream, Fate: status.Processed}
	errNotFound    = &status.Error{Code: status.NotFound, Fate: status.Processed}
)

// gate is a scripted gate that keeps books.
type gate struct {
	verdicts []policy.Verdict // in turn; then admit
	admits   int
	mu       sync.Mutex
	out      int // permits that are out
	outcomes []policy.Outcome
	lapsed   bool
}

func (g *gate) Admit(now policy.Time, _ rand.Source, _ *policy.Call) policy.Verdict {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.admits++
	var v policy.Verdict
	if len(g.verdicts) > 0 {
		v, g.verdicts = g.verdicts[0], g.verdicts[1:]
	}
	if v.Decision.Permits() {
		g.out++
		v.Permit.Start = now
	}
	return v
}

func (g *gate) Done(_ policy.Time, _ rand.Source, _ policy.Permit, o policy.Outcome) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.out--
	g.outcomes = append(g.outcomes, o)
}

func (g *gate) taken() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.out
}

func (g *gate) Holds(policy.Time, policy.Permit) bool { return !g.lapsed }

// tries is a scripted Retries: so many attempts, with a fixed wait, as the outcome table allows.
type tries struct {
	n    int
	wait time.Duration
}

func (r tries) Attempts() int { return r.n }
func (r tries) Again(_ policy.Time, _ rand.Source, c *policy.Call, _ int, cl policy.Class, fate status.Fate, _ time.Duration) (time.Duration, bool, string) {
	switch rule := cl.Counts().Retry; {
	case fate == status.NotSent && rule != policy.RetryNever, rule == policy.RetryAny:
		return 0, true, ""
	case c.Idempotent && rule != policy.RetryNever:
		return r.wait, true, ""
	}
	return 0, false, "not safe"
}

// delay hedges after a fixed time.
type delay time.Duration

func (d delay) Delay(_ policy.Time, _ *policy.Call, n int) (time.Duration, bool) {
	return time.Duration(d), n < 3
}
func (delay) Done(policy.Time, policy.Ended) {}

// fixed is an attempt timeout.
type fixed time.Duration

func (f fixed) Attempt(policy.Time, *policy.Call, time.Duration, bool) time.Duration {
	return time.Duration(f)
}
func (f fixed) Fair(_ policy.Time, d time.Duration) bool { return d >= time.Duration(f) }
func (fixed) Done(policy.Time, policy.Ended)             {}

type purse struct{ tokens int }

func (b *purse) Spend(_ policy.Time, _ policy.Criticality, n int) bool {
	if b.tokens < n {
		return false
	}
	b.tokens -= n
	return true
}
func (b *purse) Earn(_ policy.Time, n int) { b.tokens += n }

// places is a list of nodes; each pick takes the first that was not tried.
type places struct {
	nodes []*place
	out   int
	ended []policy.Class
}

type place struct{ id string }

func (p *place) ID() string { return p.id }

func (p *places) Pick(_ policy.Time, _ rand.Source, _ *policy.Call, tried []policy.Node) (policy.Node, policy.Verdict) {
next:
	for _, n := range p.nodes {
		for _, t := range tried {
			if t == policy.Node(n) {
				continue next
			}
		}
		p.out++
		return n, policy.Verdict{}
	}
	return nil, policy.Verdict{Decision: policy.Refuse, State: "empty", Reason: "no node is left"}
}

func (p *places) Done(_ policy.Time, _ rand.Source, _ policy.Node, _ policy.Permit, e policy.Ended) {
	p.out--
	p.ended = append(p.ended, e.Class)
}

func mustNew(t testing.TB, o policy.Options) *policy.Pipeline {
	t.Helper()
	p, err := policy.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// script answers attempt k with its k-th entry.
type answer struct {
	took time.Duration
	err  error
}

func script(as ...answer) func(policy.Attempt) (time.Duration, error) {
	return func(a policy.Attempt) (time.Duration, error) { return as[a.N].took, as[a.N].err }
}

func TestExec(t *testing.T) {
	lapse := &gate{}
	tests := []struct {
		name     string
		call     policy.Call
		opt      policy.Options
		serve    func(policy.Attempt) (time.Duration, error)
		attempts int
		took     time.Duration
		class    policy.Class
		err      error
	}{
		{name: "plain success", serve: script(answer{5 * ms, nil}), attempts: 1, took: 5 * ms},
		{name: "an idempotent call is repeated", call: policy.Call{Idempotent: true}, opt: policy.Options{Retries: tries{3, 10 * ms}},
			serve: script(answer{5 * ms, errUnavailable}, answer{ms, nil}), attempts: 2, took: 16 * ms},
		{name: "one that is not is left alone", opt: policy.Options{Retries: tries{3, 10 * ms}},
			serve: script(answer{5 * ms, errUnavailable}), attempts: 1, took: 5 * ms, class: policy.ClassUnavailable, err: errUnavailable},
		{name: "what was not sent is repeated at once, whatever it is", opt: policy.Options{Retries: tries{3, 10 * ms}},
			serve: script(answer{ms, errRefusedConn}, answer{ms, nil}), attempts: 2, took: 2 * ms},
		{name: "attempts run out", call: policy.Call{Idempotent: true}, opt: policy.Options{Retries: tries{2, ms}},
			serve: script(answer{ms, errUnavailable}, answer{ms, errUnavailable}), attempts: 2, took: 3 * ms, class: policy.ClassUnavailable, err: errUnavailable},
		{name: "the caller's mistake is an answer", call: policy.Call{Idempotent: true}, opt: policy.Options{Retries: tries{3, ms}},
			serve: script(answer{ms, errNotFound}), attempts: 1, took: ms, class: policy.ClassCaller, err: errNotFound},
		{name: "an attempt timeout leaves room for another", call: policy.Call{Idempotent: true}, opt: policy.Options{Retries: tries{3, 0}, Timeouts: fixed(20 * ms)},
			serve: script(answer{time.Hour, nil}, answer{ms, nil}), attempts: 2, took: 21 * ms},
		{name: "time that ran out below was this attempt's own", call: policy.Call{Idempotent: true}, opt: policy.Options{Retries: tries{3, 0}, Timeouts: fixed(20 * ms)},
			serve: script(answer{19 * ms, errLateBelow}, answer{ms, nil}), attempts: 2, took: 20 * ms},
		{name: "time that ran out sooner was somebody else's", call: policy.Call{Idempotent: true}, opt: policy.Options{Retries: tries{3, 0}, Timeouts: fixed(20 * ms)},
			serve: script(answer{10 * ms, errLateBelow}), attempts: 1, took: 10 * ms, class: policy.ClassDownstream, err: errLateBelow},
		{name: "no attempt begins that the deadline would not see", call: policy.Call{Idempotent: true, Deadline: policy.Time(1e9).Add(30 * ms)}, opt: policy.Options{Retries: tries{3, 50 * ms}},
			serve: script(answer{ms, errUnavailable}), attempts: 1, took: ms, class: policy.ClassUnavailable, err: errUnavailable},
		{name: "the deadline had passed before", call: policy.Call{Deadline: 1}, attempts: 0, class: policy.ClassDeadlineSoon, err: errAny},
		{name: "an empty budget ends it", call: policy.Call{Idempotent: true}, opt: policy.Options{Retries: tries{3, 0}, Budget: &purse{15}},
			serve: script(answer{ms, errUnavailable}, answer{ms, errUnavailable}), attempts: 2, took: 2 * ms, class: policy.ClassUnavailable, err: errUnavailable},
		{name: "the caller's deadline cuts an attempt that had a fair chance", call: policy.Call{Deadline: policy.Time(1e9).Add(30 * ms)}, opt: policy.Options{Timeouts: fixed(20 * ms)},
			serve: func(a policy.Attempt) (time.Duration, error) { return 20 * ms, errTimeout }, attempts: 1, took: 20 * ms, class: policy.ClassTimeout, err: errTimeout},
		{name: "one that had not is nobody's fault", call: policy.Call{Deadline: policy.Time(1e9).Add(10 * ms)}, opt: policy.Options{Timeouts: fixed(20 * ms)},
			serve: script(answer{time.Hour, nil}), attempts: 1, took: 10 * ms, class: policy.ClassDeadlineSoon, err: errTimeout},
		{name: "a hedge wins", call: policy.Call{Idempotent: true, SideEffectFree: true}, opt: policy.Options{Retries: tries{3, 0}, Hedging: delay(10 * ms)},
			serve: script(answer{time.Hour, nil}, answer{2 * ms, nil}), attempts: 2, took: 12 * ms},
		{name: "the first good answer wins, not the first", call: policy.Call{Idempotent: true, SideEffectFree: true}, opt: policy.Options{Retries: tries{2, 0}, Hedging: delay(10 * ms)},
			serve: script(answer{30 * ms, nil}, answer{2 * ms, errUnavailable}), attempts: 2, took: 30 * ms},
		{name: "a failure fires the next hedge at once", call: policy.Call{Idempotent: true, SideEffectFree: true}, opt: policy.Options{Retries: tries{3, 0}, Hedging: delay(10 * ms)},
			serve: script(answer{time.Hour, nil}, answer{2 * ms, errUnavailable}, answer{ms, nil}), attempts: 3, took: 13 * ms},
		{name: "methods with side effects are not hedged", call: policy.Call{Idempotent: true}, opt: policy.Options{Retries: tries{3, 0}, Hedging: delay(10 * ms)},
			serve: script(answer{50 * ms, nil}), attempts: 1, took: 50 * ms},
		{name: "a probe is not repeated", call: policy.Call{Idempotent: true}, opt: policy.Options{Retries: tries{3, 0},
			Breaker: policy.Slot{Name: "breaker", Gate: &gate{verdicts: []policy.Verdict{{Decision: policy.Probe}}}}},
			serve: script(answer{ms, errUnavailable}), attempts: 1, took: ms, class: policy.ClassUnavailable, err: errUnavailable},
		{name: "a breaker that opens meanwhile ends it", call: policy.Call{Idempotent: true}, opt: policy.Options{Retries: tries{3, 0}, Breaker: policy.Slot{Name: "breaker", Gate: lapse}},
			serve:    func(policy.Attempt) (time.Duration, error) { lapse.lapsed = true; return ms, errUnavailable },
			attempts: 1, took: ms, class: policy.ClassUnavailable, err: errUnavailable},
		{name: "a gate that makes it wait", opt: policy.Options{Rate: policy.Slot{Name: "rate", Gate: &gate{verdicts: []policy.Verdict{{Decision: policy.Wait, At: policy.Time(1e9).Add(40 * ms)}}}}},
			serve: script(answer{ms, nil}), attempts: 1, took: 41 * ms},
		{name: "it does not wait past its deadline", call: policy.Call{Deadline: policy.Time(1e9).Add(30 * ms)},
			opt:      policy.Options{Rate: policy.Slot{Name: "rate", Gate: &gate{verdicts: []policy.Verdict{{Decision: policy.Wait, At: policy.Time(1e9).Add(40 * ms)}}}}},
			attempts: 0, class: policy.ClassRefused, err: errAny},
		{name: "a refusal", opt: policy.Options{Breaker: policy.Slot{Name: "breaker", Gate: &gate{verdicts: []policy.Verdict{{Decision: policy.Refuse, State: "open"}}}}},
			attempts: 0, class: policy.ClassRefused, err: errAny},
		{name: "a refusal in dry-run", opt: policy.Options{Breaker: policy.Slot{Name: "breaker", Mode: policy.DryRun, Gate: &gate{verdicts: []policy.Verdict{{Decision: policy.Refuse}}}}},
			serve: script(answer{ms, nil}), attempts: 1, took: ms},
		{name: "off is not asked", opt: policy.Options{Breaker: policy.Slot{Name: "breaker", Mode: policy.Off, Gate: &gate{verdicts: []policy.Verdict{{Decision: policy.Refuse}}}}},
			serve: script(answer{ms, nil}), attempts: 1, took: ms},
		{name: "a retry above leaves only what was not sent", call: policy.Call{Idempotent: true, SideEffectFree: true, PathAttempt: 2}, opt: policy.Options{Retries: tries{3, 0}, Hedging: delay(ms)},
			serve: script(answer{5 * ms, nil}), attempts: 1, took: 5 * ms},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			nodes := &places{nodes: []*place{{"a"}, {"b"}, {"c"}}}
			limit := &gate{}
			tt.opt.Nodes, tt.opt.Concurrency = nodes, policy.Slot{Name: "concurrency", Gate: limit}
			w := newWorld(1)
			c := w.call(mustNew(t, tt.opt), tt.call, tt.serve)
			w.run()
			if !c.ended || !c.x.Idle() {
				t.Fatalf("ended %v, idle %v: want both", c.ended, c.x.Idle())
			}
			if len(c.starts) != tt.attempts || c.took != tt.took || c.class != tt.class {
				t.Errorf("%d attempts, %v, class %v; want %d, %v, %v", len(c.starts), c.took, c.class, tt.attempts, tt.took, tt.class)
			}
			if errors.Is(tt.err, errAny) {
				if c.err == nil {
					t.Error("no error; want one")
				}
			} else if !errors.Is(c.err, tt.err) {
				t.Errorf("error %v, want %v", c.err, tt.err)
			}
			if nodes.out != 0 || limit.out != 0 {
				t.Errorf("%d picks and %d permits are still out", nodes.out, limit.out)
			}
			for _, s := range []policy.Slot{tt.opt.Rate, tt.opt.Breaker} {
				if g, ok := s.Gate.(*gate); ok && g.out != 0 {
					t.Errorf("%d permits of %s are still out", g.out, s.Name)
				}
			}
			seen := map[policy.Node]bool{}
			for k := range c.starts {
				n := c.x.Attempt(k).Node
				if seen[n] {
					t.Errorf("attempt %d repeats node %s while another was untried", k, n.ID())
				}
				seen[n] = true
			}
		})
	}
}

var errAny = errors.New("any")

func TestBreakerSeesTheCallOnceAndNodesEachAttempt(t *testing.T) {
	b, nodes := &gate{}, &places{nodes: []*place{{"a"}, {"b"}}}
	p := mustNew(t, policy.Options{Breaker: policy.Slot{Name: "breaker", Gate: b}, Nodes: nodes, Retries: tries{3, 0}})
	w := newWorld(1)
	w.call(p, policy.Call{Idempotent: true}, script(answer{ms, errUnavailable}, answer{ms, nil}))
	w.run()
	if len(b.outcomes) != 1 || b.outcomes[0] != policy.Success {
		t.Errorf("the breaker saw %v, want one success", b.outcomes)
	}
	if len(nodes.ended) != 2 || nodes.ended[0] != policy.ClassUnavailable || nodes.ended[1] != policy.ClassOK {
		t.Errorf("the nodes saw %v", nodes.ended)
	}
	if s := p.Snapshot(); s.Calls != 1 || s.Attempts != 2 || s.Retries != 1 || s.Abandoned != 0 {
		t.Errorf("counters %+v", s)
	}
}

func TestLosersAreNobodysFailure(t *testing.T) {
	nodes := &places{nodes: []*place{{"slow"}, {"fast"}}}
	p := mustNew(t, policy.Options{Nodes: nodes, Retries: tries{2, 0}, Hedging: delay(10 * ms)})
	w := newWorld(1)
	c := w.call(p, policy.Call{Idempotent: true, SideEffectFree: true}, script(answer{time.Hour, nil}, answer{ms, nil}))
	w.run()
	if len(nodes.ended) != 2 || nodes.ended[0] != policy.ClassOK || nodes.ended[1] != policy.ClassLoser {
		t.Errorf("the nodes saw %v, want ok and then loser", nodes.ended)
	}
	if winner, _, _ := c.x.End(); winner != 1 {
		t.Errorf("attempt %d won, want 1", winner)
	}
}

func TestNewReportsEveryFault(t *testing.T) {
	_, err := policy.New(policy.Options{Key: "k", Gates: []policy.Slot{{Gate: &gate{}}}, Breaker: policy.Slot{Name: "b"},
		Throttle: policy.Slot{Name: "x", Gate: &gate{}, Mode: 9}, Hedging: delay(1)})
	if err == nil {
		t.Fatal("a wrong pipeline was accepted")
	}
	for _, want := range []string{"has no name", `"b" has no gate`, "mode 9", "hedging without retries"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
}

type nopGate struct{}

func (nopGate) Admit(policy.Time, rand.Source, *policy.Call) policy.Verdict {
	return policy.Verdict{}
}
func (nopGate) Done(policy.Time, rand.Source, policy.Permit, policy.Outcome) {}

package balance

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/hull-go/hull/policy"
)

// State is a node's standing in one word.
type State string

// The states. A node can be avoided for several reasons; the strongest is shown.
const (
	// Ready: in good standing.
	Ready State = "ready"
	// Suspect: calls to it are in flight and nothing is heard.
	Suspect State = "suspect"
	// Ejected: it failed more than others.
	Ejected State = "ejected"
	// Down: it cannot be reached, or said that it is going away.
	Down State = "down"
	// Draining: discovery says that it is about to leave.
	Draining State = "draining"
	// Absent: discovery no longer lists it, and it has never answered here; it serves when no other can.
	Absent State = "absent"
	// Unmatched: selector or filter keep it out.
	Unmatched State = "unmatched"
)

// NodeState is all that a Picker knows about a node.
type NodeState struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	Version string `json:"version,omitempty"`
	Zone    string `json:"zone,omitempty"`
	State   State  `json:"state"`
	// Considered: attempts may go to it now, other than as a probe.
	Considered bool `json:"considered"`
	// Why is one sentence; empty for a ready node that is considered.
	Why string `json:"why,omitempty"`
	// Since is when it began to be avoided, Until when that ends without further proof, Probe when the next probe may go.
	// Zero when it is not avoided.
	Since policy.Time `json:"since,omitempty"`
	Until policy.Time `json:"until,omitempty"`
	Probe policy.Time `json:"probe,omitempty"`
	// Ejections is the multiplier of the last ejection's time; it falls by one with each sweep.
	Ejections int `json:"ejections,omitempty"`
	// Streak is how many failures in a row it has.
	Streak int `json:"streak,omitempty"`
	// Latency is what its successful attempts of the last minute or so took on average, to within an eighth; 0 = there were none.
	Latency time.Duration `json:"latency"`
	// Estimate is what the strategy goes by in place of that. Slow answers and failures raise it at once, what a failure counts for is at least the
	// fleet's p99, and a node of which nothing is known has the fleet's median.
	Estimate time.Duration `json:"estimate"`
	InFlight int           `json:"inFlight"`
	// Share is weight relative to the heaviest node, with slow start.
	Share float64 `json:"share"`
	// OK, Failed and Other are attempts done: successes and failures of the success rate, and those that count for neither.
	OK     uint64 `json:"ok"`
	Failed uint64 `json:"failed"`
	Other  uint64 `json:"other"`
	// Lacks are methods that the node has lately said not to serve, sorted. Calls of them go to others while there are any.
	Lacks []string `json:"lacks,omitempty"`
}

// String returns one line, for logs.
func (s NodeState) String() string {
	where := s.Address
	if s.Zone != "" {
		where += " in zone " + s.Zone
	}
	took := "nothing measured"
	if s.Latency > 0 {
		took = "took ~" + short(s.Latency).String()
	}
	line := fmt.Sprintf("%s %s %s: %d in flight, %s, counts as %v, %d ok, %d failed", s.ID, where, s.State, s.InFlight, took, short(s.Estimate), s.OK, s.Failed)
	if len(s.Lacks) > 0 {
		line += ", lacks " + strings.Join(s.Lacks, ", ")
	}
	if s.Why != "" {
		line += ": " + s.Why
	}
	return line
}

// Explain says of every node how it stands at now and why, sorted by ID. What is due by now but waits for the next
// Pick is shown as if it had happened.
func (p *Picker) Explain(now policy.Time) []NodeState {
	k := p.core
	k.mu.Lock()
	defer k.mu.Unlock()
	set := p.build()
	pool := make(map[*Node]bool, len(set.pool))
	for _, n := range set.pool {
		pool[n] = true
	}
	out := make([]NodeState, 0, len(k.nodes))
	for _, n := range k.nodes {
		info, flags := n.Info(), n.flags.Load()&^n.expired(now)
		s := NodeState{
			ID: n.id, Address: info.Address, Version: info.Version, Zone: info.Zone, State: stateOf(flags), Considered: pool[n],
			Ejections: n.ejections, Streak: int(n.streak.Load()), Latency: n.measured(), Estimate: n.Latency(now), InFlight: n.InFlight(),
			Share: n.Share(now), OK: n.ok.Load(), Failed: n.failed.Load(), Other: n.other.Load(),
			Lacks: n.lacking(now),
		}
		switch {
		case !p.sel.Match(info) || !k.opt.Selector.Match(info) || (k.opt.Filter != nil && !k.opt.Filter(info)):
			s.State, s.Considered, s.Why = Unmatched, false, "selector or filter keep it out"
		case flags != 0:
			s.Why, s.Since, s.Until, s.Probe = n.why, n.since, n.last(), n.nextProbe
			switch {
			case k.opt.Ejection.Mode == policy.DryRun:
				s.Why += " (dry-run: it serves all the same)"
			case s.Considered:
				s.Why += " (it serves because too few others can)"
			}
		case info.Draining:
			s.State, s.Why = Draining, "it is about to leave"
		case info.Absent && n.ok.Load() == 0:
			s.State, s.Why = Absent, "discovery has lost it and it has not answered here"
		default:
			if s.State = Ready; !s.Considered {
				s.Why = "it is kept for when others fail: farther away, outside the subset, or of a version without a share"
			}
		}
		out = append(out, s)
	}
	return out
}

// stateOf is the strongest of several reasons to avoid a node.
func stateOf(flags uint32) State {
	switch {
	case flags&isDown != 0:
		return Down
	case flags&isEjected != 0:
		return Ejected
	case flags&isSuspect != 0:
		return Suspect
	}
	return Ready
}

// Nodes returns the nodes of the last Update, matching or not, sorted by ID.
func (p *Picker) Nodes() []*Node {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*Node(nil), p.nodes...)
}

// Snapshot is a reading of a Picker.
type Snapshot struct {
	Service  string `json:"service"`
	Strategy string `json:"strategy"`
	// Nodes are all that discovery knows, Pool those that attempts may go to now.
	Nodes int `json:"nodes"`
	Pool  int `json:"pool"`
	// Suspect, Ejected and Down are how many are avoided for which reason.
	Suspect int `json:"suspect"`
	Ejected int `json:"ejected"`
	Down    int `json:"down"`
	// Panic: nodes serve that should be avoided, because too few others can.
	Panic bool `json:"panic"`
	// InFlight is the number of attempts now.
	InFlight int `json:"inFlight"`
	// Ejections were made, DryRun would have been; Slow counts latency outliers, Probes the probes sent.
	Ejections int64 `json:"ejections"`
	DryRun    int64 `json:"dryRun"`
	Slow      int64 `json:"slow"`
	Probes    int64 `json:"probes"`
	// Median and P99 are the fleet's latency as far as known, Stall the silence that makes a suspect.
	Median time.Duration `json:"median"`
	P99    time.Duration `json:"p99"`
	Stall  time.Duration `json:"stall"`
}

// Snapshot reads the Picker's state and counters.
func (p *Picker) Snapshot(now policy.Time) Snapshot {
	k := p.core
	k.mu.Lock()
	defer k.mu.Unlock()
	set := p.build()
	s := Snapshot{
		Service: k.service, Strategy: strategyName(k.opt.Strategy), Nodes: len(k.nodes), Pool: len(set.pool), Panic: set.panicking,
		Ejections: k.n.ejections, DryRun: k.n.dryEjections, Slow: k.n.slow, Probes: k.n.probes,
		Median: time.Duration(math.Float32frombits(k.median.Load())), P99: time.Duration(k.p99.Load()), Stall: time.Duration(k.stall.Load()),
	}
	for _, n := range k.nodes {
		s.InFlight += n.InFlight()
		flags := n.flags.Load() &^ n.expired(now)
		if flags&isSuspect != 0 {
			s.Suspect++
		}
		if flags&isEjected != 0 {
			s.Ejected++
		}
		if flags&isDown != 0 {
			s.Down++
		}
	}
	return s
}

func strategyName(s Strategy) string {
	if n, ok := s.(fmt.Stringer); ok {
		return n.String()
	}
	return fmt.Sprintf("%T", s)
}

// short leaves out the digits of a duration that nobody reads.
func short(d time.Duration) time.Duration {
	for unit := time.Duration(1); unit < time.Hour; unit *= 10 {
		if d < 1000*unit {
			return d.Round(unit)
		}
	}
	return d
}

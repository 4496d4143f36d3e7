package balance

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
)

// Options configure a Picker. The zero value is the default of every setting.
type Options struct {
	// Strategy chooses among the nodes in good standing; nil = P2C.
	Strategy Strategy
	// Selector keeps nodes out that do not match it; the zero value matches all.
	Selector Selector
	// Filter keeps nodes out that it returns false for; nil = none. It is called when the set of nodes changes, not for
	// every call, under a lock: it must be quick and must not call the Picker.
	Filter func(*registry.Node) bool
	// Zone and Region are where the client is; empty = not known. Calls stay in the zone while at least 71 % of its nodes,
	// by weight, are in good standing. Of fewer it gets 1.4 × that share of the calls; the rest goes to the region, and
	// from there in the same way elsewhere. A call that has failed on two nodes of one zone goes on in another.
	Zone, Region string
	// Versions gives versions a share of the calls, between 0 and 1, whatever the number of their nodes; all others
	// together get the rest. nil = by the nodes. Calls with a key (Call.Hash) keep to their version. If a version has no
	// node in good standing its share goes to the others; one of share 0 is called when nothing else is left.
	Versions map[string]float64
	// Subset keeps the client to a part of a large fleet; the zero value is all nodes.
	Subset Subset
	// SlowStart is how long a node that joins later than the first set takes to get its full share; 0 = 10 s, negative = none.
	SlowStart time.Duration
	// Decay is the time constant of latency estimates; 0 = 10 s.
	Decay time.Duration
	// Ejection says who is avoided.
	Ejection Ejection
	// Notify is told of each node that begins or ceases to be avoided; nil = nobody. It is called without locks held,
	// on the goroutine of the call that noticed, and must not block.
	Notify func(Change)
}

// Ejection says when a node is avoided and for how long. The zero value is on, with the defaults of each field.
type Ejection struct {
	// Mode is on, dry-run (everything is judged and counted, and nobody avoided) or off.
	Mode policy.Mode
	// Consecutive is how many failures in a row eject; 0 = 5, negative = never.
	Consecutive int
	// Base is the time of a first ejection, a second takes twice as long, and so on up to Max; 0 = 5 s and 60 s.
	Base, Max time.Duration
	// Share is the largest share of the nodes that can be ejected, rounded down; 0 = 0.5. It is below 1.
	Share float64
	// Sweep is how often success rates are compared; 0 = 10 s, negative = never.
	Sweep time.Duration
	// Deviations is how many standard deviations below the mean a success rate ejects; 0 = 1.9.
	Deviations float64
	// Gap is how far a success rate may be below that of the other nodes together; one that is farther ejects within a second, however few
	// nodes there are. 0 = 0.3, negative = never.
	Gap float64
	// MinNodes and MinCalls are how many nodes with how many calls each a comparison by deviations needs; 0 = 5 and 100.
	MinNodes, MinCalls int
	// SlowFactor: a node slower on average than this × the fleet's median is a latency outlier; 0 = 3.
	SlowFactor float64
	// EjectSlow ejects latency outliers. Otherwise they are only counted, in Snapshot.Slow.
	EjectSlow bool
	// Probe is the time between two probes of an avoided node; 0 = 1 s, negative = no probes, for calls that cannot be
	// repeated elsewhere.
	Probe time.Duration
	// Stall is how long nothing may be heard from a node with calls in flight; 0 = max(3 × p99, 100 ms), negative = for ever.
	Stall time.Duration
}

// Change is a node that begins or ceases to be avoided.
type Change struct {
	Node *Node
	// State is Down, Suspect or Ejected, or Ready when it is none of them any more.
	State State
	// Why is one sentence in lower case.
	Why string
	At  policy.Time
}

// minGap is how far below the mean a success rate must be at least: among nodes that hardly ever fail, 1.9σ is noise.
const minGap = 0.03

// with returns o with the defaults filled in, or all that is wrong with it.
func (o Options) with() (Options, error) {
	var errs []error
	duration := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	e := &o.Ejection
	duration(&o.SlowStart, 10*time.Second)
	duration(&o.Decay, 10*time.Second)
	duration(&e.Base, 5*time.Second)
	duration(&e.Max, 60*time.Second)
	duration(&e.Sweep, 10*time.Second)
	duration(&e.Probe, time.Second)
	if o.Strategy == nil {
		o.Strategy = P2C()
	}
	if e.Consecutive == 0 {
		e.Consecutive = 5
	}
	if e.Share == 0 {
		e.Share = 0.5
	}
	if e.Deviations == 0 {
		e.Deviations = 1.9
	}
	if e.Gap == 0 {
		e.Gap = 0.3
	}
	if e.MinNodes == 0 {
		e.MinNodes = 5
	}
	if e.MinCalls == 0 {
		e.MinCalls = 100
	}
	if e.SlowFactor == 0 {
		e.SlowFactor = 3
	}
	if o.Decay < 0 {
		errs = append(errs, fmt.Errorf("decay %v: latency estimates need a positive time constant", o.Decay))
	}
	sum := 0.0
	for version, share := range o.Versions {
		if sum += share; !(share >= 0 && share <= 1) {
			errs = append(errs, fmt.Errorf("share %v of version %q: want 0 to 1", share, version))
		}
	}
	if sum > 1+1e-9 {
		errs = append(errs, fmt.Errorf("the versions' shares come to %v: want at most 1 together", sum))
	}
	o.Versions = maps.Clone(o.Versions)
	if o.Subset.Size < 0 {
		errs = append(errs, fmt.Errorf("subset size %d: want more than 0, or 0 for all nodes", o.Subset.Size))
	}
	if _, keyed := o.Strategy.(consistentHash); keyed && o.Subset.Size > 0 {
		errs = append(errs, errors.New("consistent hash and a subset: clients with different subsets send a key to different nodes; choose one of the two"))
	}
	if e.Mode > policy.Off {
		errs = append(errs, fmt.Errorf("ejection mode %d is none of on, dry-run, off", e.Mode))
	}
	if e.Base < 0 || e.Max < e.Base {
		errs = append(errs, fmt.Errorf("ejection base %v and max %v: want 0 < base <= max", e.Base, e.Max))
	}
	if !(e.Share > 0 && e.Share < 1) {
		errs = append(errs, fmt.Errorf("ejection share %v: want more than 0 and less than 1, so that never all are ejected", e.Share))
	}
	if !(e.Deviations > 0) {
		errs = append(errs, fmt.Errorf("ejection deviations %v: want more than 0", e.Deviations))
	}
	if math.IsNaN(e.Gap) || e.Gap >= 1 {
		errs = append(errs, fmt.Errorf("ejection gap %v: want less than 1", e.Gap))
	}
	if e.MinNodes < 0 || e.MinCalls < 0 {
		errs = append(errs, errors.New("ejection min nodes and min calls cannot be negative"))
	}
	if !(e.SlowFactor > 1) {
		errs = append(errs, fmt.Errorf("ejection slow factor %v: want more than 1", e.SlowFactor))
	}
	if len(errs) > 0 {
		return o, fmt.Errorf("balance: %w", errors.Join(errs...))
	}
	return o, nil
}

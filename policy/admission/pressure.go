package admission

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/policy"
)

// Pressure says when the machine counts as short of something.
type Pressure struct {
	Mode policy.Mode
	// Lag is how long goroutines that can run wait for a processor when that is too long: 20 ms.
	Lag time.Duration
	// Throttled is the share of the scheduler's periods in which a CPU quota stopped the process when that is too much: 0.5.
	Throttled float64
	// Memory is the share of the memory limit in use from which on sheddable calls are refused: 0.85. At half of the way from there to
	// all of it none are served, and then critical ones are refused too.
	Memory float64
}

func (p *Pressure) check() error {
	if p.Lag == 0 {
		p.Lag = 20 * time.Millisecond
	}
	if p.Throttled == 0 {
		p.Throttled = 0.5
	}
	if p.Memory == 0 {
		p.Memory = 0.85
	}
	switch {
	case p.Lag < 0:
		return fmt.Errorf("pressure: lag is %v: want a positive time, or 0 for 20ms", p.Lag)
	case !(p.Throttled > 0 && p.Throttled <= 1):
		return fmt.Errorf("pressure: throttled is %v: want a share up to 1, or 0 for 0.5", p.Throttled)
	case !(p.Memory > 0 && p.Memory < 1):
		return fmt.Errorf("pressure: memory is %v: want a share below 1, or 0 for 0.85", p.Memory)
	}
	return nil
}

// Signals are what was measured of the machine. Zeroes say nothing.
type Signals struct {
	// Lag is how long goroutines waited for a processor lately, all but the slowest tenth.
	Lag time.Duration
	// Throttled is the share of the scheduler's periods in which a CPU quota stopped the process.
	Throttled float64
	// Memory is the share of the memory limit that is in use and cannot be given back.
	Memory float64
}

// pressure decides which share of which class is refused. Processor and quota cut and raise what is left of a class by a factor at each observation,
// so that it finds a twentieth as well as a half; memory sets the level at once.
type pressure struct {
	level atomic.Uint64 // math.Float64bits: 0 none, 1 sheddable, 2 sheddable-plus too, 3 critical ones too

	mu   sync.Mutex // guards what follows
	cpu  squeeze
	last Signals
	log  policy.EventLog
	on   bool
}

const (
	// leastCut and mostCut bound the factor by which one observation cuts what is served of a class. For lag it is the root of how many times too much there
	// is: what was let in before still stands in line when it is measured.
	leastCut, mostCut = 0.95, 0.6
	// growth is by what share of itself that grows at the first observation without pressure, at the second by twice as much, and so on.
	growth = 0.2
	// mostShed leaves each class a little; after patience observations with pressure more the next class is cut too.
	mostShed, patience = 0.98, 2
	whyPressed         = "the machine is short of processor or memory"
)

// squeeze is how much processor and quota make a server refuse. The zero value is nothing.
type squeeze struct {
	above float64 // classes of which hardly anything is served: 0 or 1
	shed  float64 // the share of the next class that is not served
	calm  int     // observations since the last one with pressure
	spent int     // those with pressure since there was hardly anything left of the class
}

// observe takes in how many times too much of something there is, and returns the level.
func (q *squeeze) observe(over float64) float64 {
	kept := 1 - q.shed
	if over > 1 {
		q.calm = 0
		kept = max(kept*min(max(1/over, mostCut), leastCut), 1-mostShed)
		if q.shed >= mostShed {
			q.spent++
		}
		if q.spent > patience && q.above == 0 {
			q.above, q.spent, kept = 1, 0, mostCut
		}
	} else {
		q.calm++
		q.spent = 0
		kept *= 1 + growth*float64(q.calm)
		if kept > 1 && q.above == 1 {
			q.above, kept = 0, 1-mostShed
		}
	}
	q.shed = max(1-kept, 0)
	return q.above + q.shed
}

// observe takes in what was measured. It is called at even intervals.
func (p *pressure) observe(now policy.Time, s Signals, r Pressure) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = s
	level := p.cpu.observe(max(math.Sqrt(float64(s.Lag)/float64(r.Lag)), s.Throttled/r.Throttled))
	if s.Memory > r.Memory {
		level = max(level, min(4*(s.Memory-r.Memory)/(1-r.Memory), 3))
	}
	p.level.Store(math.Float64bits(level))
	if on := level > 0; on != p.on {
		p.on = on
		e := policy.Event{At: now, From: "calm", To: "pressed", Reason: whyPressed, Is: level, Refusing: true}
		if !on {
			e = policy.Event{At: now, From: "pressed", To: "calm", Reason: "the machine has enough of everything again"}
		}
		p.log.Add(e)
	}
}

// Events implements policy.EventSource. The number is the level: 0 none, 1 all sheddable calls, 2 all sheddable-plus ones too, 3 critical ones too.
func (p *pressure) Events(_ policy.Time, since uint64) []policy.Event { return p.log.Since(since) }

// share is the share of the calls of a class that is refused at a level.
func share(level float64, c policy.Criticality) float64 {
	switch c {
	case policy.Sheddable:
	case policy.SheddablePlus:
		level--
	case policy.Critical:
		level -= 2
	default:
		return 0
	}
	return min(max(level, 0), mostShed)
}

// sheds reports whether a call is among those that are refused.
func (p *pressure) sheds(rnd rand.Source, c *policy.Call) bool {
	b := p.level.Load()
	if b == 0 {
		return false
	}
	s := share(math.Float64frombits(b), c.Criticality)
	return s > 0 && rootShed(c.Hash, rnd.Uint64(), s)
}

// PressureSnapshot is a reading of the pressure.
type PressureSnapshot struct {
	// Level: 0 none, at 1 hardly any sheddable calls are served, at 2 hardly any sheddable-plus ones, at 3 hardly any critical ones.
	Level float64
	// Signals as last measured.
	Signals Signals
}

func (p *pressure) snapshot() PressureSnapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	return PressureSnapshot{math.Float64frombits(p.level.Load()), p.last}
}

package balance

import (
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
)

// Node is a node as one Picker knows it: what discovery says and what callers have seen. It stays the same pointer as
// long as ID and address do. All methods are safe for concurrent use.
type Node struct {
	core *core
	id   string
	hash uint64 // of the ID: its places in ConsistentHash and in subsets
	info atomic.Pointer[registry.Node]

	// What every Pick and Done touches.
	inflight atomic.Int32
	streak   atomic.Int32  // failures in a row
	flags    atomic.Uint32 // why it is avoided
	share    atomic.Uint32 // weight relative to the heaviest node, as float32 bits
	ramp     atomic.Int64  // end of slow start
	foreign  atomic.Int32  // what others had in flight at the node when it last told
	turn     atomic.Uint64 // where its next turn of Weighted begins, as float64 bits
	heard    atomic.Int64  // when the node last gave a sign of life, or its first call in flight began
	link     atomic.Uint32 // what the client's connections say of it
	ewma     estimate
	ok       atomic.Uint64 // attempts by what they count for in the success rate
	failed   atomic.Uint64
	other    atomic.Uint64
	took     histogram

	handle  atomic.Pointer[any]
	row     atomic.Int64  // when the first of streak ended
	excused atomic.Uint64 // of failed, what the calls are to blame for: they failed on other nodes, too

	// The rest is guarded by core.mu.
	mark       uint64         // the Update that listed it last
	since      policy.Time    // of flags
	until      [3]policy.Time // when each of them ends by itself
	nextProbe  policy.Time
	good       int  // successes since it was ejected
	charged    bool // a suspect because an attempt failed, which its latency was charged for
	broken     bool // a suspect because its connection broke
	tooSlow    bool // ejected because of its latency
	ejections  int  // multiplier of the next ejection's time
	why        string
	lastOK     uint64 // readings of the last tick and sweep
	tickOK     uint64
	lastFailed uint64
	lastExcuse uint64
	inARow     bool    // ejected because of its row of failures
	windowN    float64 // answers since the last sweep, and their time in nanoseconds
	windowSum  float64
	mean       mean
	lacks      map[string]policy.Time // methods that it does not serve, until when that is believed
}

// Why a node is avoided.
const (
	isSuspect uint32 = 1 << iota
	isEjected
	isDown
)

// expired returns the flags whose time is over at now. It is called with core.mu held.
func (n *Node) expired(now policy.Time) (over uint32) {
	for i, t := range n.until {
		if t <= now {
			over |= 1 << i
		}
	}
	return over & n.flags.Load()
}

// last is when the last of n's flags ends by itself.
func (n *Node) last() policy.Time { return max(n.until[0], n.until[1], n.until[2]) }

// ID is the instance's name in discovery.
func (n *Node) ID() string { return n.id }

// Info is what discovery says about the node, now.
func (n *Node) Info() *registry.Node { return n.info.Load() }

// InFlight is how many attempts were picked for the node and are not done.
func (n *Node) InFlight() int { return int(n.inflight.Load()) }

// Latency is the estimate of what an attempt takes: peak-EWMA, drifting towards the fleet's median while the node is idle.
func (n *Node) Latency(now policy.Time) time.Duration { return time.Duration(n.latency(now)) }

// Share is the part of an equal share that the node should get: its weight relative to the heaviest node's, less
// during slow start. It is above 0 and at most 1.
func (n *Node) Share(now policy.Time) float64 {
	return float64(math.Float32frombits(n.share.Load())) * n.ramped(now)
}

// Heard tells the Picker that the node has given a sign of life, for instance a frame of a long stream. Answers to
// attempts need not be told: Done counts them.
func (n *Node) Heard(now policy.Time) {
	n.heard.Store(int64(now))
	if n.flags.Load()&isSuspect != 0 {
		n.core.mu.Lock()
		n.core.absolve(now, n, isSuspect, "it was heard from")
		n.core.release()
	}
}

// What the client's connections say of a node. The zero value is that they say nothing.
const (
	linkUp uint32 = 1 + iota
	linkDown
)

// Up tells the Picker that the client has a connection to the node. If it was down it is so no more, and no call has to find that out.
func (n *Node) Up(now policy.Time) {
	n.link.Store(linkUp)
	if n.flags.Load()&isDown != 0 {
		n.core.mu.Lock()
		if n.why != whyLeaving { // that it can be reached still is no news then
			n.core.absolve(now, n, isDown, "it can be reached again")
		}
		n.core.release()
	}
}

// Unlinked tells the Picker that the client has no connection to the node, for a reason that says nothing about whether it lives.
func (n *Node) Unlinked() { n.link.Store(0) }

// Down tells the Picker that the client has no connection to the node and cannot make one: from now on it is called only if no other node is left, or
// with a probe. So not every call has to find out by itself.
func (n *Node) Down(now policy.Time, rnd rand.Source) {
	n.link.Store(linkDown)
	k := n.core
	k.mu.Lock()
	defer k.release()
	if k.opt.Ejection.Mode != policy.Off && k.byKey[key{n.id, n.Info().Address}] == n {
		k.avoid(now, rnd, n, isDown, k.opt.Ejection.Max, whyDown)
	}
}

// WantsReports reports whether the strategy goes by what nodes say of their load.
func (n *Node) WantsReports() bool { return n.core.reports.Load() }

// Report takes what an answer says about its node: how many calls of all clients were in flight there. It comes before
// the Done of the answer. It loses its weight within a second or so after the last answer.
func (n *Node) Report(inFlight int) {
	n.foreign.Store(int32(min(max(inFlight-int(n.inflight.Load()), 0), math.MaxInt32)))
}

// load is how many attempts are in flight at the node, as far as known, those of others included.
func (n *Node) load(now policy.Time) float32 {
	load := float32(n.inflight.Load())
	if foreign := n.foreign.Load(); foreign > 0 {
		load += float32(foreign) * float32(math.Exp(-float64(int64(now)-n.heard.Load())/float64(reportDecay)))
	}
	return load
}

// reportDecay is the time constant with which reports are forgotten.
const reportDecay = time.Second

// Handle is what the client has stored with the node, its pool of connections for instance; nil = nothing.
func (n *Node) Handle() any {
	if h := n.handle.Load(); h != nil {
		return *h
	}
	return nil
}

// SetHandle stores h with the node, in place of what is stored. Any goroutine may.
func (n *Node) SetHandle(h any) { n.handle.Store(&h) }

// rampFloor is the share with which slow start begins.
const rampFloor = 0.1

// ramped is slow start's factor.
func (n *Node) ramped(now policy.Time) float64 {
	left := n.ramp.Load() - int64(now)
	if left <= 0 {
		return 1
	}
	return max(rampFloor, 1-float64(left)/float64(max(1, n.core.slowStart.Load())))
}

// whole reports whether the node gets an equal share; it is the usual case and cheap to see.
func (n *Node) whole(now policy.Time) bool {
	return n.share.Load() == wholeShare && n.ramp.Load() <= int64(now)
}

// wholeShare is 1 as float32 bits.
const wholeShare = 0x3f800000

// cost is what one more attempt on the node costs: P2C compares it.
func (n *Node) cost(now policy.Time) float32 {
	return n.latency(now) * (float32(n.inflight.Load()) + 0.5) / math.Float32frombits(n.share.Load())
}

// begin counts an attempt in.
func (n *Node) begin(now policy.Time) {
	if n.inflight.Add(1) == 1 {
		n.heard.Store(int64(now))
	}
}

// stalled reports whether nothing has been heard for too long though calls are in flight.
func (n *Node) stalled(now policy.Time) bool {
	return int64(now)-n.heard.Load() > n.core.stall.Load() && n.inflight.Load() > 0
}

func (n *Node) latency(now policy.Time) float32 {
	v, idle := n.ewma.load(now)
	median := math.Float32frombits(n.core.median.Load())
	if v == 0 {
		return median
	}
	decay := time.Duration(n.core.decay.Load())
	if idle < decay/8 {
		return v
	}
	return median + (v-median)*float32(math.Exp(-float64(idle)/float64(decay)))
}

// charge raises the estimate for a failed attempt: to the fleet's p99 at least, and to twice what it is until that is
// 16 × p99.
func (n *Node) charge(now policy.Time, took time.Duration) {
	p99 := n.core.tail()
	n.raise(now, max(float32(took), p99, min(2*n.latency(now), 16*p99)))
}

// raise takes a lower bound of the latency in nanoseconds: it lifts the estimate or does nothing. Of two at the same
// time one may be lost, which does no harm.
func (n *Node) raise(now policy.Time, bound float32) {
	if bound > n.latency(now) {
		n.ewma.set(now, bound)
	}
}

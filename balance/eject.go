package balance

import (
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hull-go/hull/policy"
)

// patience is how much longer the probe of a suspect waits for a call that can be repeated than for any call.
const patience = 3 * time.Second

// whyDown is why a node is down that cannot be reached.
const whyDown = "it refuses connections"

// whyLeaving is why a node is down that has said that it is about to end.
const whyLeaving = "it is going away"

// finding is what one attempt says about its node.
type finding struct {
	class             policy.Class
	counts            *policy.Counts
	heard, down, hung bool
	broken            bool
	streak            int32
	took              time.Duration
}

// judge draws the consequences of an attempt.
func (k *core) judge(now policy.Time, rnd rand.Source, n *Node, permit policy.Permit, f finding) {
	k.mu.Lock()
	defer k.release()
	if k.opt.Ejection.Mode == policy.Off || k.byKey[key{n.id, n.Info().Address}] != n {
		return
	}
	// What began before the verdict says nothing about the time after it.
	if f.heard && permit.Start >= n.since {
		k.absolve(now, n, isDown, "it answers again")
	}
	if f.heard && (permit.Start >= n.since || !n.broken) {
		k.absolve(now, n, isSuspect, "it answers again")
	}
	if n.flags.Load()&isEjected != 0 && permit.Start >= n.since {
		tooSlow := n.tooSlow && float64(f.took) > k.opt.Ejection.SlowFactor*float64(math.Float32frombits(k.median.Load()))
		switch {
		case f.counts.Node == policy.Failure, tooSlow:
			n.good = 0
		case f.counts.Node == policy.Success:
			if n.good++; n.good >= 2 {
				k.absolve(now, n, isEjected, "two attempts in a row succeeded")
			}
		}
	}
	// A connection that breaks while older ones still answer is seen as down until the next answer; so be it.
	if f.down {
		why := whyDown
		if f.class == policy.ClassDraining {
			why = whyLeaving
		}
		k.avoid(now, rnd, n, isDown, k.opt.Ejection.Max, why)
	}
	if f.broken && n.flags.Load() == 0 && k.mayAvoid(n, isEjected|isSuspect) {
		n.charged, n.broken = true, true
		k.avoid(now, rnd, n, isSuspect, k.opt.Ejection.Max, "its connection broke")
	}
	if f.hung {
		n.charged = true
		k.avoid(now, rnd, n, isSuspect, k.opt.Ejection.Max, "an attempt timed out and nothing was heard meanwhile")
	}
	if f.streak >= k.limit.Load() {
		n.inARow = k.eject(now, rnd, n, "it failed several times in a row") || n.inARow
	}
}

// avoid sets a flag, or confirms it.
func (k *core) avoid(now policy.Time, rnd rand.Source, n *Node, flag uint32, d time.Duration, why string) {
	until := &n.until[bits.TrailingZeros32(flag)]
	*until = max(*until, now.Add(d))
	old := n.flags.Load()
	if old&flag != 0 {
		return
	}
	n.flags.Store(old | flag)
	n.since, n.why = now, why
	if old == 0 {
		// The first probe of a node that cannot be reached comes early: often a single connection broke.
		first := jitter(rnd, k.opt.Ejection.Probe)
		if flag != isEjected {
			first /= 4
		}
		n.nextProbe = max(n.nextProbe, now.Add(first))
	}
	if k.opt.Ejection.Mode == policy.On {
		k.gen.Add(1)
	}
	k.due.Store(min(k.due.Load(), int64(*until)))
	k.tell(now, n)
}

// absolve takes a flag away. A node that was unreachable, ejected or timed out starts again at the fleet's median:
// what it was charged then says nothing about it now.
func (k *core) absolve(now policy.Time, n *Node, flag uint32, why string) {
	old := n.flags.Load()
	if old&flag == 0 {
		return
	}
	n.flags.Store(old &^ flag)
	n.until[bits.TrailingZeros32(flag)] = 0
	if flag != isSuspect || n.charged {
		n.ewma.reset()
	}
	if flag == isSuspect {
		n.charged, n.broken = false, false
	}
	if old == flag {
		n.since, n.why = now, ""
	}
	n.good = 0
	if k.opt.Ejection.Mode == policy.On {
		k.gen.Add(1)
	}
	k.tell(now, n)
	if len(k.changes) > 0 && old == flag {
		k.changes[len(k.changes)-1].Why = why
	}
}

func (k *core) tell(now policy.Time, n *Node) {
	if k.opt.Notify != nil {
		k.changes = append(k.changes, Change{Node: n, State: stateOf(n.flags.Load()), Why: n.why, At: now})
	}
}

// suspect is called when a node that was about to be chosen has been silent for too long. It reports whether the node
// is avoided now.
func (k *core) suspect(now policy.Time, rnd rand.Source, n *Node) bool {
	k.mu.Lock()
	defer k.release()
	if k.opt.Ejection.Mode == policy.Off || n.flags.Load() != 0 || !n.stalled(now) {
		return false
	}
	k.avoid(now, rnd, n, isSuspect, k.opt.Ejection.Max, "calls are in flight and nothing is heard from it")
	return k.opt.Ejection.Mode == policy.On
}

// mayAvoid reports whether one more node may get one of several flags: if that is within the cap, and leaves another.
func (k *core) mayAvoid(n *Node, flag uint32) bool {
	avoided, ready := 0, 0
	for _, m := range k.nodes {
		switch flags := m.flags.Load(); {
		case flags&flag != 0:
			avoided++
		case m != n && flags == 0 && !m.Info().Draining:
			ready++
		}
	}
	return ready > 0 && avoided+1 <= k.ejectable()
}

func (k *core) ejectable() int {
	return min(int(k.opt.Ejection.Share*float64(len(k.nodes))+1e-9), len(k.nodes)-1)
}

func (k *core) eject(now policy.Time, rnd rand.Source, n *Node, why string) bool {
	flags := n.flags.Load()
	// A node that is down needs no ejection, and should not use up the cap.
	if flags&(isEjected|isDown) != 0 || !k.mayAvoid(n, isEjected) {
		return false
	}
	n.ejections++
	n.good, n.tooSlow, n.inARow = 0, false, false
	e := &k.opt.Ejection
	d := e.Max
	if b := float64(e.Base) * float64(n.ejections); b < float64(e.Max) {
		d = time.Duration(b)
	}
	k.avoid(now, rnd, n, isEjected, min(jitter(rnd, d), e.Max), why)
	if e.Mode == policy.On {
		k.n.ejections++
	} else {
		k.n.dryEjections++
	}
	return true
}

// capEjected takes ejections back, the oldest first, that the fleet has become too small for.
func (k *core) capEjected(now policy.Time) {
	var ejected []*Node
	for _, n := range k.nodes {
		if n.flags.Load()&isEjected != 0 {
			ejected = append(ejected, n)
		}
	}
	slices.SortFunc(ejected, func(a, b *Node) int { return int(min(max(a.since-b.since, -1), 1)) })
	for len(ejected) > max(0, k.ejectable()) {
		k.absolve(now, ejected[0], isEjected, "too many were ejected after others had left")
		ejected = ejected[1:]
	}
}

// probe returns a node that is to be probed with c, or nil.
func (k *core) probe(now policy.Time, rnd rand.Source, c *policy.Call, s *set) *Node {
	k.mu.Lock()
	defer k.mu.Unlock()
	var chosen *Node
	var at policy.Time
	for _, n := range s.avoided {
		if due := n.probeFor(repeatable(c)); due <= now && (chosen == nil || due < at) {
			chosen, at = n, due
		}
	}
	if chosen != nil {
		if chosen.flags.Load() == 0 {
			chosen = nil // absolved meanwhile: the set is old
		} else {
			chosen.nextProbe = now.Add(max(k.opt.Ejection.Probe, jitter(rnd, k.opt.Ejection.Probe)))
			k.n.probes++
		}
	}
	s.reckon(k.opt.Ejection.Probe < 0)
	return chosen
}

// connects reports whether a call may go to n as a probe, or else has the client knock at it.
func (k *core) connects(n *Node) bool {
	f := k.knock.Load()
	return f == nil || n.link.Load() != linkDown || n.flags.Load()&isDown == 0 || (*f)(n)
}

// unprobe takes back a probe that never started.
func (k *core) unprobe(now policy.Time, n *Node) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n.nextProbe = now
	k.gen.Add(1)
}

// jitter returns d ± 10 %.
func jitter(rnd rand.Source, d time.Duration) time.Duration {
	if rnd == nil {
		return d
	}
	return time.Duration(float64(d) * (0.9 + 0.2*float64(rnd.Uint64()>>11)/(1<<53)))
}

// tick renews what is learned from all nodes together, ends what has lasted long enough, and compares success rates
// when that is due.
func (k *core) tick(now policy.Time, rnd rand.Source) {
	if now >= k.nextTick {
		k.learn(now)
		k.glance(now, rnd)
		step := time.Second
		if k.nextTick == 0 {
			step = 100 * time.Millisecond // the first estimates come early
		}
		k.nextTick = now.Add(step)
	}
	e := &k.opt.Ejection
	switch {
	case e.Mode == policy.Off || e.Sweep < 0:
	case k.nextSweep == 0:
		k.nextSweep = now.Add(e.Sweep)
	case now >= k.nextSweep:
		k.sweep(now, rnd)
		k.nextSweep = now.Add(e.Sweep)
	}
	if k.relearn != 0 && now >= k.relearn {
		k.unlearn(now)
	}
	due := k.nextTick
	for _, n := range k.nodes {
		if over := n.expired(now); over != 0 {
			// Time ends it, not proof: what it was charged stays, and so does its row of failures.
			left := n.flags.Load() &^ over
			n.flags.Store(left)
			n.since = now
			if left == 0 {
				n.why, n.good, n.charged, n.broken = "", 0, false, false
			}
			k.gen.Add(1)
			k.tell(now, n)
		}
		if flags := n.flags.Load(); flags != 0 {
			for i, t := range n.until {
				if flags&(1<<i) != 0 {
					due = min(due, t)
				}
			}
		}
	}
	k.due.Store(int64(due))
}

// learn renews the fleet's median, p99 and stall time.
func (k *core) learn(now policy.Time) {
	for i := range k.fleet {
		k.fleet[i] *= 0.9
	}
	medians := make([]float32, 0, len(k.nodes))
	for _, n := range k.nodes {
		n.mean.fade()
		if v, _ := n.ewma.load(now); v > 0 && n.flags.Load() == 0 {
			medians = append(medians, v)
		}
		ok := n.ok.Load()
		if ok == n.tickOK {
			continue
		}
		n.tickOK = ok
		for i := range n.took {
			if n.took[i].Load() == 0 {
				continue
			}
			c := float64(n.took[i].Swap(0))
			k.fleet[i] += c
			n.mean.add(i, c)
			n.windowN += c
			n.windowSum += c * float64(bucketEnd(i))
		}
	}
	if len(medians) > 0 {
		slices.Sort(medians)
		k.median.Store(math.Float32bits(medians[(len(medians)-1)/2]))
	}
	if p := quantile(&k.fleet, 0.99, 20); p > 0 {
		k.p99.Store(int64(p))
	}
	k.setStall()
}

// setStall computes the stall time in force.
func (k *core) setStall() {
	switch e := &k.opt.Ejection; {
	case e.Stall < 0 || e.Mode == policy.Off:
		k.stall.Store(math.MaxInt64)
	case e.Stall > 0:
		k.stall.Store(int64(e.Stall))
	case k.p99.Load() == 0:
		k.stall.Store(int64(coldStall))
	default:
		k.stall.Store(max(3*k.p99.Load(), int64(minStall)))
	}
}

// What a glance needs before it judges: that many calls of the node and of the others, and a difference of that many standard errors, because it
// looks often.
const (
	glanceCalls  = 20
	glanceErrors = 4
)

// glance ejects a node that fails so much more than the others together that no deviation has to be computed. The mean and deviation of a sweep
// say nothing about two to four nodes: among three, one that always fails is only 1.4σ below the mean.
func (k *core) glance(now policy.Time, rnd rand.Source) {
	e := &k.opt.Ejection
	if e.Mode == policy.Off || e.Sweep < 0 || e.Gap < 0 {
		return
	}
	type seen struct {
		n           *Node
		good, calls float64
	}
	var nodes []seen
	var good, all float64
	for _, n := range k.nodes {
		if n.flags.Load() != 0 {
			continue
		}
		ok, failed := n.ok.Load()-n.lastOK, n.failures(n.failed.Load(), n.excused.Load())
		nodes = append(nodes, seen{n, float64(ok), float64(ok + failed)})
		good, all = good+float64(ok), all+float64(ok+failed)
	}
	for _, h := range nodes {
		rest := all - h.calls
		if h.calls < glanceCalls || rest < glanceCalls {
			continue
		}
		own, others, mean := h.good/h.calls, (good-h.good)/rest, good/all
		if gap := others - own; gap < e.Gap || gap < glanceErrors*math.Sqrt(mean*(1-mean)*(1/h.calls+1/rest)) {
			continue
		}
		if k.eject(now, rnd, h.n, fmt.Sprintf("its success rate was %.0f %%, that of the others %.0f %%", 100*own, 100*others)) {
			good, all = good-h.good, rest
		}
	}
}

// sweep compares the nodes' success rates and latencies since the last one.
func (k *core) sweep(now policy.Time, rnd rand.Source) {
	type host struct {
		n          *Node
		rate, mean float64
	}
	e := &k.opt.Ejection
	var hosts []host
	for _, n := range k.nodes {
		ok, failed, excused := n.ok.Load(), n.failed.Load(), n.excused.Load()
		good, bad := ok-n.lastOK, n.failures(failed, excused)
		n.lastOK, n.lastFailed, n.lastExcuse = ok, failed, excused
		h := host{n: n}
		if n.windowN > 0 {
			h.mean = n.windowSum / n.windowN
		}
		n.windowN, n.windowSum = 0, 0
		if n.flags.Load()&isEjected == 0 && n.ejections > 0 {
			n.ejections--
		}
		if good+bad >= uint64(e.MinCalls) && n.flags.Load() == 0 {
			h.rate = float64(good) / float64(good+bad)
			hosts = append(hosts, h)
		}
	}
	if len(hosts) == 0 || len(hosts) < e.MinNodes {
		return
	}
	var sum, squares float64
	for _, h := range hosts {
		sum += h.rate
	}
	mean := sum / float64(len(hosts))
	for _, h := range hosts {
		squares += (h.rate - mean) * (h.rate - mean)
	}
	gap := max(minGap, e.Deviations*math.Sqrt(squares/float64(len(hosts))))
	slices.SortFunc(hosts, func(a, b host) int { return int(math.Copysign(1, a.rate-b.rate)) })
	for _, h := range hosts {
		if h.rate < mean-gap {
			k.eject(now, rnd, h.n, fmt.Sprintf("its success rate was %.0f %%, the fleet's %.0f %%", 100*h.rate, 100*mean))
		}
	}
	slices.SortFunc(hosts, func(a, b host) int { return int(math.Copysign(1, a.mean-b.mean)) })
	median := hosts[(len(hosts)-1)/2].mean
	for _, h := range hosts {
		if median > 0 && h.mean > e.SlowFactor*median {
			k.n.slow++
			if e.EjectSlow {
				h.n.tooSlow = k.eject(now, rnd, h.n, fmt.Sprintf("it took %v on average, the fleet's median is %v",
					time.Duration(h.mean).Round(time.Microsecond), time.Duration(median).Round(time.Microsecond)))
			}
		}
	}
}

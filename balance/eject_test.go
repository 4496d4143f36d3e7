package balance

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// TestWhatEachClassDoes drives one of three nodes with five results of a class.
func TestWhatEachClassDoes(t *testing.T) {
	for class := policy.ClassOK; class <= policy.ClassProtocol; class++ {
		want := Ready
		switch class {
		case policy.ClassUnavailable, policy.ClassHandshake, policy.ClassReset, policy.ClassProtocol,
			policy.ClassTimeout, policy.ClassDeadlineLate:
			want = Ejected
		case policy.ClassUnsent, policy.ClassDraining:
			want = Down
		}
		d := newDriver(t, Options{}, fleet(3)...)
		for range 5 {
			d.force("n00", 10*time.Millisecond, class)
		}
		if got := d.state("n00"); got.State != want || got.Considered != (want == Ready) || got.InFlight != 0 {
			t.Errorf("five times %v: %v, want %s", class, got, want)
		}
	}
}

func TestConsecutiveFailuresEject(t *testing.T) {
	d := newDriver(t, Options{}, fleet(3)...)
	for range 4 {
		d.force("n00", time.Millisecond, policy.ClassUnavailable)
	}
	d.force("n00", time.Millisecond, policy.ClassInternal) // counts for the success rate only
	d.force("n00", time.Millisecond, policy.ClassCancelled)
	if s := d.state("n00"); s.State != Ready || s.Streak != 4 {
		t.Fatalf("after 4 failures: %v", s)
	}
	d.force("n00", time.Millisecond, policy.ClassOK)
	for range 4 {
		d.force("n00", time.Millisecond, policy.ClassUnavailable)
	}
	if s := d.state("n00"); s.State != Ready {
		t.Fatalf("a success in between did not count: %v", s)
	}
	at := d.now
	d.force("n00", 0, policy.ClassUnavailable)
	s := d.state("n00")
	if s.State != Ejected || s.Since != at || !strings.Contains(s.Why, "in a row") {
		t.Fatalf("after 5 in a row: %+v", s)
	}
	if d := s.Until.Sub(at); d < 4500*time.Millisecond || d > 5500*time.Millisecond {
		t.Errorf("the first ejection lasts %v, want 5 s ± 10 %%", d)
	}
	if got := d.spread(200)["n00"]; got != 0 {
		t.Errorf("an ejected node got %d of 200 calls", got)
	}
}

func TestEjectionGrowsAndShrinks(t *testing.T) {
	d := newDriver(t, Options{Ejection: Ejection{Probe: -1}}, fleet(3)...)
	var lasted []time.Duration
	for len(lasted) < 14 {
		d.force("n00", time.Millisecond, policy.ClassUnavailable)
		s := d.state("n00")
		if s.State != Ejected {
			continue
		}
		lasted = append(lasted, s.Until.Sub(s.Since))
		d.now = s.Until
		d.call(time.Millisecond, policy.ClassOK)
		if s := d.state("n00"); s.State == Ejected {
			t.Fatalf("it has not ended: %v", s)
		}
	}
	for i, got := range lasted {
		// It counts down with each sweep, so the later ones grow more slowly.
		most := min(time.Duration(i+1)*5500*time.Millisecond, time.Minute)
		if got > most || got < 4500*time.Millisecond {
			t.Errorf("ejection %d lasted %v, want at most %v", i, got, most)
		}
	}
	if lasted[1] < 9*time.Second {
		t.Errorf("the second ejection lasted %v", lasted[1])
	}
	for range 200 {
		d.wait(time.Second)
		d.call(time.Millisecond, policy.ClassOK)
	}
	if got := d.state("n00").Ejections; got != 0 {
		t.Errorf("after 200 good seconds the multiplier is %d", got)
	}
}

func TestCap(t *testing.T) {
	for _, tt := range []struct{ nodes, want int }{{1, 0}, {2, 1}, {3, 1}, {4, 2}, {5, 2}, {10, 5}} {
		d := newDriver(t, Options{}, fleet(tt.nodes)...)
		for range 10 {
			for _, n := range d.p.Nodes() {
				d.force(n.ID(), 0, policy.ClassUnavailable)
			}
		}
		if s := d.p.Snapshot(d.now); s.Ejected != tt.want || s.Pool != tt.nodes-tt.want {
			t.Errorf("of %d failing nodes %d are ejected, want %d; pool %d", tt.nodes, s.Ejected, tt.want, s.Pool)
		}
	}
}

func TestCapHoldsWhenNodesLeave(t *testing.T) {
	nodes := fleet(4)
	d := newDriver(t, Options{}, nodes...)
	for range 5 {
		d.force("n00", 0, policy.ClassUnavailable)
		d.force("n01", 0, policy.ClassUnavailable)
	}
	d.p.Update(d.now, service(nodes[:3]...))
	if s := d.p.Snapshot(d.now); s.Ejected != 1 || s.Panic {
		t.Errorf("after one has left: %+v", s)
	}
	d.p.Update(d.now, service(nodes[:2]...))
	if s := d.p.Snapshot(d.now); s.Ejected != 1 {
		t.Errorf("after two have left: %+v", s)
	}
	d.p.Update(d.now, service(nodes[1]))
	if s := d.p.Snapshot(d.now); s.Ejected != 0 || s.Pool != 1 {
		t.Errorf("the last node: %+v", s)
	}
}

func TestPanicServesFromEjected(t *testing.T) {
	sel, _ := ParseSelector("id in (n00,n01,n02)")
	d := newDriver(t, Options{}, fleet(6)...)
	for range 5 {
		d.force("n00", 0, policy.ClassUnavailable)
		d.force("n01", 0, policy.ClassUnavailable)
	}
	if s := d.p.Snapshot(d.now); s.Panic || s.Pool != 4 {
		t.Errorf("the whole fleet: %+v", s)
	}
	view := d.p.With(sel)
	if s := view.Snapshot(d.now); !s.Panic || s.Pool != 3 {
		t.Errorf("1 of 3 in good standing: %+v, want all three to serve", s)
	}
	for _, s := range view.Explain(d.now) {
		if (s.State == Unmatched) != (s.ID > "n02") || s.Considered != (s.ID <= "n02") {
			t.Errorf("in a panic: %+v", s)
		}
	}
}

func TestProbesAndEarlyReturn(t *testing.T) {
	d := newDriver(t, Options{}, fleet(3)...)
	for range 5 {
		d.force("n00", 0, policy.ClassUnavailable)
	}
	// Ten calls a second, of which the ejected node gets one and fails it.
	probes := 0
	begin := d.now
	for d.now.Sub(begin) < 4*time.Second {
		n, p := d.pick()
		d.wait(time.Millisecond)
		if n.ID() == "n00" {
			probes++
			d.end(n, p, policy.ClassUnavailable)
		} else {
			d.end(n, p, policy.ClassOK)
		}
		d.wait(99 * time.Millisecond)
	}
	if probes < 3 || probes > 4 {
		t.Errorf("%d probes in 4 s, want one a second", probes)
	}
	// It is well again: two probes bring it back, before its time.
	d = newDriver(t, Options{}, fleet(3)...)
	for range 5 {
		d.force("n00", 0, policy.ClassUnavailable)
	}
	begin = d.now
	for d.state("n00").State == Ejected {
		d.call(time.Millisecond, policy.ClassOK)
		d.wait(50 * time.Millisecond)
	}
	if took := d.now.Sub(begin); took < 1800*time.Millisecond || took > 2500*time.Millisecond {
		t.Errorf("two successes brought it back after %v", took)
	}
	if got := d.spread(3000)["n00"]; got < 700 {
		t.Errorf("back again it got %d of 3000 calls", got)
	}
}

func TestProbesPreferIdempotentCalls(t *testing.T) {
	first := func(c policy.Call, class policy.Class) (at time.Duration) {
		d := newDriver(t, Options{}, fleet(3)...)
		for range 5 {
			d.force("n00", 0, class)
			if class == policy.ClassReset {
				break
			}
		}
		begin := d.now
		for d.now.Sub(begin) < 4400*time.Millisecond {
			n, v := d.p.Pick(d.now, d.rnd, &c, nil)
			if n.ID() == "n00" {
				return d.now.Sub(begin)
			}
			d.p.Done(d.now, d.rnd, n, v.Permit, policy.Ended{})
			d.wait(50 * time.Millisecond)
		}
		return 0
	}
	for _, tt := range []struct {
		name        string
		call        policy.Call
		class       policy.Class
		least, most time.Duration
	}{
		{"idempotent", policy.Call{Idempotent: true}, policy.ClassUnavailable, 900 * time.Millisecond, 1200 * time.Millisecond},
		{"unsafe", policy.Call{}, policy.ClassUnavailable, 0, 0},
		{"repeated above", policy.Call{Idempotent: true, PathAttempt: 2}, policy.ClassUnavailable, 0, 0},
		{"unsafe, suspect", policy.Call{}, policy.ClassReset, 3200 * time.Millisecond, 3500 * time.Millisecond},
		{"unsafe, node down", policy.Call{}, policy.ClassUnsent, 200 * time.Millisecond, 400 * time.Millisecond},
	} {
		if at := first(tt.call, tt.class); at < tt.least || at > tt.most {
			t.Errorf("%s: first probe after %v, want %v to %v", tt.name, at, tt.least, tt.most)
		}
	}
}

func TestProbeThatNeverStartedIsGivenBack(t *testing.T) {
	d := newDriver(t, Options{}, fleet(2)...)
	d.force("n00", 0, policy.ClassUnsent)
	d.wait(time.Second)
	for range 3 {
		n, p := d.pick()
		if n.ID() != "n00" {
			t.Fatalf("the probe went to %s", n.ID())
		}
		d.end(n, p, policy.ClassRefused)
	}
	if s := d.state("n00"); s.InFlight != 0 || s.Other != 0 || s.State != Down {
		t.Errorf("%+v", s)
	}
}

func TestDownAtOnceAndBackAtOnce(t *testing.T) {
	d := newDriver(t, Options{}, fleet(3)...)
	early, earlyPermit := d.node("n00"), policy.Permit{Start: d.now}
	early.begin(d.now)
	d.wait(time.Millisecond)
	d.force("n00", 0, policy.ClassUnsent)
	if s := d.state("n00"); s.State != Down {
		t.Fatalf("after one refused connection: %v", s)
	}
	d.end(early, earlyPermit, policy.ClassOK)
	if s := d.state("n00"); s.State != Down {
		t.Errorf("an answer to an older attempt brought it back: %v", s)
	}
	d.wait(2 * time.Second)
	if got := d.call(time.Millisecond, policy.ClassOK); got != "n00" {
		t.Errorf("the probe went to %s", got)
	}
	if s := d.state("n00"); s.State != Ready {
		t.Errorf("after a probe that succeeded: %v", s)
	}
	// Nobody calls for more than a minute: what was known is too old to go by.
	d.force("n00", 0, policy.ClassUnsent)
	d.wait(61 * time.Second)
	if s := d.state("n00"); s.State != Ready {
		t.Errorf("after a minute without calls: %v", s)
	}
}

func TestAllDown(t *testing.T) {
	d := newDriver(t, Options{}, fleet(3)...)
	for _, n := range d.p.Nodes() {
		d.force(n.ID(), 0, policy.ClassUnsent)
	}
	if s := d.p.Snapshot(d.now); s.Down != 3 || !s.Panic || s.Pool != 3 {
		t.Fatalf("%+v", s)
	}
	// Each call tries each node, and a node a second time, but not for ever.
	var tried []policy.Node
	seen := map[policy.Node]int{}
	for {
		n, v := d.p.Pick(d.now, d.rnd, idempotent, tried)
		if v.Decision == policy.Refuse {
			if v.State != "tried" {
				t.Errorf("refused: %+v", v)
			}
			break
		}
		seen[n]++
		tried = append(tried, n)
		d.end(n.(*Node), v.Permit, policy.ClassUnsent)
		if len(tried) == 3 && len(seen) != 3 {
			t.Errorf("three attempts reached %d nodes", len(seen))
		}
	}
	if len(tried) != 6 {
		t.Errorf("%d attempts before the refusal, want 6", len(tried))
	}
	// They return: the first call succeeds, and soon all three serve.
	begin := d.now
	for range 40 {
		d.call(time.Millisecond, policy.ClassOK)
		d.wait(10 * time.Millisecond)
	}
	if s := d.p.Snapshot(d.now); s.Pool != 3 || s.Down != 0 || s.Panic {
		t.Errorf("%v after the return: %+v", d.now.Sub(begin), s)
	}
}

// TestBrokenConnectionsAreCapped: a request that breaks every connection it is sent on makes at most half the fleet suspect.
func TestBrokenConnectionsAreCapped(t *testing.T) {
	d := newDriver(t, Options{}, fleet(5)...)
	old, permit := d.node("n00"), policy.Permit{Start: d.now}
	old.begin(d.now)
	d.wait(time.Millisecond)
	for _, n := range d.p.Nodes() {
		d.force(n.ID(), 0, policy.ClassReset)
	}
	if s := d.p.Snapshot(d.now); s.Suspect != 2 || s.Pool != 3 {
		t.Errorf("%+v", s)
	}
	d.end(old, permit, policy.ClassOK)
	if s := d.state("n00"); s.State != Suspect {
		t.Errorf("an answer that was under way when the connection broke brought it back: %v", s)
	}
	d.wait(time.Second)
	d.spread(2)
	if s := d.p.Snapshot(d.now); s.Suspect != 0 {
		t.Errorf("after two probes: %+v", s)
	}
}

func TestStalledNodeIsSuspected(t *testing.T) {
	d := newDriver(t, Options{Strategy: RoundRobin()}, fleet(3)...)
	for range 300 {
		d.call(10*time.Millisecond, policy.ClassOK)
	}
	snap := d.p.Snapshot(d.now)
	if snap.P99 < 10*time.Millisecond || snap.P99 > 13*time.Millisecond || snap.Stall != 100*time.Millisecond {
		t.Fatalf("learned %+v", snap)
	}
	hung := d.node("n01")
	permit := policy.Permit{Start: d.now}
	hung.begin(d.now)
	d.wait(90 * time.Millisecond)
	if got := d.spread(30)["n01"]; got == 0 {
		t.Error("avoided after 90 ms")
	}
	hung.heard.Store(int64(permit.Start)) // as if it had answered none of those
	d.wait(20 * time.Millisecond)
	if got := d.spread(30)["n01"]; got != 0 {
		t.Errorf("after 110 ms without a sign of life it got %d of 30 calls", got)
	}
	if s := d.state("n01"); s.State != Suspect || s.Considered {
		t.Errorf("%+v", s)
	}
	hung.Heard(d.now)
	if s := d.state("n01"); s.State != Ready {
		t.Errorf("after a sign of life: %+v", s)
	}
	d.end(hung, permit, policy.ClassOK)
}

// TestFewSilentNodesAreJudgedAtOnce: a call that finds every node silent, after a pause of the whole process say, condemns few of them.
func TestFewSilentNodesAreJudgedAtOnce(t *testing.T) {
	d := newDriver(t, Options{Strategy: RoundRobin()}, fleet(20)...)
	for range 300 {
		d.call(10*time.Millisecond, policy.ClassOK)
	}
	for _, n := range d.p.Nodes() {
		n.begin(d.now)
	}
	d.wait(time.Second)
	d.pick()
	suspects := 0
	for _, s := range d.p.Explain(d.now) {
		if s.State == Suspect {
			suspects++
		}
	}
	if suspects != maxHung {
		t.Errorf("%d nodes are suspect after one call, want %d", suspects, maxHung)
	}
}

// TestSuccessesCountOnce: also that of a node that had failed.
func TestSuccessesCountOnce(t *testing.T) {
	d := newDriver(t, Options{}, fleet(2)...)
	for _, class := range []policy.Class{policy.ClassOK, policy.ClassUnavailable, policy.ClassOK, policy.ClassOK} {
		d.force("n00", time.Millisecond, class)
	}
	if s := d.state("n00"); s.OK != 3 || s.Failed != 1 {
		t.Errorf("%d successes and %d failures, want 3 and 1", s.OK, s.Failed)
	}
}

func TestTimeoutWithoutASignOfLifeSuspects(t *testing.T) {
	d := newDriver(t, Options{}, fleet(3)...)
	d.force("n00", time.Second, policy.ClassTimeout)
	if s := d.state("n00"); s.State != Suspect {
		t.Errorf("a silent node: %v", s)
	}
	// n01 answers others while one call is too slow.
	slow, permit := d.node("n01"), policy.Permit{Start: d.now}
	slow.begin(d.now)
	d.force("n01", time.Millisecond, policy.ClassOK)
	d.wait(time.Second)
	d.end(slow, permit, policy.ClassTimeout)
	if s := d.state("n01"); s.State != Ready {
		t.Errorf("a node that answers others: %v", s)
	}
}

func TestSuccessRateSweep(t *testing.T) {
	run := func(o Ejection, nodes int, rates func(node int) float64) *driver {
		d := newDriver(t, Options{Strategy: RoundRobin(), Ejection: o}, fleet(nodes)...)
		rnd := rand.New(rand.NewPCG(3, 4))
		for i := range 220 * nodes {
			class := policy.ClassOK
			if rnd.Float64() >= rates(i%nodes) {
				class = policy.ClassInternal
			}
			d.force(d.p.Nodes()[i%nodes].ID(), 0, class)
			d.wait(20 * time.Second / time.Duration(220*nodes))
			d.call(0, policy.ClassCancelled)
		}
		d.wait(time.Second)
		d.call(0, policy.ClassCancelled)
		return d
	}
	half := func(n int) float64 {
		if n == 2 {
			return 0.5
		}
		return 0.999
	}
	if s := run(Ejection{}, 5, half).state("n02"); s.State != Ejected || !strings.Contains(s.Why, "success rate") {
		t.Errorf("half of its calls failed: %+v", s)
	}
	for _, n := range []int{3, 4, 5} {
		if s := run(Ejection{Gap: -1, MinNodes: n + 1}, n, half).state("n02"); s.State == Ejected {
			t.Errorf("%d nodes are too few to compare with their mean: %+v", n, s)
		}
		if s := run(Ejection{}, n, half).state("n02"); s.State != Ejected || !strings.Contains(s.Why, "of the others") {
			t.Errorf("of %d nodes, one that fails half of its calls does not stand out: %+v", n, s)
		}
	}
	if s := run(Ejection{Gap: -1, MinCalls: 1000}, 5, half).state("n02"); s.State == Ejected {
		t.Errorf("so few calls prove nothing: %+v", s)
	}
	if s := run(Ejection{Gap: 0.6}, 3, half).state("n02"); s.State == Ejected {
		t.Errorf("it is only 50 points below the others: %+v", s)
	}
	if s := run(Ejection{}, 2, func(n int) float64 { return float64(n) }); s.state("n00").State != Ejected || s.state("n01").State != Ready {
		t.Errorf("of two nodes one always fails: %+v, %+v", s.state("n00"), s.state("n01"))
	}
	if s := run(Ejection{}, 3, func(int) float64 { return 0 }).p.Snapshot(start); s.Ejections != 0 {
		t.Errorf("all fail alike: %+v", s)
	}
	if s := run(Ejection{}, 10, func(n int) float64 { return 1 - 0.001*float64(n) }).p.Snapshot(start); s.Ejections != 0 {
		t.Errorf("hardly any difference: %+v", s)
	}
	if s := run(Ejection{}, 10, func(int) float64 { return 0.5 }).p.Snapshot(start); s.Ejections > 1 {
		t.Errorf("all fail alike: %+v", s)
	}
}

func TestLatencyOutliersAreCountedOnly(t *testing.T) {
	for _, act := range []bool{false, true} {
		d := newDriver(t, Options{Strategy: RoundRobin(), Ejection: Ejection{EjectSlow: act}}, fleet(5)...)
		for range 130 {
			for _, n := range d.p.Nodes() {
				took := 10 * time.Millisecond
				if n.ID() == "n03" {
					took = 40 * time.Millisecond
				}
				d.force(n.ID(), took, policy.ClassOK)
				d.call(0, policy.ClassCancelled)
			}
		}
		s := d.p.Snapshot(d.now)
		if s.Slow == 0 || (s.Ejected == 1) != act || (d.state("n03").State == Ejected) != act {
			t.Errorf("acting %t: %+v", act, s)
		}
	}
}

func TestDryRunCountsOnly(t *testing.T) {
	d := newDriver(t, Options{Strategy: RoundRobin(), Ejection: Ejection{Mode: policy.DryRun}}, fleet(3)...)
	for range 6 {
		d.force("n00", 0, policy.ClassUnavailable)
	}
	s := d.state("n00")
	if snap := d.p.Snapshot(d.now); snap.DryRun != 1 || snap.Ejections != 0 || !s.Considered || !strings.Contains(s.Why, "dry-run") {
		t.Errorf("%+v %+v", snap, s)
	}
	if got := d.spread(30)["n00"]; got != 10 {
		t.Errorf("it got %d of 30 calls", got)
	}
}

func TestNotifyTellsWithoutLocks(t *testing.T) {
	var p *Picker
	var told []State
	o := Options{Notify: func(c Change) {
		p.Explain(c.At) // would hang under the lock
		told = append(told, c.State)
	}}
	d := newDriver(t, o, fleet(3)...)
	p = d.p
	d.force("n00", 0, policy.ClassUnsent)
	d.wait(time.Second)
	d.force("n00", 0, policy.ClassOK)
	if len(told) != 2 || told[0] != Down || told[1] != Ready {
		t.Errorf("told %v", told)
	}
}

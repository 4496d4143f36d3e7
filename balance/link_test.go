package balance

import (
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// TestDownIsTold: a node that the client's connections know to be down gets no call but probes, and is back with its connection.
func TestDownIsTold(t *testing.T) {
	d := newDriver(t, Options{}, fleet(3)...)
	d.node("n00").Down(d.now, d.rnd)
	if s := d.state("n00"); s.State != Down || s.Considered || s.Why != whyDown {
		t.Errorf("told that it is down: %v", s)
	}
	for range 100 {
		if n := d.call(time.Millisecond, policy.ClassOK); n == "n00" {
			t.Fatal("a node that is down was called before it was time for a probe")
		}
	}
	d.node("n00").Up(d.now)
	if s := d.state("n00"); s.State != Ready || !s.Considered {
		t.Errorf("told that it is up: %v", s)
	}
	if got := d.spread(300); got["n00"] == 0 {
		t.Errorf("it gets no calls: %v", got)
	}
}

// TestLeavingNodesStayAway is a regression test: a node that had said it was about to end was called again as soon as somebody said that it could be reached.
func TestLeavingNodesStayAway(t *testing.T) {
	d := newDriver(t, Options{}, fleet(3)...)
	for range 100 {
		n, p := d.pick()
		if n.ID() == "n00" {
			d.end(n, p, policy.ClassDraining)
			break
		}
		d.end(n, p, policy.ClassOK)
	}
	d.node("n00").Up(d.now)
	if s := d.state("n00"); s.State != Down || s.Why != whyLeaving {
		t.Errorf("it can be reached, and is going away: %v", s)
	}
}

func TestDownIsToldOfAll(t *testing.T) {
	d := newDriver(t, Options{}, fleet(3)...)
	for _, n := range d.p.Nodes() {
		n.Down(d.now, d.rnd)
	}
	if s := d.p.Snapshot(d.now); s.Down != 3 || s.Pool != 3 || !s.Panic {
		t.Errorf("all are down: %+v", s)
	}
	one := newDriver(t, Options{}, fleet(1)...)
	one.node("n00").Down(one.now, one.rnd)
	if n := one.call(0, policy.ClassOK); n != "n00" {
		t.Error("the only node is not called")
	}
}

// TestDownIsToldTooLate: what is said of a node that discovery no longer has, or while nobody is to be ejected, changes nothing.
func TestDownIsToldTooLate(t *testing.T) {
	d := newDriver(t, Options{}, fleet(3)...)
	gone := d.node("n02")
	d.p.Update(d.now, service(fleet(2)...))
	gone.Down(d.now, d.rnd)
	if s := d.p.Snapshot(d.now); s.Down != 0 || s.Pool != 2 {
		t.Errorf("%+v", s)
	}
	if gone.flags.Load() != 0 {
		t.Error("a node that is gone is down")
	}
	off := newDriver(t, Options{Ejection: Ejection{Mode: policy.Off}}, fleet(2)...)
	off.node("n00").Down(off.now, off.rnd)
	if got := off.spread(100); got["n00"] == 0 {
		t.Errorf("ejection is off, and a node gets no calls: %v", got)
	}
}

// TestFurtherAttemptsGoWhereAConnectionIs: to an untried node that is connected, then to any untried one, then to one that was tried.
func TestFurtherAttemptsGoWhereAConnectionIs(t *testing.T) {
	d := newDriver(t, Options{}, fleet(4)...)
	d.node("n02").Up(d.now)
	for range 20 {
		first, p1 := d.pick()
		var tried []policy.Node
		tried = append(tried, first)
		second, p2 := d.pick(tried...)
		if first.ID() != "n02" && second.ID() != "n02" {
			t.Fatalf("after %s came %s, and n02 is connected", first.ID(), second.ID())
		}
		tried = append(tried, second)
		third, p3 := d.pick(tried...)
		if third == first || third == second {
			t.Fatalf("%s was tried again before others were tried", third.ID())
		}
		for _, a := range []struct {
			n *Node
			p policy.Permit
		}{{first, p1}, {second, p2}, {third, p3}} {
			d.end(a.n, a.p, policy.ClassOK)
		}
	}
}

func TestSpare(t *testing.T) {
	d := newDriver(t, Options{}, fleet(3)...)
	n := d.p.Nodes()
	tried := []policy.Node{n[0]}
	spare := func() bool { return d.p.Spare(d.now, d.rnd, idempotent, tried) }
	if !spare() {
		t.Error("two of three have not been tried")
	}
	n[1].Down(d.now, d.rnd)
	if !spare() {
		t.Error("one of three has not been tried and is not down")
	}
	n[2].Down(d.now, d.rnd)
	if spare() {
		t.Error("the two others are down")
	}
	n[0].Down(d.now, d.rnd)
	if !spare() {
		t.Error("all are down, and two have not been tried")
	}
	tried = append(tried, n[1], n[2])
	if spare() {
		t.Error("all have been tried")
	}
	if none := picker(t, Options{}); none.Spare(d.now, d.rnd, idempotent, nil) {
		t.Error("there is no node")
	}
}

// TestKnock: no call goes to a node that is down before the client has a connection to it.
func TestKnock(t *testing.T) {
	d := newDriver(t, Options{}, fleet(3)...)
	asked, connected := 0, false
	d.p.Knock(func(n *Node) bool {
		if n.ID() != "n00" {
			t.Errorf("asked for %s", n.ID())
		}
		asked++
		return connected
	})
	d.node("n00").Down(d.now, d.rnd)
	run := func(long time.Duration) (there int) {
		for end := d.now.Add(long); d.now < end; {
			if d.call(time.Millisecond, policy.ClassOK) == "n00" {
				there++
			}
			d.wait(9 * time.Millisecond)
		}
		return there
	}
	if there := run(10 * time.Second); there != 0 || asked < 9 || asked > 12 {
		t.Errorf("%d calls went there in 10 s, asked %d times", there, asked)
	}
	connected = true // and yet it is not told that it is up: only a call can show whether it holds
	if there := run(5 * time.Second); there == 0 || d.state("n00").State != Ready {
		t.Errorf("%d calls, %v", there, d.state("n00"))
	}
	asked = 0
	d.node("n01").flags.Store(0)
	d.force("n01", 0, policy.ClassUnsent) // its connections have said nothing
	connected = false
	if run(3 * time.Second); asked != 0 || d.state("n01").State != Ready {
		t.Errorf("asked %d times, %v", asked, d.state("n01"))
	}
}

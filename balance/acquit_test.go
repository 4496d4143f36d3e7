package balance

import (
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// acquit takes back an attempt of a class that ended at a time.
func (d *driver) acquit(id string, ended policy.Time, class policy.Class) {
	d.p.Acquit(d.now, d.rnd, d.node(id), ended, class)
}

// TestQueryOfDeathEjectsNobody: what failed on several nodes counts against none of them, in a row or in their success rates; what failed on one does.
func TestQueryOfDeathEjectsNobody(t *testing.T) {
	for _, class := range []policy.Class{policy.ClassUnavailable, policy.ClassProtocol, policy.ClassInternal} {
		for _, acquits := range []bool{true, false} {
			d := newDriver(t, Options{}, fleet(4)...)
			var changes []Change
			if err := d.p.Configure(Options{Notify: func(c Change) { changes = append(changes, c) }}); err != nil {
				t.Fatal(err)
			}
			for range 60 { // of these two alone: the others are well, and called as often
				for _, id := range []string{"n00", "n01"} {
					d.force(id, 10*time.Millisecond, class)
					if acquits {
						d.acquit(id, d.now, class)
					}
				}
				d.force("n02", 10*time.Millisecond, policy.ClassOK)
				d.force("n03", 10*time.Millisecond, policy.ClassOK)
				d.wait(250 * time.Millisecond)
				d.spread(1) // due work is done by a pick
			}
			if s := d.p.Snapshot(d.now); (s.Ejections == 0) != acquits {
				t.Errorf("%v, taken back: %v: %d ejections: %v", class, acquits, s.Ejections, changes)
			}
			if s := d.state("n00"); acquits && (s.Streak != 0 || s.Failed != 60) {
				t.Errorf("%v: %+v", class, s)
			}
		}
	}
}

// TestAcquittalLiftsAnEjection: the last of a row of failures has the node ejected before its call has ended; that is undone, but not what others have done, nor what
// had been before.
func TestAcquittalLiftsAnEjection(t *testing.T) {
	fail := func(d *driver, n int) (ended policy.Time) {
		for range n {
			d.force("n00", time.Millisecond, policy.ClassUnavailable)
		}
		return d.now
	}
	d := newDriver(t, Options{}, fleet(4)...)
	last := fail(d, 5)
	if s := d.state("n00"); s.State != Ejected {
		t.Fatalf("%+v", s)
	}
	d.acquit("n00", last, policy.ClassUnavailable)
	if s := d.state("n00"); s.State != Ready || s.Streak != 4 || s.Ejections != 0 {
		t.Errorf("it is not lifted: %+v", s)
	}
	fail(d, 1)
	if s := d.state("n00"); s.State != Ejected {
		t.Errorf("what failed before counts no more: %+v", s)
	}

	d = newDriver(t, Options{}, fleet(4)...)
	fail(d, 5)
	last = fail(d, 1) // in flight when the node was ejected, let us say, or later
	d.acquit("n00", last, policy.ClassUnavailable)
	if s := d.state("n00"); s.State != Ejected {
		t.Errorf("five others had failed in a row: %+v", s)
	}

	// A success rate that is bad is another reason, and a node that was never asked has nothing to take back.
	d = newDriver(t, Options{Ejection: Ejection{Consecutive: -1}}, fleet(2)...)
	for range 100 {
		d.force("n00", time.Millisecond, policy.ClassUnavailable)
		d.force("n01", time.Millisecond, policy.ClassOK)
		d.wait(50 * time.Millisecond)
		d.spread(1)
	}
	if s := d.state("n00"); s.State != Ejected {
		t.Fatalf("%+v", s)
	}
	d.acquit("n00", start, policy.ClassUnavailable)
	if s := d.state("n00"); s.State != Ejected {
		t.Errorf("one call has undone a bad success rate: %+v", s)
	}
	d.acquit("n01", start, policy.ClassUnavailable)
	if s := d.state("n01"); s.State != Ready || s.Streak != 0 {
		t.Errorf("%+v", s)
	}
	d.p.Acquit(d.now, d.rnd, nil, start, policy.ClassUnavailable)
}

// TestAcquittalIsOfItsRow: a success ends a row of failures. What failed before has no part in the next one, and must not lift what that has done; nor is there
// anything to lift when the row is over.
func TestAcquittalIsOfItsRow(t *testing.T) {
	for _, over := range []bool{false, true} {
		d := newDriver(t, Options{}, fleet(4)...)
		d.force("n00", time.Millisecond, policy.ClassUnavailable)
		ended := d.now
		d.force("n00", time.Millisecond, policy.ClassOK)
		for range 5 {
			d.force("n00", time.Millisecond, policy.ClassUnavailable)
		}
		if over {
			d.force("n00", time.Millisecond, policy.ClassOK) // one probe: it takes two for the node to return
			ended = d.now
		}
		want := d.state("n00")
		if want.State != Ejected {
			t.Fatalf("%+v", want)
		}
		d.acquit("n00", ended, policy.ClassUnavailable)
		if s := d.state("n00"); s.State != Ejected || s.Streak != want.Streak {
			t.Errorf("over: %v: it took back what others have done: %+v", over, s)
		}
	}
}

package admission_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/admission"
)

const second = policy.Time(time.Second)

// begun is when the tests begin.
const begun = 1000 * second

func mustNew(t testing.TB, r admission.Rules) *admission.Desk {
	t.Helper()
	d, err := admission.New(r)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// fixed rules have so many places and no line.
func fixed(n int) admission.Rules {
	return admission.Rules{Limit: admission.Limit{Fixed: n, NoQueue: true}}
}

// desk is a Desk and the randomness of its test.
type desk struct {
	*admission.Desk
	rnd rand.Source
}

func (d *desk) arrive(now policy.Time, m *admission.Method, c policy.Call) (*admission.Seat, admission.Reason) {
	s := new(admission.Seat)
	_, by := d.Arrive(now, d.rnd, &admission.Ask{Call: c, Caller: policy.Call{Hash: 1}}, m, s)
	return s, by
}

func (d *desk) done(now policy.Time, m *admission.Method, s *admission.Seat) {
	d.Done(now, d.rnd, m, s, policy.Success)
}

func newDesk(t testing.TB, r admission.Rules) *desk {
	return &desk{mustNew(t, r), rand.NewPCG(1, 2)}
}

func TestFullHallRefuses(t *testing.T) {
	d := newDesk(t, fixed(2))
	m := d.Add("a")
	a, _ := d.arrive(begun, m, policy.Call{})
	b, _ := d.arrive(begun, m, policy.Call{})
	if c, by := d.arrive(begun, m, policy.Call{}); !a.Taken() || !b.Taken() || c.Taken() || by != admission.ByLimit {
		t.Errorf("%v %v %v by %v", a.Taken(), b.Taken(), c.Taken(), by)
	}
	d.done(begun, m, a)
	d.done(begun, m, a) // settled already
	c, _ := d.arrive(begun, m, policy.Call{})
	if e, _ := d.arrive(begun, m, policy.Call{}); !c.Taken() || e.Taken() {
		t.Error("a place that was given back once was given twice, or not at all")
	}
	if s := d.Snapshot(); s.Running != 2 || s.Refused.Limit != 2 || s.Limit != 2 {
		t.Errorf("%+v", s)
	}
}

// TestReserve: a method that hangs takes all places, and the other goes on as before.
func TestReserve(t *testing.T) {
	d := newDesk(t, fixed(20))
	stuck, light := d.Add("stuck"), d.Add("light")
	now := begun
	// The light method is used to three at a time.
	var seats [3]*admission.Seat
	for i := range seats {
		seats[i], _ = d.arrive(now, light, policy.Call{})
	}
	d.Turn(now, d.rnd)
	for _, s := range seats {
		d.done(now, light, s)
	}
	for range 30 {
		d.arrive(now, stuck, policy.Call{})
	}
	extra := int64(0) // sheddable calls that got in when the hall had stood for a second
	for range 100 {
		now += second / 10
		for i := range seats {
			if seats[i], _ = d.arrive(now, light, policy.Call{}); !seats[i].Taken() {
				t.Fatalf("at %v call %d of the light method is refused", time.Duration(now-begun), i)
			}
		}
		if s, _ := d.arrive(now, light, policy.Call{Criticality: policy.Sheddable}); now <= begun+second && s.Taken() {
			t.Fatal("a sheddable call got in")
		} else if s.Taken() {
			extra++
			d.done(now, light, s)
		}
		d.Turn(now, d.rnd)
		for _, s := range seats {
			d.done(now, light, s)
		}
		if s, _ := d.arrive(now, stuck, policy.Call{}); s.Taken() {
			t.Fatal("the stuck method has more than the hall")
		}
	}
	s := d.Snapshot()
	if s.InReserve != 300+extra || s.Methods[0].Running != 20 || s.Methods[1].Running != 0 {
		t.Errorf("%+v", s)
	}
	r := d.Rules()
	r.NoReserve = true
	if err := d.Apply(now, r); err != nil {
		t.Fatal(err)
	}
	if s, _ := d.arrive(now, light, policy.Call{}); s.Taken() {
		t.Error("a reserve that is switched off")
	}
}

// TestReserveOfALimitThatFell: when places are taken away the reserves are shares of those that are left, at once and not from the next Turn on. Until the surplus
// has gone critical calls would else fill it anew.
func TestReserveOfALimitThatFell(t *testing.T) {
	rules := fixed(40)
	d := newDesk(t, rules)
	busy, quiet := d.Add("busy"), d.Add("quiet")
	var seats []*admission.Seat
	for range 40 {
		s, _ := d.arrive(begun, busy, policy.Call{Criticality: policy.Sheddable})
		seats = append(seats, s)
	}
	d.Turn(begun, d.rnd)
	if s, _ := d.arrive(begun, quiet, policy.Call{}); !s.Taken() {
		t.Fatal("a method that has no calls under way has no reserve")
	}
	rules.Limit.Fixed = 20
	if err := d.Apply(begun, rules); err != nil {
		t.Fatal(err)
	}
	for left := 40; left >= 20; left-- {
		if s, _ := d.arrive(begun, busy, policy.Call{}); s.Taken() {
			t.Fatalf("%d calls run, 20 may, and another got in", left)
		}
		d.done(begun, busy, seats[left-1])
	}
	if s, _ := d.arrive(begun, busy, policy.Call{}); !s.Taken() {
		t.Error("when the surplus has gone nobody gets in")
	}
}

// TestPushback: who is refused comes back in 50 to 150 ms, and while those leave who are too many, as much later as that takes.
func TestPushback(t *testing.T) {
	rules := admission.Rules{Limit: admission.Limit{AIMD: true, Start: 40, Backoff: 0.5, NoQueue: true}}
	d := newDesk(t, rules)
	m := d.Add("m")
	var seats []*admission.Seat
	for range 40 {
		s, _ := d.arrive(begun, m, policy.Call{})
		seats = append(seats, s)
	}
	want := func(now policy.Time, later time.Duration) {
		t.Helper()
		least, most := time.Hour, time.Duration(0)
		for range 1000 {
			after := d.Pushback(now, d.rnd)
			least, most = min(least, after), max(most, after)
		}
		const ms = time.Millisecond
		if least < 50*ms+later || least > 51*ms+later || most < 149*ms+later || most > 150*ms+later {
			t.Errorf("after %v, with %+v: in %v to %v, want %v more than 50 to 150 ms", now.Sub(begun), d.Snapshot().Limit, least, most, later)
		}
	}
	want(begun, 0)
	d.Done(begun, d.rnd, m, seats[0], policy.TimedOut) // 20 are left
	want(begun.Add(time.Millisecond), 0)               // nobody knows how quickly they leave
	now := begun.Add(100 * time.Millisecond)
	for _, s := range seats[1:11] {
		d.Done(now, d.rnd, m, s, policy.Ignored)
	}
	want(now, 90*time.Millisecond) // 10 in 100 ms, and 9 are too many
	for _, s := range seats[11:21] {
		d.Done(now, d.rnd, m, s, policy.Ignored)
	}
	want(now, 0)
}

// TestStandingHall: when nobody leaves the hall any more the reserves are for sheddable calls too, which could otherwise never get in, and no longer when
// somebody does. A method that is full of calls that end keeps its reserve for the others.
func TestStandingHall(t *testing.T) {
	for _, tt := range []struct {
		name string
		ends bool // a call of the method that has the hall, now and then
		want bool
	}{{"it stands", false, true}, {"it is a flood", true, false}} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDesk(t, fixed(10))
			full, light := d.Add("full"), d.Add("light")
			first, _ := d.arrive(begun, light, policy.Call{})
			d.Turn(begun, d.rnd)
			d.done(begun, light, first)
			var seats []*admission.Seat
			for range 10 {
				s, _ := d.arrive(begun, full, policy.Call{Deadline: begun + 60*second})
				seats = append(seats, s)
			}
			prefetch := func(now policy.Time, m *admission.Method) bool {
				s, _ := d.arrive(now, m, policy.Call{Criticality: policy.Sheddable})
				defer d.done(now, m, s)
				return s.Taken()
			}
			now := begun
			for i := range 50 {
				now += second / 5
				if tt.ends {
					d.done(now, full, seats[i%10])
					seats[i%10], _ = d.arrive(now, full, policy.Call{Deadline: now + 60*second})
				}
				d.Turn(now, d.rnd)
				if got := prefetch(now, light); got != (tt.want && now >= begun+second+second/5) {
					t.Fatalf("after %v a sheddable call of another method got in: %v", time.Duration(now-begun), got)
				}
				if prefetch(now, full) {
					t.Fatal("the method that has the hall got more")
				}
			}
			// It goes on.
			d.done(now, full, seats[0])
			seats[0], _ = d.arrive(now, full, policy.Call{Deadline: now + 60*second})
			now += second / 5
			if d.Turn(now, d.rnd); prefetch(now, light) {
				t.Error("a sheddable call got in although the hall moves")
			}
		})
	}
}

// TestStandingHallKeepsCriticalCalls: what sheddable calls get while the hall stands is lent beside the reserve of their method and takes nothing of it from
// its critical calls, however many there are and whether their handlers end or not.
func TestStandingHallKeepsCriticalCalls(t *testing.T) {
	const lasts = 3 * second / 10 // a critical call
	for _, tt := range []struct {
		name     string
		flood    int         // sheddable calls every 0.1 s
		deadline policy.Time // of theirs, 0 = none
		lasts    policy.Time // one of them
	}{
		{"alone", 0, 0, 0},
		{"with prefetching", 5, 0, second},
		{"with prefetching that hangs", 5, 0, 600 * second},
		{"with prefetching that outlives its time", 5, second, 3 * second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDesk(t, fixed(10))
			full, light := d.Add("full"), d.Add("light")
			var used []*admission.Seat
			for range 4 { // what the light method is used to
				s, _ := d.arrive(begun, light, policy.Call{})
				used = append(used, s)
			}
			d.Turn(begun, d.rnd)
			for _, s := range used {
				d.done(begun, light, s)
			}
			for range 10 {
				d.arrive(begun, full, policy.Call{Deadline: begun + 600*second})
			}
			type run struct {
				seat *admission.Seat
				end  policy.Time
			}
			var runs []run
			now, lent := begun, 0
			for range 300 {
				now += second / 10
				runs = slices.DeleteFunc(runs, func(r run) bool {
					if r.end <= now {
						d.done(now, light, r.seat)
					}
					return r.end <= now
				})
				d.Turn(now, d.rnd)
				for range tt.flood {
					c := policy.Call{Criticality: policy.Sheddable}
					if tt.deadline != 0 {
						c.Deadline = now + tt.deadline
					}
					if s, _ := d.arrive(now, light, c); s.Taken() {
						runs = append(runs, run{s, now + tt.lasts})
						lent++
					}
				}
				s, _ := d.arrive(now, light, policy.Call{})
				if !s.Taken() {
					t.Fatalf("after %v a critical call is refused; %d sheddable ones got in: %+v", time.Duration(now-begun), lent, d.Snapshot().Methods[1])
				}
				runs = append(runs, run{s, now + lasts})
				if m := d.Snapshot().Methods[1]; m.Running > m.Reserve+max(1, m.Reserve/4) {
					t.Fatalf("after %v: %+v", time.Duration(now-begun), m)
				}
			}
			if (lent > 0) != (tt.flood > 0) {
				t.Errorf("%d sheddable calls got in", lent)
			}
			for _, r := range runs {
				d.done(now, light, r.seat)
			}
			if s := d.Snapshot(); s.Methods[1].Running != 0 || s.Methods[1].Reserved != 0 || s.Methods[1].Abandoned != 0 || s.Abandoned != 0 {
				t.Errorf("when all have ended: %+v", s)
			}
		})
	}
}

// TestStandingHallForLong: what a method that only has sheddable calls is lent does not dwindle however long the hall stands.
func TestStandingHallForLong(t *testing.T) {
	d := newDesk(t, fixed(40))
	full, light := d.Add("full"), d.Add("light")
	var seats []*admission.Seat
	fill := func(now policy.Time) int {
		for {
			s, _ := d.arrive(now, light, policy.Call{Criticality: policy.Sheddable})
			if !s.Taken() || len(seats) == 12 {
				d.done(now, light, s)
				return len(seats)
			}
			seats = append(seats, s)
		}
	}
	if n := fill(begun); n != 12 {
		t.Fatal(n)
	}
	now := begun
	for i := range 600 {
		d.Turn(now, d.rnd)
		for _, s := range seats {
			d.done(now, light, s)
		}
		seats = seats[:0]
		for i == 0 {
			if s, _ := d.arrive(now, full, policy.Call{Deadline: begun + 600*second}); !s.Taken() || d.Snapshot().Methods[0].Running == 40 {
				break
			}
		}
		now += second / 5
		if n := fill(now); now > begun+2*second && n < 12/4 {
			t.Fatalf("after %v %d sheddable calls got in", time.Duration(now-begun), n)
		}
	}
}

// TestStandingAgain: where handlers run on after their time it is known sooner that the hall stands.
func TestStandingAgain(t *testing.T) {
	d := newDesk(t, fixed(4))
	stuck, light := d.Add("stuck"), d.Add("light")
	s, _ := d.arrive(begun, light, policy.Call{})
	d.done(begun, light, s)
	now, out := begun, 0
	for range 100 {
		now += second / 5
		for range 4 {
			d.arrive(now, stuck, policy.Call{Deadline: now + second})
		}
		d.Turn(now, d.rnd)
		s, _ := d.arrive(now, light, policy.Call{Criticality: policy.Sheddable})
		if !s.Taken() && now > begun+3*second {
			out++
		}
		d.done(now, light, s)
	}
	if out > 4 {
		t.Errorf("%d sheddable calls of another method were refused after the first handlers had been abandoned", out)
	}
}

// TestReserveIsAShare: the reserve grows with what a method needs, but not beyond its share of the limit.
func TestReserveIsAShare(t *testing.T) {
	d := newDesk(t, fixed(40))
	full, other := d.Add("full"), d.Add("other")
	now := begun
	for range 40 {
		d.arrive(now, full, policy.Call{})
	}
	running := 0
	for range 100 {
		now += second / 5
		d.Turn(now, d.rnd)
		for {
			s, _ := d.arrive(now, other, policy.Call{})
			if !s.Taken() {
				break
			}
			running++
		}
	}
	if running != 20 {
		t.Errorf("the other method has %d calls, want half of 40", running)
	}
}

// TestAbandoned: a call that runs on after its time gives its place back, once.
func TestAbandoned(t *testing.T) {
	d := newDesk(t, fixed(4))
	m := d.Add("a")
	now := begun + second/2
	var seats []*admission.Seat
	for range 4 {
		s, _ := d.arrive(now, m, policy.Call{Deadline: now + 2*second})
		seats = append(seats, s)
	}
	for ; now < begun+second/2+3*second; now += second / 5 {
		if d.Turn(now, d.rnd); d.Snapshot().Abandoned != 0 {
			t.Fatalf("abandoned after %v", time.Duration(now-begun))
		}
	}
	now += second
	d.Turn(now, d.rnd)
	if s := d.Snapshot(); s.Abandoned != 4 || s.Lost != 4 || s.Running != 0 || s.Stuck {
		t.Errorf("%+v", s)
	}
	// Their places are free again, and four more are all that can be abandoned: none.
	for range 4 {
		s, _ := d.arrive(now, m, policy.Call{Deadline: now + second})
		seats = append(seats, s)
	}
	now += 4 * second
	d.Turn(now, d.rnd)
	if s := d.Snapshot(); s.Abandoned != 4 || s.Running != 4 || !s.Stuck || !d.Stuck() {
		t.Errorf("%+v", s)
	}
	if s, _ := d.arrive(now, m, policy.Call{Deadline: now + second}); s.Taken() {
		t.Error("beyond the limit")
	}
	for _, s := range seats {
		d.done(now, m, s)
	}
	d.Turn(now, d.rnd)
	s := d.Snapshot()
	if s.Abandoned != 0 || s.Running != 0 || s.Stuck || s.Lost != 4 || s.Methods[0].Abandoned != 0 {
		t.Errorf("when all is over: %+v", s)
	}
	for i := range 5 {
		if s, _ := d.arrive(now, m, policy.Call{}); s.Taken() != (i < 4) {
			t.Errorf("call %d: %v", i, s.Taken())
		}
	}
}

// TestOverTheRing: calls that cannot be given up are in the way of nobody a turn of the ring later.
func TestOverTheRing(t *testing.T) {
	d := newDesk(t, fixed(2))
	m := d.Add("a")
	now := begun
	a, _ := d.arrive(now, m, policy.Call{Deadline: now + second})
	b, _ := d.arrive(now, m, policy.Call{Deadline: now + second})
	d.Turn(now+5*second, d.rnd) // both abandoned: no more can be
	c, _ := d.arrive(now+5*second, m, policy.Call{Deadline: now + 6*second})
	e, _ := d.arrive(now+69*second, m, policy.Call{Deadline: now + 70*second})
	f, _ := d.arrive(now+69*second, m, policy.Call{Deadline: now + 200*second}) // too far away to be counted by the second
	if !c.Taken() || !e.Taken() || f.Taken() {
		t.Fatal(c.Taken(), e.Taken(), f.Taken())
	}
	for _, s := range []*admission.Seat{a, b, c, e} {
		d.done(now+80*second, m, s)
	}
	if s := d.Snapshot(); s.Running != 0 || s.Abandoned != 0 {
		t.Errorf("%+v", s)
	}
}

func TestRate(t *testing.T) {
	r := fixed(100)
	r.Rate = admission.Rate{Limit: 2}
	d := newDesk(t, r)
	m := d.Add("a")
	ask := func(caller uint64) admission.Reason {
		s := new(admission.Seat)
		v, by := d.Arrive(begun, d.rnd, &admission.Ask{Caller: policy.Call{Hash: caller}}, m, s)
		if by == admission.ByRate && (v.At <= begun || v.Decision != policy.Refuse) {
			t.Errorf("%+v", v)
		}
		return by
	}
	for i, want := range []admission.Reason{admission.None, admission.None, admission.ByRate} {
		if a, b := ask(1), ask(2); a != want || b != want {
			t.Errorf("call %d: %v, %v", i, a, b)
		}
	}
	r.Rate.Mode = policy.DryRun
	if err := d.Apply(begun, r); err != nil {
		t.Fatal(err)
	}
	if by := ask(1); by != admission.None || d.Snapshot().DryRefused.Rate != 1 {
		t.Errorf("%v, %+v", by, d.Snapshot().DryRefused)
	}
	r.Rate = admission.Rate{Limit: 3}
	if err := d.Apply(begun, r); err != nil {
		t.Fatal(err)
	}
	if a, b := ask(1), ask(1); a == admission.None && b == admission.None {
		t.Error("another limit forgets what was used")
	}
}

// TestUnpaid: who is refused for want of a place has not used up its rate.
func TestUnpaid(t *testing.T) {
	r := fixed(1)
	r.Rate = admission.Rate{Limit: 2}
	d := newDesk(t, r)
	m := d.Add("a")
	s, _ := d.arrive(begun, m, policy.Call{})
	for range 10 {
		if _, by := d.arrive(begun, m, policy.Call{}); by != admission.ByLimit {
			t.Fatal(by)
		}
	}
	d.done(begun, m, s)
	if s, by := d.arrive(begun, m, policy.Call{}); !s.Taken() {
		t.Error(by)
	}
}

// TestPressureFindsWhatCanBeServed: whatever share of the sheddable calls can be served, the share that is served stays near it; and when the pressure ends all are
// served within three seconds.
func TestPressureFindsWhatCanBeServed(t *testing.T) {
	for _, can := range []float64{0.5, 0.2, 0.05, 0.03} {
		d := newDesk(t, fixed(1000))
		kept := func() float64 { return 1 - d.Snapshot().Pressure.Level }
		for i := range 200 {
			d.Measured(begun, admission.Signals{Lag: time.Duration(kept() / can * float64(20*time.Millisecond))})
			if k := kept(); i >= 15 && (k < 0.6*can || k > 1.4*can) {
				t.Errorf("%v can be served, at observation %d it is %.3f", can, i, k)
			}
		}
		for range 15 {
			d.Measured(begun, admission.Signals{})
		}
		if k := kept(); k != 1 {
			t.Errorf("3 s after the pressure has ended %.3f are served", k)
		}
	}
}

func TestPressure(t *testing.T) {
	d := newDesk(t, fixed(1000))
	m := d.Add("a")
	shed := func(c policy.Criticality) (n int) {
		for i := range 200 {
			s, by := d.arrive(begun, m, policy.Call{Criticality: c, Hash: uint64(i) * 0x9E3779B97F4A7C15})
			if by == admission.ByPressure {
				n++
			}
			d.done(begun, m, s)
		}
		return n
	}
	for _, tt := range []struct {
		s                              admission.Signals
		times                          int
		sheddable, plus, critical, top [2]int
	}{
		{admission.Signals{}, 10, [2]int{0, 0}, [2]int{0, 0}, [2]int{0, 0}, [2]int{0, 0}},
		{admission.Signals{Lag: 30 * time.Millisecond}, 5, [2]int{60, 140}, [2]int{0, 0}, [2]int{0, 0}, [2]int{0, 0}},
		{admission.Signals{Throttled: 0.8}, 20, [2]int{190, 200}, [2]int{190, 200}, [2]int{0, 0}, [2]int{0, 0}},
		{admission.Signals{}, 50, [2]int{0, 0}, [2]int{0, 0}, [2]int{0, 0}, [2]int{0, 0}},
		{admission.Signals{Memory: 0.97}, 1, [2]int{190, 200}, [2]int{190, 200}, [2]int{180, 200}, [2]int{0, 0}},
		{admission.Signals{Memory: 0.87}, 1, [2]int{60, 140}, [2]int{0, 0}, [2]int{0, 0}, [2]int{0, 0}},
	} {
		for range tt.times {
			d.Measured(begun, tt.s)
		}
		for c, want := range map[policy.Criticality][2]int{policy.Sheddable: tt.sheddable, policy.SheddablePlus: tt.plus, policy.Critical: tt.critical,
			policy.CriticalPlus: tt.top} {
			if n := shed(c); n < want[0] || n > want[1] {
				t.Errorf("%+v: %d of 200 %v calls are refused, want %v", tt.s, n, c, want)
			}
		}
	}
	if n := len(d.Events("k")[1].Source.Events(begun, 0)); n != 3 {
		t.Errorf("%d events: want pressed, calm, pressed", n)
	}
}

func TestApplyKeepsWhatIs(t *testing.T) {
	d := newDesk(t, fixed(2))
	m := d.Add("a")
	a, _ := d.arrive(begun, m, policy.Call{})
	for _, r := range []admission.Rules{{Limit: admission.Limit{Fixed: -1}}, {Limit: admission.Limit{Min: 5, Max: 4}}, {Rate: admission.Rate{Limit: -1}},
		{Grace: -1}, {Pressure: admission.Pressure{Memory: 2}}, {Rate: admission.Rate{Limit: 1e12}}} {
		if err := d.Apply(begun, r); err == nil {
			t.Errorf("%+v is accepted", r)
		}
	}
	more := fixed(3)
	if err := d.Apply(begun, more); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if s, _ := d.arrive(begun, m, policy.Call{}); s.Taken() != (i < 2) {
			t.Errorf("call %d beside the one from before: %v", i, s.Taken())
		}
	}
	more.Limit.Mode = policy.DryRun
	if err := d.Apply(begun, more); err != nil {
		t.Fatal(err)
	}
	s, _ := d.arrive(begun, m, policy.Call{})
	if !s.Taken() || d.Snapshot().DryRefused.Limit != 1 {
		t.Errorf("in dry-run: %v, %+v", s.Taken(), d.Snapshot())
	}
	if err := d.Apply(begun, admission.Rules{}); err != nil { // another kind of limit: a new hall
		t.Fatal(err)
	}
	d.done(begun, m, a)
	d.done(begun, m, s)
	if s := d.Snapshot(); s.Running != 2 { // the other two of the old hall
		t.Errorf("%+v", s)
	}
}

type waiter struct{ got []policy.Verdict }

func (w *waiter) Granted(_ uint32, v policy.Verdict) { w.got = append(w.got, v) }

// TestNothingIsLost makes random calls with a line, deadlines, handlers that run on, changes of rules and turns; when all are over everything is free.
func TestNothingIsLost(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		d := &desk{mustNew(t, admission.Rules{Limit: admission.Limit{Fixed: 3, Queue: 4}}), rng}
		methods := []*admission.Method{d.Add("a"), d.Add("b"), d.Add("c")}
		type call struct {
			s      *admission.Seat
			m      *admission.Method
			w      *waiter
			ticket policy.Ticket
			until  policy.Time
		}
		now := begun
		var calls []*call
		settle := func(i int) {
			c := calls[i]
			calls = append(calls[:i], calls[i+1:]...)
			if c.s.Waits() {
				if d.Leave(now, c.s, c.ticket, rng.IntN(2) == 0) {
					return
				}
				d.Seated(now, c.until, c.m, c.s, c.w.got[0])
			}
			d.done(now, c.m, c.s)
		}
		for range 400 {
			now += policy.Time(rng.IntN(int(second / 2)))
			switch rng.IntN(8) {
			case 0, 1, 2, 3:
				c := &call{s: new(admission.Seat), m: methods[rng.IntN(3)], w: new(waiter)}
				if rng.IntN(4) > 0 {
					c.until = now + policy.Time(rng.IntN(int(10*second))) + 1
				}
				a := &admission.Ask{Call: policy.Call{Deadline: c.until, Criticality: policy.Criticality(rng.IntN(4)), PathAttempt: 1 + rng.IntN(2)}}
				v, _ := d.Arrive(now, rng, a, c.m, c.s)
				if v.Decision == policy.Park {
					c.ticket, _ = d.Join(now, rng, a, c.m, c.s, policy.Waiting{Waiter: c.w})
				}
				if c.s.Taken() || c.s.Waits() {
					calls = append(calls, c)
				}
			case 4, 5:
				if len(calls) > 0 {
					settle(rng.IntN(len(calls)))
				}
			case 6:
				d.Turn(now, rng)
			case 7:
				for _, c := range calls {
					if c.s.Waits() && len(c.w.got) > 0 {
						d.Seated(now, c.until, c.m, c.s, c.w.got[0])
					}
				}
			}
			if s := d.Snapshot(); s.Abandoned < 0 || s.Abandoned > s.Limit || s.Running > s.Limit+s.Reserved {
				t.Fatalf("seed %d: %+v", seed, s)
			}
		}
		for len(calls) > 0 {
			settle(0)
		}
		s := d.Snapshot()
		if s.Running != 0 || s.Waiting != 0 || s.Abandoned != 0 || s.Reserved != 0 {
			t.Fatalf("seed %d: %+v", seed, s)
		}
		for i := range 4 {
			if s, _ := d.arrive(now, methods[0], policy.Call{Criticality: policy.Sheddable}); s.Taken() != (i < 3) {
				t.Fatalf("seed %d: of three free places the %dth call got: %v", seed, i+1, s.Taken())
			}
		}
	}
}

func BenchmarkArrive(b *testing.B) {
	d := &desk{mustNew(b, admission.Rules{}), rand.NewPCG(1, 2)}
	m := d.Add("a")
	a := &admission.Ask{Call: policy.Call{Deadline: begun + 5*second}}
	now := begun
	b.ReportAllocs()
	for b.Loop() {
		var s admission.Seat
		now++
		d.Arrive(now, d.rnd, a, m, &s)
		d.Done(now, d.rnd, m, &s, policy.Success)
	}
}

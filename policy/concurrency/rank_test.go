package concurrency

import (
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

func of(c policy.Criticality) *policy.Call { return &policy.Call{Criticality: c} }

func enter(t *testing.T, l *Limiter, now policy.Time, c *policy.Call, tag uint32) policy.Ticket {
	t.Helper()
	ticket, v := l.Join(now, nil, c, policy.Waiting{Tag: tag})
	if v.Decision != policy.Park {
		t.Fatalf("%d: %+v, want to wait", tag, v)
	}
	return ticket
}

func TestMoreImportantCallsGoFirst(t *testing.T) {
	l := must(t, Options{Limit: 1, Queue: 10})
	admit(t, l, t0, policy.Admit)
	enter(t, l, t0, of(policy.Sheddable), 1)
	enter(t, l, t0, of(policy.SheddablePlus), 2)
	enter(t, l, t0, &policy.Call{PathAttempt: 2}, 3)
	enter(t, l, t0, &policy.Call{PathAttempt: 1}, 4)
	enter(t, l, t0, of(policy.CriticalPlus), 5)
	for _, tag := range []uint32{5, 4, 3, 2, 1} {
		l.Done(t0, nil, policy.Permit{}, policy.Success)
		next(t, l, t0, tag, policy.Admit)
	}
	flat := must(t, Options{Limit: 1, Queue: 10, Flat: true})
	admit(t, flat, t0, policy.Admit)
	enter(t, flat, t0, of(policy.Sheddable), 1)
	enter(t, flat, t0, of(policy.CriticalPlus), 2)
	flat.Done(t0, nil, policy.Permit{}, policy.Success)
	next(t, flat, t0, 1, policy.Admit)
}

func TestAFullLineMakesRoomForMoreImportantCalls(t *testing.T) {
	l := must(t, Options{Limit: 1, Queue: 2})
	admit(t, l, t0, policy.Admit)
	enter(t, l, t0, of(policy.Sheddable), 1)
	two := enter(t, l, t0, of(policy.Sheddable), 2)
	if v := l.Admit(t0, nil, of(policy.Sheddable)); v.Decision != policy.Refuse {
		t.Errorf("%+v", v)
	}
	if v := l.Admit(t0, nil, of(policy.Critical)); v.Decision != policy.Park {
		t.Errorf("%+v, want a seat", v)
	}
	enter(t, l, t0, of(policy.Critical), 3)
	enter(t, l, t0, of(policy.Critical), 4)
	if _, v := l.Join(t0, nil, of(policy.Critical), policy.Waiting{}); v.Decision != policy.Refuse {
		t.Errorf("%+v, want no seat", v)
	}
	if !l.Leave(t0, two) {
		t.Error("who was displaced cannot leave any more")
	}
	next(t, l, t0, 1, policy.Refuse)
	next(t, l, t0, 0, 0)
	if s := l.Snapshot(); s.Refused != 4 || s.Waiting != 2 || s.WaitingOf != [numClasses]int{1: 2} || s.LostOf != [numClasses]int64{1: 1, 3: 3} {
		t.Errorf("%+v", s)
	}
}

// While a higher class takes all it can get, each lower one gets one place in fifty and keeps a seat.
func TestReserve(t *testing.T) {
	l := must(t, Options{Limit: 1, Queue: 100, MaxWait: time.Hour})
	admit(t, l, t0, policy.Admit)
	classes := []policy.Criticality{policy.CriticalPlus, policy.Critical, policy.SheddablePlus, policy.Sheddable}
	served := map[uint32]int{}
	for range 10_000 {
		for tag, c := range classes {
			l.Join(t0, nil, of(c), policy.Waiting{Tag: uint32(tag)})
		}
		l.Done(t0, nil, policy.Permit{}, policy.Success)
		for {
			w, v, ok := l.Next(t0, nil)
			if !ok {
				break
			}
			if v.Decision == policy.Admit {
				served[w.Tag]++
			}
		}
	}
	for tag := range uint32(4) {
		want := 200
		if tag == 0 {
			want = 9400
		}
		if d := served[tag] - want; d < -5 || d > 15 {
			t.Errorf("%v got %d of 10,000 places, want %d", classes[tag], served[tag], want)
		}
	}
}

func TestCoDel(t *testing.T) {
	l := must(t, Options{Limit: 1, Queue: 1000, Order: CoDel})
	ms := func(n int) policy.Time { return at(time.Duration(n) * time.Millisecond) }
	admit(t, l, t0, policy.Admit)
	// One leaves and one comes each 10 ms, 10 wait: at first who came first is next.
	for i := range uint32(10) {
		enter(t, l, t0, nil, 1+i)
	}
	for i := range 11 {
		now := ms(9 * (i + 1))
		l.Done(now, nil, policy.Permit{}, policy.Success)
		if l.stand[2].dropping {
			t.Fatalf("dropping after %v", now.Sub(t0))
		}
		next(t, l, now, uint32(1+i), policy.Admit)
		enter(t, l, now, nil, uint32(11+i))
	}
	// After an interval the line stands: who waited two targets is refused, the newest is next.
	now := ms(101)
	if _, v := l.Join(now, nil, nil, policy.Waiting{Tag: 100}); v.At != now.Add(10*time.Millisecond) {
		t.Errorf("%+v, want to wait no longer than 10ms", v)
	}
	enter(t, l, now, nil, 101)
	if s := l.Snapshot(); !s.Dropping {
		t.Fatalf("%+v", s)
	}
	l.Done(now, nil, policy.Permit{}, policy.Success)
	refused := 0
	for {
		w, v, ok := l.Next(now, nil)
		if !ok {
			break
		}
		if v.Decision == policy.Admit {
			if w.Tag != 101 {
				t.Errorf("%d is next, want the newest", w.Tag)
			}
			continue
		}
		refused++
	}
	if s := l.Snapshot(); refused != 9 || s.Waiting != 2 { // 21 came 2 ms ago, 100 just now
		t.Errorf("%d refused, %+v", refused, s)
	}
	// Short for long enough, and it is forgotten.
	next(t, l, ms(130), 21, policy.Refuse)
	next(t, l, ms(130), 100, policy.Refuse)
	enter(t, l, ms(2000), nil, 200)
	if s := l.Snapshot(); s.Dropping {
		t.Errorf("%+v", s)
	}
}

// At twice the load the same roots are shed all the time, by every limiter, and the others served.
func TestRootsAreShedWhole(t *testing.T) {
	kept := map[uint64]int{}
	var level float64
	for range 2 { // two services
		l := must(t, Options{Limit: 1, Queue: 50, MaxWait: 50 * time.Millisecond})
		admit(t, l, t0, policy.Admit)
		for i := range 4000 {
			now := at(time.Duration(i) * time.Millisecond)
			c := &policy.Call{Hash: uint64(i%1000) + 1}
			if v := l.Admit(now, nil, c); v.Decision == policy.Park {
				l.Join(now, nil, c, policy.Waiting{})
				if i >= 3000 {
					kept[c.Hash]++
				}
			} else if v.Reason != whyShed && v.Reason != whyLine {
				t.Fatalf("%+v", v)
			}
			if i%2 == 0 {
				l.Done(now, nil, policy.Permit{}, policy.Success)
			}
			for {
				if _, _, ok := l.Next(now, nil); !ok {
					break
				}
			}
		}
		level = l.Snapshot().Shed[1]
	}
	both, one := 0, 0
	for _, n := range kept {
		if n == 2 {
			both++
		} else {
			one++
		}
	}
	t.Logf("share shed %.3f; %d roots pass both services, %d one of them", level, both, one)
	if level < 0.3 || level > 0.45 || both < 500 || one > both/10 {
		t.Errorf("share shed %.3f, want about 1 − 1.25/2; %d roots pass both services, %d one of them", level, both, one)
	}
}

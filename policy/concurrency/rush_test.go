package concurrency

import (
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// fallen is a limiter of 30 places, all taken but one, of which a source has just left so many.
func fallen(t *testing.T, left int, o Options) *Limiter {
	t.Helper()
	source := &said{30}
	o.Source = source
	l := must(t, o)
	for range 30 {
		admit(t, l, t0, policy.Admit)
	}
	source.limit = left
	l.Done(t0, nil, policy.Permit{Start: t0}, policy.Success)
	return l
}

// TestRush: when two thirds of the places are taken away nobody gets in until as many calls have ended. Those who have come meanwhile are not refused as if the
// line stood because of them, and who came last is first, who has most of his time left.
func TestRush(t *testing.T) {
	l := fallen(t, 10, Options{Queue: 1000})
	came, served := map[uint32]policy.Time{}, []uint32(nil)
	for ms := 5; ms < 300; ms += 5 {
		now := at(time.Duration(ms) * time.Millisecond)
		if tag := uint32(ms / 10); ms%10 == 0 {
			came[tag] = now
			if _, v := l.Join(now, nil, nil, policy.Waiting{Tag: tag}); v.Decision == policy.Admit {
				served = append(served, tag)
			}
		}
		l.Done(now, nil, policy.Permit{Start: t0}, policy.Success)
		for {
			w, v, ok := l.Next(now, nil)
			if !ok {
				break
			}
			if v.Decision == policy.Admit {
				served = append(served, w.Tag)
			} else if waited := now.Sub(came[w.Tag]); waited < 100*time.Millisecond {
				t.Errorf("at %d ms one is refused who came %v ago", ms, waited)
			}
		}
	}
	// Twice as many end as come: at 100 ms the surplus has gone, and 10 wait.
	if len(served) < 25 || served[0] != 10 || served[1] != 9 {
		t.Errorf("served are %v, of 29; want 25 or more, first those who came at 100 and 90 ms", served)
	}
	if s := l.Snapshot(); s.Dropping || s.Waiting > 0 {
		t.Errorf("%+v", s)
	}
}

// What lasts is no rush: if nobody leaves the line stands when it is over, and if few places have gone, after an interval.
func TestRushEnds(t *testing.T) {
	for _, tt := range []struct {
		left  int
		after time.Duration // the line stands
	}{{10, rushLasts * 100 * time.Millisecond}, {24, 100 * time.Millisecond}} {
		l := fallen(t, tt.left, Options{Queue: 1000, MaxWait: time.Hour})
		for d := time.Duration(0); d <= tt.after+20*time.Millisecond; d += 10 * time.Millisecond {
			enter(t, l, at(d), nil, 1)
			if got, want := l.Snapshot().Dropping, d > tt.after+5*time.Millisecond; got != want {
				t.Errorf("%d places are left: after %v the line stands: %v, want %v", tt.left, d, got, want)
			}
		}
	}
}

// A limit that goes on falling step by step while those beyond it do not leave makes no new rush of each step.
func TestRushEndsThoughTheLimitFallsOn(t *testing.T) {
	l := fallen(t, 20, Options{Queue: 1000, MaxWait: time.Hour})
	source := l.source.(*said)
	after := rushLasts * 100 * time.Millisecond
	for d := 10 * time.Millisecond; d <= 2*after; d += 10 * time.Millisecond {
		now := at(d)
		enter(t, l, now, nil, 1)
		if d%(50*time.Millisecond) == 0 { // one leaves, 20 or more are still there
			source.limit--
			l.Done(now, nil, policy.Permit{Start: t0}, policy.Success)
		}
		if got, want := l.Snapshot().Dropping, d > after; got != want {
			t.Errorf("after %v, with %d in use and %d places, the line stands: %v, want %v", d, l.inUse(), source.limit, got, want)
		}
	}
}

// That nobody was served in a rush does not have roots shed after it.
func TestRushShedsNoRoots(t *testing.T) {
	for _, tt := range []struct {
		left int
		want bool
	}{{10, false}, {24, true}} {
		l := fallen(t, tt.left, Options{Queue: 1000, MaxWait: 50 * time.Millisecond})
		for ms := range 190 {
			now, c := at(time.Duration(ms)*time.Millisecond), &policy.Call{Hash: uint64(ms) + 1}
			if l.Admit(now, nil, c).Decision == policy.Park {
				l.Join(now, nil, c, policy.Waiting{})
			}
			for {
				if _, _, ok := l.Next(now, nil); !ok {
					break
				}
			}
		}
		if got := l.Snapshot().Shed[1]; got > 0 != tt.want {
			t.Errorf("%d places are left: %.2f of the roots are shed, want some: %v", tt.left, got, tt.want)
		}
	}
}

// TestSurplus: when 18 places are left of 30, and 29 are taken, who comes is told when 11 will have left, as soon as some have.
func TestSurplus(t *testing.T) {
	l := fallen(t, 18, Options{Queue: 1000})
	want := func(d, want time.Duration) {
		t.Helper()
		if got := l.Surplus(at(d)).Round(time.Millisecond); got != want {
			t.Errorf("after %v, with %d in use, it is %v until there is room, want %v", d, l.inUse(), got, want)
		}
	}
	const each = 10 * time.Millisecond
	for d := each; d <= 12*each; d += each { // one has left in each, 29 - 18 have to
		left, more := 29-l.inUse(), l.inUse()-18
		if left < surplusLeast { // too few to tell
			want(d, 0)
		} else {
			want(d, (d * time.Duration(more) / time.Duration(left)).Round(time.Millisecond))
		}
		l.Done(at(d), nil, policy.Permit{Start: t0}, policy.Success)
	}
	want(120*time.Millisecond, 0)
	if got := must(t, Options{Limit: 1}).Surplus(t0); got != 0 {
		t.Errorf("of a limiter that has seen nothing: %v", got)
	}
}

// What is not known to go, and what takes long, is not waited for.
func TestSurplusStays(t *testing.T) {
	l := fallen(t, 2, Options{Queue: 1000})
	for range surplusLeast {
		l.Done(at(500*time.Millisecond), nil, policy.Permit{Start: t0}, policy.Success)
	}
	for d, want := range map[time.Duration]bool{100 * time.Millisecond: true, 400 * time.Millisecond: true, 500 * time.Millisecond: false, -time.Second: false, time.Hour: false} {
		if got := l.Surplus(at(d)); got > surplusMost || got > 0 != want {
			t.Errorf("after %v: %v, want one: %v", d, got, want)
		}
	}
}

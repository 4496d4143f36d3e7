package concurrency

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hull-go/hull/internal/stripe"
	"github.com/hull-go/hull/policy"
)

// atDesks is how many places lie at the desks.
func atDesks(l *Limiter) (n int) {
	if desks := l.desks.Load(); desks != nil {
		for i := range desks.of {
			n += int(desks.of[i].places.Load() &^ shut)
		}
	}
	return n
}

// Places at desks are free: all of them are had before anybody is refused, and none twice.
func TestPlacesAtDesksAreFree(t *testing.T) {
	l := must(t, Options{Limit: 64})
	l.makeDesks()
	for round := range 10 {
		var held []policy.Permit
		for range 64 {
			held = append(held, admit(t, l, t0, policy.Admit).Permit)
		}
		admit(t, l, t0, policy.Refuse)
		for i, p := range held {
			p.Slot = uint32(i)
			l.Done(t0, nil, p, policy.Success)
			if s := l.Snapshot(); s.InUse != 63-i {
				t.Fatalf("%d in use, want %d", s.InUse, 63-i)
			}
		}
		if n := atDesks(l); n != 4*stripe.N {
			t.Errorf("round %d: %d places lie at the desks, want 4 at each", round, n)
		}
	}
}

// Neither a limit that falls nor one that rises leaves a place at a desk that should not be there.
func TestSetLimitFindsPlacesAtDesks(t *testing.T) {
	l := must(t, Options{Limit: 64})
	l.makeDesks()
	for range 40 {
		admit(t, l, t0, policy.Admit)
	}
	for i := range uint32(30) {
		l.Done(t0, nil, policy.Permit{Slot: i}, policy.Success)
	}
	if atDesks(l) == 0 {
		t.Fatal("no place lies at a desk")
	}
	if err := l.SetLimit(t0, 10); err != nil {
		t.Fatal(err)
	}
	admit(t, l, t0, policy.Refuse)
	for range 3 {
		l.Done(t0, nil, policy.Permit{}, policy.Success)
	}
	if err := l.SetLimit(t0, 20); err != nil {
		t.Fatal(err)
	}
	for range 13 {
		admit(t, l, t0, policy.Admit)
	}
	admit(t, l, t0, policy.Refuse)
}

// What nobody may rely on: a place that is given back twice. It must not break the count of those who wait, or stay for ever.
func TestGivenBackTwiceWithDesks(t *testing.T) {
	l := must(t, Options{Limit: 2, Queue: 1})
	l.force()
	l.Done(t0, nil, admit(t, l, t0, policy.Admit).Permit, policy.Success)
	for range 5 {
		l.Done(t0, nil, policy.Permit{}, policy.Success)
	}
	for range 20 {
		if v := l.Admit(t0, nil, nil); v.Decision != policy.Admit {
			break
		}
	}
	if _, v := l.Join(t0, nil, nil, policy.Waiting{Tag: 1}); v.Decision != policy.Park {
		t.Fatalf("%+v, want to wait", v)
	}
	if s := l.Snapshot(); s.Waiting != 1 {
		t.Errorf("%+v, want one to wait", s)
	}
	for range 10 {
		l.Done(t0, nil, policy.Permit{}, policy.Success)
	}
	next(t, l, t0, 1, policy.Admit)
	l.Done(t0, nil, policy.Permit{}, policy.Success)
	admit(t, l, t0, policy.Admit)
	admit(t, l, t0, policy.Admit)
	admit(t, l, t0, policy.Park)
}

// Few take and give back at once, then all, while the limit goes up and down: never more inside than any limit there was meanwhile, and
// in the end every place is there.
func TestParallelDesks(t *testing.T) {
	const least, most = 20, 40
	l := must(t, Options{Limit: most, Queue: 4, MaxWait: time.Hour})
	l.makeDesks()
	var inside atomic.Int64
	give := func(p policy.Permit) {
		l.Done(t0, nil, p, policy.Success)
		for {
			w, v, ok := l.Next(t0, nil)
			if !ok {
				return
			}
			w.Waiter.Granted(w.Tag, v)
		}
	}
	for _, workers := range []uint64{4, 60, 4} {
		var wg sync.WaitGroup
		for g := range workers {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(g, 9))
				for i := range 2000 {
					if g == 0 && i%50 == 0 {
						if err := l.SetLimit(t0, least+rnd.IntN(most-least+1)); err != nil {
							t.Error(err)
						}
					}
					v := l.Admit(t0, nil, nil)
					if v.Decision == policy.Park {
						me := make(person, 1)
						if _, v = l.Join(t0, nil, nil, policy.Waiting{Waiter: me}); v.Decision == policy.Park {
							v = <-me
						}
					}
					if v.Decision != policy.Admit {
						continue
					}
					if n := inside.Add(1); n > most {
						t.Errorf("%d inside", n)
					}
					if i%16 == 0 {
						runtime.Gosched()
					}
					inside.Add(-1)
					give(v.Permit)
				}
			})
		}
		wg.Wait()
		if s := l.Snapshot(); s.InUse != 0 || s.Waiting != 0 {
			t.Fatalf("in the end %+v", s)
		}
		for range 2 { // the first opens the desks, if they are shut
			give(l.Admit(t0, nil, nil).Permit)
		}
		if atDesks(l) == 0 {
			t.Error("no place lies at a desk")
		}
	}
	if err := l.SetLimit(t0, most); err != nil {
		t.Fatal(err)
	}
	for range most {
		admit(t, l, t0, policy.Admit)
	}
	if v := l.Admit(t0, nil, nil); v.Decision == policy.Admit {
		t.Error("one more than there are places")
	}
}

// With one processor nothing is spread, and nobody else's source is told rough numbers.
func TestDesksOnlyWhereProcessorsMeet(t *testing.T) {
	l := must(t, Options{})
	for range 100 {
		l.Done(t0, nil, admit(t, l, t0, policy.Admit).Permit, policy.Success)
	}
	if l.desks.Load() != nil {
		t.Error("desks for a single processor")
	}
	other := must(t, Options{Source: &moving{}})
	other.met()
	small := must(t, Options{Limit: 15})
	small.met()
	if other.desks.Load() != nil || small.desks.Load() != nil {
		t.Error("desks for a source that wants exact numbers, or for few places")
	}
}

// While the source compares, all places are in the word, so that it learns from exact numbers.
func TestNoDesksWhileComparing(t *testing.T) {
	src := mustTwoArm(t, TwoArmOptions{Start: 100})
	l := must(t, Options{Source: src})
	l.makeDesks()
	src.spreadOut()
	now := t0
	call := func() {
		now = now.Add(time.Millisecond)
		l.Done(now, nil, l.Admit(now, nil, nil).Permit, policy.Success)
	}
	call()
	call()
	if l.lends.Load()%2 == 0 {
		t.Fatal("shut while it is calm")
	}
	for range 300 {
		src.Refused(now)
		call()
	}
	if !src.Snapshot().Saturated || l.lends.Load()%2 != 0 {
		t.Errorf("saturated: %v; open: %v", src.Snapshot().Saturated, l.lends.Load()%2 != 0)
	}
	for range 5000 {
		call()
	}
	if src.Snapshot().Saturated || l.lends.Load()%2 == 0 {
		t.Errorf("afterwards, saturated: %v; open: %v", src.Snapshot().Saturated, l.lends.Load()%2 != 0)
	}
}

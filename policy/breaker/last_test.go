package breaker

import (
	"math/rand/v2"
	"sync"
	"testing"
)

// Four callers write over a ring that is much smaller than what they write, while generations end under them. However they are
// scheduled, the totals then say what is in the ring.
func TestTotalsAgreeWithTheRing(t *testing.T) {
	for _, saves := range []bool{false, true} {
		l := newLast(50)
		if saves {
			l.save()
		}
		totalsAgree(t, l)
	}
}

func totalsAgree(t *testing.T, l *last) {
	t.Helper()
	for gen := range uint32(200) {
		var wg sync.WaitGroup
		if gen > 0 {
			wg.Go(func() { // late results, while the generation changes
				for range 100 {
					l.add(gen-1, true, true)
				}
			})
		}
		l.begin(gen)
		for g := range uint64(4) {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(g, uint64(gen)))
				for range 100 {
					l.add(gen, rnd.IntN(3) == 0, rnd.IntN(4) == 0)
				}
			})
		}
		wg.Wait()
		c, f, late := l.sum(gen)
		var calls, failed, slow int64
		for i := range l.slots {
			s := l.slots[i].Load()
			if s>>slotBits != gen || s == 0 {
				continue
			}
			calls++
			failed += int64(s & slotFailed / slotFailed)
			slow += int64(s & slotSlow / slotSlow)
		}
		if c != calls || f != failed || late != slow {
			t.Fatalf("generation %d: the totals say %d, %d failed, %d slow; the ring %d, %d, %d", gen, c, f, late, calls, failed, slow)
		}
	}
}

// Results of many processors are all there: none that is saved up is lost, counted twice, or counted after a bad one that came later.
func TestSavedResultsCount(t *testing.T) {
	const n, workers = 2000, 8
	bad := func(at int) (times int64) { // of what each worker adds
		for i := at; i < n/workers; i += 100 {
			times++
		}
		return times
	}
	l := newLast(n)
	l.save()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range n / workers {
				l.add(0, i%100 == 50, i%100 == 51)
			}
		})
	}
	wg.Wait()
	if c, f, s := l.sum(0); c != n || f != workers*bad(50) || s != workers*bad(51) {
		t.Errorf("%d results, %d failed, %d slow", c, f, s)
	}
	for range 3 { // all that follow the bad ones push them out, saved up or not
		l.add(0, true, false)
	}
	for range n {
		l.add(0, false, false)
	}
	if c, f, s := l.sum(0); c != n || f != 0 || s != 0 {
		t.Errorf("%d results, %d failed, %d slow; want only good ones", c, f, s)
	}
	for range n - 1 {
		l.add(0, false, false)
	}
	l.add(0, true, true)
	if c, f, s := l.sum(0); c != n || f != 1 || s != 1 {
		t.Errorf("%d results, %d failed, %d slow; want one bad one", c, f, s)
	}
	// What was saved up in a generation that is over says nothing in the next.
	l.begin(1)
	l.add(0, false, false)
	l.add(1, false, false)
	l.add(0, false, false)
	if c, _, _ := l.sum(1); c != 1 {
		t.Errorf("%d results of the new generation, want 1", c)
	}
}

// A breaker that has changed its state more often than a slot can count does not take what is old for new.
func TestGenerationsComeRound(t *testing.T) {
	l := newLast(10)
	for _, gen := range []uint32{0, 1, lastGens/2 + 2, lastGens, lastGens + 2, 1<<32 - 1} {
		l.begin(gen)
		if c, f, s := l.sum(gen); c != 0 || f != 0 || s != 0 {
			t.Errorf("generation %d begins with %d, %d, %d", gen, c, f, s)
		}
		for range 12 {
			l.add(gen, true, true)
		}
		if c, f, s := l.sum(gen); c != 10 || f != 10 || s != 10 {
			t.Errorf("generation %d ends with %d, %d, %d, want 10 of each", gen, c, f, s)
		}
		if c, _, _ := l.sum(gen - 1); c != 0 {
			t.Errorf("generation %d: the one before still counts %d", gen, c)
		}
	}
}

package breaker

import (
	"math/rand/v2"
	"sync"
	"testing"
)

// Four callers write over a ring that is much smaller than what they write, while generations end under them. However they are
// scheduled, the totals then say what is in the ring.
func TestTotalsAgreeWithTheRing(t *testing.T) {
	l := newLast(50)
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
		if c, f, s := l.sum(gen); c != calls || f != failed || s != slow {
			t.Fatalf("generation %d: the totals say %d, %d failed, %d slow; the ring %d, %d, %d", gen, c, f, s, calls, failed, slow)
		}
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

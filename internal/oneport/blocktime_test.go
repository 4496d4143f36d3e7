package oneport

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestBlockTime: a header's block has the time that reads for it take, however many these are; what passes between them is nobody's.
func TestBlockTime(t *testing.T) {
	const limit = 2 * time.Second
	for _, tt := range []struct{ read, between time.Duration }{{time.Hour, 0}, {limit / 7, time.Minute}, {time.Millisecond, time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			late := 0
			b := &blockTime{limit: limit, late: func() { late++ }}
			for range 2 { // the second block begins as the first did
				b.anew()
				for n := time.Duration(0); n+tt.read < limit && tt.read < limit; n += tt.read {
					b.begin()
					time.Sleep(tt.read)
					b.end()
					time.Sleep(tt.between)
				}
				synctest.Wait()
				if late != 0 {
					t.Fatalf("%v: late before its time", tt)
				}
			}
			b.begin()
			time.Sleep(min(tt.read, limit))
			synctest.Wait()
			if late != 1 {
				t.Errorf("%v: %d times late", tt, late)
			}
			b.end()
			b.begin()
			b.end()
			time.Sleep(time.Minute)
			if late != 1 {
				t.Errorf("%v: %d times late in the end", tt, late)
			}
		})
	}
}

// TestBlockTimeStandsStill: while the process stands still no time runs out; what has come meanwhile is read first, once.
func TestBlockTimeStandsStill(t *testing.T) {
	const limit = 2 * time.Second
	for _, spent := range []time.Duration{0, limit / 2, limit - limit/100} {
		synctest.Test(t, func(t *testing.T) {
			late := 0
			b := &blockTime{limit: limit, late: func() { late++ }, spent: spent}
			stop := func() { // the timer is only noticed much later
				b.begin()
				b.timer.Stop()
				time.Sleep(time.Hour)
				b.fire()
			}
			stop()
			b.end()
			synctest.Wait()
			if used := b.spent - spent; late != 0 || used > limit/10 {
				t.Errorf("%v: late %d times, an hour counted as %v", spent, late, used)
			}
			stop()
			time.Sleep(limit + limit/10)
			synctest.Wait()
			if late != 1 {
				t.Errorf("%v: who sends nothing after it was late %d times", spent, late)
			}
			b.end()
		})
	}
}

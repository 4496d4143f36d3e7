package muxtransport

import (
	"testing"
	"time"
)

// TestPollingStopsByItself is that polling costs little where it is in vain, and nothing while several calls are under way.
func TestPollingStopsByItself(t *testing.T) {
	var h habit
	tries := func(reads, frames int, found bool) (n int) {
		for range reads {
			if h.worth(frames) {
				n++
				h.tried(found)
			}
		}
		return n
	}
	if n := tries(1000, 1, true); n != 1000 {
		t.Errorf("%d of 1000 reads polled, although it paid each time", n)
	}
	if n := tries(1000, 2, true); n != 0 {
		t.Errorf("%d reads polled with several calls under way", n)
	}
	if n := tries(100_000, 1, false); n > 10+100_000/maxPause {
		t.Errorf("%d of 100000 reads polled in vain", n)
	}
	if n := tries(maxPause+1000, 1, true); n < 999 {
		t.Errorf("%d reads polled after it paid again", n)
	}
}

func TestPollingOption(t *testing.T) {
	for _, d := range []time.Duration{-1, maxPoll + 1} {
		if _, err := NewServer(nil, Options{BusyPoll: d}); err == nil {
			t.Errorf("BusyPoll of %v is taken", d)
		}
	}
}

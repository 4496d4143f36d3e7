package stats

import (
	"context"
	"sync"
	"time"
)

// Stall measures how long the machine keeps this process waiting: by how much short sleeps are overslept. What a call
// takes includes that, and no policy can help it. It is safe for concurrent use; the zero value is ready.
type Stall struct {
	mu    sync.Mutex
	tell  func(from, to time.Time)
	slots [windowSlots]struct {
		at   int64
		most time.Duration
	}
}

// beat is how long each sleep is meant to be.
const beat = 5 * time.Millisecond

// Tell has f hear of each stall that is longer than a beat, until Run returns. It must not block.
func (s *Stall) Tell(f func(from, to time.Time)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tell = f
}

// Run measures until ctx ends.
func (s *Stall) Run(ctx context.Context) {
	t := time.NewTimer(beat)
	defer t.Stop()
	for {
		began := time.Now()
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := time.Now()
		s.note(now, now.Sub(began)-beat)
		t.Reset(beat)
	}
}

func (s *Stall) note(now time.Time, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tell != nil && d > beat {
		s.tell(now.Add(-d), now)
	}
	slot := &s.slots[now.Unix()%int64(windowSlots)]
	if slot.at != now.Unix() {
		slot.at, slot.most = now.Unix(), 0
	}
	slot.most = max(slot.most, d)
}

// Max returns the longest stall of the last Window, in milliseconds.
func (s *Stall) Max() float64 {
	now := time.Now().Unix()
	s.mu.Lock()
	defer s.mu.Unlock()
	var most time.Duration
	for _, slot := range s.slots {
		if now-slot.at < int64(windowSlots) {
			most = max(most, slot.most)
		}
	}
	return ms(most)
}

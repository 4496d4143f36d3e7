package hystrix

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/internal/window"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/concurrency"
)

// pool is the places for running commands of one circuit.
type pool struct {
	limit *concurrency.Limiter
	max   int

	// What the dashboard shows of the last ten seconds: how many places were given back, and how many were taken at most.
	executed *window.Ring
	busiest  peak
}

func newPool(size int) (*pool, error) {
	limit, err := concurrency.New(concurrency.Options{Limit: size})
	if err != nil {
		return nil, fmt.Errorf("MaxConcurrentRequests: %w", err)
	}
	return &pool{limit: limit, max: size, executed: window.New(int64(10*time.Second), 10, 1)}, nil
}

// take takes a place if there is one.
func (p *pool) take(now policy.Time) bool {
	return p.limit.Admit(now, policy.Source{}, nil).Decision == policy.Admit
}

func (p *pool) giveBack(now policy.Time) {
	p.busiest.update(now, p.active())
	p.executed.Add(int64(now), 0, 0)
	p.limit.Done(now, policy.Source{}, policy.Permit{}, policy.Ignored)
}

func (p *pool) active() int { return p.limit.Snapshot().InUse }

// ran is how many commands of the last ten seconds had a place.
func (p *pool) ran(now policy.Time) int64 { return p.executed.Sum(int64(now), 0)[0] }

// peak is the largest number of the last ten seconds.
type peak struct {
	seconds [16]atomic.Uint64 // the second in the upper half, its largest number in the lower
}

func second(now policy.Time) uint64 { return uint64(now) / uint64(time.Second) }

func (p *peak) update(now policy.Time, n int) {
	s := second(now)
	cell, next := &p.seconds[s%16], s<<32|uint64(uint32(n))
	for {
		// A later second is larger, whatever its number.
		if old := cell.Load(); old >= next || cell.CompareAndSwap(old, next) {
			return
		}
	}
}

func (p *peak) most(now policy.Time) (n uint32) {
	s := second(now)
	for i := range p.seconds {
		if v := p.seconds[i].Load(); v>>32+10 > s {
			n = max(n, uint32(v))
		}
	}
	return n
}

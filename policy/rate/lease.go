package rate

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/internal/stripe"
	"github.com/hull-go/hull/policy"
)

// lease is a stretch of nominal times that one processor may give to calls without asking the others: tat lies behind it. A call gets the
// next of them that has not passed, and none is given before it may go. So each call has a nominal time of its own that is at least a
// space from all others, goes not after it and not before τ ahead of it, and the bound of the package comment holds as it does without
// leases. What is left of a lease is anybody's who would have to wait or be refused otherwise. What passes unused, while later times are used
// already, is lost: after a pause that is shorter than the leases, as many fewer may go at once as all of them together are good for.
type lease struct {
	mu   sync.Mutex // held while it is renewed
	pace atomic.Pointer[pace]
	next atomic.Int64 // never the same twice, but for what is given back, so that whoever changes it has seen the pace and the end that belong to it
	end  atomic.Int64
	_    [64 - 4*8]byte // a cache line for each
}

const (
	// leaseMost is how long a lease is at most, leasePart which part of the burst it is otherwise, and leaseLeast for how many calls it has to
	// be good.
	leaseMost  = int64(250 * time.Microsecond)
	leasePart  = 256
	leaseLeast = 4

	never = 1 << 62 // a nominal time that no call gets
)

// leaseLength is how long leases are, in whole spaces; 0 = none are given.
func leaseLength(space int64, burst int) int64 {
	n := min(int64(burst)/leasePart, leaseMost/space)
	if n < leaseLeast {
		return 0
	}
	return n * space
}

// take returns the next nominal time of the lease, if it has one for a call at now. alone says that nobody else wanted one at the same
// moment.
func (s *lease) take(now policy.Time, p *pace) (n int64, alone, ok bool) {
	for alone = true; ; alone = false {
		next := s.next.Load()
		n = max(next, int64(now))
		if n-p.ahead > int64(now) || s.pace.Load() != p || n+p.space > s.end.Load() {
			return 0, alone, false
		}
		if s.next.CompareAndSwap(next, n+p.space) {
			return n, alone, true
		}
	}
}

// renew takes another lease, if all of it may go now, and returns its first nominal time.
func (l *Limiter) renew(now policy.Time, p *pace, s *lease) (int64, bool) {
	tat := l.one.Load()
	n := max(tat, int64(now))
	if p.lease == 0 || n+p.lease-p.space-p.ahead > int64(now) || !s.mu.TryLock() {
		return 0, false
	}
	defer s.mu.Unlock()
	// Whoever shares this processor may have renewed it since the caller found it used up: what it is good for must not be overwritten.
	if first, _, ok := s.take(now, p); ok {
		return first, true
	}
	if !l.one.CompareAndSwap(tat, n+p.lease) {
		return 0, false
	}
	s.next.Store(never)
	s.pace.Store(p)
	s.end.Store(n + p.lease)
	s.next.Store(n + p.space)
	return n, true
}

// left takes a nominal time from any lease that has one.
func (l *Limiter) left(now policy.Time, p *pace) (n int64, slot uint32, ok bool) {
	leases := l.leases.Load()
	if leases == nil {
		return 0, 0, false
	}
	for i := range leases {
		if n, _, ok = leases[i].take(now, p); ok {
			return n, uint32(i + 1), true
		}
	}
	return 0, 0, false
}

// met makes leases: two processors have met in tat.
func (l *Limiter) met(p *pace) {
	if l.leases.Load() == nil && p.lease > 0 && runtime.GOMAXPROCS(0) > 1 {
		l.makeLeases()
	}
}

func (l *Limiter) makeLeases() {
	leases := new([stripe.N]lease)
	for i := range leases {
		leases[i].next.Store(never)
	}
	l.leases.CompareAndSwap(nil, leases)
}

// end ends all leases and returns what was left of those of pace p.
func (l *Limiter) endLeases(now policy.Time, p *pace) (left int64) {
	leases := l.leases.Load()
	if leases == nil {
		return 0
	}
	for i := range leases {
		s := &leases[i]
		s.mu.Lock()
		if next := s.next.Swap(never); s.pace.Load() == p {
			left += max(0, s.end.Load()-max(next, int64(now)))
		}
		s.mu.Unlock()
	}
	return left
}

// spare is how many calls the leases are good for.
func (l *Limiter) spare(now policy.Time, p *pace) (calls int64) {
	leases := l.leases.Load()
	if leases == nil {
		return 0
	}
	for i := range leases {
		s := &leases[i]
		next := s.next.Load()
		if n := max(next, int64(now)); s.pace.Load() == p && n-p.ahead <= int64(now) {
			calls += max(0, s.end.Load()-n) / p.space
		}
	}
	return calls
}

package concurrency

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/policy"
)

// shedder refuses a share of the root requests of each class, always the same ones at a given share and in every service,
// so that of the calls that make up a request not one is served in vain because another was shed.
type shedder struct {
	end     atomic.Int64 // of the window
	arrived [numClasses]atomic.Int64
	level   [numClasses]atomic.Uint32 // what is shed, of 2³²

	lost [numClasses]atomic.Int64 // for whom the line was too long: not let in, displaced, or in vain

	began   policy.Time         // guarded by the limiter's mutex, like granted
	granted [numClasses]int64   // places that waiters of the class got
	lately  [numClasses]float64 // the same over about calmAfter windows
	served  [numClasses]int     // for how many windows it is remembered that most of the class got places while lower ones came
}

const (
	// shedSurplus is how many are let into the line for each that can be served: enough that it hardly ever runs dry.
	shedSurplus = 1.25
	// shedMost leaves each class its reserve.
	shedMost = 1 - 1.0/reserve
	// shedSample is how many arrivals a window must have seen.
	shedSample = 20
	// servedFor is how many windows a class that was served goes on being spared.
	servedFor = 5
)

// sheds counts an arrival that found no place, and reports whether its root request is among those shed now.
func (l *Limiter) sheds(now policy.Time, c *policy.Call, class int) bool {
	s := &l.shed
	s.arrived[class].Add(1)
	if s.over(now, l.opt.Interval) {
		l.turn(now)
	}
	level := s.level[class].Load()
	if level == 0 || c == nil {
		return false
	}
	root := l.opt.Root(c)
	if root == 0 {
		return false
	}
	// The same multiplication everywhere: roots that one service sheds are the ones that others shed.
	hi, lo := bits.Mul64(root^0x6a09e667f3bcc909, 0xbb67ae8584caa73b)
	return uint32((hi^lo)>>32) < level
}

// over reports whether the window has ended, or lies ahead because the clock went back.
func (s *shedder) over(now policy.Time, interval time.Duration) bool {
	left := policy.Time(s.end.Load()).Sub(now)
	return left <= 0 || left > interval
}

// turn ends a window: of the roots that arrived, as many pass in the next as could be served in this one, and a surplus.
func (l *Limiter) turn(now policy.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.shed
	if !s.over(now, l.opt.Interval) {
		return
	}
	var total int64
	for k := range s.arrived {
		total += s.arrived[k].Load()
	}
	fresh := now >= s.began && now.Sub(s.began) <= 4*l.opt.Interval
	rushes := l.rushes(now)
	s.end.Store(int64(now.Add(l.opt.Interval)))
	if fresh && total < shedSample {
		return // go on counting
	}
	s.began = now
	below := total
	for k := range s.arrived {
		arrived, level := s.arrived[k].Swap(0), 0.0
		below -= arrived
		if s.served[k] = max(s.served[k]-1, 0); fresh && below > 0 && s.lost[k].Load() <= below && 5*s.granted[k] >= 4*arrived {
			s.served[k] = servedFor
		}
		if fresh && arrived > 0 {
			level = min(max(0, 1-shedSurplus*float64(s.granted[k])/float64(arrived)), shedMost)
		}
		if s.lost[k].Swap(0) == 0 { // it waits, but it is served
			level = min(level, float64(s.level[k].Load())/math.MaxUint32)
		}
		if s.served[k] > 0 {
			level = 0
		}
		if rushes { // what was refused is not what cannot be served
			level = min(level, float64(s.level[k].Load())/math.MaxUint32)
		}
		if s.lately[k] += float64(s.granted[k]) - s.lately[k]/calmAfter; !fresh {
			s.lately[k] = 0
		}
		s.granted[k] = 0
		s.level[k].Store(uint32(level * math.MaxUint32))
	}
}

// absorbed reports whether classes below this one got well more than their reserves lately, so that it does not have to be shed itself.
// Who finds a place free at once is not counted, so it is also enough that this class is served while lower ones come.
func (s *shedder) absorbed(class int) bool {
	if s.served[class] > 0 {
		return true
	}
	var all, below float64
	for k, n := range s.lately {
		all += n
		if k > class {
			below += n
		}
	}
	return below*reserve > 2*numClasses*all
}

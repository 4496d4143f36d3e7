// Package load makes calls at a rate, not "as fast as answers come" (open loop): a service that becomes slow gets no mercy,
// which is how real users behave and what a closed loop hides.
package load

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// MaxRate is the highest rate that a Generator makes.
const MaxRate = 5000

// Options configure a Generator.
type Options struct {
	// Rate is calls per second, 0 = none, at most MaxRate.
	Rate float64
	// MaxInFlight bounds the calls under way; 0 = 2000. A call that is due beyond it goes to Drop.
	MaxInFlight int
	// Call makes call number n, which was due at the given moment. Required.
	Call func(ctx context.Context, n uint64, due time.Time)
	// Drop is told about a call that could not be made because too many are under way; nil = nobody is. It must not block.
	Drop func(n uint64)
}

// Generator makes calls. Its rate may be changed while it runs.
type Generator struct {
	o       Options
	rate    atomic.Uint64 // bits of a float64
	changed chan struct{}
	places  chan struct{}
}

// New returns a Generator that does not run yet.
func New(o Options) (*Generator, error) {
	if o.Call == nil {
		return nil, errors.New("load: Options.Call is missing")
	}
	if o.MaxInFlight == 0 {
		o.MaxInFlight = 2000
	}
	if o.Drop == nil {
		o.Drop = func(uint64) {}
	}
	g := &Generator{o: o, changed: make(chan struct{}, 1), places: make(chan struct{}, o.MaxInFlight)}
	if err := g.SetRate(o.Rate); err != nil {
		return nil, err
	}
	<-g.changed // Run begins with this rate
	return g, nil
}

// Rate returns the calls per second.
func (g *Generator) Rate() float64 { return math.Float64frombits(g.rate.Load()) }

// SetRate changes the calls per second, from now on.
func (g *Generator) SetRate(r float64) error {
	if !(r >= 0 && r <= MaxRate) {
		return fmt.Errorf("rate is %g: give 0 to %d calls per second", r, MaxRate)
	}
	g.rate.Store(math.Float64bits(r))
	select {
	case g.changed <- struct{}{}:
	default:
	}
	return nil
}

// Run makes calls until ctx ends, then waits for those under way.
func (g *Generator) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()

	// The k-th call since start is due at start + k/rate: errors do not add up, and after a stall (a suspended machine) what
	// is long overdue is not made up for.
	start, k := time.Now(), 0
	for n := uint64(0); ; {
		wait := time.Hour
		if rate := g.Rate(); rate > 0 {
			due := start.Add(time.Duration(float64(k) / rate * float64(time.Second)))
			if wait = time.Until(due); wait < -time.Second {
				start, k = time.Now(), 0
				continue
			}
			if wait <= 0 {
				g.launch(ctx, &wg, n, due)
				n++
				k++
				if ctx.Err() != nil {
					return
				}
				continue
			}
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-g.changed:
			start, k = time.Now(), 0
		case <-timer.C:
		}
	}
}

// launch makes one call on a goroutine of its own, if there is a place.
func (g *Generator) launch(ctx context.Context, wg *sync.WaitGroup, n uint64, due time.Time) {
	select {
	case g.places <- struct{}{}:
	default:
		g.o.Drop(n)
		return
	}
	wg.Go(func() {
		defer func() { <-g.places }()
		g.o.Call(ctx, n, due)
	})
}

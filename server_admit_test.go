package hull_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/spec"
	"github.com/hull-go/hull/status"
)

// plant is a service of so many workers, each of which does a call in about so long, whatever the server lets in.
type plant struct {
	workers chan struct{}
	took    time.Duration
	started atomic.Int64
}

func newPlant(workers int, took time.Duration) *plant {
	return &plant{workers: make(chan struct{}, workers), took: took}
}

// work takes as long as it takes: it does not look at the context once it has begun.
func (p *plant) work(ctx context.Context) error {
	select {
	case p.workers <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-p.workers }()
	p.started.Add(1)
	time.Sleep(time.Duration(float64(p.took) * min(rand.ExpFloat64(), 5)))
	return ctx.Err()
}

func (p *plant) serve(s *hull.Server) {
	hull.Handle(s, "plant.Plant/Work", func(ctx context.Context, r *helloRequest) (*helloReply, error) {
		if err := p.work(ctx); err != nil {
			return nil, err
		}
		return &helloReply{Text: r.Name}, nil
	})
}

// tally counts how calls of one kind ended.
type tally struct{ sent, ok, shed, late, other atomic.Int64 }

func (c *tally) count(err error) {
	switch {
	case err == nil:
		c.ok.Add(1)
	case status.From(err).Kind == status.Shed:
		c.shed.Add(1)
	case status.From(err).Code == status.DeadlineExceeded:
		c.late.Add(1)
	default:
		c.other.Add(1)
	}
}

// offer calls at a rate for a time, at random moments, whether or not earlier ones have been answered.
func offer(ctx context.Context, wg *sync.WaitGroup, c *hull.Client, method string, perSecond float64, d time.Duration, to *tally, opts ...hull.CallOption) {
	wg.Go(func() {
		end := time.Now().Add(d)
		for {
			time.Sleep(time.Duration(rand.ExpFloat64() / perSecond * float64(time.Second)))
			if !time.Now().Before(end) {
				return
			}
			to.sent.Add(1)
			wg.Go(func() {
				_, err := hull.Call[helloReply](ctx, c.To("plant"), method, &helloRequest{Name: "Ada"}, opts...)
				to.count(err)
			})
		}
	})
}

// bare is a client that does nothing but send: what is served is the server's doing.
func bare() hull.ClientOption {
	off := spec.Service{Throttle: spec.Throttle{Mode: "off"}}
	off.Retry.Mode, off.Breaker.Mode = "off", "off"
	off.Concurrency.Mode = "off"
	return hull.WithSpec(&spec.Spec{Defaults: off})
}

func TestOverload(t *testing.T) {
	for _, times := range []float64{2, 10} {
		synctest.Test(t, func(t *testing.T) {
			const workers, took, capacity = 4, 20 * time.Millisecond, 200.0
			w := hulltest.New(t)
			p := newPlant(workers, took)
			n := w.Serve("plant", "a", p.serve)
			c := w.Client("caller", bare())
			run := func(d time.Duration, vital, rest *tally) {
				var wg sync.WaitGroup
				offer(t.Context(), &wg, c, "plant.Plant/Work", 0.5*capacity, d, vital, hull.Timeout(time.Second))
				offer(t.Context(), &wg, c, "plant.Plant/Work", (times-0.5)*capacity, d, rest, hull.Timeout(time.Second), hull.Criticality(policy.Sheddable))
				wg.Wait()
			}
			run(20*time.Second, new(tally), new(tally)) // the limit learns
			var vital, rest tally
			before := p.started.Load()
			run(30*time.Second, &vital, &rest)
			good := float64(vital.ok.Load()+rest.ok.Load()) / 30
			t.Logf("%v×: %.0f of %.0f good per second; critical %d of %d; sheddable ok %d, shed %d, late %d, other %d of %d; started %d", times, good, capacity,
				vital.ok.Load(), vital.sent.Load(), rest.ok.Load(), rest.shed.Load(), rest.late.Load(), rest.other.Load(), rest.sent.Load(), p.started.Load()-before)
			t.Logf("critical shed %d late %d other %d", vital.shed.Load(), vital.late.Load(), vital.other.Load())
			_ = n
			if good < 0.9*capacity {
				t.Errorf("goodput %.0f of %.0f", good, capacity)
			}
			if float64(vital.ok.Load()) < 0.99*float64(vital.sent.Load()) {
				t.Errorf("critical: %d of %d", vital.ok.Load(), vital.sent.Load())
			}
		})
	}
}

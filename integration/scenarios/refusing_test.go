package scenarios_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/integration/engine"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
	"github.com/hull-go/hull/spec"
	"github.com/hull-go/hull/status"
)

const (
	// plantWork is what a call of the plant takes of a processor: far more than the transport needs for it.
	plantWork = time.Millisecond
	// vital is the share of the plant's capacity that is offered as critical calls. All others are sheddable.
	vital = 0.6

	methodWork, methodSpent = "plant.Plant/Work", "plant.Plant/Spent"
)

type nothing struct{}

// spent is the plant's processor time since it began: all, and that of its handlers, which have served so many calls.
type spent struct {
	All, Handlers time.Duration
	Served        int64
}

// servePlant runs a server whose handler needs a processor, for one call after the other.
func servePlant(_ []string, listening func(string)) error {
	reg, err := registry.New(memregistry.New(), registry.Options{})
	if err != nil {
		return err
	}
	s, err := hull.NewServer("plant", hull.WithRegistry(reg))
	if err != nil {
		return err
	}
	var mu sync.Mutex // guards what follows
	var so spent
	hull.Handle(s, methodWork, func(ctx context.Context, _ *nothing) (*nothing, error) {
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		so.Handlers += burn(plantWork)
		so.Served++
		return &nothing{}, nil
	})
	hull.Handle(s, methodSpent, func(context.Context, *nothing) (*spent, error) {
		mu.Lock()
		defer mu.Unlock()
		now := so
		now.All, err = used(unix.CLOCK_PROCESS_CPUTIME_ID)
		return &now, err
	})
	go func() {
		<-s.Ready()
		listening(s.Addr())
	}()
	return hull.Serve(context.Background(), s)
}

// used is what the process, or the thread, has had of processors, as the clock of that name says.
func used(clock int32) (time.Duration, error) {
	var t unix.Timespec
	err := unix.ClockGettime(clock, &t)
	return time.Duration(t.Nano()), err
}

// burn uses a processor for so long, however often it is taken away meanwhile, and returns for how long exactly.
func burn(d time.Duration) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began, _ := used(unix.CLOCK_THREAD_CPUTIME_ID) // every thread has one
	for {
		for range 500 {
			_ = rand.Uint64()
		}
		if now, _ := used(unix.CLOCK_THREAD_CPUTIME_ID); now-began >= d {
			return now - began
		}
	}
}

// tally is how calls of one kind ended.
type tally struct{ sent, ok, shed, other atomic.Int64 }

func (a *tally) share() float64 { return float64(a.ok.Load()) / float64(max(a.sent.Load(), 1)) }

// call makes a call of the plant.
func (a *tally) call(plant *hull.Conn, c policy.Criticality) {
	a.sent.Add(1)
	_, err := hull.Call[nothing](context.Background(), plant, methodWork, &nothing{}, hull.Timeout(500*time.Millisecond), hull.Criticality(c))
	switch {
	case err == nil:
		a.ok.Add(1)
	case status.From(err).Kind == status.Shed:
		a.shed.Add(1)
	default:
		a.other.Add(1)
	}
}

// offer makes so many calls a second, at random moments, and waits for their ends.
func offer(plant *hull.Conn, perSecond float64, d time.Duration, a *tally, c policy.Criticality) {
	var wg sync.WaitGroup
	defer wg.Wait()
	began := time.Now()
	for next := time.Duration(0); next < d; next += time.Duration(rand.ExpFloat64() / perSecond * float64(time.Second)) {
		pass(next - time.Since(began))
		wg.Go(func() { a.call(plant, c) })
	}
}

// TestRefusing offers a server far more than it can do. What it refuses costs it next to nothing, so that it can go on with what it does. At full size it does
// as much as it can, and all critical calls are answered.
func TestRefusing(t *testing.T) {
	p := engine.Self(t, "plant", func() []string { return nil })
	off := spec.Service{Balancer: "random"}
	for _, m := range []*spec.Mode{&off.Throttle.Mode, &off.Retry.Mode, &off.Breaker.Mode, &off.Concurrency.Mode, &off.Ejection.Mode, &off.AttemptTimeout.Mode} {
		*m = spec.Off
	}
	c, err := hull.NewClient(hull.WithSpec(&spec.Spec{Defaults: off}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	plant := c.To("hull://" + p.Start())
	look := func() *spent {
		t.Helper()
		so, err := hull.Call[spent](t.Context(), plant, methodSpent, &nothing{})
		if err != nil {
			t.Fatal(err)
		}
		return so
	}

	d := size(*full, time.Second, 5*time.Second)
	var closed tally
	var wg sync.WaitGroup
	for began, i := time.Now(), 0; i < 4; i++ {
		wg.Go(func() {
			for time.Since(began) < d {
				closed.call(plant, policy.Critical)
			}
		})
	}
	wg.Wait()
	capacity := float64(closed.ok.Load()) / d.Seconds()
	t.Logf("capacity: %.0f calls a second", capacity)
	type work struct {
		each, beside time.Duration // of a handler, and of all that is none
		shed         int64
	}
	var at []work
	for _, times := range []float64{2, 10} {
		t.Run(fmt.Sprint(times, " times"), func(t *testing.T) {
			var critical, rest *tally
			var before, after *spent
			for range 2 { // it gets used to it first
				critical, rest, before = new(tally), new(tally), look()
				wg.Go(func() { offer(plant, min(times, vital)*capacity, d, critical, policy.Critical) })
				if times > vital {
					wg.Go(func() { offer(plant, (times-vital)*capacity, d, rest, policy.Sheddable) })
				}
				wg.Wait()
				after = look()
			}
			served, shed := after.Served-before.Served, critical.shed.Load()+rest.shed.Load()
			handlers := after.Handlers - before.Handlers
			each := handlers / time.Duration(max(served, 1))
			good := float64(critical.ok.Load()+rest.ok.Load()) / d.Seconds() / capacity
			t.Logf("a handler takes %v; of the capacity %.3f was of use; answered are %.1f %% of %d critical calls and %.1f %% of %d others; %d were refused, %d and %d ended otherwise",
				each, good, 100*critical.share(), critical.sent.Load(), 100*rest.share(), rest.sent.Load(), shed, critical.other.Load(), rest.other.Load())
			if served == 0 || shed == 0 {
				t.Fatalf("%d calls were served and %d refused: nothing was tested", served, shed)
			}
			at = append(at, work{each, after.All - before.All - handlers, shed})
			if !*full {
				return
			}
			if good < 0.9 {
				t.Errorf("%.2f of the capacity was of use, want 0.9", good)
			}
			if critical.share() < 0.99 {
				t.Errorf("%.1f %% of the critical calls were answered, want 99", 100*critical.share())
			}
		})
	}
	if t.Failed() {
		return
	}
	// As many are served at both loads: what one has more of is the price of its refusals.
	few, many := at[0], at[1]
	if many.shed < 3*few.shed {
		t.Fatalf("%d and %d calls were refused: nothing was tested", few.shed, many.shed)
	}
	cost := (many.beside - few.beside) / time.Duration(many.shed-few.shed)
	t.Logf("a refusal takes %v, %.1f %% of what a handler does", cost, 100*cost.Seconds()/many.each.Seconds())
	if cost > many.each/10 {
		t.Errorf("a refusal takes %v of a processor, more than a tenth of the %v that a call does", cost, many.each)
	}
}

package hull_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"runtime"
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
			if a := n.Server.Snapshot().Admission; a.Running != 0 || a.Waiting != 0 || a.Abandoned != 0 {
				t.Errorf("when all is over: %+v", a)
			}
			if good < 0.9*capacity {
				t.Errorf("goodput %.0f of %.0f", good, capacity)
			}
			if float64(vital.ok.Load()) < 0.99*float64(vital.sent.Load()) {
				t.Errorf("critical: %d of %d", vital.ok.Load(), vital.sent.Load())
			}
		})
	}
}

// limited is the option of a server with so many places and no line, unless more says otherwise.
func limited(places int, more ...func(*spec.Service)) hull.ServerOption {
	none := 0
	sv := spec.Service{ServerLimit: spec.ServerLimit{Source: "fixed", Limit: places, Queue: &none}}
	for _, f := range more {
		f(&sv)
	}
	return hull.WithSpec(&spec.Spec{Defaults: sv})
}

// hanging serves a method that does not return before its channel is closed, whatever its context says, and one that does at once.
func hanging(release chan struct{}, started *atomic.Int64) func(*hull.Server) {
	return func(s *hull.Server) {
		hull.Handle(s, "plant.Plant/Hang", func(context.Context, *helloRequest) (*helloReply, error) {
			started.Add(1)
			<-release
			return &helloReply{}, nil
		})
		hull.Handle(s, "plant.Plant/Work", func(context.Context, *helloRequest) (*helloReply, error) { return &helloReply{}, nil })
		hull.Handle(s, "plant.Plant/Panic", func(context.Context, *helloRequest) (*helloReply, error) { panic("boom") })
		hull.Handle(s, "plant.Plant/Exit", func(context.Context, *helloRequest) (*helloReply, error) { runtime.Goexit(); return nil, nil })
		hull.HandleStream(s, "plant.Plant/Watch", func(st *hull.ServerStream[helloRequest, helloReply]) error {
			if err := st.Send(&helloReply{}); err != nil {
				return err
			}
			<-st.Context().Done()
			return st.Context().Err()
		})
	}
}

func callPlant(ctx context.Context, c *hull.Client, method string, opts ...hull.CallOption) error {
	_, err := hull.Call[helloReply](ctx, c.To("plant"), "plant.Plant/"+method, &helloRequest{}, opts...)
	return err
}

func TestStuckMethodStarvesNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		release := make(chan struct{})
		var hung atomic.Int64
		n := w.Serve("plant", "a", hanging(release, &hung), limited(20))
		c := w.Client("caller", bare())
		var wg sync.WaitGroup
		var stuck, light tally
		ctx, cancel := context.WithCancel(t.Context())
		offer(ctx, &wg, c, "plant.Plant/Hang", 100, 20*time.Second, &stuck, hull.Timeout(2*time.Second))
		offer(ctx, &wg, c, "plant.Plant/Work", 50, 20*time.Second, &light, hull.Timeout(2*time.Second))
		time.Sleep(20 * time.Second)
		s := n.Server.Snapshot().Admission
		wg.Wait()
		if light.ok.Load() != light.sent.Load() {
			t.Errorf("%d of %d light calls were served", light.ok.Load(), light.sent.Load())
		}
		if !s.Stuck || s.Abandoned != 20 || hung.Load() != 40 || stuck.shed.Load() == 0 {
			t.Errorf("%d handlers hang, %d calls shed, %+v", hung.Load(), stuck.shed.Load(), s)
		}
		cancel()
		close(release)
		time.Sleep(time.Second)
		if s := n.Server.Snapshot().Admission; s.Running != 0 || s.Abandoned != 0 || s.Stuck {
			t.Errorf("when all is over: %+v", s)
		}
	})
}

// TestStuckMethodStarvesNoSheddableCalls is a regression test: only critical calls of other methods got in beside a method that hangs.
func TestStuckMethodStarvesNoSheddableCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		release := make(chan struct{})
		var hung atomic.Int64
		w.Serve("plant", "a", hanging(release, &hung), limited(20))
		c := w.Client("caller", bare())
		var wg sync.WaitGroup
		var stuck, light tally
		ctx, cancel := context.WithCancel(t.Context())
		offer(ctx, &wg, c, "plant.Plant/Hang", 100, 20*time.Second, &stuck, hull.Timeout(2*time.Second))
		offer(ctx, &wg, c, "plant.Plant/Work", 50, 20*time.Second, &light, hull.Timeout(2*time.Second), hull.Criticality(policy.Sheddable))
		time.Sleep(20 * time.Second)
		wg.Wait()
		// It takes a second until it is certain that the method hangs and does not only have much to do.
		if ok, sent := light.ok.Load(), light.sent.Load(); float64(ok) < 0.85*float64(sent) || sent < 500 {
			t.Errorf("%d of %d light sheddable calls were served", ok, sent)
		}
		cancel()
		close(release)
	})
}

// A handler that panics or ends its goroutine gives its place back.
func TestPanicFreesItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		n := w.Serve("plant", "a", hanging(make(chan struct{}), new(atomic.Int64)), limited(2), hull.WithLogger(slog.New(slog.DiscardHandler)))
		c := w.Client("caller", bare())
		for range 10 {
			for _, m := range []string{"Panic", "Exit"} {
				if err := callPlant(t.Context(), c, m); status.From(err).Kind != status.Panicked {
					t.Fatalf("%s: %v", m, err)
				}
			}
		}
		if s := n.Server.Snapshot().Admission; s.Running != 0 || s.Refused.Limit != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// Who is refused is told when to come back, that nothing was done, and that the server did it.
func TestShedAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		release := make(chan struct{})
		w.Serve("plant", "a", hanging(release, new(atomic.Int64)), limited(1, func(s *spec.Service) { off := false; s.ServerLimit.Reserve = &off }))
		c := w.Client("caller", bare())
		go func() { _ = callPlant(t.Context(), c, "Hang") }()
		synctest.Wait()
		err := status.From(callPlant(t.Context(), c, "Work"))
		if err == nil || err.Kind != status.Shed || err.Code != status.ResourceExhausted || err.Fate != status.NotSent || err.Pushback < 50*time.Millisecond ||
			err.Pushback > 150*time.Millisecond || policy.Classify(err) != policy.ClassShed {
			t.Errorf("%+v", err)
		}
		close(release)
	})
}

// What waits in the line and is over before its turn does not start.
func TestDeadAfterQueueNeverStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		release := make(chan struct{})
		var started atomic.Int64
		queue := 100
		n := w.Serve("plant", "a", hanging(release, &started), limited(1, func(s *spec.Service) {
			s.ServerLimit.Queue, s.ServerLimit.MaxWait, s.ServerLimit.Order = &queue, spec.Duration(time.Minute), "fifo"
		}))
		c := w.Client("caller", bare())
		go func() { _ = callPlant(t.Context(), c, "Hang", hull.Timeout(time.Hour)) }()
		synctest.Wait()
		var wg sync.WaitGroup
		var refused, cancelled atomic.Int64
		for i := range 20 {
			ctx, cancel := context.WithCancel(t.Context())
			wg.Go(func() {
				switch err := status.From(callPlant(ctx, c, "Hang", hull.Timeout(10*time.Second))); {
				case err != nil && err.Kind == status.Shed:
					refused.Add(1)
				case err != nil && err.Kind == status.Cancelled:
					cancelled.Add(1)
				default:
					t.Errorf("%+v", err)
				}
			})
			if i%2 == 0 {
				time.AfterFunc(time.Second, cancel)
			}
			defer cancel()
		}
		time.Sleep(100 * time.Millisecond)
		if s := n.Server.Snapshot().Admission; s.Waiting != 20 {
			t.Errorf("%+v", s)
		}
		wg.Wait() // each waits for at most half of its time
		close(release)
		time.Sleep(time.Second)
		if s := n.Server.Snapshot().Admission; started.Load() != 1 || refused.Load() != 10 || cancelled.Load() != 10 || s.Running != 0 || s.Waiting != 0 {
			t.Errorf("%d started, %d refused, %d cancelled, %+v", started.Load(), refused.Load(), cancelled.Load(), s)
		}
	})
}

// Waiting calls do not hold up others of their connection.
func TestWaitingHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		release := make(chan struct{})
		queue := 100
		w.Serve("plant", "a", hanging(release, new(atomic.Int64)), limited(1, func(s *spec.Service) { s.ServerLimit.Queue = &queue }))
		c := w.Client("caller", bare())
		for range 10 {
			go func() { _ = callPlant(t.Context(), c, "Hang", hull.Timeout(time.Hour)) }()
		}
		time.Sleep(10 * time.Millisecond)
		began := time.Now()
		for range 100 { // quick ones, in the reserve of their own method
			if err := callPlant(t.Context(), c, "Work"); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("it took %v", took)
		}
		close(release)
		time.Sleep(time.Second)
	})
}

// Streams that go on for long do not use up the places.
func TestWatchesKeepNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		n := w.Serve("plant", "a", hanging(make(chan struct{}), new(atomic.Int64)), limited(2))
		c := w.Client("caller", bare())
		ctx, cancel := context.WithCancel(t.Context())
		for range 50 {
			st, err := hull.OpenStream[helloRequest, helloReply](ctx, c.To("plant"), "plant.Plant/Watch")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := st.Recv(); err != nil {
				t.Fatal(err)
			}
		}
		if s := n.Server.Snapshot(); s.InFlight != 50 || s.Admission.Running != 0 {
			t.Errorf("%+v", s)
		}
		if err := callPlant(ctx, c, "Work"); err != nil {
			t.Error(err)
		}
		cancel()
		synctest.Wait()
	})
}

func TestServerRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		n := w.Serve("plant", "a", hanging(make(chan struct{}), new(atomic.Int64)))
		c := w.Client("caller", bare())
		apply := func(doc string) error {
			s, err := spec.Parse("doc", []byte(doc))
			if err != nil {
				t.Fatal(err)
			}
			return n.Server.Apply(s)
		}
		served := func(n int) (ok int) {
			for range n {
				err := status.From(callPlant(t.Context(), c, "Work"))
				if err == nil {
					ok++
				} else if err.Kind != status.Quota || err.Pushback <= 0 || err.Fate != status.NotSent {
					t.Errorf("%+v", err)
				}
			}
			return ok
		}
		for _, tt := range []struct {
			doc  string
			want int
		}{
			{`services: {plant: {server_rate: {limit: 3}}}`, 3},
			{`services: {plant: {server_rate: {limit: 3, mode: dry-run}}}`, 10},
			{`services: {other: {server_rate: {limit: 3}}}`, 10},
			{`defaults: {server_rate: {limit: 4}}`, 4},
			{`{}`, 10},
		} {
			if err := apply(tt.doc); err != nil {
				t.Fatal(err)
			}
			if ok := served(10); ok != tt.want {
				t.Errorf("%s: %d of 10 served, want %d", tt.doc, ok, tt.want)
			}
		}
		if err := n.Server.Apply(&spec.Spec{Defaults: spec.Service{ServerLimit: spec.ServerLimit{Source: "all"}}}); err == nil {
			t.Error("a wrong document is accepted")
		}
		if s := n.Server.Snapshot().Admission; s.Refused.Rate != 13 || s.DryRefused.Rate != 10 {
			t.Errorf("%+v", s)
		}
	})
}

// What the document accepts a server can be made of, at the bounds of its fields too.
func TestServerOfEveryDocument(t *testing.T) {
	reg := memory(t)
	for _, doc := range []string{
		`{}`,
		`server_limit: {mode: off}`,
		`server_limit: {mode: dry-run, source: aimd, slow: 1s, backoff: 99%}`,
		`server_limit: {source: fixed, limit: 1, queue: 0, order: lifo}`,
		`server_limit: {source: fixed, limit: 1048576}`,
		`server_limit: {min: 131072, max: 131072, queue: 1048576, max_wait: 24h, target: 24h, interval: 24h, grace: 1m, reserve: false}`,
		`server_limit: {min: 1, max: 1, start: 1, grace: 1ms}`,
		`server_rate: {limit: 100000, per: 1ms, burst: 10000, callers: 1}`,
		`server_rate: {limit: 0.01, per: 24h, callers: 100000}`,
		`server_pressure: {lag: 1ms, throttled: 1%, memory: 10%}`,
		`server_pressure: {mode: off, lag: 10s, throttled: 100%, memory: 99%}`,
	} {
		if doc != `{}` {
			doc = "defaults: {" + doc + "}"
		}
		s, err := spec.Parse("doc", []byte(doc))
		if err != nil {
			t.Fatalf("%s: %v", doc, err)
		}
		if _, err := hull.NewServer("plant", hull.WithRegistry(reg), hull.WithSpec(s)); err != nil {
			t.Errorf("%s: %v", doc, err)
		}
	}
	wrong := &spec.Spec{Defaults: spec.Service{ServerLimit: spec.ServerLimit{Order: "none"}}}
	if _, err := hull.NewServer("plant", hull.WithRegistry(reg), hull.WithSpec(wrong)); err == nil {
		t.Error("a wrong document is accepted")
	}
}

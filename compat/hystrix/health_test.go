package hystrix

import (
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/policy"
)

// TestOpens: the circuit is judged when the next command comes, by what the last ten seconds hold.
func TestOpens(t *testing.T) {
	ok, bad := true, false
	repeat := func(n int, r bool) (list []bool) {
		for range n {
			list = append(list, r)
		}
		return list
	}
	tests := []struct {
		name    string
		results []bool
		config  CommandConfig
		wait    time.Duration
		want    bool
	}{
		{"no results", nil, CommandConfig{}, 0, false},
		{"too few", repeat(19, bad), CommandConfig{}, 0, false},
		{"enough", repeat(20, bad), CommandConfig{}, 0, true},
		{"half, the last succeeds", append(repeat(10, bad), repeat(10, ok)...), CommandConfig{}, 0, true},
		{"less than half", append(repeat(10, bad), repeat(11, ok)...), CommandConfig{}, 0, false},
		{"49.5% is 50%", append(repeat(99, bad), repeat(101, ok)...), CommandConfig{}, 0, true},
		{"49.4% is not", append(repeat(98, bad), repeat(102, ok)...), CommandConfig{}, 0, false},
		{"never", repeat(50, bad), CommandConfig{ErrorPercentThreshold: 101}, 0, false},
		{"ten seconds later", repeat(50, bad), CommandConfig{}, 10 * time.Second, false},
		{"nine seconds later", repeat(50, bad), CommandConfig{}, 9 * time.Second, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				tt.config.RequestVolumeThreshold = max(tt.config.RequestVolumeThreshold, len(tt.results))
				if tt.name == "too few" {
					tt.config.RequestVolumeThreshold = 20
				}
				c := circuit(t, t.Name(), tt.config)
				for _, r := range tt.results {
					if r {
						times(t, 1, t.Name(), succeed, nil)
					} else {
						times(t, 1, t.Name(), fail, errRun)
					}
				}
				time.Sleep(tt.wait)
				if got := c.IsOpen(); got != tt.want {
					t.Errorf("open %v, counted %v", got, counted(c))
				}
			})
		})
	}
}

// TestRefusalsCountAsErrors, as they do in hystrix-go: a full pool opens the circuit.
func TestRefusalsCountAsErrors(t *testing.T) {
	bubble(t, func(t *testing.T) {
		circuit(t, t.Name(), CommandConfig{MaxConcurrentRequests: 1})
		block := make(chan struct{})
		errs := Go(t.Name(), func() error { <-block; return nil }, nil)
		times(t, 20, t.Name(), succeed, ErrMaxConcurrency)
		times(t, 1, t.Name(), succeed, ErrCircuitOpen)
		close(block)
		synctest.Wait()
		if len(errs) != 0 {
			t.Error(<-errs)
		}
	})
}

// TestRecovery: one test per sleep window, the first success closes, and counting begins anew.
func TestRecovery(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := circuit(t, t.Name(), CommandConfig{SleepWindow: 1000})
		times(t, 20, t.Name(), fail, errRun)
		times(t, 5, t.Name(), succeed, ErrCircuitOpen)
		time.Sleep(1001 * ms)
		times(t, 1, t.Name(), fail, errRun)
		times(t, 5, t.Name(), succeed, ErrCircuitOpen)
		time.Sleep(500 * ms)
		times(t, 5, t.Name(), succeed, ErrCircuitOpen)
		time.Sleep(501 * ms)
		if !c.IsOpen() {
			t.Error("closed by itself")
		}
		times(t, 1, t.Name(), succeed, nil)
		if n := counted(c); c.IsOpen() || len(n) != 1 || n[success] != 1 {
			t.Errorf("open %v, counted %v", c.IsOpen(), n)
		}
		times(t, 19, t.Name(), fail, errRun)
		times(t, 1, t.Name(), fail, ErrCircuitOpen)
	})
}

// TestOneTestAtATime: while a test runs, the others are refused until the sleep window is over again.
func TestOneTestAtATime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := circuit(t, t.Name(), CommandConfig{SleepWindow: 100, Timeout: 10_000, RequestVolumeThreshold: 1})
		times(t, 1, t.Name(), fail, errRun)
		times(t, 1, t.Name(), fail, ErrCircuitOpen)
		time.Sleep(101 * ms)
		Go(t.Name(), func() error { time.Sleep(150 * ms); return nil }, nil)
		times(t, 3, t.Name(), succeed, ErrCircuitOpen)
		time.Sleep(101 * ms)
		Go(t.Name(), func() error { time.Sleep(time.Second); return errRun }, nil)
		times(t, 3, t.Name(), succeed, ErrCircuitOpen)
		time.Sleep(50 * ms)
		if c.IsOpen() {
			t.Error("the first test did not close it")
		}
		time.Sleep(time.Second)
		if c.IsOpen() {
			t.Error("the second test, of the time before, opened it")
		}
	})
}

// TestByHand: AllowRequest and ReportEvent without Do.
func TestByHand(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := circuit(t, t.Name(), CommandConfig{RequestVolumeThreshold: 5, SleepWindow: 100})
		if err := c.ReportEvent(nil, time.Now(), 0); err == nil || err.Error() != "no event types sent for metrics" {
			t.Error(err)
		}
		names := []string{"failure", "rejected", "short-circuit", "timeout", "success", "context_canceled", "context_deadline_exceeded", "else"}
		for _, name := range names {
			if err := c.ReportEvent([]string{name, "fallback-failure"}, time.Time{}, ms); err != nil {
				t.Error(name, err)
			}
		}
		n := counted(c)
		for e := none; e <= deadlineExceeded; e++ {
			if n[e] != 1 {
				t.Errorf("event %d is counted %d times", e, n[e])
			}
		}
		if n[fallbackFailure] != 8 {
			t.Errorf("%d fallbacks", n[fallbackFailure])
		}
		if !c.IsOpen() || c.AllowRequest() {
			t.Error("closed after 4 errors of 6")
		}
		time.Sleep(101 * ms)
		if !c.AllowRequest() || c.AllowRequest() {
			t.Error("want one test")
		}
		if err := c.ReportEvent([]string{"success"}, time.Now(), 0); err != nil || c.IsOpen() || !c.AllowRequest() {
			t.Error("still open after a success", err)
		}
	})
}

// naive is health in its simplest form: a list of results.
type naive struct {
	gen           uint32
	open          bool
	since, tested policy.Time
	results       []naiveResult
}

type naiveResult struct {
	at policy.Time
	ok bool
}

func (m *naive) unhealthy(now policy.Time, l limits) bool {
	total, errs := 0, 0
	for _, r := range m.results {
		if second(r.at)+10 > second(now) {
			total++
			if !r.ok {
				errs++
			}
		}
	}
	return uint64(total) >= l.volume && total > 0 && int(float64(errs)/float64(total)*100+0.5) >= l.percent
}

func (m *naive) isOpen(now policy.Time, l limits) bool {
	if !m.open && m.unhealthy(now, l) {
		m.gen++
		m.open, m.since, m.tested, m.results = true, now, now, nil
	}
	return m.open
}

func (m *naive) admit(now policy.Time, l limits) (permit, bool) {
	switch {
	case !m.isOpen(now, l):
		return permit{gen: m.gen}, true
	case now > m.tested.Add(l.sleep):
		m.tested = now
		return permit{gen: m.gen, test: true}, true
	}
	return permit{gen: m.gen}, false
}

func (m *naive) done(now policy.Time, p permit, ok bool) {
	switch {
	case p.gen != m.gen:
	case !m.open:
		m.results = append(m.results, naiveResult{now, ok})
	case p.test && ok:
		m.gen++
		m.open, m.since, m.results = false, now, []naiveResult{{now, true}}
	}
}

// TestHealthAgainstModel: 100,000 random steps, and no difference to the model.
func TestHealthAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	now := policy.Time(1000 * time.Second) // where seconds and the window's buckets begin together
	changes := 0
	for round := range 100 {
		h, m := newHealth(), &naive{}
		l := limits{volume: uint64(rnd.IntN(20) + 1), percent: rnd.IntN(101) + 1, sleep: time.Duration(rnd.IntN(5000)) * ms}
		errorsIn10 := rnd.IntN(10)
		type running struct {
			p     permit
			start policy.Time
		}
		var out []running
		for step := range 1000 {
			now = now.Add(time.Duration(rnd.ExpFloat64() * float64(300*ms)))
			before := m.open
			switch r := rnd.IntN(10); {
			case r < 4:
				p, ok, _ := h.admit(now, l)
				want, wantOK := m.admit(now, l)
				if p != want || ok != wantOK {
					t.Fatalf("round %d step %d: admit %v %v, want %v %v", round, step, p, ok, want, wantOK)
				}
				out = append(out, running{p, now})
			case r < 8 && len(out) > 0:
				i := rnd.IntN(len(out))
				ok := rnd.IntN(10) >= errorsIn10
				h.done(now, out[i].p, ok)
				m.done(now, out[i].p, ok)
				out[i] = out[len(out)-1]
				out = out[:len(out)-1]
			case r == 8:
				start, ok := now.Add(-time.Duration(rnd.IntN(2000))*ms), rnd.IntN(10) >= errorsIn10
				h.report(now, start, ok, ok)
				if start >= m.since {
					m.done(now, permit{gen: m.gen, test: m.open}, ok)
				}
			default:
				if got, _ := h.isOpen(now, l); got != m.isOpen(now, l) {
					t.Fatalf("round %d step %d: open %v", round, step, got)
				}
			}
			if before != m.open {
				changes++
			}
		}
	}
	if changes < 100 {
		t.Errorf("only %d changes: the test does not reach what it is for", changes)
	}
}

// TestErrorsThatCannotBeCompared: errors of types that cannot be compared are sorted, too.
func TestErrorsThatCannotBeCompared(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := circuit(t, t.Name(), CommandConfig{})
		err := Do(t.Name(), func() error { return manyErrors{errRun} }, nil)
		if many, ok := errors.AsType[manyErrors](err); !ok || len(many) != 1 || counted(c)[failure] != 1 {
			t.Error(err, counted(c))
		}
	})
}

type manyErrors []error

func (m manyErrors) Error() string { return "many" }

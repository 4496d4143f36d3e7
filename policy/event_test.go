package policy_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/policy/hedge"
	"github.com/hull-go/hull/policy/rate"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/policy/throttle"
	"github.com/hull-go/hull/policy/timeout"
)

const e0 = policy.Time(1_700_000_000 * time.Second)

func made[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestEventLogKeepsTheLatest(t *testing.T) {
	var l policy.EventLog
	if l.Since(0) != nil || l.Seq() != 0 {
		t.Error("an empty log is not")
	}
	for i := range 200 {
		l.Add(policy.Event{Is: float64(i + 1)})
		got := l.Since(0)
		if want := min(i+1, 64); len(got) != want {
			t.Fatalf("%d of %d events, want %d", len(got), i+1, want)
		}
		for k, e := range got {
			if n := i + 2 - len(got) + k; e.Seq != uint64(n) || e.Is != float64(n) {
				t.Fatalf("event %d of %d: %+v", k, i+1, e)
			}
		}
	}
	if got := l.Since(198); len(got) != 2 || got[0].Seq != 199 || l.Since(200) != nil || l.Since(500) != nil {
		t.Errorf("after number 198: %+v", got)
	}
}

// Every policy begins with an event that says its state.
func TestInitialStates(t *testing.T) {
	gate := func(name string, g policy.Gate, mode policy.Mode) policy.Slot {
		return policy.Slot{Name: name, Gate: g, Mode: mode}
	}
	p := made[*policy.Pipeline](t)(policy.New(policy.Options{
		Key:         "svc",
		Rate:        gate("rate", made[*rate.Limiter](t)(rate.New(rate.Options{Limit: 10})), policy.On),
		Breaker:     gate("breaker", made[*breaker.Breaker](t)(breaker.New(breaker.Options{})), policy.DryRun),
		Throttle:    gate("throttle", made[*throttle.Throttle](t)(throttle.New(throttle.Options{})), policy.On),
		Retries:     made[*retry.Retries](t)(retry.New(retry.Options{})),
		Budget:      made[*retry.Budget](t)(retry.NewBudget(retry.BudgetOptions{})),
		Hedging:     made[*hedge.Hedging](t)(hedge.New(hedge.Options{})),
		Timeouts:    made[*timeout.Timeouts](t)(timeout.New(timeout.Options{})),
		TimeoutMode: policy.DryRun,
	}))
	want := []struct {
		policy, state string
		mode          policy.Mode
	}{
		{"rate", "within", policy.On}, {"breaker", "closed", policy.DryRun}, {"budget", "paying", policy.On},
		{"hedge", "cold", policy.On}, {"throttle", "quiet", policy.On}, {"timeout", "cold", policy.DryRun},
	}
	got := p.EventSources()
	if len(got) != len(want) {
		t.Fatalf("%d sources, want %d: %+v", len(got), len(want), got)
	}
	for i, w := range want {
		s := got[i]
		ev := s.Source.Events(e0, 0)
		if s.Key != "svc" || s.Policy != w.policy || s.Mode != w.mode || len(ev) != 1 {
			t.Errorf("source %d: %+v with %+v, want %+v", i, s, ev, w)
			continue
		}
		if e := ev[0]; e.Seq != 1 || e.At != 0 || e.From != "" || e.To != w.state || e.Reason != "created" || e.Refusing {
			t.Errorf("%s begins with %+v", w.policy, e)
		}
	}
}

// What policies have to tell, told by doing it.
func TestWhatPoliciesTell(t *testing.T) {
	tests := []struct {
		name string
		run  func(t *testing.T) (policy.EventSource, policy.Time)
		want string // from, to, reason; one line each
	}{
		{"throttle", func(t *testing.T) (policy.EventSource, policy.Time) {
			th := made[*throttle.Throttle](t)(throttle.New(throttle.Options{MinCalls: 1}))
			th.Done(e0, lowest{}, policy.Permit{}, policy.Overloaded)
			th.Admit(e0, lowest{}, nil)
			return th, e0.Add(time.Minute)
		}, "quiet throttling the service refuses too many calls\nthrottling quiet no call was held back for a while\n"},
		{"rate", func(t *testing.T) (policy.EventSource, policy.Time) {
			l := made[*rate.Limiter](t)(rate.New(rate.Options{Limit: 1, Per: time.Hour}))
			l.Admit(e0, nil, nil)
			l.Admit(e0, nil, nil)
			if err := l.SetLimit(e0, 2, 0); err != nil {
				t.Fatal(err)
			}
			return l, e0
		}, "within exhausted the rate limit is used up\nexhausted exhausted the limit was changed\n"},
		{"budget", func(t *testing.T) (policy.EventSource, policy.Time) {
			b := made[*retry.Budget](t)(retry.NewBudget(retry.BudgetOptions{Capacity: 10}))
			b.Spend(e0, policy.Critical, 10)
			b.Spend(e0, policy.Critical, 10)
			return b, e0.Add(time.Minute)
		}, "paying empty too many extra attempts for so few successes\nempty paying no extra attempt was refused for a while\n"},
		{"timeout", func(t *testing.T) (policy.EventSource, policy.Time) {
			to := made[*timeout.Timeouts](t)(timeout.New(timeout.Options{}))
			now := e0
			for _, took := range []time.Duration{200 * time.Millisecond, 210 * time.Millisecond, time.Second} {
				for range 1000 {
					to.Done(now, policy.Ended{Class: policy.ClassOK, Took: took})
				}
				now = now.Add(time.Second)
				to.Snapshot(now)
			}
			return to, now
		}, "cold learned enough attempts are known\nlearned learned attempts take longer\n"},
		{"hedge", func(t *testing.T) (policy.EventSource, policy.Time) {
			h := made[*hedge.Hedging](t)(hedge.New(hedge.Options{}))
			now := e0
			for _, took := range []time.Duration{200 * time.Millisecond, 210 * time.Millisecond, time.Second, 50 * time.Millisecond} {
				for range 1000 {
					h.Done(now, policy.Ended{Class: policy.ClassOK, Took: took})
				}
				now = now.Add(15 * time.Second)
				h.Done(now, policy.Ended{Class: policy.ClassOK, Took: took}) // what is older has left the window by now
				for range 200 {
					h.Done(now, policy.Ended{Class: policy.ClassOK, Took: took})
				}
				now = now.Add(time.Second)
				h.Snapshot(now)
			}
			return h, now
		}, "cold learned enough attempts are known\nlearned learned attempts take longer\nlearned learned attempts take less\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, now := tt.run(t)
			var got strings.Builder
			for _, e := range s.Events(now, 1) {
				got.WriteString(e.From + " " + e.To + " " + e.Reason + "\n")
			}
			if got.String() != tt.want {
				t.Errorf("%s\nwant\n%s", &got, tt.want)
			}
		})
	}
}

// lowest is a source of chance that always draws the least.
type lowest struct{}

func (lowest) Uint64() uint64 { return 0 }

// told is a source with given events.
type told struct{ policy.EventLog }

func (s *told) Events(_ policy.Time, since uint64) []policy.Event { return s.Since(since) }

func TestEventLogger(t *testing.T) {
	var out bytes.Buffer
	l := policy.NewEventLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	s := &told{}
	sources := []policy.NamedSource{{Key: "db", Policy: "breaker", Source: s}, {Key: "other", Policy: "twice", Source: s}}
	lines := func(now policy.Time, sources []policy.NamedSource) string {
		t.Helper()
		out.Reset()
		if err := l.Log(t.Context(), now, sources); err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		for line := range strings.Lines(out.String()) {
			_, rest, _ := strings.Cut(line, " ") // without the time
			text.WriteString(rest)
		}
		return text.String()
	}
	want := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	}
	s.Add(policy.Event{To: "closed", Reason: "created"})
	want(lines(e0, sources), "level=DEBUG msg=\"breaker closed\" key=db why=created\n")
	want(lines(e0, sources), "")
	s.Add(policy.Event{At: e0, From: "closed", To: "open", Reason: "too bad", Until: e0.Add(time.Second), Refusing: true})
	s.Add(policy.Event{At: e0.Add(time.Second), From: "open", To: "closed", Reason: "good again", Was: 3, Is: 4})
	want(lines(e0, sources), "level=WARN msg=\"breaker open\" key=db from=closed why=\"too bad\" retry_after=1s\n"+
		"level=INFO msg=\"breaker closed\" key=db from=open why=\"good again\" was=3 is=4\n")
	if at := e0.Add(time.Second).Clock().Format(time.RFC3339); !strings.Contains(out.String(), "time="+at[:19]) {
		t.Errorf("%q, want the time of the event, %s", out.String(), at)
	}
	for range 100 {
		s.Add(policy.Event{At: e0, From: "a", To: "a"})
	}
	sources[0].Mode = policy.DryRun
	got := lines(e0, sources)
	if n := strings.Count(got, "\n"); n != 64 || !strings.HasPrefix(got, "level=INFO msg=\"breaker a\" key=db mode=dry-run missed=36\n") {
		t.Errorf("%d lines, the first of %q", n, got)
	}
	want(lines(e0, nil), "")
	if got := lines(e0, sources[1:]); !strings.Contains(got, "twice a") {
		t.Errorf("a source that was away: %q, want all again", got)
	}
}

// cannotWrite is a handler that cannot write.
type cannotWrite struct{ slog.Handler }

var errFull = errors.New("the disk is full")

func (cannotWrite) Handle(_ context.Context, _ slog.Record) error { return errFull }

func TestEventLoggerSaysWhatItCannotWrite(t *testing.T) {
	s := &told{}
	s.Add(policy.Event{To: "open", Refusing: true})
	l := policy.NewEventLogger(slog.New(cannotWrite{slog.NewTextHandler(&bytes.Buffer{}, nil)}))
	if err := l.Log(t.Context(), e0, []policy.NamedSource{{Policy: "x", Source: s}}); !errors.Is(err, errFull) {
		t.Errorf("%v", err)
	}
	if err := l.Log(t.Context(), e0, []policy.NamedSource{{Policy: "x", Source: s}}); err != nil {
		t.Errorf("it is tried again: %v", err)
	}
}

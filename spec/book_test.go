package spec

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/status"
)

func mustBook(t testing.TB, text string) *Book {
	t.Helper()
	b, err := NewBook(mustParse(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// mustMethod makes a method's pipelines without nodes, so that functions can be run through them.
func mustMethod(t testing.TB, b *Book, service, method string) *Method {
	t.Helper()
	m, err := b.Method(service, method, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func mustApply(t testing.TB, b *Book, text string) {
	t.Helper()
	if err := b.Apply(mustParse(t, text)); err != nil {
		t.Fatal(err)
	}
}

// TestWhatAChangeForgets: exactly what was made of the options that changed, and spelling out a default changes nothing.
func TestWhatAChangeForgets(t *testing.T) {
	const all = "defaults: {rate: {limit: 100}, hedge: {mode: on}}\n"
	tests := []struct{ name, doc, changed string }{
		{"nothing", all, ""},
		{"spelled-out defaults", all + "services: {s: {breaker: {window: 10s}, attempt_timeout: {min: 100ms}, hedge: {extra: 5%}, throttle: {k: 2}, concurrency: {queue: 0}, rate: {per: 1000ms}, ejection: {sweep: 10s}}}", ""},
		{"modes", all + "services: {s: {breaker: {mode: off}, attempt_timeout: {mode: dry-run}, hedge: {mode: dry-run}, throttle: {mode: off}, concurrency: {mode: off}, rate: {mode: dry-run}}}", ""},
		{"another service", all + "services: {t: {breaker: {window: 20s}, throttle: {k: 3}}}", ""},
		{"another method", all + "services: {s: {methods: {a.B/D: {breaker: {window: 20s}}}}}", ""},
		{"retries have no state", all + "services: {s: {retry: {attempts: 5, base: 1ms}}}", ""},
		{"breaker", all + "services: {s: {breaker: {window: 20s}}}", "breaker"},
		{"breaker of the method", all + "services: {s: {methods: {a.B/C: {breaker: {successes: 1}}}}}", "breaker"},
		{"breaker over the latest calls", all + "services: {s: {breaker: {last_calls: 10}}}", "breaker"},
		{"timeouts", all + "services: {s: {attempt_timeout: {max: 10s}}}", "timeouts"},
		{"hedging", all + "services: {s: {hedge: {quantile: 90%}}}", "hedging"},
		{"throttle", all + "services: {s: {throttle: {max: 80%}}}", "throttle"},
		{"concurrency", all + "services: {s: {concurrency: {queue: 10, order: lifo}}}", "concurrency"},
		{"more places are no other limiter", all + "services: {s: {concurrency: {limit: 10}}}", ""},
		{"rate", all + "services: {s: {rate: {each: method}}}", "rate"},
		{"another rate keeps its tokens", all + "services: {s: {rate: {limit: 50, burst: 7}}}", ""},
		{"a learned number of places", all + "services: {s: {concurrency: {source: two-arm}}}", "concurrency"},
		{"bounds of what is not learned", all + "services: {s: {concurrency: {min: 10, start: 20, backoff: 50%, queue: 0}}}", ""},
		{"budget", all + "services: {s: {retry_budget: {capacity: 500}}}", "budget"},
		{"a shared budget", all + "services: {s: {retry_budget: {name: all}}}", "budget"},
		{"prices are the pipeline's", all + "services: {s: {retry_budget: {mode: dry-run, cost: 5, timeout_cost: 5}}}", ""},
		{"no rate any more", "defaults: {hedge: {mode: off}}", "rate"},
		{"hedging that is off", "defaults: {rate: {limit: 100}}", ""},
	}
	state := func(b *Book) map[string]any {
		mustMethod(t, b, "s", "a.B/C")
		sh := b.services["s"]
		k := sh.methods["a.B/C"]
		return map[string]any{"picker": sh.picker, "budget": sh.budget, "throttle": sh.throttle, "concurrency": sh.concurrency, "rate": sh.rate,
			"breaker": k.breaker, "timeouts": k.timeouts, "hedging": k.hedging}
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := mustBook(t, all)
			before := state(b)
			mustApply(t, b, tt.doc)
			var changed []string
			for name, now := range state(b) {
				if now != before[name] {
					changed = append(changed, name)
				}
			}
			if got := strings.Join(changed, " "); got != tt.changed {
				t.Errorf("made anew: %q, want %q", got, tt.changed)
			}
		})
	}
}

// TestModesReachThePipeline: off, dry-run and on of every policy that has a place in it.
func TestModesReachThePipeline(t *testing.T) {
	for _, mode := range []Mode{On, DryRun, Off} {
		m := mustMethod(t, mustBook(t, fmt.Sprintf(`
defaults:
  rate: {limit: 1, mode: %[1]s}
  breaker: {mode: %[1]s}
  throttle: {mode: %[1]s}
  concurrency: {mode: %[1]s}
  attempt_timeout: {mode: %[1]s}
  retry: {mode: %[1]s}
  hedge: {mode: %[1]s}
`, mode)), "s", "a.B/C")
		o := m.Unary.Options()
		want := mode.Slot()
		if o.Rate.Mode != want || o.Breaker.Mode != want || o.RetryMode != want || o.HedgeMode != want || o.TimeoutMode != want {
			t.Errorf("%s: %v %v %v %v %v", mode, o.Rate.Mode, o.Breaker.Mode, o.RetryMode, o.HedgeMode, o.TimeoutMode)
		}
		if on := mode == On; (o.Retries != nil) != on || (o.Hedging != nil) != on || (o.Timeouts != nil) != on {
			t.Errorf("%s: retries %v, hedging %v, timeouts %v", mode, o.Retries, o.Hedging, o.Timeouts)
		}
		if s := m.Stream.Options(); s.Timeouts != nil || s.Hedging != nil {
			t.Errorf("%s: streams have an attempt timeout or are hedged", mode)
		}
	}
}

// TestDryRunCounts: with everything in dry-run no call is treated otherwise than with everything off, and what would have
// happened is counted.
func TestDryRunCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mustBook(t, `
defaults:
  idempotent: true
  side_effect_free: true
  rate: {mode: dry-run, limit: 1}
  breaker: {mode: dry-run, min_calls: 1}
  attempt_timeout: {mode: dry-run, fixed: 10ms}
  retry: {mode: dry-run}
  hedge: {mode: dry-run, delay: 5ms, extra: 100%}
`)
		m := mustMethod(t, b, "s", "a.B/C")
		bad := &status.Error{Code: status.Unavailable, Fate: status.Processed}
		for range 5 {
			_, err := policy.Do(t.Context(), m.Unary, func(context.Context) (int, error) {
				time.Sleep(20 * time.Millisecond)
				return 0, bad
			}, policy.Call{Idempotent: true, SideEffectFree: true})
			if !errors.Is(err, bad) {
				t.Errorf("error %v, want the function's own", err)
			}
		}
		n := m.Unary.Snapshot()
		if n.Attempts != 5 || n.DryRetries != 5 || n.DryHedges != 5 || n.DryTimeouts != 5 || n.DryRefused < 4 {
			t.Errorf("%+v", n)
		}
	})
}

// TestRateLimit: the service's calls share it, or each method has its own.
func TestRateLimit(t *testing.T) {
	for each, want := range map[string]int{"service": 2, "method": 4} {
		b := mustBook(t, "defaults: {rate: {limit: 2, per: 1h, each: "+each+"}}")
		went := 0
		for _, name := range []string{"a.B/C", "a.B/D"} {
			m := mustMethod(t, b, "s", name)
			for range 5 {
				_, err := policy.Do(t.Context(), m.Unary, func(context.Context) (int, error) { return 0, nil }, policy.Call{Service: "s", Method: name})
				switch {
				case err == nil:
					went++
				case status.CodeOf(err) != status.ResourceExhausted:
					t.Errorf("%s: %v", each, err)
				}
			}
		}
		if went != want {
			t.Errorf("each %s: %d calls went, want %d", each, went, want)
		}
	}
}

// TestAnotherLimitKeepsCount: calls under way have their places under the new limit too, and new places go to those who wait.
func TestAnotherLimitKeepsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mustBook(t, "defaults: {concurrency: {limit: 2, queue: 5, max_wait: 10s}}")
		var ended atomic.Int32
		call := func() {
			m := mustMethod(t, b, "s", "a.B/C")
			_, err := policy.Do(t.Context(), m.Unary, func(context.Context) (int, error) {
				time.Sleep(3 * time.Second)
				return 0, nil
			})
			if err != nil {
				t.Error(err)
			}
			ended.Add(1)
		}
		for range 4 {
			go call()
		}
		synctest.Wait()
		limiter := b.services["s"].concurrency
		if n := limiter.Snapshot(); n.InUse != 2 || n.Waiting != 2 {
			t.Errorf("%+v, want 2 in use and 2 waiting", n)
		}
		time.Sleep(time.Second)
		mustApply(t, b, "defaults: {concurrency: {limit: 3, queue: 5, max_wait: 10s}}")
		synctest.Wait()
		if n := limiter.Snapshot(); n.InUse != 3 || n.Waiting != 1 || b.services["s"].concurrency != limiter {
			t.Errorf("%+v, want 3 in use and 1 waiting", n)
		}
		time.Sleep(10 * time.Second)
		if n := limiter.Snapshot(); ended.Load() != 4 || n.InUse != 0 {
			t.Errorf("%d ended, %+v", ended.Load(), n)
		}
	})
}

// TestMethodsAreBounded: names from outside do not fill the memory, and do not drive out a method that is in use.
func TestMethodsAreBounded(t *testing.T) {
	b := mustBook(t, "{}")
	b.most = 100
	busy := mustMethod(t, b, "s", "a.B/Busy")
	for i := range 5000 {
		mustMethod(t, b, "s", fmt.Sprintf("a.B/M%d", i))
		if i%20 == 0 {
			if _, err := policy.Do(t.Context(), busy.Unary, func(context.Context) (int, error) { return 0, nil }); err != nil {
				t.Fatal(err)
			}
		}
	}
	sh := b.services["s"]
	if len(sh.methods) != 100 || sh.quiet.Len() != 100 {
		t.Errorf("%d methods and %d in the list, want 100", len(sh.methods), sh.quiet.Len())
	}
	if again := mustMethod(t, b, "s", "a.B/Busy"); again.Breaker != busy.Breaker {
		t.Error("a method in use was forgotten")
	}
	// Nor does a flood among which all are in use: then the bound holds all the same.
	for i := range 500 {
		m := mustMethod(t, b, "s", fmt.Sprintf("a.B/N%d", i))
		if _, err := policy.Do(t.Context(), m.Unary, func(context.Context) (int, error) { return 0, nil }); err != nil {
			t.Fatal(err)
		}
	}
	if len(sh.methods) != 100 {
		t.Errorf("%d methods, want 100", len(sh.methods))
	}
	if _, err := policy.Do(t.Context(), busy.Unary, func(context.Context) (int, error) { return 0, nil }); err != nil {
		t.Errorf("a pipeline of a forgotten method: %v", err)
	}
}

// TestApplyIsAtomic: callers see one document or the other, while documents change and calls go on.
func TestApplyIsAtomic(t *testing.T) {
	docs := []*Spec{
		mustParse(t, "defaults: {timeout: 1s, retry: {attempts: 1}, breaker: {min_calls: 11}, concurrency: {limit: 1001}}"),
		mustParse(t, "defaults: {timeout: 2s, retry: {attempts: 2}, breaker: {min_calls: 12}, concurrency: {limit: 1002}}"),
	}
	b, err := NewBook(docs[0])
	if err != nil {
		t.Fatal(err)
	}
	bad := &Spec{Defaults: Service{Policy: Policy{Timeout: Duration(5 * time.Second)}, Balancer: "best"}}
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		defer close(done)
		for i := range 300 {
			if err := b.Apply(docs[i%2]); err != nil {
				t.Error(err)
			}
			if b.Apply(bad) == nil {
				t.Error("an invalid document was applied")
			}
		}
	})
	for g := range 3 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			for {
				select {
				case <-done:
					return
				default:
				}
				m, err := b.Method("s", fmt.Sprintf("a.B/M%d", r.IntN(5)), nil, nil)
				if err != nil {
					t.Error(err)
					return
				}
				if n := int(time.Duration(m.Timeout).Seconds()); m.Retry.Attempts != n || m.Effective.Service.Policy.Breaker.MinCalls != 10+n || m.Concurrency.Limit != 1000+n {
					t.Errorf("half of a document: %+v", m.Effective)
				}
				if _, err := policy.Do(t.Context(), m.Unary, func(context.Context) (int, error) { return 0, nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestExplain(t *testing.T) {
	s := mustParse(t, doc)
	e := s.Explain("greeter", "greeter.Greeter/Hello")
	for _, want := range []Field{
		{"timeout", "300ms", false, FromMethod, "services.greeter.methods.greeter.Greeter/Hello.timeout"},
		{"idempotent", "true", false, FromMethod, "services.greeter.methods.greeter.Greeter/Hello.idempotent"},
		{"side_effect_free", "as the service publishes", true, FromBuiltin, ""},
		{"breaker.failures", "25%", false, FromService, "services.greeter.breaker.failures"},
		{"balancer", "round-robin", false, FromService, "services.greeter.balancer"},
		{"retry.attempts", "2", false, FromDefaults, "defaults.retry.attempts"},
		{"retry.mode", "on", false, FromBuiltin, ""},
		{"attempt_timeout.fixed", "learned", true, FromBuiltin, ""},
		{"attempt_timeout.max", "1m", false, FromBuiltin, ""},
		{"rate.max_wait", "0s", false, FromBuiltin, ""},
	} {
		if got, ok := e.Field(want.Path); !ok || got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	if len(e.Fields) != len(leaves()) {
		t.Errorf("%d fields of %d", len(e.Fields), len(leaves()))
	}
	if text := e.String(); !strings.Contains(text, "25%") || !strings.Contains(text, "service (services.greeter.breaker.failures)") || strings.Count(text, "\n") != len(e.Fields)+1 {
		t.Errorf("\n%s", text)
	}
	if f, _ := s.Explain("unknown", "").Field("timeout"); f.Value != "2s" || f.From != FromDefaults {
		t.Errorf("a service that the document does not name: %+v", f)
	}
}

// TestExplainAgreesWithMethod: what is explained is what holds.
func TestExplainAgreesWithMethod(t *testing.T) {
	s := mustParse(t, doc)
	eff := s.Method("greeter", "greeter.Greeter/Hello")
	e := s.Explain("greeter", "greeter.Greeter/Hello")
	for i := range leaves() {
		l := &leaves()[i]
		v, ok := l.value(&eff.Service)
		if f, _ := e.Field(l.path); f.Auto == ok || ok && f.Value != text(v) {
			t.Errorf("%s: explained as %+v, and is %v", l.path, f, v)
		}
	}
	if eff.Methods != nil || reflect.DeepEqual(eff, Effective{}) {
		t.Errorf("%+v", eff)
	}
}

// TestRetryBudget: capacity, prices and modes reach what a call's extra attempts are paid from.
func TestRetryBudget(t *testing.T) {
	down := &status.Error{Code: status.Unavailable, Kind: status.Reset}
	late := &status.Error{Code: status.DeadlineExceeded, Kind: status.Timeout}
	for _, c := range []struct {
		name, budget string
		err          error
		retries      int64
		refused      int64
	}{
		{"usual", "capacity: 100", down, 10, 10},
		{"usual after timeouts", "capacity: 100", late, 5, 15},
		{"cheap", "capacity: 100, cost: 5", down, 20, 0},
		{"dear after timeouts", "capacity: 100, timeout_cost: 50", late, 2, 18},
		{"cheaper than a token", "capacity: 100, cost: 1", down, 20, 0},
		{"dry-run", "mode: dry-run, capacity: 100", down, 20, 10},
		{"off", "mode: off, capacity: 100", down, 20, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := mustBook(t, "defaults: {retry_budget: {per_peak: 0, "+c.budget+"}, breaker: {mode: off}, throttle: {mode: off}, retry: {attempts: 2, backoff: immediate}}")
			m := mustMethod(t, b, "s", "a.B/C")
			for range 20 {
				_, err := policy.Do(t.Context(), m.Unary, func(context.Context) (int, error) { return 0, c.err }, policy.Call{Idempotent: true})
				if !errors.Is(err, c.err) {
					t.Fatal(err)
				}
			}
			budget, err := b.Budget("s")
			if err != nil {
				t.Fatal(err)
			}
			if n := m.Unary.Snapshot(); n.Retries != c.retries {
				t.Errorf("%d retries, want %d", n.Retries, c.retries)
			}
			if n := budget.Snapshot(policy.Now()); n.Refused != c.refused {
				t.Errorf("%d refused, want %d", n.Refused, c.refused)
			}
		})
	}
}

// TestLastCalls: a method that is called once an hour has a breaker that opens.
func TestLastCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustMethod(t, mustBook(t, "defaults: {breaker: {last_calls: 4}}"), "s", "a.B/C")
		for i := range 5 {
			_, err := policy.Do(t.Context(), m.Unary, func(context.Context) (int, error) {
				return 0, &status.Error{Code: status.Unavailable, Fate: status.Processed}
			})
			e := status.From(err)
			if refused := e.Refusal != nil; refused != (i == 4) {
				t.Errorf("call %d: %v", i+1, err)
			}
			if i < 3 {
				time.Sleep(time.Hour)
			}
		}
	})
}

// TestSharedBudgets: one name is one budget, and keeps what is in it as long as its options stay.
func TestSharedBudgets(t *testing.T) {
	const all = "defaults: {retry_budget: {capacity: 100}}\nservices: {a: {retry_budget: {name: both}}, b: {retry_budget: {name: both, cost: 3}}, c: {}}\n"
	b := mustBook(t, all)
	budget := func(service string) *retry.Budget {
		t.Helper()
		x, err := b.Budget(service)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	both, own := budget("a"), budget("c")
	if budget("b") != both || own == both || budget("d") == own {
		t.Error("a and b share one, c and d have their own")
	}
	both.Spend(policy.Now(), policy.Critical, 60)
	mustApply(t, b, strings.ReplaceAll(all, "cost: 3", "cost: 4"))
	if budget("a") != both || budget("b") != both || budget("c") != own {
		t.Error("budgets whose options are the same were made anew")
	}
	mustApply(t, b, strings.ReplaceAll(all, "name: both, cost: 3", "name: another"))
	if budget("a") != both || budget("b") == both {
		t.Error("only b has left")
	}
	mustApply(t, b, strings.ReplaceAll(all, "capacity: 100", "capacity: 200"))
	if budget("a") == both || budget("c") == own || budget("a") != budget("b") {
		t.Error("other options are other budgets")
	}
	if len(b.budgets) != 3 {
		t.Errorf("%d budgets are kept, want those of a and b, c and d", len(b.budgets))
	}
}

// TestSharedBudgetsMustAgree: with lines, whoever says it.
func TestSharedBudgetsMustAgree(t *testing.T) {
	_, err := Parse("x", []byte("services:\n  a: {retry_budget: {name: n, capacity: 5}}\n  b:\n    retry_budget: {name: n}\n"))
	if err == nil || !strings.Contains(err.Error(), `line 4: services.b.retry_budget: "n" is the budget of services.a too`) {
		t.Error(err)
	}
	_, err = Parse("x", []byte("defaults: {retry_budget: {name: n}}\nservices: {a: {retry_budget: {capacity: 5}}}\n"))
	if err == nil || !strings.Contains(err.Error(), `line 2: services.a.retry_budget: "n" is the budget of defaults too`) {
		t.Error(err)
	}
}

// TestLearnedPlaces: the sources are what the document says, and a reload keeps what they learned.
func TestLearnedPlaces(t *testing.T) {
	for source, fields := range map[string]string{"two-arm": "", "aimd": ", slow: 1s, backoff: 50%"} {
		text := "defaults: {concurrency: {source: " + source + ", start: 7, min: 5, max: 50" + fields + "}}"
		b := mustBook(t, text)
		mustMethod(t, b, "s", "a.B/C")
		limiter := b.services["s"].concurrency
		if n := limiter.Snapshot(); n.Limit < 5 || n.Limit > 50 {
			t.Errorf("%s: %+v", source, n)
		}
		mustApply(t, b, text+"\nservices: {s: {timeout: 3s, concurrency: {limit: 99}}}")
		if b.services["s"].concurrency != limiter {
			t.Errorf("%s: what was learned is forgotten", source)
		}
		mustApply(t, b, "defaults: {concurrency: {limit: 99}}")
		if n := b.services["s"].concurrency.Snapshot(); n.Limit != 99 {
			t.Errorf("%s: a fixed number afterwards: %+v", source, n)
		}
	}
}

// TestAnotherRateKeepsTokens: what was used stays used when the limit changes.
func TestAnotherRateKeepsTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mustBook(t, "defaults: {rate: {limit: 10, per: 1h}}")
		went := func() (n int) {
			m := mustMethod(t, b, "s", "a.B/C")
			for {
				if _, err := policy.Do(t.Context(), m.Unary, func(context.Context) (int, error) { return 0, nil }); err != nil {
					return n
				}
				n++
			}
		}
		if n := went(); n != 10 {
			t.Errorf("%d went, want 10", n)
		}
		mustApply(t, b, "defaults: {rate: {limit: 20, per: 1h, burst: 10}}")
		if n := went(); n != 0 {
			t.Errorf("%d went at once under the new limit: what was used is forgotten", n)
		}
		time.Sleep(15 * time.Minute)
		if n := went(); n != 5 {
			t.Errorf("%d went after a quarter of an hour at 20 an hour, want 5", n)
		}
	})
}

// TestServicesAreBounded: as methods are.
func TestServicesAreBounded(t *testing.T) {
	b := mustBook(t, "{}")
	b.mostServices = 50
	busy := mustMethod(t, b, "busy", "a.B/C")
	for i := range 1000 {
		mustMethod(t, b, fmt.Sprint("s", i), "a.B/C")
		if i%4 == 0 {
			if _, err := policy.Do(t.Context(), busy.Unary, func(context.Context) (int, error) { return 0, nil }); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(b.services) != 50 || b.quiet.Len() != 50 || len(b.budgets) != 50 {
		t.Errorf("%d services, %d in the list, %d budgets; want 50", len(b.services), b.quiet.Len(), len(b.budgets))
	}
	if again := mustMethod(t, b, "busy", "a.B/C"); again.Breaker != busy.Breaker {
		t.Error("a service in use was forgotten")
	}
	mustApply(t, b, "defaults: {timeout: 1s}")
	if len(b.budgets) != 50 {
		t.Errorf("%d budgets after another document", len(b.budgets))
	}
}

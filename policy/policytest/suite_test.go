package policytest

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/concurrency"
)

// recorder takes down what the suite finds.
type recorder struct {
	mu   sync.Mutex
	said []string
}

func (*recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

// broken is a gate of functions, each of which may be wrong.
type broken struct {
	admit func(now policy.Time, c *policy.Call) policy.Verdict
	done  func(now policy.Time, p policy.Permit, o policy.Outcome)
}

func (b broken) Admit(now policy.Time, _ rand.Source, c *policy.Call) policy.Verdict {
	return b.admit(now, c)
}

func (b broken) Done(now policy.Time, _ rand.Source, p policy.Permit, o policy.Outcome) {
	if b.done != nil {
		b.done(now, p, o)
	}
}

func refuse() policy.Verdict {
	return policy.Verdict{Decision: policy.Refuse, State: "full", Reason: "the test says so"}
}

// bulkhead has n places, and keeps them for outcomes that leak.
func bulkhead(n int64, leak func(policy.Outcome) bool) func() policy.Gate {
	return func() policy.Gate {
		var used atomic.Int64
		return broken{
			admit: func(policy.Time, *policy.Call) policy.Verdict {
				if used.Add(1) > n {
					used.Add(-1)
					return refuse()
				}
				return policy.Verdict{}
			},
			done: func(_ policy.Time, _ policy.Permit, o policy.Outcome) {
				if !leak(o) {
					used.Add(-1)
				}
			},
		}
	}
}

// switcher opens for a second after ten failures in a row.
func switcher(generations, closes, probes bool) func() policy.Gate {
	return func() policy.Gate {
		var mu sync.Mutex
		var failed int
		var gen uint32
		var until policy.Time
		out := false
		return broken{
			admit: func(now policy.Time, _ *policy.Call) policy.Verdict {
				mu.Lock()
				defer mu.Unlock()
				if until != 0 {
					if now < until || !closes || out {
						return refuse()
					}
					if probes {
						out = true
						return policy.Verdict{Decision: policy.Probe, Permit: policy.Permit{Gen: gen, Slot: 1}}
					}
					until, failed = 0, 0
					gen++
				}
				return policy.Verdict{Permit: policy.Permit{Gen: gen}}
			},
			done: func(now policy.Time, p policy.Permit, o policy.Outcome) {
				mu.Lock()
				defer mu.Unlock()
				if generations && p.Gen != gen {
					return
				}
				switch o {
				case policy.Success:
					failed = 0
					if p.Slot == 1 {
						out, until = false, 0
						gen++
					}
				case policy.Ignored: // a probe that was cancelled stays out for ever
				default:
					out = false
					if failed++; failed >= 10 {
						failed, until = 0, now.Add(time.Second)
						gen++
					}
				}
			},
		}
	}
}

// forgetful is a line with a mistake of its own.
type forgetful struct {
	*concurrency.Limiter
	next  func(l *forgetful, now policy.Time, rnd rand.Source) (policy.Waiting, policy.Verdict, bool)
	leave func(l *forgetful, now policy.Time, t policy.Ticket) bool

	mu   *sync.Mutex
	last policy.Waiting
}

func (f *forgetful) Next(now policy.Time, rnd rand.Source) (policy.Waiting, policy.Verdict, bool) {
	if f.next != nil {
		return f.next(f, now, rnd)
	}
	return f.Limiter.Next(now, rnd)
}

func (f *forgetful) Leave(now policy.Time, t policy.Ticket) bool {
	if f.leave != nil {
		return f.leave(f, now, t)
	}
	return f.Limiter.Leave(now, t)
}

func lineOf(f forgetful) func() policy.Gate {
	return func() policy.Gate {
		l, err := concurrency.New(concurrency.Options{Limit: 2, Queue: 5, MaxWait: time.Second})
		if err != nil {
			panic(err)
		}
		g := f
		g.Limiter, g.mu = l, new(sync.Mutex)
		return &g
	}
}

// teller is a gate with events, and advised one that is told when to stay away.
type teller struct {
	broken
	events func(now policy.Time, since uint64) []policy.Event
}

func (g teller) Events(now policy.Time, since uint64) []policy.Event { return g.events(now, since) }

type advised struct {
	broken
	pushback func(now policy.Time, d time.Duration)
}

func (g advised) Pushback(now policy.Time, d time.Duration) { g.pushback(now, d) }

func admits(policy.Time, *policy.Call) policy.Verdict { return policy.Verdict{} }

// tells is a gate that begins with one event and then has that of each reading.
func tells(first policy.Event, next func(n uint64, now policy.Time) policy.Event) func() policy.Gate {
	return func() policy.Gate {
		var mu sync.Mutex
		var read policy.Time
		n := first.Seq
		return teller{broken{admit: admits}, func(now policy.Time, since uint64) []policy.Event {
			mu.Lock()
			defer mu.Unlock()
			if since == 0 || now == read {
				read = now
				if since == 0 {
					return []policy.Event{first}
				}
				return nil
			}
			read, n = now, n+1
			return []policy.Event{next(n, now)}
		}}
	}
}

// The suite finds what is wrong with each of these gates, in the check that is named.
func TestSuiteFindsFaults(t *testing.T) {
	second := Caps{Recovers: 2 * time.Second}
	for _, tt := range []struct {
		name  string
		gate  func() policy.Gate
		caps  Caps
		found []string
	}{
		{"nothing wrong with a bulkhead", bulkhead(3, func(policy.Outcome) bool { return false }), Caps{Places: 3}, nil},
		{"nothing wrong with a breaker", switcher(true, true, false), Caps{Recovers: 2 * time.Second, Generations: true}, nil},
		{"nothing wrong with a line", lineOf(forgetful{}), Caps{Places: 2}, nil},
		{"a bulkhead keeps the places of calls that panic", bulkhead(3, func(o policy.Outcome) bool { return o == policy.Failure }),
			Caps{Places: 3}, []string{"panic and Goexit", "it recovers"}},
		{"a bulkhead keeps the places of calls that are cancelled", bulkhead(3, func(o policy.Outcome) bool { return o == policy.Ignored }),
			Caps{Places: 3}, []string{"cancel at any moment"}},
		{"a bulkhead keeps the places of calls that time out", bulkhead(3, func(o policy.Outcome) bool { return o == policy.TimedOut }),
			Caps{Places: 3}, []string{"a function that never returns"}},
		{"a bulkhead has one place too many", bulkhead(4, func(policy.Outcome) bool { return false }),
			Caps{Places: 3}, []string{"places", "verdicts are complete"}},
		{"a bulkhead has one place too few", bulkhead(2, func(policy.Outcome) bool { return false }), Caps{Places: 3}, []string{"places"}},
		{"check, then act", func() policy.Gate {
			var used atomic.Int64
			return broken{
				admit: func(policy.Time, *policy.Call) policy.Verdict {
					n := used.Load()
					if n >= 3 {
						return refuse()
					}
					runtime.Gosched()
					used.Add(1)
					return policy.Verdict{}
				},
				done: func(policy.Time, policy.Permit, policy.Outcome) { used.Add(-1) },
			}
		}, Caps{Places: 3}, []string{"in parallel"}},
		{"a breaker counts results of another state", switcher(false, true, false),
			Caps{Recovers: 2 * time.Second, Generations: true}, []string{"results under an older state"}},
		{"a breaker stays open", switcher(true, false, false), second, []string{"it recovers", "results that are late"}},
		{"a breaker waits for a probe that was cancelled", switcher(true, true, true), second, []string{"verdicts are complete"}},
		{"Generations, but nothing to tell apart", bulkhead(1000, func(policy.Outcome) bool { return false }),
			Caps{Generations: true}, []string{"results under an older state"}},
		{"a refusal without a word", func() policy.Gate {
			var n atomic.Int64
			return broken{admit: func(policy.Time, *policy.Call) policy.Verdict {
				if n.Add(1) == 1 {
					return policy.Verdict{Decision: policy.Refuse}
				}
				return policy.Verdict{}
			}}
		}, Caps{}, []string{"verdicts are complete"}},
		{"a gate parks and has no line", func() policy.Gate {
			return broken{admit: func(policy.Time, *policy.Call) policy.Verdict { return policy.Verdict{Decision: policy.Park} }}
		}, Caps{}, []string{"verdicts are complete"}},
		{"nothing wrong with its events", tells(policy.Event{Seq: 1, To: "a"}, func(n uint64, now policy.Time) policy.Event {
			return policy.Event{Seq: n, At: now, From: "a", To: "a", Reason: "a reading"}
		}), Caps{}, nil},
		{"no initial state", tells(policy.Event{Seq: 1, From: "a", To: "b"}, nil), Caps{}, []string{"events"}},
		{"a change of state that nobody was told of", tells(policy.Event{Seq: 1, To: "a"}, func(n uint64, now policy.Time) policy.Event {
			return policy.Event{Seq: n, At: now, From: "b", To: "a", Reason: "a reading"}
		}), Caps{}, []string{"events"}},
		{"an event that lies ahead", tells(policy.Event{Seq: 1, To: "a"}, func(n uint64, now policy.Time) policy.Event {
			return policy.Event{Seq: n, At: now + 1, From: "a", To: "a", Reason: "a reading"}
		}), Caps{}, []string{"events"}},
		{"a gate believes what it is told for as long as it is told", func() policy.Gate {
			var mu sync.Mutex
			var until policy.Time
			return advised{broken{admit: func(now policy.Time, _ *policy.Call) policy.Verdict {
				mu.Lock()
				defer mu.Unlock()
				if now < until {
					return refuse()
				}
				return policy.Verdict{}
			}}, func(now policy.Time, d time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				until = max(until, now.Add(d))
			}}
		}, second, []string{"advice to stay away"}},
		{"a gate makes garbage", func() policy.Gate {
			var mu sync.Mutex
			seen := map[policy.Time]*policy.Call{}
			return broken{admit: func(now policy.Time, c *policy.Call) policy.Verdict {
				mu.Lock()
				defer mu.Unlock()
				kept := *c
				seen[now%100] = &kept
				return policy.Verdict{}
			}}
		}, Caps{}, []string{"no allocations"}},
		{"a sum overflows when the clock jumps", func() policy.Gate {
			var mu sync.Mutex
			var last policy.Time
			tokens := int64(1000)
			return broken{admit: func(now policy.Time, _ *policy.Call) policy.Verdict {
				mu.Lock()
				defer mu.Unlock()
				if last != 0 {
					tokens = min(tokens+int64(now-last)*30/int64(time.Millisecond), 1000)
				}
				last = now
				if tokens <= 0 {
					return refuse()
				}
				tokens--
				return policy.Verdict{}
			}}
		}, Caps{}, []string{"the clock jumps"}},
		{"a line forgets to hand places on", lineOf(forgetful{next: func(*forgetful, policy.Time, rand.Source) (w policy.Waiting, v policy.Verdict, ok bool) {
			return w, v, false
		}}), Caps{Places: 2}, []string{"a place that comes back", "nobody who waits is forgotten"}},
		{"a line tells a waiter twice", lineOf(forgetful{next: func(f *forgetful, now policy.Time, rnd rand.Source) (w policy.Waiting, v policy.Verdict, ok bool) {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.last.Waiter != nil {
				w, f.last = f.last, policy.Waiting{}
				return w, refuse(), true
			}
			w, v, ok = f.Limiter.Next(now, rnd)
			f.last = w
			return w, v, ok
		}}), Caps{Places: 2}, []string{"a place that comes back", "nobody who waits is forgotten"}},
		{"Leave says yes to everybody", lineOf(forgetful{leave: func(f *forgetful, now policy.Time, t policy.Ticket) bool {
			f.Limiter.Leave(now, t)
			return true
		}}), Caps{Places: 2}, []string{"a place that comes back", "nobody who waits is forgotten"}},
		{"Leave leaves a ghost in the line", lineOf(forgetful{leave: func(*forgetful, policy.Time, policy.Ticket) bool { return true }}),
			Caps{Places: 2}, []string{"nobody who waits is forgotten"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSuite(tt.gate, tt.caps)
			checks := s.gateChecks()
			if _, line := tt.gate().(policy.Line); line {
				checks = append(checks, s.lineChecks()...)
				if tt.found != nil { // on goroutines the broken lines would break in ways that the race detector sees first
					checks = checks[:len(checks)-1]
				}
			}
			var found []string
			for _, c := range checks {
				var r recorder
				c.run(t, &r)
				if len(r.said) > 0 {
					found = append(found, c.name)
					if tt.found == nil {
						t.Errorf("%s: %s", c.name, r.said[0])
					}
				}
			}
			for _, name := range tt.found {
				if !slices.Contains(found, name) {
					t.Errorf("the check %q finds nothing; found by %q", name, found)
				}
			}
		})
	}
}

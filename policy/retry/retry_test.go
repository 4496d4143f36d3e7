package retry

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// steady is a source of chance that always says the same.
type steady uint64

func (s steady) Uint64() uint64 { return uint64(s) }

const (
	low  steady = 0
	high steady = 1<<64 - 1
)

const t0 = policy.Time(1_700_000_000 * time.Second)

func must(t testing.TB, o Options) *Retries {
	t.Helper()
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWhatIsTriedAgain(t *testing.T) {
	unsafe, idem := policy.Call{}, policy.Call{Idempotent: true}
	below := policy.Call{Idempotent: true, PathAttempt: 2}
	tests := []struct {
		name     string
		o        Options
		c        policy.Call
		n        int
		cl       policy.Class
		fate     status.Fate
		pushback time.Duration
		why      string // "" = again
	}{
		{"reset of an unsafe call", Options{}, unsafe, 1, policy.ClassReset, status.Maybe, 0, whyUnsafe},
		{"reset of an idempotent call", Options{}, idem, 1, policy.ClassReset, status.Maybe, 0, ""},
		{"timeout of an unsafe call", Options{}, unsafe, 1, policy.ClassTimeout, status.Maybe, 0, whyUnsafe},
		{"timeout of an idempotent call", Options{}, idem, 2, policy.ClassTimeout, status.Maybe, 0, ""},
		{"answered Unavailable, unsafe", Options{}, unsafe, 1, policy.ClassUnavailable, status.Processed, 0, whyUnsafe},
		{"not sent, unsafe", Options{}, unsafe, 1, policy.ClassUnsent, status.NotSent, 0, ""},
		{"a timeout that was not sent, unsafe", Options{}, unsafe, 1, policy.ClassTimeout, status.NotSent, 0, ""},
		{"draining, unsafe", Options{}, unsafe, 2, policy.ClassDraining, status.NotSent, 0, ""},
		{"no such method here, unsafe", Options{}, unsafe, 2, policy.ClassNoMethod, status.Processed, 0, ""},
		{"the third attempt was the last", Options{}, idem, 3, policy.ClassReset, status.Maybe, 0, whyUsedUp},
		{"more attempts", Options{Attempts: 8}, idem, 7, policy.ClassReset, status.Maybe, 0, ""},
		{"one attempt", Options{Attempts: 1}, idem, 1, policy.ClassUnsent, status.NotSent, 0, whyUsedUp},
		{"internal", Options{}, idem, 1, policy.ClassInternal, status.Processed, 0, whyInternal},
		{"internal, asked for", Options{RetryInternal: true}, idem, 1, policy.ClassInternal, status.Processed, 0, ""},
		{"internal, asked for, unsafe", Options{RetryInternal: true}, unsafe, 1, policy.ClassInternal, status.Processed, 0, whyUnsafe},
		{"shed", Options{}, unsafe, 1, policy.ClassShed, status.NotSent, 0, ""},
		{"shed again", Options{}, idem, 2, policy.ClassShed, status.NotSent, 0, whyOnce},
		{"handshake again", Options{}, idem, 2, policy.ClassHandshake, status.NotSent, 0, whyOnce},
		{"overloaded, unsafe", Options{}, unsafe, 1, policy.ClassOverloaded, status.Processed, 0, whyUnsafe},
		{"overloaded, idempotent", Options{}, idem, 1, policy.ClassOverloaded, status.Processed, time.Second, ""},
		{"the server says no", Options{}, idem, 1, policy.ClassOverloaded, status.Processed, -1, whyPushback},
		{"the server says no, not sent", Options{}, unsafe, 1, policy.ClassShed, status.NotSent, -1, whyPushback},
		{"repeated above", Options{}, below, 1, policy.ClassReset, status.Maybe, 0, whyPath},
		{"repeated above, not sent", Options{}, below, 1, policy.ClassUnsent, status.NotSent, 0, ""},
		{"repeated above, not processed but sent", Options{}, below, 1, policy.ClassNoMethod, status.Processed, 0, whyPath},
		{"refused here", Options{}, idem, 1, policy.ClassRefused, status.NotSent, 0, whyRefused},
		{"quota", Options{}, idem, 1, policy.ClassQuota, status.NotSent, 0, whyQuota},
		{"expired", Options{}, idem, 1, policy.ClassExpired, status.NotSent, 0, whyExpired},
		{"cancelled", Options{}, idem, 1, policy.ClassCancelled, status.NotSent, 0, whyGone},
		{"deadline", Options{}, idem, 1, policy.ClassDeadlineLate, status.Maybe, 0, whyGone},
		{"deadline, soon", Options{}, idem, 1, policy.ClassDeadlineSoon, status.NotSent, 0, whyGone},
		{"downstream", Options{}, idem, 1, policy.ClassDownstream, status.Processed, 0, whyDownstream},
		{"not found", Options{}, idem, 1, policy.ClassCaller, status.Processed, 0, whyAnswered},
		{"aborted", Options{}, idem, 1, policy.ClassAborted, status.Processed, 0, whyAborted},
		{"too large", Options{}, idem, 1, policy.ClassTooLarge, status.NotSent, 0, whyAnswered},
		{"protocol, unsafe", Options{}, unsafe, 1, policy.ClassProtocol, status.Maybe, 0, whyUnsafe},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := must(t, tt.o)
			wait, ok, why := r.Again(t0, high, &tt.c, tt.n, tt.cl, tt.fate, tt.pushback)
			if ok != (tt.why == "") || why != tt.why {
				t.Errorf("%v, %q; want %q", ok, why, tt.why)
			}
			if ok && tt.fate == status.NotSent && tt.pushback == 0 && wait != 0 {
				t.Errorf("not sent, and yet waits %v", wait)
			}
			if ok && wait < tt.pushback {
				t.Errorf("waits %v, and the server asked for %v", wait, tt.pushback)
			}
		})
	}
}

// Every "no" of every class has a sentence, and no class that must never be repeated is, whatever its fate.
func TestEveryClassAndFate(t *testing.T) {
	r := must(t, Options{Attempts: 8, RetryInternal: true})
	for cl := policy.ClassOK; cl <= policy.ClassProtocol; cl++ {
		for _, fate := range []status.Fate{status.Maybe, status.NotSent, status.Processed} {
			for n := 1; n <= 8; n++ {
				for _, c := range []policy.Call{{}, {Idempotent: true}, {PathAttempt: 2, Idempotent: true}} {
					wait, ok, why := r.Again(t0, high, &c, n, cl, fate, 0)
					if ok == (why != "") || wait < 0 || wait > 250*time.Millisecond {
						t.Errorf("%v %v attempt %d: %v, %v, %q", cl, fate, n, wait, ok, why)
					}
					rule := cl.Counts().Retry
					if ok && (rule == policy.RetryNever || n == 8 || c.PathAttempt > 1 && fate != status.NotSent) {
						t.Errorf("%v %v attempt %d is tried again", cl, fate, n)
					}
					if ok && !c.Idempotent && fate != status.NotSent && rule != policy.RetryAny && rule != policy.RetryAnyOnce {
						t.Errorf("%v %v of an unsafe call is tried again", cl, fate)
					}
				}
			}
		}
	}
}

func TestWaits(t *testing.T) {
	ms := func(n ...int) (d []time.Duration) {
		for _, n := range n {
			d = append(d, time.Duration(n)*time.Millisecond)
		}
		return d
	}
	tests := []struct {
		name string
		o    Options
		rnd  rand.Source
		want []time.Duration
	}{
		{"full jitter, at least", Options{}, low, ms(0, 0, 0, 0, 0, 0)},
		{"full jitter, at most", Options{}, high, ms(25, 50, 100, 200, 250, 250)},
		{"exponential", Options{Backoff: Exponential}, low, ms(25, 50, 100, 200, 250, 250)},
		{"constant", Options{Backoff: Constant}, high, ms(25, 25, 25)},
		{"decorrelated, at least", Options{Backoff: Decorrelated}, low, ms(25, 25, 25)},
		{"decorrelated, at most", Options{Backoff: Decorrelated}, high, ms(75, 225, 250)},
		{"immediate", Options{Backoff: Immediate}, high, ms(0, 0, 0)},
		{"other scales", Options{Base: time.Second, Cap: 3 * time.Second}, high, ms(1000, 2000, 3000)},
		{"a base over the default cap", Options{Base: time.Second}, high, ms(1000, 1000)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.Attempts = 8
			r := must(t, tt.o)
			c := &policy.Call{Idempotent: true}
			for i, want := range tt.want {
				got, ok, _ := r.Again(t0, tt.rnd, c, i+1, policy.ClassReset, status.Maybe, 0)
				if d := got - want; !ok || d < -time.Microsecond || d > time.Microsecond {
					t.Errorf("after attempt %d: %v, want %v", i+1, got, want)
				}
			}
		})
	}
}

func TestPushbackIsAFloor(t *testing.T) {
	r := must(t, Options{})
	for _, fate := range []status.Fate{status.NotSent, status.Processed} {
		for _, rnd := range []rand.Source{low, high} {
			wait, ok, _ := r.Again(t0, rnd, &policy.Call{Idempotent: true}, 1, policy.ClassShed, fate, 2*time.Second)
			if !ok || wait < 2*time.Second || wait > 2025*time.Millisecond {
				t.Errorf("waits %v, want 2s and a spread of at most 25ms", wait)
			}
		}
	}
}

func TestFullJitterIsUniform(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r, rnd := must(t, Options{}), rand.NewPCG(seed, 0)
	var sum time.Duration
	const n = 20_000
	for range n {
		w, _, _ := r.Again(t0, rnd, &policy.Call{Idempotent: true}, 2, policy.ClassReset, status.Maybe, 0)
		sum += w
	}
	if mean := sum / n; mean < 24*time.Millisecond || mean > 26*time.Millisecond {
		t.Errorf("mean %v, want 25ms", mean)
	}
}

func TestWrongOptions(t *testing.T) {
	_, err := New(Options{Attempts: 9, Backoff: 99, Base: -1, Cap: -5})
	if err == nil {
		t.Fatal("no error")
	}
	for _, word := range []string{"retry: ", "Attempts", "Backoff", "Base", "Cap"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not name %s: %v", word, err)
		}
	}
	_, err = NewBudget(BudgetOptions{Capacity: -1, Window: -1})
	if err == nil || !strings.Contains(err.Error(), "Capacity") || !strings.Contains(err.Error(), "Window") {
		t.Errorf("budget: %v", err)
	}
}

// TestFarPushback: however long a server asks to be left alone, the wait is at least as long, and does not wrap around to none.
func TestFarPushback(t *testing.T) {
	r, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := policy.Call{Idempotent: true}
	for _, far := range []time.Duration{time.Hour, math.MaxInt64 - 1, math.MaxInt64} {
		wait, ok, why := r.Again(1, rand.NewPCG(1, 1), &c, 1, policy.ClassOverloaded, status.Processed, far)
		if ok && wait < far {
			t.Errorf("asked to stay away for %v, it waits for %v (%s)", far, wait, why)
		}
	}
}

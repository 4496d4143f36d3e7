package policy_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

type texts = []policy.Alternative[string]

// says is an alternative that answers with its name.
func says(name string) policy.Alternative[string] {
	return policy.Alternative[string]{Name: name, Run: func(context.Context, error) (string, error) { return name, nil }}
}

// fails is an alternative that fails with err.
func fails(name string, err error) policy.Alternative[string] {
	return policy.Alternative[string]{Name: name, Run: func(context.Context, error) (string, error) { return "", err }}
}

func TestAnswersInOrder(t *testing.T) {
	errA := errors.New("a is down")
	notFound := status.Errorf(status.NotFound, "no such thing")
	onlyRefusals := says("b")
	onlyRefusals.When = func(why error) bool { return policy.Classify(why) == policy.ClassRefused }
	evenIfAnswered := says("b")
	evenIfAnswered.When = func(error) bool { return true }
	for _, c := range []struct {
		name string
		err  error
		alts texts
		want string // value
		from string
		is   []error // what Why, or the error, must be
		not  []error
	}{
		{"a good answer is not degraded", nil, texts{says("a")}, "ok", "", nil, nil},
		{"the first alternative", errUnavailable, texts{says("a"), says("b")}, "a", "a", []error{errUnavailable}, nil},
		{"the second, with both reasons", errUnavailable, texts{fails("a", errA), says("b")}, "b", "b", []error{errUnavailable, errA}, nil},
		{"none has an answer", errUnavailable, texts{fails("a", errA), fails("b", context.DeadlineExceeded)}, "", "", []error{errUnavailable, errA, context.DeadlineExceeded}, nil},
		{"there is none", errUnavailable, nil, "", "", []error{errUnavailable}, nil},
		{"an answer is not replaced", notFound, texts{says("a")}, "", "", []error{notFound}, nil},
		{"unless that is asked for", notFound, texts{says("a"), evenIfAnswered}, "b", "b", []error{notFound}, nil},
		{"another kind of failure", errUnavailable, texts{onlyRefusals, says("c")}, "c", "c", []error{errUnavailable}, nil},
		{"only another kind of failure", errUnavailable, texts{onlyRefusals}, "", "", []error{errUnavailable}, []error{errA}},
		{"an alternative without a function", errUnavailable, texts{{Name: "a"}, says("b")}, "b", "b", []error{errUnavailable}, nil},
		{"a cancellation of the function's own", context.Canceled, texts{says("a")}, "a", "a", []error{context.Canceled}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, p := range []*policy.Pipeline{mustNew(t, policy.Options{}), nil} {
				a, err := policy.DoAnswer(t.Context(), p, func(context.Context) (string, error) {
					if c.err != nil {
						return "", c.err
					}
					return "ok", nil
				}, c.alts)
				if a.Value != c.want || a.From != c.from {
					t.Errorf("%+v", a)
				}
				why := a.Why
				if c.want == "" {
					why = err
				} else if err != nil {
					t.Error(err)
				}
				if a.Degraded() != (c.from != "") {
					t.Errorf("degraded: %v", a.Degraded())
				}
				for _, e := range c.is {
					if !errors.Is(why, e) {
						t.Errorf("%v is not %v", why, e)
					}
				}
				for _, e := range c.not {
					if errors.Is(why, e) {
						t.Errorf("%v is %v", why, e)
					}
				}
				if p != nil && p.Snapshot().Fallbacks != map[bool]int64{true: 1}[a.Degraded()] {
					t.Errorf("%d fallbacks counted", p.Snapshot().Fallbacks)
				}
			}
		})
	}
}

// What the whole counts for is what the call counted for, whatever its alternatives met.
func TestFallbackErrorIsTheCallsOwn(t *testing.T) {
	plain := errors.New("plain")
	a, err := policy.DoAnswer(t.Context(), nil, func(context.Context) (string, error) { return "half", plain },
		texts{fails("cache", status.Errorf(status.NotFound, "not in the cache")), fails("other", errUnavailable)})
	if status.CodeOf(err) != status.Unknown || !errors.Is(err, plain) || !errors.Is(err, errUnavailable) {
		t.Errorf("%v: %v", status.CodeOf(err), err)
	}
	f, ok := errors.AsType[*policy.FallbackError](err)
	if !ok || f.Call != plain || len(f.Tried) != 2 || f.Tried[0].Name != "cache" { //nolint:errorlint // the very same
		t.Errorf("%+v", f)
	}
	if text := err.Error(); !strings.HasPrefix(text, "plain; instead cache: ") || !strings.Contains(text, "; instead other: ") {
		t.Errorf("%q", text)
	}
	if a.Value != "half" || a.Degraded() { // what a function returns beside its error is not lost
		t.Errorf("%+v", a)
	}
}

func TestNoAnswerForThoseWhoHaveGone(t *testing.T) {
	for _, when := range []string{"before", "during", "in an alternative"} {
		t.Run(when, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if when == "before" {
				cancel()
			}
			tried := 0
			gives := policy.Alternative[string]{Name: "a", Run: func(context.Context, error) (string, error) {
				tried++
				cancel()
				return "", errUnavailable
			}}
			a, err := policy.DoAnswer(ctx, mustNew(t, policy.Options{}), func(ctx context.Context) (string, error) {
				if when == "during" {
					cancel()
				}
				return "", errUnavailable
			}, texts{gives, says("unwanted")})
			if err == nil || a.Degraded() {
				t.Errorf("%+v, %v", a, err)
			}
			if want := map[string]int{"in an alternative": 1}[when]; tried != want {
				t.Errorf("%d tried", tried)
			}
		})
	}
}

// The time that is left is shared out: the call and earlier alternatives leave to later ones what these need.
func TestAlternativesGetTheirTime(t *testing.T) {
	hangs := func(ctx context.Context) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	}
	needs := func(name string, d time.Duration, run func(context.Context) (string, error)) policy.Alternative[string] {
		return policy.Alternative[string]{Name: name, Needs: d, Run: func(ctx context.Context, _ error) (string, error) { return run(ctx) }}
	}
	answer := func(context.Context) (string, error) { return "here", nil }
	for _, c := range []struct {
		name     string
		deadline time.Duration // 0 = none
		alts     texts
		from     string
		after    time.Duration
		noTime   bool
	}{
		{"one", time.Second, texts{needs("a", 100*time.Millisecond, answer)}, "a", 900 * time.Millisecond, false},
		{"the second is not starved by the first", time.Second,
			texts{needs("a", 200*time.Millisecond, hangs), needs("b", 100*time.Millisecond, answer)}, "b", 900 * time.Millisecond, false},
		{"at most half is kept back", time.Second, texts{needs("a", 10*time.Second, answer), says("b")}, "b", 500 * time.Millisecond, true},
		{"a constant needs no time", time.Second, texts{says("a")}, "a", time.Second, false},
		{"a constant after one that hangs", time.Second, texts{needs("a", 300*time.Millisecond, hangs), says("b")}, "b", time.Second, false},
	} {
		for _, pipeline := range []bool{true, false} {
			t.Run(c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), c.deadline)
					defer cancel()
					var p *policy.Pipeline
					if pipeline {
						p = mustNew(t, policy.Options{})
					}
					began := time.Now()
					a, err := policy.DoAnswer(ctx, p, hangs, c.alts)
					if err != nil || a.From != c.from || time.Since(began) != c.after {
						t.Errorf("%+v, %v after %v", a, err, time.Since(began))
					}
					if !errors.Is(a.Why, context.DeadlineExceeded) || errors.Is(a.Why, policy.ErrNoTime) != c.noTime {
						t.Errorf("why: %v", a.Why)
					}
				})
			})
		}
	}
}

// A deadline that only the policies know of holds for alternatives too.
func TestAlternativesHeedTheCallsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustNew(t, policy.Options{})
		began := time.Now()
		a, err := policy.DoAnswer(t.Context(), p, func(context.Context) (string, error) { return "", errUnavailable },
			texts{{Name: "a", Run: func(ctx context.Context, _ error) (string, error) { <-ctx.Done(); return "", ctx.Err() }}},
			policy.Call{Deadline: policy.Now().Add(time.Second)})
		if !errors.Is(err, context.DeadlineExceeded) || a.Degraded() || time.Since(began) != time.Second {
			t.Errorf("%+v, %v after %v", a, err, time.Since(began))
		}
	})
}

func BenchmarkDoAnswer(b *testing.B) {
	p := mustNew(b, policy.Options{})
	last, err := policy.NewStale[string, int](policy.StaleOptions[int]{})
	if err != nil {
		b.Fatal(err)
	}
	alternatives := []policy.Alternative[int]{last.Last("k"), {Name: "zero", Run: func(context.Context, error) (int, error) { return 0, nil }}}
	b.ReportAllocs()
	ctx := b.Context()
	f := func(context.Context) (int, error) { return 1, nil }
	for b.Loop() {
		if _, err := policy.DoAnswer(ctx, p, f, alternatives); err != nil {
			b.Fatal(err)
		}
	}
}

// A negative Needs is none: it does not take time from the alternatives.
func TestNegativeNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		end, _ := ctx.Deadline()
		a := policy.Alternative[string]{Name: "a", Needs: -500 * ms, Run: func(ctx context.Context, _ error) (string, error) {
			if d, _ := ctx.Deadline(); !d.Equal(end) {
				t.Errorf("it has %v, want the caller's second", time.Until(d))
			}
			return "a", nil
		}}
		if got, err := policy.DoAnswer(ctx, nil, func(context.Context) (string, error) { return "", errUnavailable }, texts{a}); got.From != "a" || err != nil {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// However much the alternatives need, the call keeps half.
func TestNeedsOfAnEternity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		a := says("a")
		a.Needs = math.MaxInt64
		_, _ = policy.DoAnswer(ctx, nil, func(ctx context.Context) (string, error) {
			if d, _ := ctx.Deadline(); time.Until(d) != 500*ms {
				t.Errorf("the call has %v, want half a second", time.Until(d))
			}
			return "", errUnavailable
		}, texts{a, a})
	})
}

// hearer writes down what an Observer is told.
type hearer struct{ heard []string }

func (h *hearer) Call(_ policy.Time, _ *policy.Call, s *policy.Story) {
	h.heard = append(h.heard, "call "+s.Class.String())
}

func (h *hearer) Fallback(_ policy.Time, from string, why error) {
	h.heard = append(h.heard, "fallback "+from+": "+why.Error())
}

// An Observer hears who answered for a call that failed, after the call; and nothing if nobody did.
func TestObserverHearsOfFallbacks(t *testing.T) {
	h := &hearer{}
	p, err := policy.New(policy.Options{Observer: h})
	if err != nil {
		t.Fatal(err)
	}
	down := func(context.Context) (string, error) { return "", errors.New("down") }
	up := func(context.Context) (string, error) { return "up", nil }
	var got []bool
	for _, f := range []func(context.Context) (string, error){up, down} {
		_, err1 := policy.DoAnswer(t.Context(), p, f, texts{fails("a", errors.New("a too")), says("b")})
		_, err2 := policy.DoElse(t.Context(), p, f, func(context.Context, error) (string, error) { return "else", nil })
		_, err3 := policy.DoAnswer(t.Context(), p, f, texts{fails("a", errors.New("a too"))})
		_, err4 := policy.DoElse(t.Context(), p, f, func(_ context.Context, why error) (string, error) { return "", why })
		got = append(got, err1 == nil, err2 == nil, err3 == nil, err4 == nil)
	}
	if want := []bool{true, true, true, true, true, true, false, false}; !slices.Equal(got, want) {
		t.Errorf("answered %v, want %v", got, want)
	}
	want := []string{"call ok", "call ok", "call ok", "call ok", "call internal", "fallback b: down; instead a: a too",
		"call internal", "fallback : down", "call internal", "call internal"}
	if !slices.Equal(h.heard, want) {
		t.Errorf("heard %q, want %q", h.heard, want)
	}
	if n := p.Snapshot().Fallbacks; n != 2 {
		t.Errorf("%d fallbacks counted, want 2", n)
	}
}

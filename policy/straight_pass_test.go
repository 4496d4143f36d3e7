package policy_test

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/policy/concurrency"
)

// strict embeds a gate that can let calls pass quickly, and refuses all of them.
type strict struct{ *breaker.Breaker }

func (strict) Admit(policy.Time, rand.Source, *policy.Call) policy.Verdict {
	return policy.Verdict{Decision: policy.Refuse, State: "strict", Reason: "it refuses all"}
}

// A gate with an Admit of its own is asked, whatever it embeds.
func TestEmbeddedGatesDoNotPass(t *testing.T) {
	b, err := breaker.New(breaker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.New(policy.Options{Breaker: policy.Slot{Name: "breaker", Gate: strict{b}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := policy.Do(t.Context(), p, func(context.Context) (int, error) { return 1, nil }); err == nil {
		t.Error("a call went past a gate that refuses all")
	}
}

// Gates that let calls pass quickly refuse and count like others.
func TestPassingGatesCount(t *testing.T) {
	b, err := breaker.New(breaker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := concurrency.New(concurrency.Options{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.New(policy.Options{Breaker: policy.Slot{Name: "breaker", Gate: b}, Concurrency: policy.Slot{Name: "concurrency", Gate: l}})
	if err != nil {
		t.Fatal(err)
	}
	call := func() error {
		_, err := policy.Do(t.Context(), p, func(context.Context) (int, error) {
			if n := l.Snapshot().InUse; n != 1 {
				t.Errorf("%d in use", n)
			}
			_, err := policy.Do(t.Context(), p, func(context.Context) (int, error) { return 1, nil })
			if err == nil {
				t.Error("two at once where one may be")
			}
			return 1, nil
		})
		return err
	}
	if err := call(); err != nil {
		t.Error(err)
	}
	if s := b.Snapshot(policy.Now()); s.Calls != 1 || s.Failed != 0 {
		t.Errorf("%+v, want the outer call counted, and the refusal not", s)
	}
	b.ForceOpen(policy.Now())
	if _, err := policy.Do(t.Context(), p, func(context.Context) (int, error) { return 1, nil }); err == nil {
		t.Error("a call goes through an open breaker")
	}
	if s := l.Snapshot(); s.InUse != 0 {
		t.Errorf("%+v", s)
	}
}

// Without a pipeline there is only the function.
func TestDoWithoutAPipeline(t *testing.T) {
	if v, err := policy.Do(t.Context(), nil, func(context.Context) (int, error) { return 7, nil }); v != 7 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
}

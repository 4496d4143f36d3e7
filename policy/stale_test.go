package policy_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/policy"
)

func mustStale(t *testing.T, o policy.StaleOptions[string]) *policy.Stale[int, string] {
	t.Helper()
	s, err := policy.NewStale[int](o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStaleAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustStale(t, policy.StaleOptions[string]{MaxAge: time.Minute})
		p := mustNew(t, policy.Options{})
		get := func(key int, v string, err error) (policy.Answer[string], error) {
			return policy.DoAnswer(t.Context(), p, func(context.Context) (string, error) { return v, err }, texts{s.Last(key)})
		}
		if _, err := get(1, "", errUnavailable); !errors.Is(err, policy.ErrNothingKept) || !errors.Is(err, errUnavailable) {
			t.Errorf("nothing is kept yet: %v", err)
		}
		if a, err := get(1, "one", nil); err != nil || a.Degraded() {
			t.Errorf("%+v, %v", a, err)
		}
		time.Sleep(time.Minute)
		if a, err := get(1, "", errUnavailable); err != nil || a.Value != "one" || a.Age != time.Minute || !a.Degraded() || a.From != "last good answer" {
			t.Errorf("%+v, %v", a, err)
		}
		if _, err := get(2, "", errUnavailable); !errors.Is(err, policy.ErrNothingKept) {
			t.Errorf("another key has another answer: %v", err)
		}
		// A stale answer is not kept as a fresh one.
		time.Sleep(time.Nanosecond)
		if a, err := get(1, "", errUnavailable); !errors.Is(err, policy.ErrNothingKept) || a.Degraded() {
			t.Errorf("too old: %+v, %v", a, err)
		}
		if s.Len() != 0 {
			t.Errorf("%d kept", s.Len())
		}
	})
}

// A call that began earlier and ends later does not put its answer in the place of a newer one.
func TestStaleKeepsTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustStale(t, policy.StaleOptions[string]{})
		_, err := policy.DoAnswer(t.Context(), nil, func(ctx context.Context) (string, error) {
			time.Sleep(time.Second)
			_, err := policy.DoAnswer(ctx, nil, func(context.Context) (string, error) { return "new", nil }, texts{s.Last(1)})
			return "old", err
		}, texts{s.Last(1)})
		if v, age, ok := s.Get(policy.Now(), 1); err != nil || v != "new" || age != 0 || !ok {
			t.Errorf("%q, %v, %v, %v", v, age, ok, err)
		}
	})
}

func TestStaleOptions(t *testing.T) {
	size := func(s string) int { return len(s) }
	for _, o := range []policy.StaleOptions[string]{{MaxAge: -1}, {Keys: -1}, {Bytes: -1, Size: size}, {Bytes: 1}, {Size: size}} {
		if _, err := policy.NewStale[int](o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

// Against a simple model: what is held is the newest keys that fit, and nothing is held that is over a bound.
func TestStaleAgainstAModel(t *testing.T) {
	const keys, bytes, age = 8, 40, 50
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	s := mustStale(t, policy.StaleOptions[string]{MaxAge: age, Keys: keys, Size: func(s string) int { return len(s) }, Bytes: bytes})
	type entry struct {
		key int
		v   string
		at  policy.Time
	}
	var model []entry // the oldest first
	drop := func(key int) {
		for i, e := range model {
			if e.key == key {
				model = append(model[:i], model[i+1:]...)
				return
			}
		}
	}
	now := policy.Time(1000)
	for range 100_000 {
		now = now.Add(time.Duration(rnd.IntN(10)))
		key := rnd.IntN(12)
		if rnd.IntN(2) == 0 {
			v := "0123456789012345678901234567890123456789012"[:rnd.IntN(43)]
			if rnd.IntN(4) > 0 {
				v = v[:len(v)/4]
			}
			s.Keep(now, key, v)
			if drop(key); len(v) <= bytes {
				model = append(model, entry{key, v, now})
			}
			sum := func() (n int) {
				for _, e := range model {
					n += len(e.v)
				}
				return n
			}
			for len(model) > keys || sum() > bytes {
				model = model[1:]
			}
		} else {
			var want entry
			for _, e := range model {
				if e.key == key {
					want = e
				}
			}
			held := want.at != 0
			if held && now.Sub(want.at) > age {
				drop(key)
				held = false
			}
			v, old, ok := s.Get(now, key)
			if ok != held || held && (v != want.v || old != now.Sub(want.at)) {
				t.Fatalf("key %d at %d: %q, %d, %v instead of %+v", key, now, v, old, ok, want)
			}
		}
		if s.Len() != len(model) {
			t.Fatalf("%d kept instead of %d", s.Len(), len(model))
		}
	}
}

// The key that goes is the one whose value is oldest, also if values arrive in another order than they were begun in.
func TestStaleDropsTheOldest(t *testing.T) {
	s := mustStale(t, policy.StaleOptions[string]{Keys: 2})
	s.Keep(20, 1, "newer")
	s.Keep(30, 2, "newest")
	s.Keep(10, 3, "oldest")
	for key, want := range map[int]bool{1: true, 2: true, 3: false} {
		if _, _, ok := s.Get(40, key); ok != want {
			t.Errorf("key %d kept: %v", key, ok)
		}
	}
	s.Keep(25, 1, "between")
	s.Keep(26, 3, "also")
	for key, want := range map[int]bool{1: false, 2: true, 3: true} {
		if _, _, ok := s.Get(40, key); ok != want {
			t.Errorf("then key %d kept: %v", key, ok)
		}
	}
}

// A key that is not itself can never be found again, so it must not take room either.
func TestStaleOfNoNumber(t *testing.T) {
	s, err := policy.NewStale[float64](policy.StaleOptions[string]{Keys: 2})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		s.Keep(policy.Time(i+1), math.NaN(), "lost")
	}
	if s.Len() != 0 {
		t.Errorf("%d are kept", s.Len())
	}
}

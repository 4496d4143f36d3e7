package spec

import (
	"context"
	"errors"
	"testing"

	"github.com/hull-go/hull/policy"
)

// TestState is that a Book tells how all of a service's policies stand, whichever pipelines the calls went through.
func TestState(t *testing.T) {
	b := mustBook(t, "services: {a: {rate: {limit: 100}, hedge: {mode: on}, concurrency: {limit: 7}, methods: {a.B/Plain: {attempt_timeout: {mode: off}, hedge: {mode: off}}}}}")
	if _, ok := b.State(policy.Now(), "a"); ok {
		t.Error("nobody has asked for it")
	}
	call := func(method string, err error) {
		t.Helper()
		m, fault := b.Method("a", method, nil, nil) // new pipelines each time, as connections with options of their own have
		if fault != nil {
			t.Fatal(fault)
		}
		if _, got := policy.Do(t.Context(), m.Unary, func(context.Context) (int, error) { return 0, err }); !errors.Is(got, err) {
			t.Fatal(got)
		}
	}
	call("a.B/Get", nil)
	call("a.B/Get", nil)
	call("a.B/Plain", errors.New("bad"))
	if err := b.Apply(mustParse(t, "services: {a: {rate: {limit: 100}, throttle: {mode: off}, hedge: {mode: on}, methods: {a.B/Plain: {attempt_timeout: {mode: off}, hedge: {mode: off}}}}}")); err != nil {
		t.Fatal(err)
	}
	call("a.B/Get", nil)
	s, ok := b.State(policy.Now(), "a")
	if !ok || len(s.Methods) != 2 || s.Methods[0].Name != "a.B/Get" || s.Methods[1].Name != "a.B/Plain" {
		t.Fatalf("%+v", s)
	}
	get, plain := s.Methods[0], s.Methods[1]
	if get.Unary.Calls != 3 || get.Timeout == nil || !get.Timeout.Cold || get.Hedge == nil {
		t.Errorf("Get: %+v", get)
	}
	if plain.Unary.Calls != 1 || plain.Breaker.Failed != 1 || plain.Timeout != nil || plain.Hedge != nil || plain.Mode["hedge"] != Off {
		t.Errorf("Plain: %+v", plain)
	}
	if s.Rate == nil || s.Rate.Limit != 100 || s.Concurrency == nil || s.Budget == nil || s.Budget.Capacity == 0 || s.Throttle != nil || s.Mode["throttle"] != Off || s.Mode["rate"] == Off {
		t.Errorf("%+v", s)
	}
	if err := b.Apply(mustParse(t, "{}")); err != nil {
		t.Fatal(err)
	}
	if s, _ = b.State(policy.Now(), "a"); s.Rate != nil || s.Throttle == nil {
		t.Errorf("%+v", s)
	}
}

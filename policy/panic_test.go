package policy_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// TestPanicOfClassify: when the user's own Classify panics, that reaches the caller, and every permit comes back.
func TestPanicOfClassify(t *testing.T) {
	for _, straight := range []bool{true, false} {
		for _, detached := range []bool{false, true} {
			brk, limit := &gate{}, &gate{}
			p := mustNew(t, policy.Options{Breaker: policy.Slot{Name: "breaker", Gate: brk}, Concurrency: policy.Slot{Name: "concurrency", Gate: limit},
				Classify: func(err error) policy.Class {
					if err != nil {
						panic("boom")
					}
					return policy.ClassOK
				}})
			if !straight {
				p.Crooked()
			}
			do := policy.Do[int]
			if detached {
				do = policy.Detach[int]
			}
			func() {
				defer func() {
					if v := recover(); v == nil || !strings.Contains(fmt.Sprint(v), "boom") {
						t.Errorf("recovered %v", v)
					}
				}()
				_, err := do(t.Context(), p, func(context.Context) (int, error) { return 0, errUnavailable })
				t.Errorf("no panic, but %v", err)
			}()
			if brk.taken() != 0 || limit.taken() != 0 {
				t.Errorf("straight %v, detached %v: %d and %d permits are out", straight, detached, brk.taken(), limit.taken())
			}
		}
	}
}

// bad is every policy that a user can write; it panics where it is told to.
type bad struct {
	policy.Gate
	admit, attempt, delay, again bool
}

func (b bad) Admit(now policy.Time, rnd rand.Source, c *policy.Call) policy.Verdict {
	boom(b.admit)
	return b.Gate.Admit(now, rnd, c)
}

func (b bad) Attempt(policy.Time, *policy.Call, time.Duration, bool) time.Duration {
	boom(b.attempt)
	return 0
}

func (b bad) Delay(policy.Time, *policy.Call, int) (time.Duration, bool) {
	boom(b.delay)
	return 0, false
}

func (b bad) Again(policy.Time, rand.Source, *policy.Call, int, policy.Class, status.Fate, time.Duration) (time.Duration, bool, string) {
	boom(b.again)
	return 0, true, ""
}

func (bad) Attempts() int { return 3 }

func boom(now bool) {
	if now {
		panic("boom")
	}
}

// badTimeouts and badHedging are bad with the Done of an attempt.
type (
	badTimeouts struct{ bad }
	badHedging  struct{ bad }
)

func (badTimeouts) Done(policy.Time, policy.Ended)       {}
func (badTimeouts) Fair(policy.Time, time.Duration) bool { return false }
func (badHedging) Done(policy.Time, policy.Ended)        {}

// TestPanicOfAPolicy: when a policy of the user's own panics, that reaches the caller, what others have given comes back, and the
// pipeline goes on.
func TestPanicOfAPolicy(t *testing.T) {
	for _, way := range []string{"straight", "crooked", "hedged", "detached"} {
		for at, b := range map[string]bad{
			"own": {admit: true}, "throttle": {admit: true}, "concurrency": {admit: true},
			"timeout": {attempt: true}, "hedge": {delay: true}, "retry": {again: true},
		} {
			if at == "hedge" && way != "hedged" {
				continue
			}
			t.Run(way+" "+at, func(t *testing.T) {
				gates := []*gate{{}, {}, {}, {}}
				slot := func(i int, name string) policy.Slot { return policy.Slot{Name: name, Gate: gates[i]} }
				o := policy.Options{Rate: slot(0, "rate"), Breaker: slot(1, "breaker"), Throttle: slot(2, "throttle"), Concurrency: slot(3, "concurrency")}
				b.Gate = &gate{}
				switch s := (policy.Slot{Name: "bad", Gate: b}); at {
				case "own":
					o.Gates = []policy.Slot{s}
				case "throttle":
					o.Throttle = s
				case "concurrency":
					o.Concurrency = s
				case "timeout":
					o.Timeouts = badTimeouts{b}
				case "hedge":
					o.Hedging = badHedging{b}
				case "retry":
					o.Retries = b
				}
				if o.Retries == nil {
					o.Retries = tries{2, 0}
				}
				if way == "hedged" && o.Hedging == nil {
					o.Hedging = delay(time.Hour)
				}
				do := policy.Do[int]
				if way == "detached" {
					do = policy.Detach[int]
				}
				p := mustNew(t, o)
				if way != "straight" {
					p.Crooked()
				}
				func() {
					defer func() {
						if v := recover(); v == nil || !strings.Contains(fmt.Sprint(v), "boom") {
							t.Errorf("recovered %v", v)
						}
					}()
					_, err := do(t.Context(), p, func(context.Context) (int, error) { return 0, errUnavailable },
						policy.Call{Idempotent: true, SideEffectFree: way == "hedged"})
					t.Errorf("no panic, but %v", err)
				}()
				for i, g := range gates {
					if g.taken() != 0 {
						t.Errorf("gate %d: %d permits are out", i, g.taken())
					}
				}
				if s := p.Snapshot(); s.Calls != 1 || s.Abandoned != 0 {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

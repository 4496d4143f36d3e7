package policy_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
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

// late is every policy that is told how a call or an attempt ended; it panics or ends the goroutine where it is told to.
type late struct {
	name  string
	bad   func(name string)
	told  *[]string
	given *int
}

func (l late) end() {
	*l.told = append(*l.told, l.name)
	*l.given--
	l.bad(l.name)
}

func (l late) Admit(policy.Time, rand.Source, *policy.Call) policy.Verdict {
	*l.given++
	return policy.Verdict{}
}
func (l late) Done(policy.Time, rand.Source, policy.Permit, policy.Outcome) { l.end() }

type lateNodes struct{ late }

func (l lateNodes) Pick(policy.Time, rand.Source, *policy.Call, []policy.Node) (policy.Node, policy.Verdict) {
	*l.given++
	return nodeA, policy.Verdict{}
}
func (l lateNodes) Done(policy.Time, rand.Source, policy.Node, policy.Permit, policy.Ended) { l.end() }

type nodeNamed string

func (n *nodeNamed) ID() string { return string(*n) }

var nodeA = func() *nodeNamed { n := nodeNamed("a"); return &n }()

// TestPanicInDone: whichever gates panic or end the goroutine when a call ends, however it ends, all others are told, and all once.
func TestPanicInDone(t *testing.T) {
	names := []string{"rate", "own", "breaker", "throttle", "node", "concurrency"}
	for _, way := range []string{"straight", "crooked", "nodes", "hedged", "detached"} {
		for mask := range 1 << len(names) {
			for _, how := range []string{"panic", "goexit"} {
				for _, result := range []error{nil, errUnavailable} {
					var told []string
					given := 0
					bad := func(name string) {
						if i := slices.Index(names, name); mask&(1<<i) == 0 {
							return
						}
						if how == "goexit" {
							runtime.Goexit()
						}
						panic("boom")
					}
					slot := func(name string) policy.Slot { return policy.Slot{Name: name, Gate: late{name, bad, &told, &given}} }
					o := policy.Options{Rate: slot("rate"), Gates: []policy.Slot{slot("own")}, Breaker: slot("breaker"), Throttle: slot("throttle"), Concurrency: slot("concurrency")}
					if way == "nodes" || way == "hedged" || way == "detached" {
						o.Nodes = lateNodes{late{"node", bad, &told, &given}}
					} else if mask&(1<<4) != 0 {
						continue
					}
					if way == "hedged" {
						o.Retries, o.Hedging = tries{2, 0}, delay(time.Hour)
					}
					do := policy.Do[int]
					if way == "detached" {
						do = policy.Detach[int]
					}
					p := mustNew(t, o)
					if way == "crooked" {
						p.Crooked()
					}
					done := make(chan bool)
					go func() {
						ended := false
						defer func() { _ = recover(); done <- ended }()
						_, err := do(t.Context(), p, func(context.Context) (int, error) { return 0, result }, policy.Call{SideEffectFree: way == "hedged"})
						ended = err == nil == (result == nil)
					}()
					if ended := <-done; ended != (mask == 0) {
						t.Errorf("%s, %s, %06b, %v: ended well: %v", way, how, mask, result, ended)
					}
					slices.Sort(told)
					if n := len(told); given != 0 || n != len(slices.Compact(told)) {
						t.Errorf("%s, %s, %06b, %v: %d permits are out; told: %v", way, how, mask, result, given, told)
					}
					if s := p.Snapshot(); s.Calls != 1 || s.Abandoned != 0 {
						t.Errorf("%s, %s, %06b, %v: %+v", way, how, mask, result, s)
					}
				}
			}
		}
	}
}

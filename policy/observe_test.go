package policy_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// picky wants to hear of calls that failed.
type picky struct{ asked, told int }

func (p *picky) Wants(_ policy.Time, c *policy.Call, class policy.Class, took time.Duration) bool {
	p.asked++
	return class != policy.ClassOK
}

func (p *picky) Call(_ policy.Time, _ *policy.Call, s *policy.Story) {
	if s.Class == policy.ClassOK {
		panic("told of a call that it does not want to hear of")
	}
	p.told++
}

// heard is a Runner that wants to know what its own call came to.
type heard struct {
	err  error
	told int
}

func (h *heard) Run(context.Context, policy.Attempt) error           { return h.err }
func (h *heard) Call(_ policy.Time, _ *policy.Call, _ *policy.Story) { h.told++ }

type mute struct{ err error }

func (m mute) Run(context.Context, policy.Attempt) error { return m.err }

// TestSelectiveObserver is that it is told of what it wants to hear of, whoever else is told, and of nothing else.
func TestSelectiveObserver(t *testing.T) {
	for _, hedged := range []bool{false, true} {
		p := &picky{}
		o := policy.Options{Observer: p}
		if hedged {
			o.Retries, o.Hedging = tries{1, 0}, delay(time.Hour)
		}
		line := mustNew(t, o)
		call := policy.Call{SideEffectFree: true}
		_, _ = line.Drive(t.Context(), call, mute{})
		_, _ = line.Drive(t.Context(), call, mute{errors.New("bad")})
		if p.asked != 2 || p.told != 1 {
			t.Errorf("hedged %t: asked %d times and told %d times, want 2 and 1", hedged, p.asked, p.told)
		}
		h := &heard{err: errors.New("bad")}
		if _, _ = line.Drive(t.Context(), call, h); h.told != 1 || p.told != 2 {
			t.Errorf("hedged %t: a runner is told %d times, the observer %d times, want 1 and 2", hedged, h.told, p.told)
		}
	}
}

// bursting panics when it is asked.
type bursting struct{ policy.Observer }

func (bursting) Wants(policy.Time, *policy.Call, policy.Class, time.Duration) bool { panic("asked") }

// outlasted is a Runner whose first attempt ends well when the second has begun, which ends when it is let.
type outlasted struct{ begun, let chan struct{} }

func (r outlasted) Run(_ context.Context, a policy.Attempt) error {
	if a.N == 0 {
		<-r.begun
		return nil
	}
	close(r.begun)
	<-r.let
	return nil
}

// TestSelectiveObserverThatPanics is that the attempts which still run can end afterwards: it is asked outside of every lock.
func TestSelectiveObserverThatPanics(t *testing.T) {
	line := mustNew(t, policy.Options{Observer: bursting{&picky{}}, Retries: tries{2, 0}, Hedging: delay(time.Millisecond)})
	r := outlasted{make(chan struct{}), make(chan struct{})}
	var said any
	func() {
		defer func() { said = recover() }()
		_, _ = line.Drive(t.Context(), policy.Call{SideEffectFree: true}, r)
	}()
	if n := line.Snapshot().Abandoned; said != "asked" || n != 1 {
		t.Errorf("it said %v, and %d attempts run on", said, n)
	}
	close(r.let)
	for until := time.Now().Add(20 * time.Second); line.Snapshot().Abandoned != 0; runtime.Gosched() {
		if time.Now().After(until) {
			t.Fatal("the attempt that lost cannot end")
		}
	}
}

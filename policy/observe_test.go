package policy_test

import (
	"context"
	"errors"
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

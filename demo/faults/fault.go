package faults

import (
	"context"
	"math/rand/v2"
	"time"
)

// Fault does something to a call. It is safe for concurrent use.
type Fault interface {
	// Pass runs next, the handler, or not, and returns what the caller gets to see.
	Pass(ctx context.Context, next func(context.Context) (any, error)) (any, error)
}

// The names of the faults, as the page, the API and the Set spell them.
const (
	NameSlow   = "slow"
	NameErrors = "errors"
	NamePanic  = "panic"
	NameWrong  = "wrong"
	NameRefuse = "refuse"
)

// Setting says how much of a fault there is to be. Fields that a fault does not know are ignored.
type Setting struct {
	// Factor is by how much Slow multiplies the time of a call; 0 = 20.
	Factor float64 `json:"factor,omitempty"`
	// Delay is what Slow adds to a call instead, in milliseconds; 0 = use Factor.
	Delay int `json:"ms,omitempty"`
	// Percent is the share of calls that errors, panic and wrong hit, 1 to 100; 0 = 50 for errors, 100 for the others.
	Percent int `json:"percent,omitempty"`
}

func (s Setting) percent(otherwise int) int {
	if s.Percent == 0 {
		return otherwise
	}
	return s.Percent
}

// hit draws whether a call is among the given share.
func hit(percent int) bool { return rand.IntN(100) < percent }

// pause waits for d or for ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

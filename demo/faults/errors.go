package faults

import (
	"context"

	"github.com/hull-go/hull/status"
)

// failing answers a share of the calls with an error.
type failing struct{ percent int }

func newFailing(s Setting) failing { return failing{s.percent(50)} }

// Pass draws before the handler runs, as a node does whose own dependency is away.
func (f failing) Pass(ctx context.Context, next func(context.Context) (any, error)) (any, error) {
	if hit(f.percent) {
		return nil, status.Errorf(status.Unavailable, "fault injected: this node answers %d %% of its calls with an error", f.percent)
	}
	return next(ctx)
}

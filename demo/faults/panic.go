package faults

import "context"

// panicking panics in the handler of a share of the calls.
type panicking struct{ percent int }

func newPanicking(s Setting) panicking { return panicking{s.percent(100)} }

// Pass lets the server deal with it: only this call may fail.
func (f panicking) Pass(ctx context.Context, next func(context.Context) (any, error)) (any, error) {
	if hit(f.percent) {
		panic("fault injected: the handler panics")
	}
	return next(ctx)
}

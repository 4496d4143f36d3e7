package policy

import (
	"context"
	"errors"
)

// DoElse is Do with a fallback: if the call fails, for whatever reason but the caller's own cancellation, its result is
// that of instead, which is given the error.
func DoElse[T any](ctx context.Context, p *Pipeline, fn func(context.Context) (T, error), instead func(context.Context, error) (T, error), c ...Call) (T, error) {
	v, err := Do(ctx, p, fn, c...)
	if err == nil || errors.Is(ctx.Err(), context.Canceled) {
		return v, err
	}
	return instead(ctx, err)
}

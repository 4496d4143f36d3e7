package faults

import (
	"context"
	"time"
)

// slow makes calls take longer.
type slow struct {
	factor float64
	delay  time.Duration
}

func newSlow(s Setting) slow {
	f := slow{factor: s.Factor, delay: time.Duration(s.Delay) * time.Millisecond}
	if f.factor == 0 {
		f.factor = 20
	}
	return f
}

// Pass runs the handler first, because it is what tells how long "20 times as long" is.
func (f slow) Pass(ctx context.Context, next func(context.Context) (any, error)) (any, error) {
	start := time.Now()
	rep, err := next(ctx)
	wait := f.delay
	if wait == 0 {
		wait = time.Duration((f.factor - 1) * float64(time.Since(start)))
	}
	if e := pause(ctx, wait); e != nil {
		return nil, e
	}
	return rep, err
}

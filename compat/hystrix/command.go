package hystrix

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/policy"
)

// command is one call of Do or Go. Its run function has a goroutine of its own, because it may ignore its timeout. What ends first decides
// how the command ended: the function, its time, or its caller.
type command struct {
	ctx context.Context // the caller's

	// Either these, or those with a context.
	run       runFunc
	fallback  fallbackFunc
	runC      runFuncC
	fallbackC fallbackFuncC

	circuit *CircuitBreaker
	permit  permit
	placed  bool // it has a place in the pool
	life    *life
	start   policy.Time

	decided atomic.Bool
	// What the function's goroutine leaves, if it has decided.
	err   error
	ended policy.Time

	// Of Do.
	done    chan struct{} // closed by the function's goroutine or the timer, when it has decided
	expired bool          // it was the timer
	// Of Go.
	errs  chan error
	timer *time.Timer
	leave func() bool
}

// admit asks whether the command may run, and returns the reason if it may not.
func (cmd *command) admit(c *CircuitBreaker) error {
	cmd.circuit = c
	cmd.start = policy.Now()
	if err := cmd.ctx.Err(); err != nil {
		return err
	}
	p, ok := c.admit(cmd.start)
	cmd.permit = p
	if !ok {
		return ErrCircuitOpen
	}
	if cmd.placed = c.pool.take(cmd.start); !cmd.placed {
		return ErrMaxConcurrency
	}
	if cmd.runC != nil {
		cmd.life = &life{parent: cmd.ctx}
	}
	return nil
}

func (cmd *command) hasFallback() bool { return cmd.fallback != nil || cmd.fallbackC != nil }

// decide reports whether nobody else has decided how the command ended.
func (cmd *command) decide() bool { return cmd.decided.CompareAndSwap(false, true) }

// do runs the command for Do: its end, with the fallback, is the caller's work.
func do(cmd *command, name string) error {
	c, _, err := GetCircuit(name)
	if err != nil {
		return err
	}
	if err := cmd.admit(c); err != nil {
		return cmd.finish(cmd.start, err)
	}
	cmd.done = make(chan struct{})
	go cmd.work()

	// A timer with a function and one channel are cheaper than two channels.
	timer := time.AfterFunc(c.settings.Load().Timeout, cmd.expire)
	if ended := cmd.ctx.Done(); ended != nil {
		select {
		case <-cmd.done:
		case <-ended:
			if cmd.decide() {
				timer.Stop()
				return cmd.giveUp(cmd.ctx.Err())
			}
			<-cmd.done
		}
	} else {
		<-cmd.done
	}
	if cmd.expired {
		return cmd.giveUp(ErrTimeout)
	}
	timer.Stop()
	return cmd.finish(cmd.ended, cmd.err)
}

// expire is called when the time of Do's function is up.
func (cmd *command) expire() {
	if cmd.decide() {
		cmd.expired = true
		close(cmd.done)
	}
}

// start runs the command for Go: its end is the work of the goroutine that decides.
func start(cmd *command, name string) chan error {
	cmd.errs = make(chan error, 1)
	c, _, err := GetCircuit(name)
	if err != nil {
		cmd.errs <- err
		return cmd.errs
	}
	if err := cmd.admit(c); err != nil {
		if !cmd.hasFallback() {
			_ = cmd.finish(cmd.start, err)
		} else {
			go func() { _ = cmd.finish(cmd.start, err) }()
		}
		return cmd.errs
	}
	if cmd.ctx.Done() != nil {
		cmd.leave = context.AfterFunc(cmd.ctx, func() {
			if cmd.decide() {
				_ = cmd.giveUp(cmd.ctx.Err())
			}
		})
	}
	cmd.timer = time.AfterFunc(c.settings.Load().Timeout, func() {
		if cmd.decide() {
			if cmd.leave != nil {
				cmd.leave()
			}
			_ = cmd.giveUp(ErrTimeout)
		}
	})
	go cmd.work()
	return cmd.errs
}

// work is the goroutine of the function.
func (cmd *command) work() {
	if cmd.decided.Load() {
		return // given up before it began
	}
	var ctx *runContext
	returned := false
	defer func() {
		if !returned {
			cmd.err = stopped(recover())
		}
		err := cmd.err
		cmd.ended = policy.Now()
		if !cmd.decide() {
			if _, ok := errors.AsType[*PanicError](err); ok {
				logf("hystrix: a command of circuit %v panicked after it was given up: %v", cmd.circuit.Name, err)
			}
			return
		}
		if ctx != nil {
			ctx.handOver()
		}
		if cmd.done != nil {
			close(cmd.done)
			return
		}
		cmd.timer.Stop()
		if cmd.leave != nil {
			cmd.leave()
		}
		_ = cmd.finish(cmd.ended, err)
	}()
	if cmd.runC != nil {
		ctx = &runContext{Context: cmd.ctx, life: cmd.life}
		cmd.err = cmd.runC(ctx)
	} else {
		cmd.err = cmd.run()
	}
	returned = true
}

// giveUp ends a command whose function still runs.
func (cmd *command) giveUp(why error) error {
	if cmd.life != nil {
		if errors.Is(why, ErrTimeout) {
			cmd.life.end(context.DeadlineExceeded)
		} else {
			cmd.life.end(why)
		}
	}
	return cmd.finish(policy.Now(), why)
}

// finish does what is to be done once it is decided how the command ended, at now with err: gives its place back, calls the fallback,
// counts, and only then lets the caller know.
func (cmd *command) finish(now policy.Time, err error) (result error) {
	var ran time.Duration
	if cmd.placed {
		ran = now.Sub(cmd.start)
		cmd.circuit.pool.giveBack(now)
	}
	if err == nil {
		cmd.report(now, success, none, ran)
		return nil
	}
	e := cmd.event(err)
	if !cmd.hasFallback() {
		cmd.report(now, e, none, ran)
		return cmd.send(err)
	}
	returned := false
	var failed error
	defer func() {
		if !returned {
			failed = stopped(recover())
		}
		how := fallbackSuccess
		if failed != nil {
			how = fallbackFailure
			result = &fallbackError{fallback: failed, run: err}
		}
		cmd.report(policy.Now(), e, how, ran)
		result = cmd.send(result)
	}()
	if cmd.fallbackC != nil {
		failed = cmd.fallbackC(cmd.ctx, err)
	} else {
		failed = cmd.fallback(err)
	}
	returned = true
	return nil
}

// event sorts what a command ended with.
func (cmd *command) event(err error) event {
	switch {
	case exactly(err, ErrCircuitOpen):
		return shortCircuit
	case exactly(err, ErrMaxConcurrency):
		return rejected
	case exactly(err, ErrTimeout):
		return timeout
	case exactly(err, context.Canceled):
		return canceled
	case exactly(err, context.DeadlineExceeded):
		return deadlineExceeded
	}
	// What a function wraps is the dependency's, unless it passes on that the caller has given up.
	switch gone := cmd.ctx.Err(); {
	case gone == nil || !errors.Is(err, gone):
		return failure
	case errors.Is(gone, context.DeadlineExceeded):
		return deadlineExceeded
	default:
		return canceled
	}
}

// exactly compares as hystrix-go does, and as its users do.
func exactly(err, target error) bool {
	return err == target //nolint:errorlint // what is wrapped is something else here
}

// report counts the command.
func (cmd *command) report(now policy.Time, e, fallback event, ran time.Duration) {
	c := cmd.circuit
	if e.counts() {
		c.changed(c.health.done(now, cmd.permit, !e.isError()))
	}
	if err := c.metrics.update(now, c.pool, e, fallback, now.Sub(cmd.start), ran); err != nil {
		logf("%v", err)
	}
}

// send tells the caller of Go about an error.
func (cmd *command) send(err error) error {
	if cmd.errs != nil && err != nil {
		cmd.errs <- err
	}
	return err
}

package hystrix

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
)

type runFunc func() error
type fallbackFunc func(error) error
type runFuncC func(context.Context) error
type fallbackFuncC func(context.Context, error) error

// CircuitError is why a command was refused or given up.
type CircuitError struct {
	Message string
}

// Error returns the message after "hystrix: ".
func (e CircuitError) Error() string {
	return "hystrix: " + e.Message
}

// What a command fails with that was refused or given up. They can be compared, and found with errors.Is below the error of a
// fallback that failed, too.
var (
	// ErrMaxConcurrency: as many commands of that name run as may.
	ErrMaxConcurrency = CircuitError{Message: "max concurrency"}
	// ErrCircuitOpen: the latest commands of that name failed too often.
	ErrCircuitOpen = CircuitError{Message: "circuit open"}
	// ErrTimeout: the command took longer than its timeout.
	ErrTimeout = CircuitError{Message: "timeout"}
)

// PanicError is the error of a run function or fallback that panicked. hystrix-go has no such thing: there a panic kills the process.
type PanicError struct {
	// Value is what panic was called with, Stack where.
	Value any
	Stack []byte
}

// Error returns the value after "hystrix: panic: ".
func (e *PanicError) Error() string { return fmt.Sprintf("hystrix: panic: %v", e.Value) }

// Unwrap returns the value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

var errGoexit = errors.New("hystrix: the function ended its goroutine with runtime.Goexit")

// stopped is the error of a function that did not return, given what recover says.
func stopped(recovered any) error {
	if recovered == nil {
		return errGoexit
	}
	return &PanicError{Value: recovered, Stack: debug.Stack()}
}

// fallbackError is the error of a command whose fallback failed as well.
type fallbackError struct {
	fallback, run error
}

func (e *fallbackError) Error() string {
	return fmt.Sprintf("fallback failed with '%v'. run error was '%v'", e.fallback, e.run)
}

// Unwrap returns both causes.
func (e *fallbackError) Unwrap() []error { return []error{e.fallback, e.run} }

// Do runs a function as a command of that name, and waits until it returns or its time is up. If the command fails or may not run,
// fallback is called with the reason, unless it is nil, and what it returns is the result. See the package comment for what a function
// that goes on after its timeout means.
func Do(name string, run runFunc, fallback fallbackFunc) error {
	return do(&command{ctx: context.Background(), run: run, fallback: fallback}, name)
}

// DoC is Do with a context. Its end ends the command. The context that run is given also ends at the command's timeout; fallback's does
// not.
func DoC(ctx context.Context, name string, run runFuncC, fallback fallbackFuncC) error {
	return do(&command{ctx: ctx, runC: run, fallbackC: fallback}, name)
}

// Go is Do without waiting: it returns at once, and the error, if the command ends with one, arrives at the channel. A command that
// succeeds, or whose fallback does, sends nothing.
func Go(name string, run runFunc, fallback fallbackFunc) chan error {
	return start(&command{ctx: context.Background(), run: run, fallback: fallback}, name)
}

// GoC is DoC without waiting, see Go.
func GoC(ctx context.Context, name string, run runFuncC, fallback fallbackFuncC) chan error {
	return start(&command{ctx: ctx, runC: run, fallbackC: fallback}, name)
}

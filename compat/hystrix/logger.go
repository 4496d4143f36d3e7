package hystrix

import "sync/atomic"

type logger interface {
	Printf(format string, items ...any)
}

// NoopLogger logs nothing.
type NoopLogger struct{}

// Printf does nothing.
func (l NoopLogger) Printf(format string, items ...any) {}

// current is the logger of the package, in a struct because loggers are of different types.
var current atomic.Pointer[struct{ logger }]

// SetLogger makes l log what circuits do: opening, testing, closing, and results that a collector could not take in. It may be
// called at any time; nil logs nothing. l must be safe for concurrent use.
func SetLogger(l logger) {
	if l == nil {
		l = DefaultLogger
	}
	current.Store(&struct{ logger }{l})
}

func logf(format string, items ...any) {
	if l := current.Load(); l != nil {
		l.Printf(format, items...)
	}
}

package policy

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// EventLogger writes one line for each change of a policy's state: at level Warn if calls are refused or held back from then on, at
// Debug for initial states, else at Info. The message is the policy and its new state, such as "breaker open"; the
// line's time is when it happened. It is safe for concurrent use.
type EventLogger struct {
	h slog.Handler

	mu   sync.Mutex // guards what follows
	seen map[EventSource]uint64
}

// NewEventLogger returns an EventLogger that writes to l.
func NewEventLogger(l *slog.Logger) *EventLogger {
	return &EventLogger{h: l.Handler(), seen: map[EventSource]uint64{}}
}

// Log writes what happened to the sources since it was last called, source by source. Call it every second or so, from wherever
// something is done at intervals. A source that is not named any more is forgotten; one that is named twice is logged once, under
// its first name. Sources are told apart as map keys are, so they are pointers. The error is the handler's first.
func (l *EventLogger) Log(ctx context.Context, now Time, sources []NamedSource) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := make(map[EventSource]uint64, len(sources))
	var first error
	for i := range sources {
		n := &sources[i]
		if _, twice := seen[n.Source]; twice {
			continue
		}
		last := l.seen[n.Source]
		for _, e := range n.Source.Events(now, last) {
			if err := l.write(ctx, now, n, e, last); err != nil && first == nil {
				first = err
			}
			last = e.Seq
		}
		seen[n.Source] = last
	}
	l.seen = seen
	return first
}

func (l *EventLogger) write(ctx context.Context, now Time, n *NamedSource, e Event, last uint64) error {
	level := slog.LevelInfo
	switch {
	case e.Refusing:
		level = slog.LevelWarn
	case e.From == "":
		level = slog.LevelDebug
	}
	if !l.h.Enabled(ctx, level) {
		return nil
	}
	if e.At == 0 {
		e.At = now
	}
	r := slog.NewRecord(e.At.Clock(), level, n.Policy+" "+e.To, 0)
	text := func(name, value string) {
		if value != "" {
			r.AddAttrs(slog.String(name, value))
		}
	}
	text("key", n.Key)
	if e.From != e.To {
		text("from", e.From)
	}
	text("why", e.Reason)
	if e.Until > e.At {
		r.AddAttrs(slog.Duration("retry_after", e.Until.Sub(e.At).Round(time.Millisecond)))
	}
	if e.Was != 0 {
		r.AddAttrs(slog.Float64("was", e.Was))
	}
	if e.Is != 0 {
		r.AddAttrs(slog.Float64("is", e.Is))
	}
	if n.Mode != On {
		r.AddAttrs(slog.String("mode", n.Mode.String()))
	}
	if missed := e.Seq - last - 1; last != 0 && missed > 0 {
		r.AddAttrs(slog.Uint64("missed", missed))
	}
	return l.h.Handle(ctx, r)
}

package hull

import (
	"context"
	"log/slog"
	"time"

	"github.com/hull-go/hull/policy"
)

// eventsEvery is how often a client looks for what to log of its policies.
const eventsEvery = time.Second

// logEvents writes a line for each change of state of the client's policies until ctx ends: a breaker that opened, a budget that ran
// empty, calls that find no place any more.
func (c *Client) logEvents(ctx context.Context, l *slog.Logger) {
	events := policy.NewEventLogger(l)
	t := time.NewTicker(eventsEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		_ = events.Log(ctx, policy.Now(), c.book.EventSources()) // a handler that cannot write has nowhere to say so
	}
}

package policy_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
)

// A line for each change of state. A program calls Log every second, from a ticker that it has anyway.
func ExampleEventLogger() {
	b, err := breaker.New(breaker.Options{MinCalls: 2, Jitter: -1})
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := policy.New(policy.Options{Key: "db", Breaker: policy.Slot{Name: "breaker", Gate: b}})
	if err != nil {
		fmt.Println(err)
		return
	}
	lines := policy.NewEventLogger(slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr { // without the time, to be the same each time
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})))
	ctx := context.Background()
	for range 2 {
		_, _ = policy.Do(ctx, p, func(context.Context) (int, error) { return 0, errors.New("connection refused") })
	}
	if err := lines.Log(ctx, policy.Now(), p.EventSources()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// level=DEBUG msg="breaker closed" key=db why=created
	// level=WARN msg="breaker open" key=db from=closed why="too many calls failed" retry_after=1s
}

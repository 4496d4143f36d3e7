package ui

import (
	"context"
	"fmt"
	"time"

	"github.com/hull-go/hull/demo/board"
	"github.com/hull-go/hull/demo/load"
)

// traffic returns the built-in load of one side: reads, every fifth call a save, and, if asked for, every twentieth a post,
// which is not idempotent.
func traffic(s *side, room string, rate float64, posts bool) (*load.Generator, error) {
	// Ids differ from run to run, so that an old message file does no harm.
	run := time.Now().UnixNano()
	return load.New(load.Options{
		Rate: rate,
		Call: func(ctx context.Context, n uint64, due time.Time) {
			ctx, cancel := context.WithDeadline(ctx, due.Add(Patience))
			defer cancel()
			switch {
			case posts && n%20 == 7:
				s.post(ctx, &board.PostRequest{Room: room + board.Posts, Author: "load", Text: fmt.Sprintf("post %d-%d", run, n)}, due)
			case n%5 == 3:
				m := board.Message{ID: fmt.Sprintf("%s-%d-%d", room, run, n), Room: room, Author: "load", Text: "a message of the built-in load"}
				// What becomes of it is counted, and nobody waits for it.
				_, _ = s.save(ctx, &m, due)
			default:
				_, _ = s.list(ctx, board.Wall, 10, due)
			}
		},
		Drop: func(uint64) { s.drop() },
	})
}

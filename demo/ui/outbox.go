package ui

import (
	"context"
	"sync"
	"time"

	"github.com/hull-go/hull/demo/board"
	"github.com/hull-go/hull/status"
)

// maxOutbox bounds the messages that wait for the board's return.
const maxOutbox = 2000

// outbox keeps messages that could not be saved, until they can be. Because their writers made the ids, it does no harm if
// one of them was saved after all.
type outbox struct {
	save func(context.Context, *board.Message) error
	wake chan struct{}

	mu        sync.Mutex
	list      []board.Message // the oldest first
	delivered int64
}

func newOutbox(save func(context.Context, *board.Message) error) *outbox {
	return &outbox{save: save, wake: make(chan struct{}, 1)}
}

// add keeps a message, or reports that there is no room.
func (o *outbox) add(m board.Message) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.list) >= maxOutbox {
		return false
	}
	o.list = append(o.list, m)
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return true
}

// state returns what waits in a room, the newest first, how much waits in all, and how much was delivered late so far.
func (o *outbox) state(room string) (list []board.Message, waiting int, delivered int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := len(o.list) - 1; i >= 0; i-- {
		if o.list[i].Room == room {
			list = append(list, o.list[i])
		}
	}
	return list, len(o.list), o.delivered
}

// run delivers until ctx ends.
func (o *outbox) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.wake:
		}
		for o.deliver(ctx) {
			if ctx.Err() != nil {
				return
			}
		}
	}
}

// deliver tries the oldest message and reports whether there are more. After a failure it waits a moment.
func (o *outbox) deliver(ctx context.Context) (more bool) {
	o.mu.Lock()
	if len(o.list) == 0 {
		o.mu.Unlock()
		return false
	}
	m := o.list[0]
	o.mu.Unlock()
	err := o.save(ctx, &m)
	if err != nil && status.CodeOf(err) != status.AlreadyExists && status.CodeOf(err) != status.InvalidArgument {
		t := time.NewTimer(200 * time.Millisecond)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		return true
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = o.list[1:]
	o.delivered++
	return true
}

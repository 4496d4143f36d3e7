package hystrix

import (
	"context"
	"runtime"
	"sync"
)

// runContext is the context of a run function. While the function runs it ends with the command: at the timeout, or when the caller
// gives up. After that it is its parent: what a function leaves behind that works under it, such as the body of a response that is
// still to be read, goes on for as long as the caller's context.
//
// A context of the standard library cannot do that. It has to be cancelled once its function has returned, or is remembered by its
// parent for as long as that lives, which for a context that ends with the program is a leak.
//
// No function or context that is derived from it is reachable from its life once the function has returned. So when it is unreachable
// itself, its life can be taken off the parent.
type runContext struct {
	context.Context // the caller's
	*life
}

// life is what ends a runContext. The command has it, too.
type life struct {
	parent context.Context

	mu       sync.Mutex
	done     chan struct{} // made when somebody asks
	err      error         // not nil once it has ended before its function returned
	returned bool
	waiting  map[*waiter]struct{} // until the function has returned
}

// waiter is a function to call at the end.
type waiter struct {
	f    func()
	stop func() bool // from the parent, once the function has returned
}

// end ends the context, unless the function has returned.
func (l *life) end(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil || l.returned {
		return
	}
	l.err = err
	if l.done != nil {
		close(l.done)
	}
	for w := range l.waiting {
		go w.f()
	}
	l.waiting = nil
}

// Done implements context.Context.
func (c *runContext) Done() <-chan struct{} {
	l := c.life
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done == nil {
		if l.returned {
			return l.parent.Done()
		}
		l.done = make(chan struct{})
		if l.err != nil {
			close(l.done)
		}
	}
	return l.done
}

// Err implements context.Context.
func (c *runContext) Err() error {
	l := c.life
	parents := l.parent.Err()
	if parents != nil {
		l.end(parents) // whoever is to do so is on the way
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	if parents != nil && l.done != nil {
		select {
		case <-l.done:
		default:
			close(l.done)
		}
	}
	return parents
}

// AfterFunc calls f on a goroutine of its own once the context has ended, as context.AfterFunc does, which asks for this method; so does
// whatever derives a context from this one.
func (c *runContext) AfterFunc(f func()) (stop func() bool) {
	l := c.life
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.err != nil:
		go f()
		return func() bool { return false }
	case l.returned:
		return context.AfterFunc(l.parent, f)
	}
	w := &waiter{f: f}
	if l.waiting == nil {
		l.waiting = make(map[*waiter]struct{})
	}
	l.waiting[w] = struct{}{}
	return func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		if w.stop != nil {
			return w.stop()
		}
		_, there := l.waiting[w]
		delete(l.waiting, w)
		return there
	}
}

// handOver is called when the function has returned: from now on the parent alone decides.
func (c *runContext) handOver() {
	l := c.life
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	l.returned = true
	for w := range l.waiting {
		w.stop = context.AfterFunc(l.parent, w.f)
	}
	l.waiting = nil
	if l.done == nil || l.parent.Done() == nil {
		return
	}
	// Somebody may still look at the channel.
	stop := context.AfterFunc(l.parent, l.closeDone)
	runtime.AddCleanup(c, func(stop func() bool) {
		if stop() {
			l.closeDone()
		}
	}, stop)
}

func (l *life) closeDone() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.done:
	default:
		close(l.done)
	}
}

package registry

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hull-go/hull/internal/nearest"
)

// namesFresh is how long a list of names serves error messages without asking again.
const namesFresh = 2 * time.Second

// names remembers the list of services for error messages, so that a storm of lookups of a wrong name does not become
// a storm of lists.
type names struct {
	mu  sync.Mutex
	at  time.Time
	all []string
}

// list asks the driver.
func (ns *names) list(ctx context.Context, r *Registry) ([]string, error) {
	if r.ctx.Err() != nil {
		return nil, ErrClosed
	}
	all, err := r.driver.List(ctx)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(slices.Clone(all), func(s string) bool { return ValidName("service", s) != nil })
	slices.Sort(all)
	all = slices.Compact(all)
	ns.mu.Lock()
	ns.at, ns.all = time.Now(), all
	ns.mu.Unlock()
	return slices.Clone(all), nil
}

// notFound makes the error for a service without nodes; it asks for names at most every few seconds and waits for
// them no longer than a second.
func (r *Registry) notFound(ctx context.Context, service string) *NotFoundError {
	r.names.mu.Lock()
	all, fresh := r.names.all, !r.names.at.IsZero() && time.Since(r.names.at) < namesFresh
	r.names.at = time.Now() // whoever comes next need not ask
	r.names.mu.Unlock()
	known := len(all)
	if !fresh {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		var err error
		all, err = r.names.list(ctx, r)
		if known = len(all); err != nil {
			known = -1
		}
	}
	return &NotFoundError{Service: service, Nearest: nearest.Find(service, all), Known: known}
}

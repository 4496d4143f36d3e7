package registry

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"
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
	return &NotFoundError{Service: service, Nearest: nearest(service, all), Known: known}
}

// nearest returns up to three of names that come near to name, the nearest first.
func nearest(name string, names []string) []string {
	type candidate struct {
		name     string
		distance int
	}
	var found []candidate
	limit := max(1, len(name)/3)
	lower := strings.ToLower(name)
	for _, n := range names {
		if len(n) > len(name)+limit && !strings.Contains(strings.ToLower(n), lower) || n == name {
			continue
		}
		d := distance(lower, strings.ToLower(n))
		if d > limit && len(name) >= 3 && strings.Contains(strings.ToLower(n), lower) {
			d = limit
		}
		if d <= limit {
			found = append(found, candidate{n, d})
		}
	}
	slices.SortStableFunc(found, func(a, b candidate) int {
		if a.distance != b.distance {
			return a.distance - b.distance
		}
		return strings.Compare(a.name, b.name)
	})
	var out []string
	for _, c := range found[:min(3, len(found))] {
		out = append(out, c.name)
	}
	return out
}

// distance is the number of bytes to insert, delete, replace or swap with their neighbour to get from a to b (optimal
// string alignment).
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

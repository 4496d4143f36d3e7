package concurrency

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/hull-go/hull/policy"
)

// Order says who in the line is next among calls of one rank.
type Order uint8

// The orders.
const (
	// Usual: CoDel with an adaptive limit, else FIFO.
	Usual Order = iota
	// FIFO: who came first.
	FIFO
	// LIFO: who came last, who has the most time left. Under lasting overload the others wait in vain.
	LIFO
	// CoDel: FIFO as long as the line empties now and then; when it stands, LIFO, and who waited 2 × Target is refused.
	CoDel
	numOrders
)

// Options describes a limiter. Every zero means the default that stands beside it. Some defaults depend on the kind: a fixed
// limit is a client's bulkhead, where waiting only makes more of what hangs; an adaptive limit is a server's, which needs a
// short line to ride out bursts.
type Options struct {
	// Limit is the number of places: 1024. It stays zero if there is a Source.
	Limit int
	// Source adapts the number of places to what is good for throughput: nil, Limit stays as it is. It belongs to one limiter.
	Source Source
	// Queue is how many may wait for a place: none with a fixed limit, min(4 × limit, 1000) with an adaptive one.
	Queue int
	// NoQueue: nobody waits, with an adaptive limit either.
	NoQueue bool
	// MaxWait is how long each may wait: 100 ms. Without Queue it has no meaning.
	MaxWait time.Duration
	// Share of what is left until its deadline is the longest that a call may wait: 1, and 0.5 with an adaptive limit.
	Share float64
	// Order is who is next: Usual.
	Order Order
	// Target is the wait that CoDel tolerates in a line that does not empty: 5 ms. It should not be less than the machine's
	// scheduling lag.
	Target time.Duration
	// Interval is how long a line must stand before CoDel acts: 100 ms; 200 ms is better under a CPU quota.
	Interval time.Duration
	// Flat: all calls have one rank, whatever their criticality and whether they are retries.
	Flat bool
	// Root returns the hash of the root request that a call belongs to, 0 = not known, so that the calls of one request are
	// served or shed together: Call.Hash. It must be safe for concurrent use and must not keep the call.
	Root func(*policy.Call) uint64
}

// Limits of the line of an adaptive limiter: so many for each place, and at most.
const (
	queuePerPlace = 4
	maxQueue      = 1000
)

// withDefaults fills in the zeroes and returns all faults together.
func (o Options) withDefaults() (Options, error) {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	length := func(name string, v *time.Duration, def time.Duration) {
		fault(*v < 0, "option %s is %v: want a positive time, or 0 for %v", name, *v, def)
		if *v == 0 {
			*v = def
		}
	}
	fault(o.Limit < 0 || o.Limit > math.MaxInt32, "option Limit is %d: want a positive number, or 0 for 1024", o.Limit)
	fault(o.Limit > 0 && o.Source != nil, "option Limit is %d beside a Source: say where the source starts in its own options", o.Limit)
	if o.Limit == 0 {
		o.Limit = 1024
	}
	fault(o.Queue < 0 || o.Queue > math.MaxInt32, "option Queue is %d: want how many may wait, or 0 for the default", o.Queue)
	fault(o.NoQueue && o.Queue > 0, "option Queue is %d beside NoQueue: want one of them", o.Queue)
	length("MaxWait", &o.MaxWait, 100*time.Millisecond)
	fault(!(o.Share >= 0 && o.Share <= 1), "option Share is %v: want a share above 0 and up to 1, or 0 for the default", o.Share)
	if o.Share == 0 {
		o.Share = 1
		if o.Source != nil {
			o.Share = 0.5
		}
	}
	fault(o.Order >= numOrders, "option Order is %d: want one of the constants", o.Order)
	if o.Order == Usual {
		o.Order = FIFO
		if o.Source != nil {
			o.Order = CoDel
		}
	}
	length("Target", &o.Target, 5*time.Millisecond)
	length("Interval", &o.Interval, 100*time.Millisecond)
	if o.Root == nil {
		o.Root = func(c *policy.Call) uint64 { return c.Hash }
	}
	if len(errs) > 0 {
		return o, fmt.Errorf("concurrency: %w", errors.Join(errs...))
	}
	return o, nil
}

// queue is how many may wait when there are limit places.
func (o *Options) queue(limit int) int {
	switch {
	case o.NoQueue:
		return 0
	case o.Queue == 0 && o.Source != nil:
		return min(queuePerPlace*limit, maxQueue)
	}
	return o.Queue
}

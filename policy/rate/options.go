package rate

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/hull-go/hull/policy"
)

// Shape says what happens after a pause.
type Shape uint8

// The shapes.
const (
	// TokenBucket: up to Burst calls go at once.
	TokenBucket Shape = iota
	// LeakyBucket: calls go one by one, Per/Limit apart.
	LeakyBucket
	numShapes
)

// Options describes a limiter. Every zero but Limit's means the default that stands beside it.
type Options struct {
	// Limit is how many calls may go per Per; required. At most 100 million a second. Per/Limit is rounded to nanoseconds.
	Limit float64
	// Per is the time that Limit is about: 1 s.
	Per time.Duration
	// Burst is how many may go at once after a pause: Limit, at least 1. In the first Per after a pause up to Limit + Burst go.
	// With a LeakyBucket it is 1.
	Burst int
	// Shape is TokenBucket.
	Shape Shape
	// MaxWait is how long a call may be held back until its turn: 0, not at all. Nobody waits beyond its deadline.
	MaxWait time.Duration
	// Key tells calls apart that have separate buckets. The zero Key does not.
	Key Key
	// Keys is how many keys are under way at once: 4096. Each takes about 50 bytes, at construction.
	Keys int
	// Seed makes the places of keys reproducible: 0, drawn at random.
	Seed uint64
}

const maxKeys = 1 << 24

// withDefaults fills in the zeroes and returns all faults together.
func (o Options) withDefaults() (Options, error) {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	fault(o.Per < 0, "option Per is %v: want a positive time, or 0 for 1s", o.Per)
	if o.Per == 0 {
		o.Per = time.Second
	}
	fault(!(o.Limit > 0), "option Limit is %v: want how many calls may go per %v", o.Limit, o.Per)
	perSecond := o.Limit / o.Per.Seconds()
	fault(o.Per > 0 && perSecond > 1e8, "option Limit is %v per %v: at most 100 million a second", o.Limit, o.Per)
	fault(o.Burst < 0, "option Burst is %d: want a positive number, or 0 for Limit", o.Burst)
	fault(o.Shape >= numShapes, "option Shape is %d: want TokenBucket or LeakyBucket", o.Shape)
	fault(o.Shape == LeakyBucket && o.Burst > 1, "option Burst is %d: a leaky bucket lets calls go one by one, so leave Burst out", o.Burst)
	if o.Burst == 0 {
		o.Burst = 1
		if o.Shape == TokenBucket && o.Limit > 1 && o.Limit < math.MaxInt32 {
			o.Burst = int(math.Ceil(o.Limit))
		}
	}
	fault(o.MaxWait < 0, "option MaxWait is %v: want a positive time, or 0 for none", o.MaxWait)
	fault(o.Keys < 0 || o.Keys > maxKeys, "option Keys is %d: want a number up to %d, or 0 for 4096", o.Keys, maxKeys)
	if o.Keys == 0 {
		o.Keys = 4096
	}
	// A century of debt keeps sums of it and of times far from overflow.
	space := float64(o.Per) / o.Limit
	fault(len(errs) == 0 && space*float64(o.Burst)+float64(o.MaxWait) > float64(100*365*24*time.Hour),
		"a burst of %d at %v per %v takes over a century to come back: want less Burst or a higher Limit", o.Burst, o.Limit, o.Per)
	if len(errs) > 0 {
		return o, fmt.Errorf("rate: %w", errors.Join(errs...))
	}
	return o, nil
}

// pace is what options come to in time. It is immutable.
type pace struct {
	limit   float64
	burst   int
	space   int64 // T
	ahead   int64 // τ
	maxWait int64
	lease   int64
	gen     uint32 // which pace of its limiter, of genBits
}

func newPace(o Options, gen uint32) *pace {
	space := max(1, int64(math.Round(float64(o.Per)/o.Limit)))
	return &pace{limit: o.Limit, burst: o.Burst, space: space, ahead: int64(o.Burst-1) * space, maxWait: int64(o.MaxWait),
		lease: leaseLength(space, o.Burst), gen: gen}
}

// Key tells calls apart. The zero value does not: all have one bucket.
type Key struct {
	of func(seed uint64, c *policy.Call) uint64
}

// ByHash gives each policy.Call.Hash a bucket.
func ByHash() Key { return ByNumber(func(c *policy.Call) uint64 { return c.Hash }) }

// ByService gives each policy.Call.Service a bucket.
func ByService() Key { return ByString(func(c *policy.Call) string { return c.Service }) }

// ByMethod gives each method of each service a bucket.
func ByMethod() Key {
	return Key{func(seed uint64, c *policy.Call) uint64 {
		return hashString(hashString(seed, c.Service), c.Method)
	}}
}

// ByNumber gives each number that f returns a bucket. f must be safe for concurrent use and must not keep the call.
func ByNumber(f func(*policy.Call) uint64) Key {
	return Key{func(seed uint64, c *policy.Call) uint64 { return hashNumber(seed, f(c)) }}
}

// ByString gives each string that f returns a bucket; the string is not kept. f must be safe for concurrent use and must not
// keep the call.
func ByString(f func(*policy.Call) string) Key {
	return Key{func(seed uint64, c *policy.Call) uint64 { return hashString(seed, f(c)) }}
}

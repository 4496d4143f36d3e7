package admission

import (
	"errors"
	"fmt"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/policy/rate"
)

// Rules say how a Desk decides. They are compared to tell what a change of rules leaves alone. The zero value limits concurrency in two arms,
// watches pressure, keeps reserves, and has no rate limit.
type Rules struct {
	// Limit of calls under way.
	Limit Limit
	// Rate limit of each caller.
	Rate Rate
	// Pressure that sheds less important calls.
	Pressure Pressure
	// NoReserve: methods have no places of their own when the others are taken.
	NoReserve bool
	// Grace is how long after its deadline a call that still runs counts as abandoned: 1 s.
	Grace time.Duration
}

// Limit is how many calls are under way at most, and how they wait. Zeroes are the defaults of policy/concurrency.
type Limit struct {
	Mode policy.Mode
	// Fixed is the number of places; 0 = it is learned by TwoArm, or by AIMD if that is set.
	Fixed int
	AIMD  bool
	// Start, Min and Max bound what is learned; Slow and Backoff are AIMD's, Backoff the share that is kept.
	Start, Min, Max int
	Slow            time.Duration
	Backoff         float64
	// Queue is how many wait: 1000 if the number of places is learned, min(4 × Fixed, 1000) if it is fixed. NoQueue: nobody.
	Queue   int
	NoQueue bool
	// MaxWait is how long each waits, and at most half of what is left until its deadline: 100 ms.
	MaxWait time.Duration
	// Order of those who wait: CoDel.
	Order concurrency.Order
	// Target and Interval are CoDel's.
	Target, Interval time.Duration
}

// Rate is a rate limit for each caller; see rate.Options. Limit 0 = none.
type Rate struct {
	Mode  policy.Mode
	Limit float64
	Per   time.Duration
	Burst int
	// Callers is how many callers are told apart: 4096.
	Callers int
}

// learnedQueue is how many wait before places whose number is learned. It does not follow that number: a thousand quick calls that
// come at once have waited for milliseconds when all are served, however few places a server begins with, and MaxWait bounds what they can cost.
const learnedQueue = 1000

// hall is a limiter, and the rules that it was made by.
type hall struct {
	rules Limit
	line  *concurrency.Limiter
}

func newHall(l Limit) (*hall, error) {
	o := concurrency.Options{Limit: l.Fixed, Queue: l.Queue, NoQueue: l.NoQueue, MaxWait: l.MaxWait, Share: 0.5, Order: l.Order,
		Target: l.Target, Interval: l.Interval}
	var err error
	if l.Fixed == 0 && o.Queue == 0 && !o.NoQueue {
		o.Queue = learnedQueue
	}
	switch {
	case l.Fixed > 0:
		if o.Queue == 0 && !o.NoQueue {
			o.Queue = min(4*l.Fixed, 1000)
		}
	case l.AIMD:
		o.Source, err = concurrency.NewAIMD(concurrency.AIMDOptions{Start: l.Start, Min: l.Min, Max: l.Max, Slow: l.Slow, Backoff: l.Backoff})
	default:
		o.Source, err = concurrency.NewTwoArm(concurrency.TwoArmOptions{Start: l.Start, Min: l.Min, Max: l.Max})
	}
	if err != nil {
		return nil, err
	}
	if o.Order == concurrency.Usual {
		o.Order = concurrency.CoDel
	}
	line, err := concurrency.New(o)
	if err != nil {
		return nil, err
	}
	return &hall{l, line}, nil
}

// same reports whether what was made by l does for o too.
func (l Limit) same(o Limit) bool {
	l.Mode = o.Mode
	if l.Fixed > 0 && o.Fixed > 0 && (l.Queue > 0 || l.NoQueue) { // SetLimit does that
		l.Fixed = o.Fixed
	}
	return l == o
}

func newRate(r Rate) (*rate.Limiter, error) {
	if r.Limit == 0 {
		return nil, nil
	}
	return rate.New(rate.Options{Limit: r.Limit, Per: r.Per, Burst: r.Burst, Key: rate.ByHash(), Keys: r.Callers})
}

// check completes the rules and finds what makes no sense before anything is made.
func (r *Rules) check() error {
	var errs []error
	if r.Grace == 0 {
		r.Grace = time.Second
	}
	if r.Grace < 0 || r.Grace > time.Minute {
		errs = append(errs, fmt.Errorf("grace is %v: want a time up to a minute, or 0 for 1s", r.Grace))
	}
	if r.Rate.Limit < 0 {
		errs = append(errs, fmt.Errorf("rate limit is %v: want how many calls each caller may begin, or 0 for no limit", r.Rate.Limit))
	}
	if err := r.Pressure.check(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

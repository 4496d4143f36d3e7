package retry

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// Backoff is the way in which the wait before a repetition is chosen.
type Backoff uint8

// The ways. The zero value is what one wants unless one knows better.
const (
	// FullJitter draws between 0 and min(Cap, Base × 2ⁿ⁻¹).
	FullJitter Backoff = iota
	// Exponential waits min(Cap, Base × 2ⁿ⁻¹). Callers that failed together come back together.
	Exponential
	// Constant waits Base.
	Constant
	// Decorrelated draws between Base and three times the wait before, up to Cap. The chain of draws is made anew for each
	// repetition, since no state is kept between them.
	Decorrelated
	// Immediate does not wait.
	Immediate
	numBackoffs
)

// Options describes retries. Every zero means the default that stands beside it.
type Options struct {
	// Attempts is the largest number of attempts, the first included: 3. 1 = no retries. Those that reached nobody may not count, see policy.Spares.
	Attempts int
	// Backoff is how waits are chosen: FullJitter.
	Backoff Backoff
	// Base is the first wait's scale: 25 ms.
	Base time.Duration
	// Cap is the longest wait, unless the server asks for a longer one: 250 ms, or Base if that is more.
	Cap time.Duration
	// RetryInternal repeats idempotent calls that failed with Internal or Unknown or in a panic too. Without it they are
	// not repeated, since a request that makes a handler panic does the same on the next node.
	RetryInternal bool
}

// Retries implements policy.Retries. It is immutable and safe for concurrent use.
type Retries struct{ opt Options }

var _ policy.Retries = (*Retries)(nil)

// New returns retries as o describes them. The error names everything that is wrong with o.
func New(o Options) (*Retries, error) {
	var errs []error
	if o.Attempts < 0 || o.Attempts > policy.MaxAttempts {
		errs = append(errs, fmt.Errorf("option Attempts is %d: want 1 to %d, the first included, or 0 for 3", o.Attempts, policy.MaxAttempts))
	}
	if o.Attempts == 0 {
		o.Attempts = 3
	}
	if o.Backoff >= numBackoffs {
		errs = append(errs, fmt.Errorf("option Backoff is %d: want one of the constants, FullJitter to Immediate", o.Backoff))
	}
	if o.Base < 0 {
		errs = append(errs, fmt.Errorf("option Base is %v: want a positive time, or 0 for 25ms", o.Base))
	}
	if o.Base == 0 {
		o.Base = 25 * time.Millisecond
	}
	if o.Cap == 0 {
		o.Cap = max(250*time.Millisecond, o.Base)
	}
	if o.Cap < o.Base {
		errs = append(errs, fmt.Errorf("option Cap %v is less than Base %v: want at least that, or 0 for 250ms", o.Cap, o.Base))
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("retry: %w", errors.Join(errs...))
	}
	return &Retries{o}, nil
}

// Attempts implements policy.Retries.
func (r *Retries) Attempts() int { return r.opt.Attempts }

// Why no attempt follows.
const (
	whyUsedUp     = "the attempts are used up"
	whyPushback   = "the server asked not to be tried again"
	whyNever      = "this failure is never tried again"
	whyGone       = "the caller is gone"
	whyRefused    = "it was refused on this side"
	whyAnswered   = "the answer would be the same again"
	whyAborted    = "the caller's transaction has to begin again"
	whyQuota      = "the caller has used up its quota"
	whyExpired    = "the server says that the time was up"
	whyDownstream = "the failure lies below the node that answered, which has tried again already"
	whyPath       = "a caller above is trying again already"
	whyUnsafe     = "it may have been done, and the method is not declared idempotent"
	whyInternal   = "what failed inside the service is tried again only if the policy for retries says so (internal)"
	whyOnce       = "this failure is tried again only once"
)

// Again implements policy.Retries.
func (r *Retries) Again(_ policy.Time, rnd rand.Source, c *policy.Call, n int, cl policy.Class, fate status.Fate, pushback time.Duration) (wait time.Duration, ok bool, why string) {
	rule := cl.Counts().Retry
	notSent := fate == status.NotSent
	switch {
	case rule == policy.RetryNever:
		return 0, false, never(cl)
	case n >= r.opt.Attempts:
		return 0, false, whyUsedUp
	case pushback < 0:
		return 0, false, whyPushback
	case c.PathAttempt > 1 && !notSent:
		return 0, false, whyPath
	case rule == policy.RetryAnyOnce && n > 1:
		return 0, false, whyOnce
	case notSent, rule == policy.RetryAny, rule == policy.RetryAnyOnce:
	case !c.Idempotent:
		return 0, false, whyUnsafe
	case rule == policy.RetryOptIn && !r.opt.RetryInternal:
		return 0, false, whyInternal
	}
	switch {
	case pushback > 0:
		wait = max(pushback, pushback+r.wait(rnd, n)) // what is nearly for ever must not wrap around
	case !notSent:
		wait = r.wait(rnd, n)
	}
	return wait, true, ""
}

// never explains a class whose rule is RetryNever.
func never(cl policy.Class) string {
	switch cl {
	case policy.ClassCancelled, policy.ClassDeadlineLate, policy.ClassDeadlineSoon, policy.ClassLoser:
		return whyGone
	case policy.ClassRefused:
		return whyRefused
	case policy.ClassOK, policy.ClassCaller, policy.ClassTooLarge:
		return whyAnswered
	case policy.ClassAborted:
		return whyAborted
	case policy.ClassQuota:
		return whyQuota
	case policy.ClassExpired:
		return whyExpired
	case policy.ClassDownstream:
		return whyDownstream
	}
	return whyNever
}

// wait returns how long to wait after attempt n, from 1.
func (r *Retries) wait(rnd rand.Source, n int) time.Duration {
	o := &r.opt
	switch o.Backoff {
	case Constant:
		return o.Base
	case Immediate:
		return 0
	case Decorrelated:
		w := o.Base
		for range n {
			w = min(o.Cap, between(rnd, o.Base, 3*w))
		}
		return w
	}
	w := o.Base
	for i := 1; i < n && w < o.Cap; i++ {
		w *= 2
	}
	w = min(w, o.Cap)
	if o.Backoff == Exponential {
		return w
	}
	return between(rnd, 0, w)
}

// between draws from [a, b].
func between(rnd rand.Source, a, b time.Duration) time.Duration {
	u := float64(rnd.Uint64()>>11) / (1 << 53)
	return a + time.Duration(u*float64(b-a+1))
}

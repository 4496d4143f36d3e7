package policy_test

import (
	"context"
	"errors"
	"testing"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// TestOutcomeTable walks through the outcome table of the design, one row of it per line: what a result is, and what it counts
// for in the eyes of breaker, node, retry, budget, throttle and limit.
func TestOutcomeTable(t *testing.T) {
	const (
		ok    = policy.Success
		fails = policy.Failure
		drops = policy.TimedOut
		over  = policy.Overloaded
	)
	e := func(c status.Code, k status.Kind, f status.Fate) error {
		return &status.Error{Code: c, Kind: k, Fate: f}
	}
	tests := []struct {
		name                  string
		err                   error
		class                 policy.Class
		breaker, node, rate   policy.Outcome
		retry                 policy.RetryRule
		cost, earn            int
		throttle, limit       policy.Outcome
		lowerBound, downAtOne bool
	}{
		{name: "OK", err: nil, class: policy.ClassOK, breaker: ok, node: ok, rate: ok, earn: 1, throttle: ok, limit: ok},
		{name: "NotFound", err: e(status.NotFound, 0, status.Processed), class: policy.ClassCaller, breaker: ok, node: ok, rate: ok, earn: 1, throttle: ok, limit: ok},
		{name: "Unauthenticated", err: e(status.Unauthenticated, 0, status.Processed), class: policy.ClassCaller, breaker: ok, node: ok, rate: ok, earn: 1, throttle: ok, limit: ok},
		{name: "Aborted", err: e(status.Aborted, 0, status.Processed), class: policy.ClassAborted, breaker: ok, node: ok, rate: ok, throttle: ok, limit: ok},
		{name: "Unimplemented", err: e(status.Unimplemented, 0, status.Processed), class: policy.ClassNoMethod, retry: policy.RetryAny, cost: 10, throttle: ok},
		{name: "Internal", err: e(status.Internal, 0, status.Processed), class: policy.ClassInternal, breaker: fails, rate: fails, retry: policy.RetryOptIn, cost: 10, throttle: ok, limit: ok},
		{name: "a panic", err: e(status.Internal, status.Panicked, status.Processed), class: policy.ClassInternal, breaker: fails, rate: fails, retry: policy.RetryOptIn, cost: 10, throttle: ok, limit: ok},
		{name: "any error", err: errors.New("any"), class: policy.ClassInternal, breaker: fails, rate: fails, retry: policy.RetryOptIn, cost: 10, throttle: ok, limit: ok},
		{name: "Unavailable, answered", err: e(status.Unavailable, 0, status.Processed), class: policy.ClassUnavailable, breaker: fails, node: fails, rate: fails, retry: policy.RetryIdempotent, cost: 10, throttle: ok, limit: ok},
		{name: "shed", err: e(status.ResourceExhausted, status.Shed, status.NotSent), class: policy.ClassShed, retry: policy.RetryAnyOnce, cost: 10, throttle: over},
		{name: "ResourceExhausted", err: e(status.ResourceExhausted, 0, status.Processed), class: policy.ClassOverloaded, retry: policy.RetryIdempotent, cost: 10, throttle: over},
		{name: "quota", err: e(status.ResourceExhausted, status.Quota, status.NotSent), class: policy.ClassQuota},
		{name: "draining", err: e(status.Unavailable, status.Draining, status.NotSent), class: policy.ClassDraining, retry: policy.RetryAny, throttle: ok},
		{name: "dial", err: e(status.Unavailable, status.Dial, status.NotSent), class: policy.ClassUnsent, breaker: fails, node: fails, rate: fails, retry: policy.RetryAny, downAtOne: true},
		{name: "unsent", err: e(status.Unavailable, status.Unsent, status.NotSent), class: policy.ClassUnsent, breaker: fails, node: fails, rate: fails, retry: policy.RetryAny, downAtOne: true},
		{name: "handshake", err: e(status.Unavailable, status.Handshake, status.NotSent), class: policy.ClassHandshake, breaker: fails, node: fails, rate: fails, retry: policy.RetryAnyOnce, cost: 10},
		{name: "reset", err: e(status.Unavailable, status.Reset, status.Maybe), class: policy.ClassReset, breaker: fails, node: fails, rate: fails, retry: policy.RetryIdempotent, cost: 10},
		{name: "attempt timeout", err: e(status.DeadlineExceeded, status.Timeout, status.Maybe), class: policy.ClassTimeout, breaker: fails, node: fails, rate: fails, retry: policy.RetryIdempotent, cost: 20, limit: drops, lowerBound: true},
		{name: "a context's deadline", err: context.DeadlineExceeded, class: policy.ClassTimeout, breaker: fails, node: fails, rate: fails, retry: policy.RetryIdempotent, cost: 20, limit: drops, lowerBound: true},
		{name: "expired in the queue", err: e(status.DeadlineExceeded, status.Expired, status.NotSent), class: policy.ClassExpired, throttle: over},
		{name: "cancelled", err: context.Canceled, class: policy.ClassCancelled, lowerBound: true},
		{name: "refused here", err: e(status.Unavailable, status.Refused, status.NotSent), class: policy.ClassRefused},
		{name: "downstream", err: &status.Error{Code: status.Unavailable, Origin: status.Downstream, Fate: status.Processed}, class: policy.ClassDownstream, breaker: fails, rate: fails, throttle: ok, limit: ok},
		{name: "an answer from below", err: &status.Error{Code: status.NotFound, Origin: status.Downstream, Fate: status.Processed}, class: policy.ClassCaller, breaker: ok, node: ok, rate: ok, earn: 1, throttle: ok, limit: ok},
		{name: "too large", err: e(status.ResourceExhausted, status.TooLarge, status.Processed), class: policy.ClassTooLarge, throttle: ok},
		{name: "protocol", err: e(status.Internal, status.Protocol, status.Maybe), class: policy.ClassProtocol, breaker: fails, node: fails, rate: fails, retry: policy.RetryIdempotent, cost: 10},
		{name: "own stall", err: e(status.DeadlineExceeded, status.Stalled, status.Maybe), class: policy.ClassStalled, retry: policy.RetryIdempotent, cost: 10},
	}
	for _, tt := range tests {
		cl := policy.Classify(tt.err)
		if cl != tt.class {
			t.Errorf("%s is %v, want %v", tt.name, cl, tt.class)
			continue
		}
		got := *cl.Counts()
		want := policy.Counts{Breaker: tt.breaker, Node: tt.node, Rate: tt.rate, Down: tt.downAtOne, LowerBound: tt.lowerBound, Retry: tt.retry,
			Cost: tt.cost, Earn: tt.earn, Throttle: tt.throttle, Limit: tt.limit}
		if got != want {
			t.Errorf("%s counts for %+v, want %+v", tt.name, got, want)
		}
	}
}

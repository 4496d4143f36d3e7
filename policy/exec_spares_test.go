package policy_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/status"
)

// spares are places that say whether one is left.
type spares struct{ places }

func (s *spares) Spare(_ policy.Time, _ rand.Source, _ *policy.Call, tried []policy.Node) bool {
	return len(tried) < len(s.nodes)
}

// TestNobodyReached is that attempts which reach nobody use up none of the call's as long as there is a node that they have not tried.
func TestNobodyReached(t *testing.T) {
	drained := &status.Error{Code: status.Unavailable, Kind: status.Draining, Fate: status.NotSent}
	cutOff := &status.Error{Code: status.Unavailable, Kind: status.Reset}
	always := func(err error) opener { return func(context.Context, policy.Attempt) error { return err } }
	each := func(errs ...error) opener {
		return func(_ context.Context, a policy.Attempt) error { return errs[a.N] }
	}
	for _, tt := range []struct {
		name            string
		nodes, attempts int
		call            policy.Call
		run             opener
		made            int
		class           policy.Class
	}{
		{name: "until one is reached", nodes: 5, attempts: 3, run: each(errRefusedConn, errRefusedConn, drained, errRefusedConn, nil), made: 5},
		{name: "until all have refused", nodes: 4, attempts: 3, run: always(errRefusedConn), made: 4, class: policy.ClassUnsent},
		{name: "no further than the end", nodes: 50, attempts: 3, run: always(errRefusedConn), made: policy.MaxAttempts, class: policy.ClassUnsent},
		{name: "those that reached somebody count", nodes: 9, attempts: 2, call: policy.Call{Idempotent: true}, run: each(cutOff, errRefusedConn, errRefusedConn, cutOff),
			made: 4, class: policy.ClassReset},
		{name: "the caller's own bound holds", nodes: 5, attempts: 3, call: policy.Call{Attempts: 2}, run: always(errRefusedConn), made: 2, class: policy.ClassUnsent},
		{name: "without retries there are none", nodes: 5, attempts: 1, run: always(errRefusedConn), made: 1, class: policy.ClassUnsent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &spares{}
			for i := range tt.nodes {
				s.nodes = append(s.nodes, &place{fmt.Sprint(i)})
			}
			r, err := retry.New(retry.Options{Attempts: tt.attempts, Backoff: retry.Immediate})
			if err != nil {
				t.Fatal(err)
			}
			made := 0
			_, err = mustNew(t, policy.Options{Nodes: s, Retries: r, Budget: &purse{10}}).Drive(t.Context(), tt.call, opener(func(ctx context.Context, a policy.Attempt) error {
				made++
				return tt.run(ctx, a)
			}))
			if cl := policy.Classify(err); made != tt.made || cl != tt.class || s.out != 0 {
				t.Errorf("%d attempts, %v (%v), %d nodes are still picked: want %d attempts, %v", made, cl, err, s.out, tt.made, tt.class)
			}
		})
	}
}

// TestShedAfterATimeout is a regression test: "tried again once" counted all attempts, so that a call which was refused by its second node, after its first had
// been too slow, did not go to the third.
func TestShedAfterATimeout(t *testing.T) {
	shed := &status.Error{Code: status.ResourceExhausted, Kind: status.Shed, Fate: status.NotSent}
	slow := &status.Error{Code: status.DeadlineExceeded, Kind: status.Timeout}
	for _, tt := range []struct {
		name  string
		nodes int
		errs  []error
		made  int
	}{
		{"slow, shed, well", 3, []error{slow, shed, nil}, 3},
		{"slow, shed, and nobody else is there", 2, []error{slow, shed, nil}, 2},
		{"slow, shed, and nodes are not chosen", 0, []error{slow, shed, nil}, 3},
		{"shed twice, and nodes are not chosen", 0, []error{shed, shed, nil}, 2},
		{"shed, slow, well", 3, []error{shed, slow, nil}, 3},
		{"shed twice", 3, []error{shed, shed, nil}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := retry.New(retry.Options{Backoff: retry.Immediate})
			if err != nil {
				t.Fatal(err)
			}
			o := policy.Options{Retries: r, Budget: &purse{100}}
			if tt.nodes > 0 {
				s := &spares{}
				for i := range tt.nodes {
					s.nodes = append(s.nodes, &place{fmt.Sprint(i)})
				}
				o.Nodes = s
			}
			made := 0
			_, err = mustNew(t, o).Drive(t.Context(), policy.Call{Idempotent: true}, opener(func(context.Context, policy.Attempt) error {
				made++
				return tt.errs[made-1]
			}))
			if made != tt.made || (err == nil) != (made == 3) {
				t.Errorf("%d attempts, %v: want %d", made, err, tt.made)
			}
		})
	}
}

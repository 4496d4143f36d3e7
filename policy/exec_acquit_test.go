package policy_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/status"
)

// court are places that hear of calls which failed wherever they went.
type court struct {
	spares
	done, acquitted []string
}

func (c *court) Done(now policy.Time, rnd rand.Source, n policy.Node, p policy.Permit, e policy.Ended) {
	c.spares.Done(now, rnd, n, p, e)
	c.done = append(c.done, n.ID())
}

func (c *court) Acquit(_ policy.Time, _ rand.Source, n policy.Node, ended policy.Time, cl policy.Class) {
	if ended == 0 || !slices.Contains(c.done, n.ID()) {
		c.acquitted = append(c.acquitted, "too early")
	}
	c.acquitted = append(c.acquitted, n.ID()+" "+cl.String())
}

// TestQueryOfDeathIsNobodysFault: a call that fails on several nodes and is answered by none counts against none of them. One that is answered, also with what is the
// caller's own mistake, or that has met one node only, does; so does what a node has never got.
func TestQueryOfDeathIsNobodysFault(t *testing.T) {
	bad := &status.Error{Code: status.Unavailable}
	cut := &status.Error{Code: status.Unavailable, Kind: status.Reset}
	missing := &status.Error{Code: status.NotFound}
	shed := &status.Error{Code: status.ResourceExhausted, Kind: status.Shed, Fate: status.NotSent}
	for _, tt := range []struct {
		name  string
		nodes int
		errs  []error
		want  []string
	}{
		{"on all", 3, []error{bad, cut, bad}, []string{"0 unavailable", "1 reset", "2 unavailable"}},
		{"on two, the third is full", 3, []error{bad, cut, shed}, []string{"0 unavailable", "1 reset"}},
		{"on two that are all there are", 2, []error{cut, bad}, []string{"0 reset", "1 unavailable"}},
		{"answered", 3, []error{bad, cut, nil}, nil},
		{"answered that there is none", 3, []error{bad, cut, missing}, nil},
		{"on one alone", 1, []error{bad, bad, bad}, nil},
		{"the other was never reached", 2, []error{errRefusedConn, bad, bad}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &court{}
			for i := range tt.nodes {
				c.nodes = append(c.nodes, &place{fmt.Sprint(i)})
			}
			r, err := retry.New(retry.Options{Backoff: retry.Immediate})
			if err != nil {
				t.Fatal(err)
			}
			p := mustNew(t, policy.Options{Nodes: c, Retries: r, Budget: &purse{1000}})
			_, _ = p.Drive(t.Context(), policy.Call{Idempotent: true}, opener(func(_ context.Context, a policy.Attempt) error { return tt.errs[min(a.N, len(tt.errs)-1)] }))
			if !slices.Equal(c.acquitted, tt.want) {
				t.Errorf("taken back: %v, want %v", c.acquitted, tt.want)
			}
		})
	}
}

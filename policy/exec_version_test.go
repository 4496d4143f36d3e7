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

// versions are places that run versions: the first half of them the old one, the others the new one.
type versions struct{ places }

func (v *versions) isNew(n policy.Node) bool {
	for i, p := range v.nodes {
		if p == n {
			return 2*i >= len(v.nodes)
		}
	}
	return false
}

func (v *versions) other(lacking []policy.Node) policy.Node {
	for _, n := range v.nodes {
		found := true
		for _, l := range lacking {
			found = found && v.isNew(l) != v.isNew(n)
		}
		if found {
			return n
		}
	}
	return nil
}

func (v *versions) HasOther(_ policy.Time, _ rand.Source, _ *policy.Call, lacking []policy.Node) bool {
	return v.other(lacking) != nil
}

func (v *versions) Other(now policy.Time, _ rand.Source, _ *policy.Call, _, lacking []policy.Node) (policy.Node, policy.Verdict) {
	n := v.other(lacking)
	if n == nil {
		return nil, policy.Verdict{Decision: policy.Refuse}
	}
	v.out++
	return n, policy.Verdict{Permit: policy.Permit{Start: now}}
}

// TestUnknownMethodIsNotRepeated is a regression test: a call of a method that nobody serves was made three times, on one node too, and spent the budget
// that calls of other methods share.
func TestUnknownMethodIsNotRepeated(t *testing.T) {
	for _, tt := range []struct {
		name  string
		nodes int
		knows bool // the new version
		made  int
		spent int
	}{
		{"the only node", 1, false, 1, 0},
		{"nobody", 6, false, 2, 10},
		{"the new version", 6, true, 2, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := &versions{}
			for i := range tt.nodes {
				v.nodes = append(v.nodes, &place{fmt.Sprint(i)})
			}
			r, err := retry.New(retry.Options{Backoff: retry.Immediate})
			if err != nil {
				t.Fatal(err)
			}
			made, b := 0, &purse{100}
			_, err = mustNew(t, policy.Options{Nodes: v, Retries: r, Budget: b}).Drive(t.Context(), policy.Call{}, opener(func(_ context.Context, a policy.Attempt) error {
				if made++; tt.knows && v.isNew(a.Node) {
					return nil
				}
				return &status.Error{Code: status.Unimplemented, Kind: status.NoMethod, Fate: status.Processed}
			}))
			if made != tt.made || (err == nil) != tt.knows || v.out != 0 {
				t.Errorf("%d attempts, %v, %d nodes are still picked: want %d attempts", made, err, v.out, tt.made)
			}
			if spent := 100 - b.tokens; spent > tt.spent {
				t.Errorf("%d tokens spent", spent)
			}
		})
	}
}

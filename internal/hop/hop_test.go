package hop

import (
	"context"
	"testing"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

func TestRead(t *testing.T) {
	for _, c := range []struct {
		attempt, criticality string
		trusted              bool
		n                    int
		want                 policy.Criticality
	}{
		{"", "", false, 0, policy.Critical},
		{"2", "sheddable", false, 2, policy.Sheddable},
		{"-1", "SHEDDABLE-PLUS", false, 0, policy.SheddablePlus},
		{"70000", "critical-plus", false, 0, policy.Critical},
		{"x", "critical-plus", true, 0, policy.CriticalPlus},
		{"1", "critical", true, 1, policy.Critical},
		{"1", "vital", true, 1, policy.Critical},
	} {
		h := map[string]string{Attempt: c.attempt, Criticality: c.criticality}
		if p := Read(func(k string) string { return h[k] }, c.trusted); p.Attempt != c.n || p.Criticality != c.want {
			t.Errorf("%+v: attempt %d, %v", c, p.Attempt, p.Criticality)
		}
	}
}

func TestOrigin(t *testing.T) {
	p := new(Path)
	ctx := With(context.Background(), p)
	for _, c := range []policy.Class{policy.ClassOK, policy.ClassCaller, policy.ClassAborted, policy.ClassCancelled} {
		From(ctx).Failed(c)
	}
	if p.Origin() != status.Self {
		t.Error("answers and cancellations are no failures")
	}
	if From(ctx).Failed(policy.ClassRefused); p.Origin() != status.Downstream || ParseOrigin(p.Origin().String()) != status.Downstream {
		t.Error(p.Origin())
	}
	if From(context.Background()).Failed(policy.ClassReset); From(context.Background()).Origin() != status.Self || ParseOrigin("") != status.Self {
		t.Error("whoever serves nobody passes nothing on")
	}
}

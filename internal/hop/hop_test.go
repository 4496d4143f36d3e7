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

// TestRetryControl: whoever is trusted says how often calls on its behalf are repeated, and after what.
func TestRetryControl(t *testing.T) {
	unavailable := &status.Error{Code: status.Unavailable, Fate: status.Processed}
	reset := &status.Error{Code: status.Unavailable, Kind: status.Reset}
	unsent := &status.Error{Code: status.Unavailable, Kind: status.Dial, Fate: status.NotSent}
	for _, c := range []struct {
		retries, on, grpcOn              string
		trusted                          bool
		attempts                         uint8
		onUnavailable, onReset, onUnsent bool
	}{
		{"", "", "", true, 0, true, true, true},
		{"0", "reset", "", false, 0, true, true, true},
		{"0", "", "", true, 1, true, true, true},
		{"2", "5xx", "", true, 3, true, true, true},
		{"1000000", " gateway-error ", "", true, 9, true, false, false},
		{"-1", "connect-failure,Reset", "", true, 0, false, true, true},
		{"x", "", "unavailable", true, 0, true, true, true},
		{"", "retriable-4xx", "cancelled", true, 0, false, false, false},
	} {
		h := map[string]string{MaxRetries: c.retries, RetryOn: c.on, RetryGRPCOn: c.grpcOn}
		p := Read(func(k string) string { return h[k] }, c.trusted)
		may := func(e *status.Error) bool { return p.Narrow(e).Pushback >= 0 }
		if p.Attempts != c.attempts || may(unavailable) != c.onUnavailable || may(reset) != c.onReset || may(unsent) != c.onUnsent {
			t.Errorf("%+v: %d attempts, %v %v %v", c, p.Attempts, may(unavailable), may(reset), may(unsent))
		}
	}
	if reset.Pushback != 0 || new(Path).Narrow(nil) != nil {
		t.Error("an error that is shared was changed")
	}
}

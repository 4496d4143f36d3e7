package spec

import (
	"slices"
	"testing"

	"github.com/hull-go/hull/policy"
)

func TestEventSources(t *testing.T) {
	s, err := Parse("test.yaml", []byte("services: {a: {hedge: {mode: on}, throttle: {mode: dry-run}, rate: {limit: 10}}, b: {breaker: {mode: off}}}"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewBook(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if _, err := b.Method(name, "S/M", nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, n := range b.EventSources() {
		if e := n.Source.Events(1, 0); len(e) == 0 || e[0].From != "" || e[0].To == "" {
			t.Errorf("%s %s does not begin with its state: %+v", n.Key, n.Policy, e)
		}
		mode := ""
		if n.Mode != policy.On {
			mode = " " + n.Mode.String()
		}
		got = append(got, n.Key+" "+n.Policy+mode)
	}
	slices.Sort(got)
	want := []string{"a budget", "a concurrency", "a rate", "a throttle dry-run", "a/S/M breaker", "a/S/M hedge", "a/S/M timeout",
		"b budget", "b concurrency", "b throttle", "b/S/M timeout"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// TestSharedBudgetIsShownOnce: though methods pay different prices, or none, it is one budget whose events are one's.
func TestSharedBudgetIsShownOnce(t *testing.T) {
	s, err := Parse("", []byte(`
defaults: {retry_budget: {name: all}}
services:
  a: {retry_budget: {cost: 5}}
  b: {retry_budget: {cost: 7, timeout_cost: 9}}
  c: {retry_budget: {mode: dry-run, cost: 3}}
`))
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewBook(s)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[policy.EventSource]bool{}
	n := 0
	for _, name := range []string{"a", "b", "c", "d"} {
		m, err := b.Method(name, "x.Y/Z", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, src := range m.Unary.EventSources() {
			if src.Policy == "budget" {
				n++
				seen[src.Source] = true
			}
		}
	}
	if n != 4 || len(seen) != 1 {
		t.Errorf("%d services show %d budgets, want 4 and 1", n, len(seen))
	}
}

package ui

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/demo/stats"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// What is told of a call is judged, and a rule that was broken says so on the page's side of the API. The board cannot be reached, so nothing else happens.
func TestRules(t *testing.T) {
	s, _, h := server(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	r := s.protected.rules
	call := func(result stats.Result, info hull.CallInfo, err error, node, meant string) {
		r.ended(r.offer(ctx, false), result, &info, err, node, meant)
	}
	judged := func(rule int) RuleStats {
		r.look(s.protected, 0, false)
		s.unprotected.rules.look(s.unprotected, 0, false)
		return s.ruleStats()[rule-1]
	}
	call(stats.OK, hull.CallInfo{Class: policy.ClassOK, Attempts: []hull.AttemptInfo{{Node: "a"}}}, nil, "a", "a")
	call(stats.Fallback, hull.CallInfo{Class: policy.ClassUnsent, Attempts: []hull.AttemptInfo{{Node: "a", Class: policy.ClassUnsent}}}, status.Errorf(status.Unavailable, "away"), "", "")
	for _, rule := range []int{1, 2, 5, 15} {
		if got := judged(rule); got.Judged == 0 || got.Broken != 0 || got.Text == "" {
			t.Errorf("%+v", got)
		}
	}
	if got := judged(14); got.Judged != 0 {
		t.Errorf("clients know nothing of when handlers start: %+v", got)
	}
	call(stats.OK, hull.CallInfo{Class: policy.ClassOK}, nil, "b", "a")
	if got := judged(15); got.Broken != 1 || !strings.Contains(got.What, "with Hull: ") || !strings.Contains(got.What, "reached b") {
		t.Errorf("another node's answer: %+v", got)
	}
	body := send(t, h, "GET", "/api/stats", "").Body.String()
	if !strings.Contains(body, `"rule":15`) || !strings.Contains(body, "reached b") {
		t.Errorf("the API does not say so: %s", body)
	}
	page := send(t, h, "GET", "/", "").Body.String()
	if strings.Count(page, "data-rule=") != 30 {
		t.Errorf("the page has %d places for the rules", strings.Count(page, "data-rule="))
	}
}

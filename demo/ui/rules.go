package ui

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/demo/board"
	"github.com/hull-go/hull/demo/stats"
	"github.com/hull-go/hull/demo/supervise"
	"github.com/hull-go/hull/internal/invariant"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/status"
)

const (
	// lookEvery is how often the rules are judged, and the clients asked how they see the nodes.
	lookEvery = time.Second
	// late is what a call may be late beside stalls that are measured: the demo runs on machines that are busy with other things.
	late = 250 * time.Millisecond
	// burst is how many extra attempts a full budget pays for, and as many again for what it does not have to pay.
	burst = 200
	// settling is how long a backend must have been up for its clients to know it.
	settling = 5 * time.Second
	// breakerWindow is what a breaker looks back on, and a second.
	breakerWindow = 11 * time.Second
	// rulesKeep is for how long calls can be compared with one another.
	rulesKeep = 2 * time.Minute

	causeFault = "fault"
)

// RuleStats is what GET /api/stats says about one of the rules that hold whatever is broken.
type RuleStats struct {
	Rule int    `json:"rule"`
	Text string `json:"text"`
	// Judged is how often there was something to judge, Broken how often it was broken, and What the first time.
	Judged int    `json:"judged"`
	Broken int    `json:"broken"`
	What   string `json:"what,omitempty"`
}

// rules checks everything that one side does against the rules. Its calls are told from many goroutines, how it sees the nodes by one.
type rules struct {
	*invariant.Checker
	ids  atomic.Uint64
	seen atomic.Pointer[invariant.Report] // the last one

	// What follows is the watching goroutine's.
	breakers map[string]breaker.State
	spells   *invariant.Spells
	over     []invariant.Spell // that wait for the fault to end
	quiet    stats.Counts      // of the last look, when no call was under way
}

func newRules() *rules {
	r := &rules{Checker: invariant.New(invariant.Options{Grace: late, Burst: burst, Keep: rulesKeep}), breakers: map[string]breaker.State{},
		spells: invariant.NewSpells()}
	r.seen.Store(r.Look(policy.Now()))
	return r
}

// callers is the process that makes the calls, as the checker knows it.
const callers = "ui"

// offer tells of a call that begins, and returns its number.
func (r *rules) offer(ctx context.Context, once bool) uint64 {
	c := invariant.Call{ID: r.ids.Add(1), Service: board.Service, Root: true, Once: once, Process: callers, At: policy.Now()}
	if d, ok := ctx.Deadline(); ok {
		c.Deadline = policy.At(d)
	}
	r.Offer(c)
	return c.ID
}

// ended tells how the call ended. node is who says to have answered, by the fleet's name, and meant whom the client believes that it was.
func (r *rules) ended(id uint64, result stats.Result, info *hull.CallInfo, err error, node, meant string) {
	now := policy.Now()
	e := invariant.End{ID: id, Outcome: invariant.Failed, Class: info.Class, Key: info.Method, Fate: status.FateOf(err), Shed: info.Class == policy.ClassShed, At: now}
	switch {
	case result == stats.OK:
		e.Outcome = invariant.OK
	case result == stats.Fallback:
		e.Outcome = invariant.Fallback
	case info.Class == policy.ClassRefused:
		e.Outcome = invariant.Refused
	}
	r.End(e)
	for i, a := range info.Attempts {
		if a.Class == policy.ClassUnsent {
			continue // no node has seen it
		}
		said := invariant.Attempt{Call: id, N: i, Service: board.Service, Node: a.Node, Paid: true, Hedge: a.Hedge, At: now}
		if i > 0 && info.Attempts[i-1].Class == policy.ClassDownstream {
			said.Before = &status.Error{Origin: status.Downstream}
		}
		r.Attempt(said)
	}
	if node != "" {
		r.Answered(node, meant, now)
	}
}

// look tells the checker how the side sees the nodes, of which so many are well, while a fault is there or not.
func (r *rules) look(s *side, live int, faulty bool) {
	now := policy.Now()
	view := invariant.Nodes{Service: board.Service, Live: live, At: now}
	in := func(state, key string, since, until policy.Time) {
		r.spells.See(invariant.Spell{State: state, Key: key, Cause: causeFault, From: since, Max: until.Sub(since)}, now)
	}
	for _, n := range s.conn.Explain() {
		view.Known++
		if n.State == balance.Ejected {
			view.Ejected++
			in("ejected", n.ID, n.Since, n.Until)
			view.FailingOpen = view.FailingOpen || n.Considered
			view.Said = view.Said || n.Why != ""
		}
	}
	if view.MaxEjected = view.Known / 2; view.Known > 0 {
		r.Nodes(view)
	} else if live > 0 {
		r.Nodes(invariant.Nodes{Service: board.Service, Live: live, At: now})
	}
	for method, m := range s.conn.Methods() {
		if m.Breaker.State == breaker.Open {
			if r.breakers[method] == breaker.Closed {
				r.BreakerOpened(method, breakerWindow, m.Breaker.Since)
			}
			in("open", method, m.Breaker.Since, m.Breaker.Until)
		}
		r.breakers[method] = m.Breaker.State
	}
	r.over = append(r.over, r.spells.Next()...)
	if !faulty { // its end is told before what came of it
		for _, sp := range r.over {
			r.Spell(sp)
		}
		r.over = nil
	}
	r.rest(s)
	r.seen.Store(r.Look(now))
}

// rest looks for what is left over where no call is under way, and none was since the last look.
func (r *rules) rest(s *side) {
	before := s.rec.Snapshot()
	calm := before.Waiting == 0 && before.Total == r.quiet && before.Total.Calls() > 0
	r.quiet = before.Total
	if _, waiting, _ := s.outbox.state(board.Wall); !calm || waiting > 0 {
		return
	}
	left := 0
	for _, c := range s.client.Connections() {
		left += c.InFlight
	}
	for _, n := range s.conn.Explain() {
		left += n.InFlight
	}
	if after := s.rec.Snapshot(); after.Waiting == 0 && after.Total == before.Total {
		r.Gauge("what a client without load has in flight", left, 0)
	}
}

// watchRules judges both sides once in a while until ctx ends.
func (s *Server) watchRules(ctx context.Context) {
	sides := []*side{s.protected, s.unprotected}
	s.stall.Tell(func(from, to time.Time) {
		for _, d := range sides {
			d.rules.Stall(callers, policy.At(from), policy.At(to))
		}
	})
	up := map[string]time.Time{} // since when
	var since policy.Time        // when the fault came; 0 = there is none
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		nodes, err := s.control.Nodes(ctx)
		if err != nil {
			continue // whoever runs the nodes is busy, or ends
		}
		live, now := 0, time.Now()
		faulty := false
		for _, n := range nodes {
			if n.State != supervise.Up || len(n.Faults) > 0 {
				faulty = true
				delete(up, n.ID)
				continue
			}
			if up[n.ID].IsZero() {
				up[n.ID] = now
			}
			if now.Sub(up[n.ID]) >= settling {
				live++
			}
		}
		switch {
		case faulty && since == 0:
			since = policy.Now().Add(-lookEvery)
		case !faulty && since != 0:
			for _, d := range sides {
				d.rules.Caused(causeFault, since, policy.Now())
			}
			since = 0
		}
		for _, d := range sides {
			d.rules.look(d, live, faulty)
		}
	}
}

// ruleStats is what was found of both sides by the last look.
func (s *Server) ruleStats() []RuleStats {
	list := make([]RuleStats, invariant.Rules)
	for i := range list {
		rule := invariant.Rule(i + 1)
		list[i] = RuleStats{Rule: i + 1, Text: rule.String()}
		for _, d := range []struct {
			name string
			*side
		}{{"with Hull", s.protected}, {"without", s.unprotected}} {
			r := d.rules.seen.Load()
			list[i].Judged += r.Judged[rule]
			list[i].Broken += r.Broken[rule]
			for _, v := range r.Violations {
				if v.Rule == rule && list[i].What == "" {
					list[i].What = d.name + ": " + v.String()
				}
			}
		}
	}
	return list
}

package check

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/demo/board"
	"github.com/hull-go/hull/demo/faults"
	"github.com/hull-go/hull/demo/stats"
	"github.com/hull-go/hull/demo/store"
	"github.com/hull-go/hull/demo/supervise"
	"github.com/hull-go/hull/demo/system"
	"github.com/hull-go/hull/demo/ui"
	"github.com/hull-go/hull/internal/invariant"
	"github.com/hull-go/hull/policy"
)

// DefaultRate is the load of each client, in calls per second.
const DefaultRate = 300

// plays is how often an act is played at most. Once is enough, unless the machine itself spoils it: see Step.doubtful.
const plays = 3

// recovery is how soon after the return of the backends service must be normal.
const recovery = 2.0

// story is a check under way.
type story struct {
	sys    *system.System
	api    *api
	w      watcher
	out    io.Writer
	report *Report
	victim string
}

// act is one step that breaks something.
type act struct {
	name, say string
	fault     supervise.FaultRequest
	// lasts is how long the fault is there, settles how long it is watched afterwards.
	lasts, settles time.Duration
	// during is called while the fault is there, judge when all is over.
	during func(context.Context, *story, *Step) error
	judge  func(*story, *Step)
}

// acts are the story.
func (s *story) acts() []act {
	return []act{
		{name: "calm", say: "nothing is wrong", lasts: 6 * time.Second, judge: func(_ *story, st *Step) {
			st.promise(st.Protected.Failed+st.Protected.Fallback == 0, "protected: no call fails", "%s", lost(st.Protected))
			st.promise(st.Unprotected.Failed == 0, "unprotected: no call fails either", "%s", lost(st.Unprotected))
		}},
		{name: "kill -9", say: "kill -9 " + s.victim + "; it is back after 6 s",
			fault: supervise.FaultRequest{Node: s.victim, Fault: supervise.FaultCrash, Seconds: 6}, lasts: 7 * time.Second, settles: 4 * time.Second,
			judge: func(_ *story, st *Step) {
				judgeSafe(st)
				st.promise(st.Protected.UnsafeFailed == 0, "protected: calls that are not idempotent end well or as maybe", "%d ok, %d maybe, %d failed",
					st.Protected.UnsafeOK, st.Protected.UnsafeMaybe, st.Protected.UnsafeFailed)
				judgeDamage(st)
			}},
		{name: "hang", say: "SIGSTOP " + s.victim,
			fault: supervise.FaultRequest{Node: s.victim, Fault: supervise.FaultHang}, lasts: 13 * time.Second, settles: 4 * time.Second,
			judge: func(s *story, st *Step) {
				judgeSafe(st)
				s.judgeP99(st)
				judgeDamage(st)
			}},
		{name: "slow", say: s.victim + " takes 20 times as long",
			fault: supervise.FaultRequest{Node: s.victim, Fault: faults.NameSlow, Setting: faults.Setting{Factor: 20}}, lasts: 11 * time.Second, settles: 2 * time.Second,
			judge: func(s *story, st *Step) {
				judgeSafe(st)
				s.judgeP99(st)
				slow := 10 * system.DefaultWork.Seconds() * 1000
				st.promise(st.Unprotected.P99 > slow, fmt.Sprintf("unprotected: p99 shows the slow node, over %.0f ms", slow), "%.0f ms", st.Unprotected.P99)
			}},
		{name: "errors", say: s.victim + " answers half of its calls with an error",
			fault: supervise.FaultRequest{Node: s.victim, Fault: faults.NameErrors, Setting: faults.Setting{Percent: 50}}, lasts: 10 * time.Second, settles: 2 * time.Second,
			judge: func(_ *story, st *Step) {
				judgeSafe(st)
				judgeDamage(st)
			}},
		{name: "all down", say: "kill -9 every backend",
			fault: supervise.FaultRequest{Node: supervise.All, Fault: supervise.FaultCrash, Seconds: -1}, lasts: 7 * time.Second, settles: 5 * time.Second,
			during: lookAtPage,
			judge: func(_ *story, st *Step) {
				st.promise(st.Protected.Failed == 0 && st.Protected.Fallback > 0, "protected: no error, the fallback instead", "%s", lost(st.Protected))
				st.promise(st.Protected.Recovery < recovery, fmt.Sprintf("protected: normal service within %.0f s of their return", recovery), "%.1f s", st.Protected.Recovery)
				judgeDamage(st)
			}},
	}
}

func lost(s Side) string {
	return fmt.Sprintf("%d of %d failed, %d fallback", s.Failed, s.Calls, s.Fallback)
}

func judgeSafe(st *Step) {
	p := st.Protected
	st.promise(p.Calls > 0 && p.Failed+p.Fallback == 0, "protected: none of the idempotent calls is lost", "%s", lost(p))
}

func judgeDamage(st *Step) {
	st.promise(st.Unprotected.Failed > 0, "unprotected: the damage shows", "%s", lost(st.Unprotected))
}

func (s *story) judgeP99(st *Step) {
	most := 2 * float64(s.report.AttemptTimeout)
	// What the machine itself held up is nobody's fault, and no proof of anything either.
	st.promise(st.Protected.P99 < most+st.Stall, fmt.Sprintf("protected: p99 over 10 s windows stays under 2 × attempt timeout, %.0f ms", most),
		"%.0f ms; the machine stalled for up to %.0f ms", st.Protected.P99, st.Stall)
}

// Run plays the story on a running system and tells it to out as it happens. An error means that it could not be
// played, not that a promise was broken.
func Run(ctx context.Context, sys *system.System, out io.Writer) (*Report, error) {
	s := &story{sys: sys, api: newAPI(sys.URL), out: out, victim: "backend-2"}
	defer s.api.close()
	s.w.api = s.api
	// This process is held up when others are busy, as the backends are, so it measures, too.
	s.w.own = new(stats.Stall)
	measuring, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.w.own.Run(measuring)
	}()
	defer func() { stop(); <-done }()
	st, err := s.api.stats(ctx)
	if err != nil {
		return nil, err
	}
	if len(st.Nodes) < 2 {
		return nil, fmt.Errorf("%d backend: the story needs at least 2", len(st.Nodes))
	}
	s.report = &Report{Rate: st.Rate, Nodes: len(st.Nodes), AttemptTimeout: st.AttemptTimeout}
	fmt.Fprintf(out, "%d backends, %g calls/s open loop for each of two clients; this takes about 100 s\n", len(st.Nodes), st.Rate)
	for _, a := range s.acts() {
		step, err := s.tell(ctx, a)
		if err != nil {
			return nil, err
		}
		s.report.Steps = append(s.report.Steps, step)
	}
	return s.report, s.audit(ctx)
}

// tell plays an act, and plays it again if the machine spoilt it.
func (s *story) tell(ctx context.Context, a act) (*Step, error) {
	for n := 1; ; n++ {
		if err := s.calm(ctx, a.name); err != nil {
			return nil, err
		}
		fmt.Fprintf(s.out, "  %-9s %s\n", a.name, a.say)
		step, err := s.play(ctx, a)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.name, err)
		}
		if step.Plays = n; n == plays || !step.doubtful(s.report.AttemptTimeout) {
			return step, nil
		}
		fmt.Fprintf(s.out, "            not as promised, but the machine itself stood still for up to %.0f ms: once more\n", step.Stall)
	}
}

// calm waits until every node is up and in use and no call of either client is in trouble, so that a step does not answer for
// the one before it.
func (s *story) calm(ctx context.Context, next string) error {
	if err := s.w.start(ctx); err != nil {
		return err
	}
	since := time.Now()
	err := s.w.watch(ctx, time.Minute, func(st *ui.Stats) bool {
		for _, n := range st.Nodes {
			if n.State != supervise.Up || len(n.Faults) > 0 || n.Protected != "" && n.Protected != string(balance.Ready) {
				since = time.Now()
			}
		}
		for _, t := range []*trail{&s.w.protected, &s.w.bare} {
			if t.lastBad.After(since) {
				since = t.lastBad
			}
		}
		return time.Since(since) > 1500*time.Millisecond && st.Protected.Outbox == 0
	})
	if err != nil {
		return err
	}
	if time.Since(since) < time.Second {
		return fmt.Errorf("before %q: the system does not come to rest: %+v", next, s.w.last.Nodes)
	}
	return nil
}

func (s *story) play(ctx context.Context, a act) (*Step, error) {
	step := &Step{Name: a.name}
	if err := s.w.start(ctx); err != nil {
		return nil, err
	}
	if a.fault.Fault != "" {
		if err := s.api.inject(ctx, a.fault); err != nil {
			return nil, err
		}
	}
	if a.during != nil {
		if err := a.during(ctx, s, step); err != nil {
			return nil, err
		}
	}
	if err := s.w.watch(ctx, a.lasts-time.Since(s.w.began), nil); err != nil {
		return nil, err
	}
	// The return of a backend begins when it is told to come back, and the clock of the recovery when it serves.
	if a.fault.Fault != "" && a.fault.Seconds <= 0 {
		if err := s.api.inject(ctx, supervise.FaultRequest{Node: a.fault.Node, Fault: supervise.Heal}); err != nil {
			return nil, err
		}
	}
	ended, atEnd := time.Now(), s.w.last
	if err := s.w.watch(ctx, a.settles, nil); err != nil {
		return nil, err
	}
	step.Protected = s.w.side(&s.w.protected, s.w.before.Protected.Total, atEnd.Protected.Total, ended)
	step.Unprotected = s.w.side(&s.w.bare, s.w.before.Unprotected.Total, atEnd.Unprotected.Total, ended)
	step.Stall = s.w.stall
	a.judge(s, step)
	return step, nil
}

// lookAtPage opens the page while every backend is down.
func lookAtPage(ctx context.Context, s *story, step *Step) error {
	if err := s.w.watch(ctx, 3*time.Second, nil); err != nil {
		return err
	}
	began := time.Now()
	ok, fallback, err := s.api.page(ctx)
	if err != nil {
		return err
	}
	step.promise(ok && fallback, "the page is there and shows the fallback, not an error", "page good: %v, fallback: %v, after %d ms", ok, fallback, time.Since(began).Milliseconds())
	return nil
}

// observed is what the checker of the invariants says of a side without load, of which so many calls are under way and whose posts are stored so often.
func observed(waiting int64, posts map[string]int) *invariant.Report {
	check := invariant.New(invariant.Options{})
	check.Gauge("calls under way", int(waiting), 0)
	var id uint64
	for _, n := range posts {
		id++
		for range n {
			check.Start(invariant.Start{Call: id, Once: true})
		}
	}
	return check.Report(policy.Now())
}

// judgeRules says whether one of the rules that hold whatever is broken was broken, by either client, at any time.
func judgeRules(step *Step, rules []ui.RuleStats) {
	judged, broken := 0, ""
	for _, r := range rules {
		if r.Judged > 0 {
			judged++
		}
		if r.Broken > 0 {
			broken += fmt.Sprintf("; rule %d was broken %d times, first %s", r.Rule, r.Broken, r.What)
		}
	}
	step.promise(len(rules) == invariant.Rules && judged > len(rules)/3 && broken == "", "no rule is broken, all the time", "%d of %d rules had something to judge%s", judged, len(rules), broken)
}

// audit compares what the clients were told with what the message file holds.
func (s *story) audit(ctx context.Context) error {
	step := &Step{Name: "audit"}
	s.report.Steps = append(s.report.Steps, step)
	// Without load the numbers stand still.
	code, b, err := s.api.do(ctx, "POST", "/api/load", map[string]int{"rate": 0})
	if err != nil || code != 200 {
		return fmt.Errorf("stopping the load: %d %s %w", code, b, err)
	}
	if err := s.w.watch(ctx, 10*ui.Patience, func(st *ui.Stats) bool {
		return st.Protected.Waiting+st.Unprotected.Waiting == 0 && st.Protected.Outbox == 0
	}); err != nil {
		return err
	}
	if err := s.w.watch(ctx, 3*time.Second, nil); err != nil { // until the last calls have been judged, and the calm after them
		return err
	}
	judgeRules(step, s.w.last.Rules)
	db, err := store.Open(ctx, s.sys.DB, 0)
	if err != nil {
		return err
	}
	defer db.Close()
	for _, side := range []struct {
		name, room string
		stats      ui.SideStats
	}{
		{"protected", board.LoadProtected, s.w.last.Protected},
		{"unprotected", board.LoadUnprotected, s.w.last.Unprotected},
	} {
		saves, err := db.Audit(ctx, side.room)
		if err != nil {
			return err
		}
		step.promise(int64(len(saves.IDs)) >= side.stats.Saved, side.name+": every acknowledged save is in the file", "%d acknowledged, %d stored", side.stats.Saved, len(saves.IDs))
		posts, err := db.Audit(ctx, side.room+board.Posts)
		if err != nil {
			return err
		}
		seen := observed(side.stats.Waiting, posts.Texts)
		c := side.stats.Total
		step.promise(seen.Broken[3] == 0 && int64(len(posts.Texts)) >= c.UnsafeOK && int64(len(posts.Texts)) <= c.UnsafeOK+c.UnsafeMaybe,
			side.name+": nothing that is not idempotent was done twice, and maybe means maybe", "%d ok, %d maybe, %d stored, %d of them twice", c.UnsafeOK, c.UnsafeMaybe, len(posts.Texts), seen.Broken[3])
		step.promise(seen.Broken[8] == 0, side.name+": no call is under way without load", "%d under way", side.stats.Waiting)
	}
	return nil
}

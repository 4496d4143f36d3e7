package engine

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/policy"
)

// Deaths kills one of four processes with -9 and stops another, while a client makes 200 calls a second and the engine, by a long TTL, goes on
// listing both. No call may fail. Once a refusal or a reset has been read, or one attempt timeout after the first call that hung, the node may be
// given one attempt a second, which is the probe.
func Deaths(t *testing.T, s Subject) {
	t.Helper()
	const lasts = 6 * time.Second
	s.TTL = time.Minute
	w := begin(t, s)
	nodes := map[string]*Process{}
	for _, id := range []string{"n0", "n1", "killed", "frozen"} {
		nodes[id], _ = s.program(t, id, "127.0.0.1:0")
		w.until(id)
	}
	var l ledger
	end := w.loadWith(l.note)
	pass(3 * time.Second) // attempt timeouts are learned
	died := time.Now()
	nodes["killed"].Kill()
	pass(lasts)
	froze := time.Now()
	nodes["frozen"].Freeze()
	pass(lasts)
	until := time.Now()
	nodes["frozen"].Thaw()
	end()

	l.judge(t, "killed", died, until, w.stalled, func(failed []visit) time.Time {
		return slices.MinFunc(failed, func(a, b visit) int { return a.ended.Compare(b.ended) }).ended
	})
	l.judge(t, "frozen", froze, until, w.stalled, func(failed []visit) time.Time {
		return slices.MinFunc(failed, func(a, b visit) int { return a.began.Compare(b.began) }).ended
	})
}

// visit is one attempt at a node.
type visit struct {
	began, ended time.Time
	ok           bool
}

// ledger notes the attempts of calls by node.
type ledger struct {
	mu     sync.Mutex
	visits map[string][]visit
}

// note makes a call and notes its attempts.
func (l *ledger) note(ctx context.Context, c *hull.Client) error {
	var info hull.CallInfo
	began := time.Now()
	_, err := hull.Call[greeting](ctx, c.To(service), method, &greeting{Name: "Ada"}, hull.Info(&info))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.visits == nil {
		l.visits = map[string][]visit{}
	}
	for _, a := range info.Attempts {
		at := began.Add(a.Began)
		l.visits[a.Node] = append(l.visits[a.Node], visit{at, at.Add(a.Took), a.Class == policy.ClassOK})
	}
	return err
}

// judge counts the attempts at a dead node that began after everybody could know.
func (l *ledger) judge(t *testing.T, id string, died, until time.Time, stalled func() time.Duration, known func(failed []visit) time.Time) {
	t.Helper()
	var failed []visit
	served := false
	for _, v := range l.visits[id] {
		served = served || v.ok && v.ended.Before(died)
		if !v.ok && v.ended.After(died) && v.began.Before(until) {
			failed = append(failed, v)
		}
	}
	if !served {
		t.Errorf("%s: nobody called it while it lived", id)
	}
	if len(failed) == 0 { // its connections broke before anybody called it
		return
	}
	at := known(failed)
	// What is known on one processor is known on the others a little later, and later still when the machine stood still.
	late := at.Add(250*time.Millisecond + stalled())
	before, after := 0, 0
	for _, v := range failed {
		switch {
		case !v.began.After(at):
			before++
		case v.began.After(late):
			after++
		}
	}
	t.Logf("%s: %d attempts failed that began before it was known, %v after the end; %d later ones in %v", id, before,
		at.Sub(died).Round(time.Millisecond), after, until.Sub(at).Round(time.Millisecond))
	if most := int(until.Sub(at)/time.Second) + 1; after > most {
		t.Errorf("%s: %d attempts after everybody could know, want at most one a second, %d", id, after, most)
	}
}

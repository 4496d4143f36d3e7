package check

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hull-go/hull/demo/stats"
	"github.com/hull-go/hull/demo/ui"
)

// acted returns a step of the story by name, judged over the given sides.
func judged(t *testing.T, name string, st *Step) *Step {
	t.Helper()
	s := &story{victim: "backend-2", report: &Report{AttemptTimeout: 250}}
	for _, a := range s.acts() {
		if a.name == name {
			a.judge(s, st)
			return st
		}
	}
	t.Fatalf("there is no act %q", name)
	return nil
}

// Each act notices when its promise is broken, and when there is no damage to be seen.
func TestJudges(t *testing.T) {
	good := Side{Calls: 3000, OK: 3000, P99: 30, UnsafeOK: 100}
	hurt := Side{Calls: 3000, OK: 2000, Failed: 1000, P99: 3000}
	with := func(change func(*Side)) Side { s := good; change(&s); return s }
	tests := []struct {
		act, name   string
		with, bare  Side
		stall       float64
		wantBroken  int
		wantMention string
	}{
		{"calm", "good", good, good, 0, 0, ""},
		{"calm", "failing", hurt, hurt, 0, 2, "no call fails"},
		{"kill -9", "good", good, hurt, 0, 0, ""},
		{"kill -9", "one lost", with(func(s *Side) { s.Failed = 1 }), hurt, 0, 1, "1 of 3000 failed"},
		{"kill -9", "one fallback", with(func(s *Side) { s.Fallback = 1 }), hurt, 0, 1, "1 fallback"},
		{"kill -9", "maybe", with(func(s *Side) { s.UnsafeMaybe = 3 }), hurt, 0, 0, ""},
		{"kill -9", "unsafe failed", with(func(s *Side) { s.UnsafeFailed = 1 }), hurt, 0, 1, "not idempotent"},
		{"kill -9", "no damage", good, good, 0, 1, "damage"},
		{"kill -9", "no calls", Side{}, hurt, 0, 1, "0 of 0"},
		{"hang", "good", good, hurt, 0, 0, ""},
		{"hang", "slow", with(func(s *Side) { s.P99 = 500 }), hurt, 0, 1, "500 ms"},
		{"hang", "slow machine", with(func(s *Side) { s.P99 = 600 }), hurt, 150, 0, ""},
		{"slow", "good", good, with(func(s *Side) { s.P99 = 160 }), 0, 0, ""},
		{"slow", "no damage", good, good, 0, 1, "slow node"},
		{"errors", "good", good, hurt, 0, 0, ""},
		{"errors", "lost", hurt, hurt, 0, 1, "lost"},
		{"all down", "good", with(func(s *Side) { s.Fallback, s.Recovery = 900, 0.4 }), hurt, 0, 0, ""},
		{"all down", "errors", with(func(s *Side) { s.Fallback, s.Failed = 900, 1 }), hurt, 0, 1, "fallback instead"},
		{"all down", "no fallback", good, hurt, 0, 1, "fallback instead"},
		{"all down", "slow recovery", with(func(s *Side) { s.Fallback, s.Recovery = 900, 2.1 }), hurt, 0, 1, "2.1 s"},
	}
	for _, tt := range tests {
		t.Run(tt.act+"/"+tt.name, func(t *testing.T) {
			st := judged(t, tt.act, &Step{Name: tt.act, Protected: tt.with, Unprotected: tt.bare, Stall: tt.stall})
			r := Report{Steps: []*Step{st}}
			broken := r.Broken()
			if len(broken) != tt.wantBroken {
				t.Fatalf("broken: %+v, want %d", broken, tt.wantBroken)
			}
			if len(broken) > 0 && !strings.Contains(broken[0].Text+broken[0].Got, tt.wantMention) {
				t.Errorf("broken: %+v, want a word of %q", broken, tt.wantMention)
			}
		})
	}
}

func TestReport(t *testing.T) {
	st := &Step{Name: "kill -9", Protected: Side{Calls: 10, OK: 10}, Unprotected: Side{Calls: 10, Failed: 4}}
	st.promise(true, "one", "seen %d", 1)
	r := &Report{Rate: 300, Nodes: 3, Steps: []*Step{st}}
	var b bytes.Buffer
	r.Print(&b)
	for _, want := range []string{"unprotected", "kept", "kill -9: one (seen 1)", "All 1 promises kept."} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in:\n%s", want, b.String())
		}
	}
	st.promise(false, "two", "nothing")
	b.Reset()
	r.Print(&b)
	if !strings.Contains(b.String(), "BROKEN") || !strings.Contains(b.String(), "1 OF 2 PROMISES BROKEN") {
		t.Errorf("a broken promise is not shouted:\n%s", b.String())
	}
	out, err := json.Marshal(r)
	if err != nil || !strings.Contains(string(out), `"promises":[{"text":"one","kept":true,"got":"seen 1"}`) {
		t.Errorf("%s, %v", out, err)
	}
}

// An act is played again only if the machine stood still and a promise was broken, and not for ever.
func TestDoubtful(t *testing.T) {
	for _, tt := range []struct {
		stall      float64
		kept, want bool
	}{{126, false, true}, {124, false, false}, {0, false, false}, {5000, true, false}} {
		st := &Step{Stall: tt.stall}
		st.promise(true, "one", "")
		st.promise(tt.kept, "two", "")
		if got := st.doubtful(250); got != tt.want {
			t.Errorf("after %v ms, kept %v: doubtful %v", tt.stall, tt.kept, got)
		}
	}
}

// The watcher tells how long trouble lasted, and how much of it came after the end of its cause.
func TestWatcher(t *testing.T) {
	var n atomic.Int64
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		i := n.Add(1)
		s := ui.Stats{Stall: float64(i)}
		s.Protected.Total = stats.Counts{OK: 100 * i, Fallback: min(i, 3)}
		s.Protected.Window.P99 = float64(10 * i)
		if err := json.NewEncoder(w).Encode(s); err != nil {
			t.Error(err)
		}
	}))
	defer h.Close()
	w := watcher{api: newAPI(h.URL)}
	defer w.api.close()
	if err := w.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.watch(t.Context(), time.Minute, func(s *ui.Stats) bool { return s.Protected.Total.OK >= 600 }); err != nil {
		t.Fatal(err)
	}
	s := w.side(&w.protected, w.before.Protected.Total, w.last.Protected.Total, time.Now())
	if s.OK != 500 || s.Fallback != 2 || s.P99 != 60 || w.stall != 6 || s.Trouble < 0.15 || s.Recovery != 0 {
		t.Errorf("side = %+v, stall %v", s, w.stall)
	}
	early := w.side(&w.protected, w.before.Protected.Total, w.last.Protected.Total, w.began)
	if early.Recovery != s.Trouble {
		t.Errorf("if the cause ended at once all trouble is recovery: %+v", early)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.watch(ctx, time.Minute, nil); err == nil {
		t.Error("a cancelled check goes on")
	}
}

// The audit notices what was stored twice, and calls that never end.
func TestObserved(t *testing.T) {
	for _, tt := range []struct {
		waiting                 int64
		posts                   map[string]int
		wantTwice, wantUnderWay int
	}{{0, map[string]int{"a": 1, "b": 1}, 0, 0}, {0, map[string]int{"a": 1, "b": 2, "c": 3}, 3, 0}, {2, nil, 0, 1}} {
		r := observed(tt.waiting, tt.posts)
		if r.Broken[3] != tt.wantTwice || r.Broken[8] != tt.wantUnderWay {
			t.Errorf("%+v: %v", tt, r.Violations)
		}
	}
}

// An answer that is none is an error, not a broken promise.
func TestAPIErrors(t *testing.T) {
	h := httptest.NewServer(http.NotFoundHandler())
	defer h.Close()
	a := newAPI(h.URL)
	defer a.close()
	if _, err := a.stats(t.Context()); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("stats: %v", err)
	}
	if ok, _, err := a.page(t.Context()); ok || err != nil {
		t.Errorf("page: %v, %v", ok, err)
	}
}

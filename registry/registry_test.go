package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/status"
)

func TestOneWatchForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestDriver()
		r := mustNew(t, d, Options{Relist: -1})
		a, b := r.Open("greeter"), r.Open("greeter")
		if s := a.Snapshot(); s == nil || s.Revision != 0 || len(s.Nodes) != 0 || s.Node("a") != nil {
			t.Fatalf("before the first answer: %+v", s)
		}
		changed := b.Changed()
		d.feed <- Update{Nodes: testNodes("b", "a")}
		<-changed
		for _, v := range []*View{a, b} {
			if s := v.Snapshot(); show(s.Nodes) != "a b" || s.Revision != 1 || s.Node("b") == nil {
				t.Errorf("%+v", s)
			}
		}
		changed = b.Changed()
		d.feed <- Update{Nodes: testNodes("a", "b")}
		synctest.Wait()
		select {
		case <-changed:
			t.Error("an answer that says the same is no change")
		default:
		}
		_ = a.Close()
		_ = a.Close()
		_ = b.Close()
		time.Sleep(DefaultLinger - time.Second)
		c := r.Open("greeter")
		if n, _ := d.asked(); show(c.Snapshot().Nodes) != "a b" || n != 1 {
			t.Errorf("within Linger: %+v, %d watches", c.Snapshot(), n)
		}
		time.Sleep(time.Hour)
		_ = c.Close()
		time.Sleep(DefaultLinger + time.Second)
		if services, idle := sizes(r); services != 0 || idle != 0 {
			t.Errorf("%d services, %d idle, after Linger", services, idle)
		}
		if show(c.Snapshot().Nodes) != "a b" {
			t.Error("a closed view keeps its last snapshot")
		}
		r.Open("greeter")
		synctest.Wait()
		if n, _ := d.asked(); n != 2 {
			t.Errorf("%d watches, want 2", n)
		}
		if err := r.Close(); err != nil || !d.closed {
			t.Error(err, d.closed)
		}
		if err := r.Close(); err != nil {
			t.Error("closing twice:", err)
		}
	})
}

func TestAnEngineThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestDriver()
		logged := &logLines{}
		r := mustNew(t, d, Options{Logger: logged.logger()})
		defer r.Close()
		v := r.Open("greeter")
		d.feed <- Update{Nodes: testNodes("a", "b")}
		synctest.Wait()
		ended := time.Now()
		failures := 0
		for time.Since(ended) < time.Hour {
			d.feed <- errSick
			failures++
		}
		synctest.Wait()
		s := v.Snapshot()
		if show(s.Nodes) != "a b" || !s.Stale || !strings.Contains(s.Why, "sick") || !s.Since.Equal(ended) || s.Revision != 2 {
			t.Errorf("after an hour: %+v", s)
		}
		if n := logged.count("does not answer"); n != 1 {
			t.Errorf("logged %d times", n)
		}
		d.mu.Lock()
		at := d.at
		d.mu.Unlock()
		var longest time.Duration
		for i := range at[1:] {
			longest = max(longest, at[i+1].Sub(at[i]))
		}
		if longest > backoffMax || len(at) > 5000 || len(at) < 2500 {
			t.Errorf("%d watches in an hour, the longest pause %v", len(at), longest)
		}
		d.feed <- Update{Nodes: testNodes("a", "b", "c")}
		synctest.Wait()
		if s := v.Snapshot(); show(s.Nodes) != "a b c" || s.Stale || s.Why != "" || !s.Since.IsZero() {
			t.Errorf("after its return: %+v", s)
		}
		if n := logged.count("answers again"); n != 1 {
			t.Errorf("its return was logged %d times", n)
		}
		d.feed <- nil // a watch that ends without an error is an error of the driver's
		synctest.Wait()
		if s := v.Snapshot(); !s.Stale || show(s.Nodes) != "a b c" {
			t.Errorf("%+v", s)
		}
	})
}

func TestBadEntriesAreDroppedAndReportedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestDriver()
		logged := &logLines{}
		r := mustNew(t, d, Options{Logger: logged.logger()})
		defer r.Close()
		v := r.Open("greeter")
		nodes := testNodes("a", "b", "c", "d", "e", "f", "a")
		nodes[1].Address = "169.254.169.254:80"
		nodes[2].Service = "other"
		nodes[3].Zone = "\x1b[31m"
		nodes[4] = nil
		nodes[5].Absent = true
		nodes[6].Version = "the last of two"
		for range 3 {
			d.feed <- Update{Nodes: slices.Clone(nodes)}
		}
		synctest.Wait()
		if s := v.Snapshot(); show(s.Nodes) != "a" || s.Nodes[0].Version != "the last of two" {
			t.Errorf("%q", show(s.Nodes))
		}
		if n := logged.count("ignored"); n != 6 {
			t.Errorf("%d complaints, want 6", n)
		}
		if n := logged.count("is there twice"); n != 1 || v.Snapshot().Revision != 1 {
			t.Errorf("%d complaints of two entries with one ID, revision %d", n, v.Snapshot().Revision)
		}
		for i := range 1000 {
			n := testNode("a")
			n.ID = fmt.Sprintf("bad %d", i)
			d.feed <- Update{Nodes: []*Node{n}}
		}
		synctest.Wait()
		many := make([]*Node, 0, maxNodes+10)
		for i := range cap(many) {
			n := testNode("a")
			n.ID = fmt.Sprint("n", i)
			many = append(many, n)
		}
		d.feed <- Update{Nodes: many}
		synctest.Wait()
		if n := len(v.Snapshot().Nodes); n != maxNodes {
			t.Errorf("%d nodes, want no more than %d", n, maxNodes)
		}
		if n := logged.count("\n"); n > maxReports+2 {
			t.Errorf("%d lines of log", n)
		}
	})
}

func TestWaitSaysWhyNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestDriver()
		d.names = []string{"greeter", "Greeter2", "payments"}
		r := mustNew(t, d, Options{})
		short := func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(t.Context(), 10*time.Second)
		}
		wants := func(err error, texts ...string) {
			t.Helper()
			for _, text := range texts {
				if err == nil || !strings.Contains(err.Error(), text) {
					t.Errorf("%v\nshould say %q", err, text)
				}
			}
			if e := status.From(err); e.Kind != status.NoNode || e.Fate != status.NotSent {
				t.Errorf("%v: kind %v, fate %v", err, e.Kind, e.Fate)
			}
		}
		ctx, cancel := short()
		_, err := r.Open("greter").Wait(ctx)
		wants(err, "has not answered yet", "deadline")
		cancel()

		go func() { d.feed <- Update{} }()
		ctx, cancel = short()
		_, err = r.Open("greter").Wait(ctx)
		wants(err, `no nodes of service "greter"`, "did you mean greeter or Greeter2?")
		var nf *NotFoundError
		if !errors.As(err, &nf) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		cancel()

		go func() { d.feed <- errSick }()
		ctx, cancel = short()
		_, err = r.Open("greter").Wait(ctx)
		wants(err, "the engine is sick", "cannot be looked up")
		if !errors.Is(err, errSick) {
			t.Errorf("%v", err)
		}
		cancel()

		_, err = r.Open("a/b").Wait(t.Context())
		wants(err, "only letters")
		_, err = r.Lookup(t.Context(), "")
		wants(err, "empty service")

		go func() {
			time.Sleep(time.Second)
			_ = r.Close()
		}()
		_, err = r.Open("later").Wait(t.Context())
		wants(err, "closed")
		_, err = r.Lookup(t.Context(), "later")
		wants(err, "closed")
		if _, err := r.List(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("list: %v", err)
		}
	})
}

func TestLookupsShareOneQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestDriver()
		d.names = []string{"greeter"}
		r := mustNew(t, d, Options{})
		defer r.Close()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				var nf *NotFoundError
				if _, err := r.Lookup(t.Context(), "greeters"); !errors.As(err, &nf) || !slices.Equal(nf.Nearest, []string{"greeter"}) {
					if nf == nil || len(nf.Nearest) > 0 {
						t.Errorf("%v", err)
					}
				}
			})
		}
		synctest.Wait()
		d.feed <- Update{}
		wg.Wait()
		for range 20 { // answered from memory
			if _, err := r.Lookup(t.Context(), "greeters"); err == nil {
				t.Error("found")
			}
			time.Sleep(time.Second)
		}
		if watches, lists := d.asked(); watches != 1 || lists > 12 {
			t.Errorf("%d watches, %d lists", watches, lists)
		}
		d.feed <- Update{Nodes: []*Node{{ID: "x", Service: "greeters", Address: "h:1"}}}
		synctest.Wait()
		if s, err := r.Lookup(t.Context(), "greeters"); err != nil || len(s.Nodes) != 1 {
			t.Errorf("%+v, %v", s, err)
		}
	})
}

// Whoever asks for a million names must not make a million watches.
func TestLookupsOfManyNamesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestDriver()
		r := mustNew(t, d, Options{})
		defer r.Close()
		for i := range 3 * maxIdle {
			v := r.Open(fmt.Sprint("s", i))
			_ = v.Close()
			time.Sleep(time.Millisecond)
		}
		if services, idle := sizes(r); services > maxIdle || idle > maxIdle {
			t.Errorf("%d services, %d idle", services, idle)
		}
		time.Sleep(time.Minute)
		if services, idle := sizes(r); services != 0 || idle != 0 {
			t.Errorf("%d services, %d idle, a minute later", services, idle)
		}
	})
}

func TestAbsentNodesGoInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestDriver()
		logged := &logLines{}
		r := mustNew(t, d, Options{Logger: logged.logger()})
		defer r.Close()
		v := r.Open("greeter")
		d.feed <- Update{Nodes: testNodes("a", "b", "c")}
		d.feed <- Update{}
		synctest.Wait()
		began := time.Now()
		s := v.Snapshot()
		if show(s.Nodes) != "(a) (b) (c)" || s.Disbelieved != 3 || s.Why == "" || !s.Since.Equal(began) {
			t.Fatalf("%+v", s)
		}
		v.Report("a", true)
		r.Report("greeter", "b", false)
		r.Report("unknown", "b", false)
		synctest.Wait()
		if got := show(v.Snapshot().Nodes); got != "(a) (c)" {
			t.Errorf("after a failure: %q", got)
		}
		time.Sleep(30 * time.Second)
		v.Report("a", true)
		changed := v.Changed()
		<-changed
		if got, after := show(v.Snapshot().Nodes), time.Since(began); got != "(a)" || after != DefaultGrace {
			t.Errorf("after %v: %q", after, got)
		}
		<-v.Changed()
		if got, after := show(v.Snapshot().Nodes), time.Since(began); got != "" || after != DefaultGrace+30*time.Second {
			t.Errorf("after %v: %q", after, got)
		}
		if s := v.Snapshot(); s.Disbelieved != 0 || s.Why != "" || !s.Since.IsZero() {
			t.Errorf("%+v", s)
		}
		if n := logged.count("disbelieved"); n != 1 {
			t.Errorf("logged %d times", n)
		}
	})
}

func TestProbeOfAbsentNodes(t *testing.T) {
	for _, byView := range []bool{false, true} {
		t.Run(fmt.Sprintf("by view %v", byView), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { probeAbsent(t, byView) }) })
	}
}

func probeAbsent(t *testing.T, byView bool) {
	d := newTestDriver()
	var mu sync.Mutex
	probes := map[string]int{}
	probe := func(ctx context.Context, n *Node) Sighting {
		mu.Lock()
		probes[n.ID]++
		mu.Unlock()
		switch n.ID {
		case "lives":
			return Lives
		case "dead":
			return Gone
		case "hangs":
			<-ctx.Done()
		}
		return Unsure
	}
	o := Options{Probe: probe}
	if byView {
		o.Probe = nil
	}
	r := mustNew(t, d, o)
	defer r.Close()
	v := r.Open("greeter")
	if byView {
		v.Probe(probe)
	}
	nodes := testNodes("lives", "dead", "hangs", "stranger")
	for _, n := range nodes[:3] {
		n.Identifies = true
	}
	d.feed <- Update{Nodes: nodes}
	d.feed <- Update{}
	synctest.Wait()
	began := time.Now()
	for _, step := range []struct {
		at   time.Duration
		want string
	}{
		{9 * time.Second, "(dead) (hangs) (lives) (stranger)"},
		{15 * time.Second, "(hangs) (lives) (stranger)"},
		{29 * time.Second, "(hangs) (lives) (stranger)"},
		{31 * time.Second, "(lives) (stranger)"},
		{59 * time.Second, "(lives) (stranger)"},
		{61 * time.Second, "(lives)"},
		{time.Hour, "(lives)"},
	} {
		time.Sleep(time.Until(began.Add(step.at)))
		if got := show(v.Snapshot().Nodes); got != step.want {
			t.Errorf("after %v: %q, want %q", step.at, got, step.want)
		}
	}
	mu.Lock()
	if n := probes["lives"]; n < 350 || n > 362 || probes["dead"] != 1 || probes["hangs"] > 3 || probes["stranger"] > 6 {
		t.Errorf("probes: %v", probes)
	}
	mu.Unlock()
	_ = v.Close()
	if byView {
		u := r.Open("greeter")
		defer u.Close()
		time.Sleep(2 * time.Minute)
		if got := show(u.Snapshot().Nodes); got != "" {
			t.Errorf("nobody can look any more: %q", got)
		}
	}
}

// Each node that vanished is looked at when its own turn comes, not when one's that vanished before it does.
func TestProbesOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestDriver()
		r := mustNew(t, d, Options{Probe: func(context.Context, *Node) Sighting { return Gone }})
		defer r.Close()
		v := r.Open("greeter")
		defer v.Close()
		nodes := testNodes("a", "b", "c", "d")
		d.feed <- Update{Nodes: nodes}
		for i := range nodes[:3] {
			time.Sleep(7 * time.Second)
			d.feed <- Update{Nodes: nodes[i+1:]}
		}
		began := time.Now()
		synctest.Wait()
		for _, step := range []struct {
			at   time.Duration // after the last one vanished; the others did 7 and 14 s before
			want string
		}{{0, "(b) (c) d"}, {2 * time.Second, "(b) (c) d"}, {4 * time.Second, "(c) d"}, {9 * time.Second, "(c) d"}, {11 * time.Second, "d"}} {
			time.Sleep(time.Until(began.Add(step.at)))
			if got := show(v.Snapshot().Nodes); got != step.want {
				t.Errorf("after %v: %q, want %q", step.at, got, step.want)
			}
		}
	})
}

func TestOptions(t *testing.T) {
	for want, o := range map[string]Options{
		"negative":     {Grace: -1},
		"too long":     {TTL: time.Second, Interval: time.Second},
		"a share from": {Disbelieve: 1.5},
	} {
		if _, err := New(newTestDriver(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", o, err, want)
		}
	}
	if _, err := New(nil, Options{}); err == nil {
		t.Error("no driver")
	}
	r := mustNew(t, newTestDriver(), Options{TTL: 3 * time.Second})
	defer r.Close()
	if r.Options().Interval != time.Second || r.Options().Grace != DefaultGrace {
		t.Errorf("%+v", r.Options())
	}
}

func TestEverythingAtOnce(t *testing.T) {
	d := newTestDriver()
	r := mustNew(t, d, Options{Linger: time.Microsecond})
	done := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				v := r.Open([]string{"greeter", "other", "third"}[(n+i)%3])
				for _, x := range v.Snapshot().Nodes {
					v.Report(x.ID, n%3 > 0)
				}
				_ = v.Close()
			}
		})
	}
	for i := range 2000 {
		all := testNodes("a", "b", "c", "d")
		if i%400 == 399 {
			d.feed <- errSick
		} else {
			d.feed <- Update{Nodes: all[:i%5%4]}
		}
	}
	close(done)
	wg.Wait()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

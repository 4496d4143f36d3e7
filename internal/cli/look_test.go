package cli

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/registry"
)

func TestListAndGet(t *testing.T) {
	dir := t.TempDir()
	at := "--registry=" + fileURL(dir)
	run(t, "list", at).want(t, ExitOK, "", "no service is registered at file://")
	if got := run(t, "list", at, "-o", "json"); got.out != "[]\n" || got.code != ExitOK {
		t.Errorf("%+v", got)
	}
	run(t, "get", "greeter", at).want(t, ExitNotFound, "", "nothing is registered at all")

	serve(t, dir, hull.NodeID("one"), hull.Version("1.2"), hull.Zone("a", "north"), hull.Label("tier", "gold"))
	two, stop := serve(t, dir, hull.NodeID("two"))
	run(t, "list", at).want(t, ExitOK, "SERVICE  NODES  VERSIONS  METHODS  NOTE\ngreeter  2      1.2       3        -\n", "")
	list := read[[]serviceView](t, run(t, "list", at, "-o", "json").out)
	if len(list) != 1 || list[0].Name != "greeter" || list[0].Nodes != 2 || list[0].Methods != 3 || len(list[0].Versions) != 1 {
		t.Errorf("%+v", list)
	}
	got := run(t, "get", "greeter", at)
	got.want(t, ExitOK, "greeter.Greeter/Hello  idempotent  2", "")
	for _, want := range []string{"two", two.Addr(), "ready", "north/a", "tier=gold", "greeter.Greeter/Wait   -           2"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("no %q in\n%s", want, got.out)
		}
	}
	d := read[detailView](t, run(t, "get", "greeter", at, "-o", "json").out)
	if len(d.Nodes) != 2 || d.Nodes[0].ID != "one" || d.Nodes[0].Labels["tier"] != "gold" || d.Nodes[1].State != stateReady || d.Nodes[1].Weight != registry.DefaultWeight ||
		len(d.Methods) != 3 || !d.Methods[1].Idempotent || d.Methods[1].SideEffectFree || d.Stale {
		t.Errorf("%+v", d)
	}
	run(t, "get", "greter", at).want(t, ExitNotFound, "", "did you mean greeter?")
	run(t, "get", "greeter", at, "-l", "tier=silver").want(t, ExitNotFound, "", "none of the 2 nodes")
	if d := read[detailView](t, run(t, "get", "greeter", at, "-l", "tier=gold", "-o", "json").out); len(d.Nodes) != 1 {
		t.Errorf("%+v", d)
	}
	stop()
	if d := read[detailView](t, run(t, "get", "greeter", at, "-o", "json").out); len(d.Nodes) != 1 {
		t.Errorf("after one has left: %+v", d)
	}
}

// A registry that cannot be used is told apart from one that is empty.
func TestBrokenRegistry(t *testing.T) {
	run(t, "list", "--registry", "file:///dev/null/x").want(t, ExitUnavailable, "", "hull: the registry: ")
}

func TestHealth(t *testing.T) {
	dir := t.TempDir()
	at := "--registry=" + fileURL(dir)
	run(t, "health", at).want(t, ExitNotFound, "", "no node to ask")
	run(t, "health", "greeter", at).want(t, ExitNotFound, "", "no nodes of service")
	serve(t, dir, hull.NodeID("one"))
	run(t, "health", at).want(t, ExitOK, healthServing, "")
	v := read[[]healthView](t, run(t, "health", "greeter", at, "-o", "json").out)
	if len(v) != 1 || !v[0].Healthy || v[0].Health != healthServing || v[0].Node != "one" || v[0].TookMS <= 0 {
		t.Errorf("%+v", v)
	}
}

// What a node that is ill looks like: one that says nothing, as after SIGSTOP, one that is gone, and one that speaks
// something else.
func TestHealthOfTheIll(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // connections wait in its backlog for ever
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	silent := ln.Addr().String()
	got := map[string]string{}
	// On a slow machine there is no time to find out whether a node is there, and then the next try has more.
	for timeout := 100 * time.Millisecond; got["127.0.0.1:1"] != healthUnreachable || got[silent] != healthSilent; timeout *= 4 {
		if timeout > time.Minute {
			t.Fatalf("%v", got)
		}
		r := run(t, "health", "--timeout="+timeout.String(), "-o", "json", "--registry=static://127.0.0.1:1,"+silent+"?service=ill")
		if r.code != ExitFailed || !strings.Contains(r.err, `no node of service \"ill\" is healthy`) {
			t.Errorf("%+v", r)
		}
		for _, v := range read[[]healthView](t, r.out) {
			if got[v.Address] = v.Health; v.Healthy || v.Error == "" {
				t.Errorf("%+v", v)
			}
		}
	}
	run(t, "health", "ill", "--timeout=1m", "--registry=static://"+silent+"?service=ill&protocol=http").want(t, ExitOK, "reachable", "")
}

func TestWatch(t *testing.T) {
	dir := t.TempDir()
	at := "--registry=" + fileURL(dir)
	serve(t, dir, hull.NodeID("one"), hull.Version("1.2"))
	p := start(t, "watch", "greeter", at)
	if l := p.line(); !strings.Contains(l, "  present    greeter  one  127.0.0.1:") || !strings.HasSuffix(l, "version=1.2") {
		t.Error(l)
	}
	all := start(t, "watch", at, "-o", "json")
	if e := read[eventView](t, all.line()); e.Event != eventPresent || e.Node.ID != "one" || e.Service != "greeter" || time.Since(e.Time) > time.Minute {
		t.Errorf("%+v", e)
	}

	child := startChild(t, dir)
	if l := p.line(); !strings.Contains(l, "  joined     greeter  child  ") {
		t.Error(l)
	}
	if e := read[eventView](t, all.line()); e.Event != eventJoined || e.Node.ID != "child" {
		t.Errorf("%+v", e)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // it was killed
	if l := p.line(); !strings.Contains(l, "  left       greeter  child  ") {
		t.Error(l)
	}
	if e := read[eventView](t, all.line()); e.Event != eventLeft || e.Node.ID != "child" {
		t.Errorf("%+v", e)
	}
	for _, w := range []*running{p, all} {
		if code := w.stop(); code != ExitOK || w.errs.Len() > 0 {
			t.Errorf("exit %d, %s", code, w.errs)
		}
	}
}

// A watch begins before its service does, and sees it drain and go.
func TestWatchFromTheStart(t *testing.T) {
	dir := t.TempDir()
	p := start(t, "watch", "greeter", "--registry="+fileURL(dir), "-o", "json")
	_, stop := serve(t, dir, hull.NodeID("one"))
	var events []string
	for _, want := range []string{eventJoined, eventDraining, eventLeft} {
		e := read[eventView](t, p.line())
		if events = append(events, e.Event); e.Event == eventPresent && want == eventJoined {
			e.Event = eventJoined // it was quicker than the first look
		}
		if want == eventJoined {
			stop()
		}
		if e.Event == eventLeft && want == eventDraining {
			break // with no time to drain, the two may be seen as one
		}
		if e.Event != want {
			t.Fatalf("events %v", events)
		}
	}
	if code := p.stop(); code != ExitOK {
		t.Errorf("exit %d", code)
	}
}

func TestChanges(t *testing.T) {
	node := func(id string, change func(*registry.Node)) *registry.Node {
		n := &registry.Node{ID: id, Service: "s", Address: id + ":1"}
		if change != nil {
			change(n)
		}
		return n
	}
	set := func(change func(*registry.Service), nodes ...*registry.Node) *registry.Service {
		s := &registry.Service{Name: "s", Nodes: nodes}
		if change != nil {
			change(s)
		}
		return s
	}
	absent := func(n *registry.Node) { n.Absent = true }
	draining := func(n *registry.Node) { n.Draining = true }
	stale := func(s *registry.Service) { s.Stale, s.Why = true, "engine down" }
	doubt := func(s *registry.Service) { s.Why = "too many at once" }
	a, b := node("a", nil), node("b", nil)
	for _, tt := range []struct {
		name        string
		before, now *registry.Service
		want        string
	}{
		{"first", nil, set(nil, a, b), "present a, present b"},
		{"none", nil, set(nil), ""},
		{"same", set(nil, a), set(nil, a), ""},
		{"joined", set(nil, b), set(nil, a, b), "joined a"},
		{"left", set(nil, a, b), set(nil, a), "left b"},
		{"replaced", set(nil, a), set(nil, b), "left a, joined b"},
		{"doubtful", set(nil, a), set(doubt, node("a", absent)), "doubtful a (too many at once)"},
		{"returned", set(nil, node("a", absent)), set(nil, a), "returned a"},
		{"draining", set(nil, a), set(nil, node("a", draining)), "draining a"},
		{"ready", set(nil, node("a", draining)), set(nil, a), "ready a"},
		{"changed", set(nil, a), set(nil, node("a", func(n *registry.Node) { n.Version = "2" })), "changed a"},
		{"stale", set(nil, a), set(stale, a), "stale (engine down)"},
		{"stale at first", nil, set(stale, a), "stale (engine down), present a"},
		{"fresh", set(stale, a), set(nil, a, b), "joined b, fresh"},
	} {
		var got []string
		for _, c := range changes(tt.before, tt.now, eventPresent) {
			text := c.event
			if c.node != nil {
				text += " " + c.node.ID
			}
			if c.why != "" {
				text += " (" + c.why + ")"
			}
			got = append(got, text)
		}
		if s := strings.Join(got, ", "); s != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, s, tt.want)
		}
	}
}

func TestRegister(t *testing.T) {
	dir := t.TempDir()
	at := "--registry=" + fileURL(dir)
	p := start(t, "register", "billing", "127.0.0.1:8080", at, "--id=b1", "--version=3", "--zone=z", "--label=team=money", "--protocol=http",
		"--register-ttl=6s", "--register-interval=2s")
	if l := p.line(); l != "registered billing at 127.0.0.1:8080 as node b1; Ctrl-C deregisters it" {
		t.Error(l)
	}
	d := read[detailView](t, run(t, "get", "billing", at, "-o", "json").out)
	if n := d.Nodes[0]; n.Version != "3" || n.Zone != "z" || n.Labels["team"] != "money" || n.Protocols[0] != "http" || n.Address != "127.0.0.1:8080" {
		t.Errorf("%+v", n)
	}
	if code := p.stop(); code != ExitOK {
		t.Errorf("exit %d: %s", code, p.errs)
	}
	run(t, "get", "billing", at).want(t, ExitNotFound, "", "no nodes")

	p = start(t, "register", "billing", "127.0.0.1:8080", at, "-o", "json")
	var text strings.Builder
	for !strings.HasSuffix(text.String(), "\n}\n") {
		text.WriteString(p.line() + "\n")
	}
	if v := read[registeredView](t, text.String()); v.Service != "billing" || v.Node.ID == "" {
		t.Errorf("%+v", v)
	}
	run(t, "register", "billing", "nonsense", at).want(t, ExitUsage, "", "address")
	run(t, "register", "billing", "h:1", "--registry=static://h:1").want(t, ExitUsage, "", "cannot register")
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		run(t, "completion", shell).want(t, ExitOK, "hull", "")
	}
	dir := t.TempDir()
	serve(t, dir)
	env := map[string]string{"HULL_REGISTRY": fileURL(dir)}
	for _, tt := range []struct {
		args []string
		want string // lines
	}{
		{[]string{"ge"}, "get"},
		{[]string{"get", ""}, "greeter"},
		{[]string{"get", "x"}, ""},
		{[]string{"get", "greeter", ""}, ""},
		{[]string{"--timeout", "2s", "watch", "gre"}, "greeter"},
		{[]string{"call", "greeter", "greeter.Greeter/H"}, "greeter.Greeter/Hello"},
		{[]string{"call", "greeter", "H"}, "Hello"},
		{[]string{"call", "greeter", ""}, "greeter.Greeter/Chat greeter.Greeter/Hello greeter.Greeter/Wait"},
		{[]string{"call", "ghost", ""}, ""},
		{[]string{"list", "-o", ""}, "table json"},
		{[]string{"list", "--registry", ""}, "file:// static://"},
		{[]string{"completion", ""}, "bash zsh fish"},
		{[]string{"help", "ver"}, "version"},
		{[]string{"list", ""}, ""},
		{[]string{"get", "--registry", "nonsense://", ""}, ""},
	} {
		var r result
		var got []string
		// Whoever pressed the tab key waits for a second, and no longer if the machine needs more.
		for try := 0; try < 10 && (try == 0 || len(got) == 0 && tt.want != ""); try++ {
			r = runIn(t, env, "", append([]string{"__complete"}, tt.args...)...)
			for line := range strings.Lines(r.out) {
				if word, _, _ := strings.Cut(strings.TrimSpace(line), "\t"); !strings.HasPrefix(word, ":") {
					got = append(got, word)
				}
			}
		}
		if s := strings.Join(got, " "); s != tt.want || r.code != ExitOK {
			t.Errorf("%q: %q, want %q (exit %d, %s)", tt.args, s, tt.want, r.code, r.err)
		}
	}
}

func TestTable(t *testing.T) {
	tab := table{head: []string{"A", "LONGER"}, paint: func(column int, cell string) colour {
		if column == 0 {
			return colourOf(cell)
		}
		return none
	}}
	tab.add("ready", "x")
	tab.add("größer", "")
	tab.add("a\x1b[31m\nb\u202e", "y")
	var plainText, coloured strings.Builder
	tab.print(&plainText, false)
	tab.print(&coloured, true)
	const want = "A                     LONGER\n" +
		"ready                 x\n" +
		"größer                -\n" +
		"a\\u001b[31m\\nb\\u202e  y\n"
	if plainText.String() != want {
		t.Errorf("got\n%swant\n%s", plainText.String(), want)
	}
	if !strings.Contains(coloured.String(), "\x1b[32mready\x1b[0m                 x\n") || strings.Contains(coloured.String(), "\x1b[31m") {
		t.Errorf("%q", coloured.String())
	}
}

func TestColours(t *testing.T) {
	for _, tt := range []struct {
		terminal bool
		env      map[string]string
		want     bool
	}{
		{true, nil, true},
		{false, nil, false},
		{true, map[string]string{"NO_COLOR": "1"}, false},
		{true, map[string]string{"NO_COLOR": ""}, true}, // as no-color.org has it
		{true, map[string]string{"TERM": "dumb"}, false},
		{true, map[string]string{"TERM": "xterm"}, true},
	} {
		p := &program{Options: Options{Terminal: tt.terminal, Env: envOf(tt.env)}}
		if got := p.colours(); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}

func TestAge(t *testing.T) {
	now := time.Now()
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 2500 * time.Millisecond: "2s", 90 * time.Second: "1m", 60 * time.Minute: "1h", 25 * time.Hour: "25h", 72 * time.Hour: "3d",
	} {
		if got := age(&registry.Node{Started: now.Add(-d)}, now); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	if got := age(&registry.Node{}, now); got != "" {
		t.Errorf("not known: %q", got)
	}
}

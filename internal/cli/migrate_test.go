package cli

import (
	"strings"
	"testing"
)

func TestDeregister(t *testing.T) {
	at := "--registry=" + fileURL(t.TempDir())
	p := start(t, "register", "billing", "127.0.0.1:8080", at, "--id=b1")
	p.line()
	run(t, "deregister", "billing", "b1", at).want(t, ExitUnavailable, "", "process lives")
	run(t, "deregister", "billing", "b2", at).want(t, ExitNotFound, "", `no node "b2"`)
	run(t, "deregister", "billing", "a b", at).want(t, ExitUsage, "", "node id")
	run(t, "deregister", "billing", at).want(t, ExitUsage, "", "NODE is missing")
	run(t, "deregister", "billing", "b1", "--registry=static://h:1").want(t, ExitUsage, "", "cannot register")
}

func TestMigrate(t *testing.T) {
	before, after := fileURL(t.TempDir()), fileURL(t.TempDir())
	p := start(t, "register", "billing", "127.0.0.1:8080", "--registry="+before, "--id=b1", "--version=3")
	p.line()
	other := start(t, "register", "other", "127.0.0.1:8081", "--registry="+before, "--id=o1")
	other.line()
	// One that announces itself in the new one already is left alone there.
	self := start(t, "register", "billing", "127.0.0.1:9090", "--registry="+after, "--id=b2")
	self.line()
	twin := start(t, "register", "billing", "127.0.0.1:9090", "--registry="+before, "--id=b2")
	twin.line()

	m := start(t, "migrate", after, "--registry="+before, "--service=billing")
	events := map[string]bool{}
	for range 2 {
		f := strings.Fields(m.line())
		events[strings.Join(f[1:], " ")] = true
	}
	if !events["copied billing b1"] || !events["moved billing b2"] {
		t.Errorf("%v", events)
	}
	d := read[detailView](t, run(t, "get", "billing", "--registry="+after, "-o", "json").out)
	if len(d.Nodes) != 2 || d.Nodes[0].Version != "3" || d.Nodes[0].Address != "127.0.0.1:8080" {
		t.Errorf("%+v", d.Nodes)
	}
	run(t, "get", "other", "--registry="+after).want(t, ExitNotFound, "", "other")
	p.stop()
	if l := m.line(); !strings.HasSuffix(l, "removed   billing  b1") {
		t.Error(l)
	}
	p = start(t, "register", "billing", "127.0.0.1:8080", "--registry="+before, "--id=b3")
	p.line()
	if l := m.line(); !strings.HasSuffix(l, "copied    billing  b3") {
		t.Error(l)
	}
	if code := m.stop(); code != ExitOK {
		t.Errorf("exit %d: %s", code, m.errs)
	}
	if d := read[detailView](t, run(t, "get", "billing", "--registry="+after, "-o", "json").out); len(d.Nodes) != 1 || d.Nodes[0].ID != "b2" {
		t.Errorf("after the end: %+v", d.Nodes)
	}
	run(t, "migrate", "static://h:1", "--registry="+before).want(t, ExitUsage, "", "cannot register")
	run(t, "migrate", "nonsense", "--registry="+before).want(t, ExitUsage, "", "no URL")
	run(t, "migrate", "--registry="+before).want(t, ExitUsage, "", "URL is missing")
	run(t, "migrate", after, "--registry="+before, "--service=a/b").want(t, ExitUsage, "", "service")
}

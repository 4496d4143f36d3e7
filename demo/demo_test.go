//go:build unix

package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hull-go/hull/demo/supervise"
	"github.com/hull-go/hull/demo/ui"
)

// The test binary is also the program that runs the demo, and every process of it.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 || os.Args[1] != Role && os.Args[1] != "run-demo" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if os.Args[1] == Role {
		err = RunRole(ctx, os.Args[2:], os.Stdin, os.Stdout, nil)
	} else {
		err = Run(ctx, Options{Addr: os.Args[2], TempDir: os.Args[3], Stdout: os.Stdout, Stderr: os.Stderr})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// running is the demo as somebody else's process.
type running struct {
	t    *testing.T
	cmd  *exec.Cmd
	url  string
	dir  string
	ends chan error    // how it ended, once
	over chan struct{} // closed then
}

// start runs the demo.
func start(t *testing.T) *running {
	t.Helper()
	d := &running{t: t, dir: t.TempDir(), ends: make(chan error, 1), over: make(chan struct{})}
	d.cmd = exec.CommandContext(context.Background(), os.Args[0], "run-demo", "127.0.0.1:0", d.dir)
	d.cmd.Stderr = os.Stderr
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.end)
	found := make(chan string, 1)
	go func() {
		var seen []byte
		told := false
		buf := make([]byte, 4096)
		for {
			n, err := out.Read(buf)
			if seen = append(seen, buf[:n]...); !told {
				if m := regexp.MustCompile(`http://[0-9.:]+`).Find(seen); m != nil {
					told = true
					found <- string(m)
				}
			}
			if err != nil {
				d.ends <- d.cmd.Wait()
				close(d.over)
				return
			}
		}
	}()
	select {
	case d.url = <-found:
	case err := <-d.ends:
		t.Fatalf("the demo does not start: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("the demo does not start within a minute")
	}
	return d
}

// end has a demo end that has not ended yet, with all of its processes: they would still write into its directory when that is removed.
func (d *running) end() {
	_ = d.cmd.Process.Signal(os.Interrupt)
	select {
	case <-d.over:
	case <-time.After(time.Minute):
		d.t.Error("the demo does not end within a minute")
		_ = d.cmd.Process.Kill()
		<-d.over
	}
}

// ask sends a request to a service and decodes the answer.
func (d *running) ask(url, body string, reply any) (code int) {
	d.t.Helper()
	method := http.MethodGet
	if body != "" {
		method = http.MethodPost
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	rep, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer rep.Body.Close()
	b, err := io.ReadAll(rep.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	if reply != nil {
		if err := json.Unmarshal(b, reply); err != nil {
			d.t.Fatalf("%s %s: %d %s: %v", method, url, rep.StatusCode, b, err)
		}
	}
	return rep.StatusCode
}

func (d *running) stats() (s ui.Stats) {
	d.t.Helper()
	if code := d.ask(d.url+"/api/stats", "", &s); code != 200 {
		d.t.Fatalf("GET /api/stats: %d", code)
	}
	return s
}

// processes lists every process of the demo but the first.
func (d *running) processes() (pids []int) {
	d.t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(found) == 0 {
		out, err := exec.CommandContext(context.Background(), "pgrep", "-P", strconv.Itoa(d.cmd.Process.Pid)).Output()
		if err != nil {
			d.t.Fatal(err)
		}
		for f := range strings.FieldsSeq(string(out)) {
			pid, _ := strconv.Atoi(f)
			pids = append(pids, pid)
		}
		return pids
	}
	for _, name := range found {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it has just ended
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == strconv.Itoa(d.cmd.Process.Pid) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// gone reports whether a process has ended; one that nobody has waited for yet has.
func gone(pid int) bool {
	if b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat")); err == nil {
		_, rest, _ := strings.Cut(string(b), ") ")
		return strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
	}
	return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// eventually waits for something that other processes do.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after a minute still not: %s", what)
		}
	}
}

// left fails the test for everything that the demo has left behind.
func (d *running) left(pids []int, url string) {
	d.t.Helper()
	for _, pid := range pids {
		eventually(d.t, fmt.Sprintf("process %d is gone", pid), func() bool { return gone(pid) })
	}
	addr := strings.TrimPrefix(url, "http://")
	eventually(d.t, "the page's port is free", func() bool {
		l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
		if err == nil {
			l.Close()
		}
		return err == nil
	})
}

// A short day of the demo: everything answers, a crash costs the protected client nothing, REST and RPC say the same, and
// Ctrl-C leaves nothing behind, also of a frozen node.
func TestRun(t *testing.T) {
	d := start(t)
	pids := d.processes()
	if len(pids) != 4 {
		t.Fatalf("%d processes beside the first, want three backends and the page", len(pids))
	}
	eventually(t, "both clients have served calls", func() bool {
		s := d.stats()
		return s.Protected.Total.OK > 50 && s.Unprotected.Total.OK > 50
	})

	// What one service saves the other serves, through any node.
	var saved struct{ Node string }
	if code := d.ask(d.url+"/api/messages", `{"id":"first","author":"Ada","text":"hello"}`, &saved); code != 201 || saved.Node == "" {
		t.Errorf("saving: %d %+v", code, saved)
	}
	if code := d.ask(d.url+"/api/messages", `{"id":"first","author":"Ada","text":"hello"}`, nil); code != 201 {
		t.Errorf("saving it again: %d", code)
	}
	if code := d.ask(d.url+"/api/messages", `{"id":"first","author":"Ada","text":"bye"}`, nil); code != 409 {
		t.Errorf("saving something else under its id: %d", code)
	}
	for _, n := range d.stats().Nodes {
		rest := "http://" + n.Address + "/messages"
		var list struct {
			Node     string
			Messages []struct{ ID, Text string }
		}
		if code := d.ask(rest, "", &list); code != 200 || list.Node != n.ID || len(list.Messages) != 1 || list.Messages[0].Text != "hello" {
			t.Errorf("GET %s: %d %+v", rest, code, list)
		}
		if code := d.ask(rest+"/first", "", nil); code != 200 {
			t.Errorf("GET %s/first: %d", rest, code)
		}
		for body, want := range map[string]int{`{"id":"first","author":"Ada","text":"bye"}`: 409, `{"id":"x"}`: 400, `{`: 400, `{"id":"x","text":"y","z":1}`: 400,
			`{"id":"first","author":"Ada","text":"hello"}`: 201, `{"id":"x","text":"` + strings.Repeat("y", 70_000) + `"}`: 400} {
			if code := d.ask(rest, body, nil); code != want {
				t.Errorf("POST %s %.60s: %d, want %d", rest, body, code, want)
			}
		}
		for path, want := range map[string]int{"/none": 404, "?limit=0": 400, "?limit=x": 400, "?room=a/b": 400} {
			if code := d.ask(rest+path, "", nil); code != want {
				t.Errorf("GET %s%s: %d, want %d", rest, path, code, want)
			}
		}
	}

	// The crash.
	for crash := 1; ; crash++ {
		before := d.stats()
		if code := d.ask(d.url+"/api/faults", `{"node":"backend-1","fault":"crash","seconds":2}`, nil); code != 200 {
			t.Fatalf("crash: %d", code)
		}
		eventually(t, "the unprotected client's calls fail", func() bool { return d.stats().Unprotected.Total.Failed > before.Unprotected.Total.Failed })
		eventually(t, "the node is back", func() bool { n := d.stats().Nodes[0]; return n.State == supervise.Up && n.Starts == crash+1 })
		after := d.stats()
		lost := after.Protected.Total.Sub(before.Protected.Total).Failed
		if lost == 0 {
			break
		}
		// What is lost while the machine itself stands still shows nothing.
		if after.Stall < float64(after.AttemptTimeout)/2 || crash == 3 {
			t.Errorf("the protected client has lost %d calls; the machine stood still for up to %.0f ms", lost, after.Stall)
			break
		}
		t.Logf("%d calls lost, but the machine stood still for up to %.0f ms: once more", lost, after.Stall)
	}

	// The end.
	if code := d.ask(d.url+"/api/faults", `{"node":"backend-3","fault":"hang"}`, nil); code != 200 {
		t.Fatalf("hang: %d", code)
	}
	pids = append(pids, d.processes()...)
	if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-d.ends:
		if err != nil {
			t.Errorf("after Ctrl-C: %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the demo does not end within a minute of Ctrl-C")
	}
	d.left(pids, d.url)
	if rest, err := filepath.Glob(filepath.Join(d.dir, "*")); err != nil || len(rest) != 0 {
		t.Errorf("files are left behind: %v %v", rest, err)
	}
}

// Every fault can be injected and healed through the API, and faults inside a node are those that were asked for.
func TestFaults(t *testing.T) {
	d := start(t)
	node := d.stats().Nodes[1]
	rest := "http://" + node.Address + "/messages"
	inject := func(body string) {
		t.Helper()
		if code := d.ask(d.url+"/api/faults", body, nil); code != 200 {
			t.Fatalf("%s: %d", body, code)
		}
	}
	heal := func() { t.Helper(); inject(`{"node":"backend-2","fault":"heal"}`) }

	inject(`{"node":"backend-2","fault":"errors","percent":100}`)
	if code := d.ask(rest, "", nil); code != 503 {
		t.Errorf("errors: %d", code)
	}
	heal()
	inject(`{"node":"backend-2","fault":"panic"}`)
	if code := d.ask(rest, "", nil); code != 500 {
		t.Errorf("panic: %d", code)
	}
	heal()
	inject(`{"node":"backend-2","fault":"slow","ms":300}`)
	began := time.Now()
	if code := d.ask(rest, "", nil); code != 200 || time.Since(began) < 300*time.Millisecond {
		t.Errorf("slow: %d after %v", code, time.Since(began))
	}
	heal()
	inject(`{"node":"backend-2","fault":"wrong"}`)
	var list struct{ Messages []struct{ ID string } }
	if code := d.ask(rest, "", &list); code != 200 || len(list.Messages) != 1 || list.Messages[0].ID != "ghost" {
		t.Errorf("wrong: %d %+v", code, list)
	}
	eventually(t, "the unprotected client sees wrong answers", func() bool { return d.stats().Unprotected.Reasons["wrong answer"] > 0 })
	if s := d.stats(); s.Protected.Total.Failed != 0 && s.Stall < float64(s.AttemptTimeout)/2 {
		t.Errorf("the protected client has lost %d calls: %v", s.Protected.Total.Failed, s.Protected.Reasons)
	}
	heal()
	inject(`{"node":"backend-2","fault":"refuse"}`)
	if c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(t.Context(), "tcp", node.Address); err == nil {
		c.Close()
		t.Error("refuse: a connection is accepted")
	}
	if got := d.stats().Nodes[1].Faults; len(got) != 1 || got[0] != "refuse" {
		t.Errorf("Faults = %v", got)
	}
	heal()
	if code := d.ask(rest, "", nil); code != 200 {
		t.Errorf("healed: %d", code)
	}
}

// kill -9 of the demo leaves no process behind, and the next demo removes its files.
func TestKilled(t *testing.T) {
	d := start(t)
	pids := d.processes()
	if code := d.ask(d.url+"/api/faults", `{"node":"backend-2","fault":"hang"}`, nil); code != 200 || len(pids) != 4 {
		t.Fatalf("hang: %d; processes: %v", code, pids)
	}
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-d.ends; err == nil {
		t.Error("the demo has survived kill -9")
	}
	d.left(pids, d.url)
	_, remove, err := supervise.MakeDir(d.dir)
	if err != nil {
		t.Fatal(err)
	}
	remove()
	if rest, err := filepath.Glob(filepath.Join(d.dir, "*")); err != nil || len(rest) != 0 {
		t.Errorf("files are left behind: %v %v", rest, err)
	}
}

// A port that is taken is said so before anything is started; without a port the next free one is used.
func TestBusyPort(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	err = Run(t.Context(), Options{Addr: l.Addr().String(), TempDir: dir, Command: []string{"/no/such/program"}})
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) || !strings.Contains(err.Error(), "--addr") {
		t.Errorf("a busy port: %v", err)
	}
	if rest, _ := filepath.Glob(filepath.Join(dir, "*")); len(rest) != 0 {
		t.Errorf("files were made: %v", rest)
	}

	// Whoever has the default port, this test or another program: the demo goes elsewhere.
	if l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", DefaultAddr); err == nil {
		defer l.Close()
	}
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	said := writer(func(b []byte) (int, error) {
		defer cancel()
		return out.Write(b)
	})
	if err := Run(ctx, Options{TempDir: dir, Stdout: said, Stderr: os.Stderr}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "Another program uses "+DefaultAddr) {
		t.Errorf("the demo says %q", out.String())
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

func TestWrongOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"nodes":       {Nodes: 17},
		"few nodes":   {Nodes: -1},
		"address":     {Addr: "nonsense"},
		"port":        {Addr: "127.0.0.1:99999"},
		"no program":  {Addr: "127.0.0.1:0", Command: []string{"/no/such/program"}},
		"bad program": {Addr: "127.0.0.1:0", Command: []string{"/bin/false"}},
		"directory":   {Addr: "127.0.0.1:0", TempDir: "/no/such/directory"},
	} {
		if o.TempDir == "" {
			o.TempDir = t.TempDir()
		}
		if err := Run(t.Context(), o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, args := range [][]string{nil, {"captain"}} {
		if err := RunRole(t.Context(), args, strings.NewReader(""), io.Discard, nil); err == nil || !strings.Contains(err.Error(), "hull demo") {
			t.Errorf("RunRole(%v) = %v", args, err)
		}
	}
}

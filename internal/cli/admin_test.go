package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/internal/cli"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
	"github.com/hull-go/hull/status"
)

type word struct{ Text string }

// shown is a program with an admin page that has made some calls: two that worked and one that did not.
func shown(t *testing.T) (admin string) {
	t.Helper()
	reg, err := registry.New(memregistry.New(), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reg.Close() })
	s, err := hull.NewServer("echo", hull.WithRegistry(reg), hull.Drain(0, time.Second), hull.NodeID("echo-1"))
	if err != nil {
		t.Fatal(err)
	}
	hull.Handle(s, "test.Echo/Say", func(_ context.Context, w *word) (*word, error) {
		if w.Text == "" {
			return nil, status.Errorf(status.Internal, "nothing to say")
		}
		return w, nil
	})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-s.Ready():
	case err := <-done:
		t.Fatal(err)
	}
	c, err := hull.NewClient(hull.WithRegistry(reg), hull.WithAdmin("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	for _, text := range []string{"a", "b", ""} {
		_, err := hull.Call[word](t.Context(), c.To("echo"), "test.Echo/Say", &word{text}, hull.Timeout(time.Minute))
		if (err == nil) != (text != "") {
			t.Fatal(err)
		}
	}
	return c.AdminAddr()
}

// hullCLI runs the program and returns what it prints.
func hullCLI(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, bad bytes.Buffer
	code = cli.Run(t.Context(), args, cli.Options{Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &bad})
	return out.String(), bad.String(), code
}

var changing = []struct{ is, becomes string }{
	{`127\.0\.0\.1:\d+`, "ADDR"}, {`\d{4}-\d\d-\d\dT[0-9:]+(Z|[+-][0-9:]+)`, "TIME"}, {`\d\d:\d\d:\d\d(\.\d+)?`, "TIME"}, {`~?\d+(\.\d+)?(ns|µs|ms|s)\b`, "SPAN"}, {` +`, " "}, {`\d+ failed\b`, "N failed"},
	{`\d+% *`, "P% "}, {`\d+ of \d+ tokens`, "N of N tokens"},
}

// steady replaces what is different in each run.
func steady(s string) string {
	for _, c := range changing {
		s = regexp.MustCompile(c.is).ReplaceAllString(s, c.becomes)
	}
	return s
}

// TestNoAdminPage: what is wrong is said of the address that the user gave.
func TestNoAdminPage(t *testing.T) {
	nobody := "unix://" + filepath.Join(t.TempDir(), "nobody")
	_, stderr, code := hullCLI(t, "", "stats", "--admin", nobody)
	if code != cli.ExitUnavailable || !strings.Contains(stderr, "no admin page at "+nobody+": dial unix ") || strings.Contains(stderr, "Get ") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0") // takes connections, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, stderr, code = hullCLI(t, "", "stats", "--admin", ln.Addr().String(), "--timeout", "50ms")
	if code != cli.ExitDeadline || !strings.Contains(stderr, "the admin page at "+ln.Addr().String()+" did not answer within 50ms") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// TestAdminCommands is what the commands that ask an admin page print.
func TestAdminCommands(t *testing.T) {
	admin := shown(t)
	file := filepath.Join(t.TempDir(), "policies.yaml")
	if err := os.WriteFile(file, []byte("services: {echo: {retry: {attempts: 2}}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args  string
		stdin string
		code  int
		want  []string // lines of either stream
	}{
		{"stats", "", 0, []string{"client: N failed calls so far; its policies are the built-in ones, without a document", " service echo: discovery ok",
			" node echo-1 ADDR ready: 0 in flight, took SPAN, counts as SPAN, 2 ok, N failed", " budget N of N tokens left, 0 attempts not paid",
			" method test.Echo/Say: 3 calls, 0 refused, 3 attempts (0 retries, 0 hedges)", " breaker closed, 1 of 3 calls failed in its window, 0 refused", " concurrency 0 in use of at most ", " throttle holds back nothing; ", " attempt timeout SPAN, nothing learned yet",
			" connections to ADDR (speaks hull/1, grpc, http): 1, 0 in flight"}},
		{"stats calls", "", 0, []string{"1 calls have failed so far. The last:", " TIME echo test.Echo/Say: failed inside the service after SPAN", " TIME echo test.Echo/Say: ok after SPAN, answered by echo-1 (ADDR)", " attempt 1 at +SPAN to echo-1 (ADDR): failed inside the service after SPAN"}},
		{"explain echo/test.Echo/Say", "", 0, []string{"service echo: discovery ok", "policies, the built-in ones, without a document", "FIELD VALUE FROM", "retry.attempts 3 built-in"}},
		{"explain echo/Say", "", 0, []string{" method test.Echo/Say: 3 calls"}},
		{"explain echo/test.Echo/Sya", "", 0, []string{"method test.Echo/Sya: not seen yet; did you mean test.Echo/Say?", "FIELD VALUE FROM"}},
		{"explain test.Echo/Say", "", 3, []string{"did you mean echo/test.Echo/Say?"}},
		{"explain ehco", "", 3, []string{`hull: this program neither serves "ehco" nor has called it; did you mean echo?`}},
		{"top", "", 0, []string{"SERVICE METHOD CALLS/S REFUSED/S RETRIES/S BREAKER BUDGET LIMIT THROTTLE TIMEOUT", "echo test.Echo/Say 0 0 0 closed P% 0/", " SPAN?", "IN FLIGHT LATENCY COUNTS AS OK FAILED WHY", " ready 0 SPAN SPAN 2 1"}},
		{"policy validate " + file, "", 0, []string{"valid"}},
		{"policy validate -", "services: {echo: {retyr: 1}}", 2, []string{"did you mean retry?"}},
		{"policy diff " + file, "", 0, []string{"echo: retry.attempts: 3 -> 2"}},
		{"policy diff " + file + " -o json", "", 0, []string{`"echo: retry.attempts: 3 -> 2"`}},
		{"policy set " + file, "", 0, []string{"in force", "echo: retry.attempts: 3 -> 2"}},
		{"policy get", "", 0, []string{"# client, from the admin page at TIME", ` "attempts": 2`}},
		{"policy set", "", 2, []string{"FILE is missing"}},
		{"policy set -", "", 2, []string{"it is empty: write {} for the defaults"}},
		{"policy validate -", "# nothing\n", 2, []string{"it is empty: write {} for the defaults"}},
		{"policy set " + file + " --canary 100ms", "", 0, []string{"in force", "nothing changes"}},
		{"policy diff " + file + " --canary 1s", "", 2, []string{"--canary is for set", "diff puts none in force"}},
		{"policy set " + file + " --canary -1s", "", 2, []string{"of --canary: a document is on probation for more than"}},
		{"explain echo/Sya", "", 0, []string{"method Sya: not seen yet; did you mean test.Echo/Say?"}},
		{"policy burn", "", 2, []string{`"burn" is not known`}},
		{"stats everything", "", 2, []string{`"everything" is not known`}},
	} {
		stdout, stderr, code := hullCLI(t, tt.stdin, append(strings.Fields(tt.args), "--admin", admin)...)
		got := steady(stdout + stderr)
		if code != tt.code {
			t.Errorf("%s: exit %d: %s", tt.args, code, got)
		}
		for _, w := range tt.want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: no %q in\n%s", tt.args, w, got)
			}
		}
		t.Logf("hull %s\n%s%s", tt.args, stdout, stderr)
	}
	for _, args := range []string{"stats -o json", "stats calls -o json", "explain echo -o json", "policy get -o json", "policy diff " + file + " -o json"} {
		stdout, stderr, code := hullCLI(t, "", append(strings.Fields(args), "--admin", admin)...)
		if code != 0 || !json.Valid([]byte(stdout)) {
			t.Errorf("%s: exit %d: %s%s", args, code, stdout, stderr)
		}
	}
	if _, stderr, code := hullCLI(t, "", "stats"); code != 2 || !strings.Contains(stderr, "hull.WithAdmin") {
		t.Errorf("no address: %d %s", code, stderr)
	}
	if _, stderr, code := hullCLI(t, "", "stats", "--admin", "127.0.0.1:1"); code != 4 || !strings.Contains(stderr, "no admin page") {
		t.Errorf("nobody there: %d %s", code, stderr)
	}
}

// TestAdminOfAServer is that the commands show a program that only serves, and whose page is a Unix socket.
func TestAdminOfAServer(t *testing.T) {
	admin := "unix://" + filepath.Join(t.TempDir(), "a")
	reg, err := registry.New(memregistry.New(), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	s, err := hull.NewServer("echo", hull.WithRegistry(reg), hull.Drain(0, time.Second), hull.NodeID("echo-1"), hull.WithAdmin(admin))
	if err != nil {
		t.Fatal(err)
	}
	hull.Handle(s, "test.Echo/Say", func(_ context.Context, w *word) (*word, error) { return w, nil })
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-s.Ready():
	case err := <-done:
		done <- err
		t.Fatal(err)
	}
	const doc = "services: {echo: {server_limit: {max: 60}}}"
	for _, tt := range []struct {
		args, stdin string
		want        []string
	}{
		{"stats", "", []string{"server echo, node echo-1 at ADDR: ready", " limit 0 running of at most ", " refused 0 calls (0 for want of a place, "}},
		{"top", "", []string{"serves echo as echo-1, ready: 0 calls/s", "refuses 0/s for want of a place"}},
		{"policy get", "", []string{"# server echo, the built-in ones, without a document\n{}"}},
		{"policy diff -", doc, []string{"echo: server_limit.max: "}},
		{"policy set -", doc, []string{"in force", "echo: server_limit.max: "}},
		{"policy get", "", []string{"# server echo, from the admin page at TIME", `"max": 60`}},
		{"explain echo", "", []string{"server echo, node echo-1", "server_limit.max 60"}},
	} {
		stdout, stderr, code := hullCLI(t, tt.stdin, append(strings.Fields(tt.args), "--admin", admin)...)
		for _, w := range tt.want {
			if got := steady(stdout + stderr); code != 0 || !strings.Contains(got, w) {
				t.Errorf("%s: exit %d, no %q in\n%s", tt.args, code, w, got)
			}
		}
	}
}

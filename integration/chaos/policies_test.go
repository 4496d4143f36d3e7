package chaos_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hull-go/hull/integration/engine"
	"github.com/hull-go/hull/internal/invariant"
	"github.com/hull-go/hull/policy"
)

// adminOf is where a process says that its admin page is.
func adminOf(p *engine.Process) string {
	_, addr, _ := strings.Cut(p.Log(), sayAdmin)
	addr, _, _ = strings.Cut(addr, "\n")
	return addr
}

// policies are put in force at a process by the hull program.
type policies struct {
	*world
	dir, binary string
}

// newPolicies builds the hull program.
func newPolicies(w *world) *policies {
	w.Helper()
	p := &policies{world: w, dir: w.TempDir()}
	p.binary = filepath.Join(p.dir, "hull")
	build := exec.CommandContext(w.Context(), "go", "build", "-o", p.binary, "./cmd/hull")
	build.Dir = filepath.Join("..", "..") // the module above
	if out, err := build.CombinedOutput(); err != nil {
		w.Fatalf("%v\n%s", err, out)
	}
	return p
}

// set has "hull policy set" put a document in force, and wants its exit code and what it says.
func (p *policies) set(at *engine.Process, document string, code int, want string, flags ...string) {
	p.Helper()
	file := filepath.Join(p.dir, "set.yaml")
	write(p, file, document)
	p.hull(code, want, append([]string{"policy", "set", file, "--admin", adminOf(at)}, flags...)...)
}

// inForce wants that "hull policy get" shows something.
func (p *policies) inForce(at *engine.Process, want string) {
	p.Helper()
	p.hull(0, want, "policy", "get", "--admin", adminOf(at))
}

func (p *policies) hull(code int, want string, args ...string) {
	p.Helper()
	cmd := exec.CommandContext(p.Context(), p.binary, args...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		p.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(string(out), want) {
		p.Errorf("hull %s: exit %d, want %d and %q:\n%s", strings.Join(args, " "), got, code, want, out)
	}
}

// TestPolicies changes the policies of a caller and a server, by the hull program and by a file, while three servers are called: better documents, invalid ones, half of one,
// none at all. No call fails. Then it canaries documents that are valid and bad, on one of the callers and on one of the servers: each is taken back, the one caller's calls
// fail while it has it, and nobody else's do.
func TestPolicies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := newPolicies(w)
	file := filepath.Join(w.dir, "watched.yaml")
	write(t, file, document(0))
	w.serve(3, nodeConfig{Admin: true})
	conf := callerConfig{Rate: 100, Ms: 30, Exactly: true, Once: 100, Admin: true, Strict: true}
	posted := w.caller(conf) // whose calls are not excused: they are meant to come too late for a while
	conf.Spec, conf.Strict = file, false
	watching := w.caller(conf)

	p.set(posted.Process, document(1), 0, "in force")
	p.inForce(posted.Process, "5.001s")
	good := document(2)
	for _, d := range []struct {
		text string
		want string
	}{{"defaults:\n  timeuot: 1s\n", "did you mean timeout?"}, {good[:len(good)/2], ""}, {"", ""}} {
		const invalid = 2
		if d.text != "" { // which is a document that says nothing, if somebody posts it
			p.set(posted.Process, d.text, invalid, d.want)
			p.inForce(posted.Process, "5.001s")
		}
		write(t, file, d.text)
		pass(time.Second) // it is looked at five times a second
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	pass(time.Second)
	p.inForce(watching.Process, "5s")
	write(t, file, good)
	w.until("the good file is in force again", func() error {
		if log := watching.Log(); !strings.Contains(log, "no such file") || strings.Count(log, "specification in force") < 2 {
			return fmt.Errorf("it is not: %s", log)
		}
		return nil
	})
	p.set(posted.Process, good, 0, "in force")

	from := policy.Now()
	const takenBack = 1
	p.set(posted.Process, "defaults: {timeout: 20ms}\n", takenBack, "calls failed", "--canary", "30s")
	until := policy.Now()
	if took := until.Sub(from); took > 20*time.Second {
		t.Errorf("a document that lets every call fail was taken back after %v", took)
	}
	p.inForce(posted.Process, "5.002s")
	p.set(w.nodes[0].Process, "services: {"+service+": {server_limit: {source: fixed, limit: 1, queue: 0}}}\n", takenBack, "calls failed", "--canary", "30s")
	pass(time.Second)

	w.none(watching.finish())
	s, bad := posted.finish(), 0
	for _, r := range records[called](t, posted.config.Ledger) {
		if r.ID == 0 || r.Outcome == outcomeOK {
			continue
		}
		if bad++; r.At < from || r.At > until {
			t.Errorf("call %d failed, %v after the bad document was canaried", r.ID, r.At.Sub(from))
		}
	}
	t.Logf("%d of %d calls of the caller with the bad document failed", bad, s.Offered)
	if bad == 0 {
		t.Error("the bad document did no harm: nothing was tested")
	}
	w.judge(invariant.New(invariant.Options{Burst: 2000}))
}

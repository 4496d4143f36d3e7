package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/hull-go/hull/demo"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/status"
)

func TestMistakes(t *testing.T) {
	for _, tt := range []struct {
		args string
		env  map[string]string
		want string
	}{
		{"lst", nil, `hull: unknown command "lst"; did you mean list?`},
		{"xyzzy", nil, "hull: unknown command \"xyzzy\"\nSee: hull --help\n"},
		{"help lst", nil, `unknown command "lst"; did you mean list?`},
		{"help demo-role", nil, `unknown command "demo-role"`},
		{"list --registri x", nil, "unknown flag --registri; did you mean --registry?\nSee: hull list --help"},
		{"call a b --retires 3", nil, "unknown flag --retires; did you mean --retries?"},
		{"list --retries 3", nil, "unknown flag --retries"},
		{"--version", nil, "did you mean hull version?"},
		{"list -x", nil, "unknown shorthand flag: 'x' in -x"},
		{"list extra", nil, `one argument too many, "extra": write hull list`},
		{"get", nil, "SERVICE is missing: write hull get SERVICE"},
		{"call greeter", nil, "METHOD is missing: write hull call SERVICE METHOD [JSON]"},
		{"list --timeout 5", nil, `wrong value "5" of --timeout: a duration has a unit, such as 300ms or 5s`},
		{"list --timeout 0s", nil, `wrong value "0s" of --timeout: it must be positive`},
		{"list", map[string]string{"HULL_TIMEOUT": "-1s"}, `wrong value "-1s" of HULL_TIMEOUT: it must be positive`},
		{"list", map[string]string{"HULL_TIMEOUT": "soon"}, `wrong value "soon" of HULL_TIMEOUT: a duration has a unit`},
		{"call a b", map[string]string{"HULL_RETRIES": "many"}, `wrong value "many" of HULL_RETRIES: invalid syntax`},
		{"call a b --retries 8", nil, `wrong value "8" of --retries: it is a number from 0 to 7`},
		{"call a b --verbose=perhaps", nil, `wrong value "perhaps" of --verbose: invalid syntax`},
		{"list -o yaml", nil, `wrong value "yaml" of --output: it is one of table, json`},
		{"list -o jsn", nil, "did you mean json?"},
		{"list --register-ttl 5s --register-interval 10s", nil, "an interval of 10s is too long for a TTL of 5s"},
		{"list --registry /tmp/x", nil, `the registry "/tmp/x" is no URL: write file:///DIRECTORY or static://HOST:PORT`},
		{"list --registry fil:///x", nil, `no kind of registry is called "fil"; did you mean file?`},
		{"list --registry file:///x?shred=1", nil, `unknown parameter "shred"`},
		{"get a/b", nil, `service "a/b": only letters`},
		{"watch a/b", nil, `service "a/b": only letters`},
		{"get a -l version==", nil, `selector "version=="`},
		{"demo --registry file://", nil, "--registry means nothing to hull demo"},
		{"demo --nodes 0", nil, `wrong value "0" of --nodes: it is a positive number`},
		{"completion tcsh", nil, `no completion for "tcsh"`},
		{"completion bsh", nil, "did you mean bash or zsh?"},
		{"register a host:1 --label x", nil, `the label "x" is not KEY=VALUE`},
		{"call a b @/does/not/exist", nil, "the request cannot be read"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			r := runIn(t, tt.env, "", strings.Fields(tt.args)...)
			r.want(t, ExitUsage, "", tt.want)
			if !strings.HasPrefix(r.err, "hull: ") || !strings.Contains(r.err, " --help\n") || r.out != "" {
				t.Errorf("stdout %q, stderr %q", r.out, r.err)
			}
		})
	}
}

// A password in a registry's URL is not shown to whoever stands behind the user.
func TestMistakesKeepSecrets(t *testing.T) {
	for _, u := range []string{"file://me:secret@/x", "static://me:secret@host:1", "file://me:secret@%zz/", "me:secret@host", "other://me:secret@a,b?x=secret"} {
		if r := run(t, "list", "--registry", u); r.code != ExitUsage || strings.Contains(r.err, "secret") {
			t.Errorf("%s: exit %d, %s", u, r.code, r.err)
		}
	}
}

func TestErrorsAsJSON(t *testing.T) {
	for _, args := range [][]string{{"get", "-o", "json"}, {"list", "--timeout", "x", "-o", "json"}, {"list", "--x", "-ojson"}, {"demo", "-o", "json"}, {"get", "a b", "--output=json"}} {
		r := run(t, args...)
		v := read[struct{ Error failure }](t, r.err)
		if r.code != ExitUsage || v.Error.Exit != ExitUsage || v.Error.Message == "" || r.out != "" {
			t.Errorf("%v: %+v", args, r)
		}
	}
	r := runIn(t, map[string]string{"HULL_OUTPUT": "json", "HULL_REGISTRY": fileURL(t.TempDir())}, "", "get", "ghost")
	if v := read[struct{ Error failure }](t, r.err); r.code != ExitNotFound || v.Error.Exit != ExitNotFound {
		t.Errorf("%+v", r)
	}
}

// settled runs the flags of a command line without what it does.
func settled(t *testing.T, env map[string]string, args ...string) *cobra.Command {
	t.Helper()
	p := &program{Options: Options{Env: envOf(env), Stdout: t.Output(), Stderr: t.Output(), Drivers: testDrivers()}}
	root := p.root()
	var ran *cobra.Command
	for _, c := range root.Commands() {
		c.RunE = func(cmd *cobra.Command, _ []string) error { ran = cmd; return nil }
	}
	root.SetArgs(args)
	if err := root.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	return ran
}

func TestFlagBeatsEnvironmentBeatsDefault(t *testing.T) {
	env := map[string]string{"HULL_TIMEOUT": "7s", "HULL_RETRIES": "4", "HULL_SELECTOR": "zone=b", "HULL_REGISTRY": "file:///env",
		"HULL_IDEMPOTENT": "true", "HULL_REGISTER_TTL": "", "HULL_CHECK": "true"}
	c := settled(t, nil, "call", "a", "b")
	if durationOf(c, setTimeout) != 5*time.Second || wholeOf(c, setRetries) != 2 || textOf(c, setRegistry) != "file://" ||
		durationOf(c, setTTL) != registry.DefaultTTL || durationOf(c, setInterval) != 0 || toggleOf(c, setIdempotent) {
		t.Error("the defaults are not as documented")
	}
	c = settled(t, env, "call", "a", "b")
	if durationOf(c, setTimeout) != 7*time.Second || wholeOf(c, setRetries) != 4 || textOf(c, setSelector) != "zone=b" ||
		textOf(c, setRegistry) != "file:///env" || !toggleOf(c, setIdempotent) || durationOf(c, setTTL) != registry.DefaultTTL {
		t.Error("the environment does not beat the default")
	}
	// Global flags stand before or behind the command; underscores are dashes.
	for _, args := range [][]string{
		{"--registry", "file:///flag", "--register_ttl", "1m", "call", "a", "b", "--timeout=1s", "--retries=0", "--idempotent=false"},
		{"call", "--timeout=1s", "a", "--register_ttl=1m", "b", "--retries", "0", "--registry", "file:///flag", "--idempotent=false"},
	} {
		c = settled(t, env, args...)
		if durationOf(c, setTimeout) != time.Second || wholeOf(c, setRetries) != 0 || textOf(c, setRegistry) != "file:///flag" ||
			durationOf(c, setTTL) != time.Minute || toggleOf(c, setIdempotent) {
			t.Errorf("%v: the flags do not beat the environment", args)
		}
	}
	c = settled(t, map[string]string{"HULL_REGISTER_LABEL": "a=1, b=2"}, "register", "a", "h:1")
	if got := listOf(c, setLabel); fmt.Sprint(got) != "[a=1 b=2]" {
		t.Errorf("labels %v", got)
	}
}

func TestSettingsAreSound(t *testing.T) {
	commands := map[string]bool{}
	for _, c := range (&program{Options: Options{Drivers: testDrivers()}}).root().Commands() {
		commands[c.Name()] = true
	}
	names, envs := map[string]bool{}, map[string]bool{}
	for _, s := range settings() {
		if names[s.name] || envs[s.env()] {
			t.Errorf("%s or %s is there twice", s.name, s.env())
		}
		names[s.name], envs[s.env()] = true, true
		for _, c := range s.on {
			if !commands[c] {
				t.Errorf("--%s is for a command %q that does not exist", s.name, c)
			}
		}
		if s.usage == "" || len(s.on) == 0 || strings.ToLower(s.usage[:1]) != s.usage[:1] || s.kind != toggle && s.value == "" {
			t.Errorf("--%s is not described", s.name)
		}
		if s.kind == duration && s.def != "" {
			if _, err := time.ParseDuration(s.def); err != nil {
				t.Error(err)
			}
		}
		if s.def != "" {
			if err := s.check(s.def); err != nil {
				t.Errorf("--%s does not accept its own default: %v", s.name, err)
			}
		}
	}
}

func TestHelp(t *testing.T) {
	root := run(t)
	root.want(t, ExitOK, "hull COMMAND [flags]", "")
	for _, args := range [][]string{{"help"}, {"--help"}, {"-h"}} {
		if got := run(t, args...); got != root {
			t.Errorf("hull %v differs from hull: %+v", args, got)
		}
	}
	if strings.Contains(root.out, demo.Role) {
		t.Error("the demo's own command is shown to people")
	}
	for _, c := range (&program{Options: Options{Drivers: testDrivers()}}).root().Commands() {
		if c.Hidden {
			continue
		}
		if !strings.Contains(root.out, "  "+c.Name()+" ") {
			t.Errorf("hull does not name %s", c.Name())
		}
		r := run(t, c.Name(), "--help")
		r.want(t, ExitOK, "Usage:\n  hull "+c.Name(), "")
		if got := run(t, "help", c.Name()); got != r && c.Name() != "help" {
			t.Errorf("hull help %s differs from hull %s --help", c.Name(), c.Name())
		}
		flat := strings.Join(strings.Fields(r.out), " ")
		for _, s := range settings() {
			want := s.flagText()
			if has := strings.Contains(r.out, want) && strings.Contains(flat, strings.Join(strings.Fields(s.helpText()), " ")); has != s.holdsFor(c.Name()) {
				t.Errorf("help of %s and --%s: shown %v with default and environment", c.Name(), s.name, has)
			}
		}
		for line := range strings.Lines(r.out) {
			if len(line) > 101 {
				t.Errorf("help of %s has a line of %d bytes: %s", c.Name(), len(line), line)
			}
		}
	}
}

func TestExitCodes(t *testing.T) {
	call := func(c status.Code, k status.Kind) error {
		return fmt.Errorf("calling: %w", &status.Error{Code: c, Kind: k})
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name string
		err  error
		want int
	}{
		{"usage", usagef("x"), ExitUsage},
		{"no service", &registry.NotFoundError{Service: "x"}, ExitNotFound},
		{"no method", &notFoundError{"x"}, ExitNotFound},
		{"no method, says the server", call(status.Unimplemented, status.NoMethod), ExitNotFound},
		{"unimplemented, says the handler", call(status.Unimplemented, status.Answered), ExitFailed},
		{"answered", call(status.NotFound, status.Answered), ExitFailed},
		{"dial", call(status.Unavailable, status.Dial), ExitUnavailable},
		{"breaker", call(status.ResourceExhausted, status.Refused), ExitUnavailable},
		{"deadline", call(status.DeadlineExceeded, status.Timeout), ExitDeadline},
		{"deadline of the registry", &registryError{fmt.Errorf("x: %w", context.DeadlineExceeded)}, ExitDeadline},
		{"registry", &registryError{errors.New("x")}, ExitUnavailable},
		{"check", fmt.Errorf("x: %w", demo.ErrBroken), ExitFailed},
		{"anything", errors.New("x"), ExitFailed},
	} {
		if got := exitCode(t.Context(), tt.err); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
	if got := exitCode(over, call(status.Canceled, status.Cancelled)); got != ExitInterrupted {
		t.Errorf("interrupted: %d", got)
	}
	if got := exitCode(t.Context(), call(status.Canceled, status.Answered)); got != ExitFailed {
		t.Errorf("cancelled by the server: %d", got)
	}
}

func TestVersion(t *testing.T) {
	run(t, "version").want(t, ExitOK, "hull ", "")
	if v := read[versionView](t, run(t, "version", "-o", "json").out); v.Go == "" || v.Version == "" || !strings.Contains(v.Platform, "/") {
		t.Errorf("%+v", v)
	}
}

func TestDemoRoleIsForTheDemo(t *testing.T) {
	run(t, demo.Role).want(t, ExitFailed, "", "run hull demo")
	run(t, demo.Role, "--help").want(t, ExitFailed, "", "run hull demo")
}

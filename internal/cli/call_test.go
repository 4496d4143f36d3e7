package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/registry"
)

func TestCall(t *testing.T) {
	dir := t.TempDir()
	serve(t, dir, hull.NodeID("one"), hull.Version("1.2"))
	env := map[string]string{"HULL_REGISTRY": fileURL(dir)}
	file := filepath.Join(t.TempDir(), "request.json")
	if err := os.WriteFile(file, []byte("{\"name\": \"Grace\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const ada = `{"name":"Ada","big":9007199254740993}`
	for _, tt := range []struct {
		name, stdin, args string
		code              int
		out, err          string
	}{
		{"indented", "", "greeter greeter.Greeter/Hello " + ada, ExitOK, "{\n  \"text\": \"Hello, \\u003cAda\\u003e\",\n  \"big\": 9007199254740993\n}\n", ""},
		{"one line", "", "greeter greeter.Greeter/Hello -o json " + ada, ExitOK, `{"text":"Hello, \u003cAda\u003e","big":9007199254740993}` + "\n", ""},
		{"short name", "", "greeter Hello " + ada, ExitOK, "Ada", ""},
		{"leading slash", "", "greeter /greeter.Greeter/Hello " + ada, ExitOK, "Ada", ""},
		{"standard input", ada, "greeter Hello -", ExitOK, "Ada", ""},
		{"file", "", "greeter Hello @" + file, ExitOK, "Grace", ""},
		{"selected", "", "greeter Hello -l version=1.2 " + ada, ExitOK, "Ada", ""},
		{"no retries", "", "greeter Hello --retries 0 " + ada, ExitOK, "Ada", ""},
		{"none selected", "", "greeter Hello -l version=2 " + ada, ExitNotFound, "", `none of the 1 nodes of service "greeter" matches the selector version=2`},
		{"empty request", "", "greeter Hello", ExitFailed, "", "InvalidArgument: who is it? set name"},
		{"verbose", "", "greeter Hello -v " + ada, ExitOK, "Ada", "greeter greeter.Greeter/Hello: ok after "},
		{"attempts", "", "greeter Hello -v " + ada, ExitOK, "Ada", "  attempt   1 at +0s to one ("},
		{"nodes", "", "greeter Hello -v " + ada, ExitOK, "Ada", "  node      one 127.0.0.1:"},
		{"the server's side", "", "greeter Hello -v " + ada, ExitOK, "Ada", "  server    one of greeter: waited "},
		{"verbose failure", "", "greeter Hello -v", ExitFailed, "", "  error     InvalidArgument: who is it? set name\n"},
		{"no service", "", "greter Hello {}", ExitNotFound, "", `no nodes of service "greter"; did you mean greeter?`},
		{"no method", "", "greeter Helo {}", ExitNotFound, "", `service "greeter" has no method Helo; did you mean greeter.Greeter/Hello?`},
		{"no full method", "", "greeter greeter.Greter/Hello {}", ExitNotFound, "", "did you mean greeter.Greeter/Hello?"},
		{"nothing alike", "", "greeter Xyzzyx {}", ExitNotFound, "", "hull get greeter shows all 3"},
		{"stream", "", "greeter Chat {}", ExitNotFound, "", "is a stream, not a unary method"},
		{"deadline", "", "greeter Wait {} --timeout 60ms", ExitDeadline, "", "DeadlineExceeded"},
		{"nothing on standard input", "", "greeter Hello -", ExitUsage, "", "standard input is empty: an empty request is {}"},
		{"wrong type", "", `greeter Hello {"name":1}`, ExitFailed, "", "cannot be decoded"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			runIn(t, env, tt.stdin, append([]string{"call"}, strings.Fields(tt.args)...)...).want(t, tt.code, tt.out, tt.err)
		})
	}

	r := runIn(t, env, "", "call", "greeter", "Hello", ada, "-v", "-o", "json")
	v := read[struct{ Call callView }](t, r.err).Call
	if v.Node != "one" || v.Method != "greeter.Greeter/Hello" || v.Class != "ok" || len(v.Attempts) != 1 || v.Attempts[0].Node != "one" || v.TookMS <= 0 ||
		len(v.Nodes) != 1 || v.Nodes[0].State != "ready" || !v.Nodes[0].Considered || !strings.Contains(string(v.Server), `"waitedMs"`) {
		t.Errorf("%+v", v)
	}
	r = runIn(t, env, "", "call", "greeter", "Hello", "{}", "-o", "json")
	if f := read[struct{ Error failure }](t, r.err).Error; f.Code != "InvalidArgument" || f.Fate != "processed" || f.Exit != ExitFailed || r.out != "" {
		t.Errorf("%+v", f)
	}
}

// A node that cannot be reached is told apart from a service that is not there.
func TestCallNobody(t *testing.T) {
	env := map[string]string{"HULL_REGISTRY": "static://127.0.0.1:1?service=ghost"}
	runIn(t, env, "", "call", "ghost", "a.B/C", "--timeout", "1m", "--retries", "0").want(t, ExitUnavailable, "", "Unavailable")
	runIn(t, env, "", "call", "ghost", "a.B/C", "-v", "--timeout", "1m", "--retries", "0").want(t, ExitUnavailable, "", ": could not be sent after ")
	f := runIn(t, map[string]string{"HULL_REGISTRY": "static://127.0.0.1:1,127.0.0.1:2?service=ghost"}, "", "call", "ghost", "a.B/C", "-v", "--timeout", "1m", "-o", "json")
	line, _, _ := strings.Cut(f.err, "\n")
	v := read[struct{ Call callView }](t, line).Call
	if len(v.Attempts) < 2 || v.Class != "unsent" || !strings.Contains(v.Error, "refused") || len(v.Nodes) != 2 || v.Nodes[0].State != "down" || v.Nodes[0].Why == "" {
		t.Errorf("%+v", v)
	}
	for _, a := range v.Attempts {
		if !strings.Contains(a.Error, "refused") { // once attempts did not say what they failed with
			t.Errorf("%+v", a)
		}
	}
	runIn(t, env, "", "call", "ghost", "C").want(t, ExitUsage, "", "do not say which methods they serve: write pkg.Service/Method")
	runIn(t, env, "", "call", "other", "a.B/C").want(t, ExitNotFound, "", `no nodes of service "other"`)
}

func TestCheckJSON(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{`{}`, ""},
		{" [1, 2]\n", ""},
		{`"text"`, ""},
		{``, "empty"},
		{" \n", "empty"},
		{`{x`, "line 1, column 2: invalid character 'x'"},
		{"{\n  \"a\": 1,\n  \"b\" 2\n}", "line 3, column 7: invalid character '2' after object key\n    \"b\" 2\n        ^"},
		{`{"a":`, "line 1, column 6: unexpected end of JSON input\n  {\"a\":\n       ^"},
		{`{"ä":x}`, "line 1, column 6"},
		{`{} {}`, "line 1, column 4: invalid character '{' after top-level value"},
		{strings.Repeat("[", 100) + "x", "column 101"},
		{"{\"a\": \x1b[31m}", `{"a": \u001b[31m}`},
	} {
		err := checkJSON("the request", []byte(tt.in))
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %q", tt.in, err, tt.want)
		}
		if err != nil && exitCode(t.Context(), err) != ExitUsage {
			t.Errorf("%q: not a usage error", tt.in)
		}
	}
}

func FuzzCheckJSON(f *testing.F) {
	f.Add([]byte("{\"a\": [1,\n2,}"))
	f.Add([]byte("\xff{"))
	f.Add([]byte("{} \n\n x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := checkJSON("x", data); err != nil && len(err.Error()) > 2000 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	})
}

func TestFindMethod(t *testing.T) {
	node := func(names ...string) *registry.Node {
		n := &registry.Node{}
		for _, name := range names {
			n.Methods = append(n.Methods, registry.Method{Name: name})
		}
		return n
	}
	two := []*registry.Node{node("a.A/Get", "a.A/Put"), node("a.A/Get", "b.B/Get", "b.B/List")}
	for _, tt := range []struct {
		nodes       []*registry.Node
		asked, want string
		err         string
	}{
		{two, "a.A/Get", "a.A/Get", ""},
		{two, "Put", "a.A/Put", ""},
		{two, "Get", "", `"Get" is ambiguous: a.A/Get or b.B/Get`},
		{two, "Lst", "", "did you mean b.B/List?"},
		{two, "Gett", "", "did you mean a.A/Get or b.B/Get?"},
		{two, "a.A/List", "", "has no method a.A/List"},
		{append(two, node()), "c.C/New", "c.C/New", ""},
		{append(two, node()), "New", "", "write pkg.Service/Method"},
	} {
		got, err := findMethod("x", tt.nodes, tt.asked)
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %q, %v", tt.asked, got, err)
		}
	}
}

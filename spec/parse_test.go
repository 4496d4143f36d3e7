package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/hull-go/hull/policy"
)

func TestFaults(t *testing.T) {
	tests := []struct{ name, doc, want string }{
		{"unknown field", "defaults:\n  timeuot: 1s\n", "line 2: defaults.timeuot: there is no such field; did you mean timeout?"},
		{"unknown at the top", "default: {}\n", "did you mean defaults?"},
		{"unknown at the top, unlike any", "policies: {}\n", "a document has defaults and services"},
		{"in the wrong place", "defaults: {attempts: 3}", "did you mean retry.attempts?"},
		{"unlike any", "defaults: {retry: {zzz: 3}}", "retry has mode, attempts, backoff"},
		{"a service's, at a method", "services: {a: {methods: {a.B/C: {balancer: p2c}}}}", "it holds for a whole service"},
		{"twice", "defaults:\n  timeout: 1s\n  timeout: 2s\n", "line 3: defaults.timeout: it stands in line 2 already"},
		{"a broken document with many repeated keys", strings.Repeat("a:\n", 100000), "line 2: a: it stands in line 1 already"},
		{"merge", "defaults: &d {timeout: 1s}\nservices: {a: {<<: *d}}", "line 2: services.a: << is not read"},
		{"no unit", "defaults: {timeout: 300}", "write a number with a unit, such as 300ms or 300s"},
		{"no duration", "defaults: {timeout: soon}", `"soon" is no duration`},
		{"negative", "defaults: {timeout: -1s}", "defaults.timeout: -1s is negative"},
		{"a day is enough", "defaults: {timeout: 25h}", "25h is not between 0s and 24h"},
		{"zero would be inherited", "defaults: {timeout: 0s}", "0s is no value for it: leave it out to inherit it"},
		{"zero attempts", "defaults: {retry: {attempts: 0}}", "0 is no value for it"},
		{"no percentage", "defaults: {breaker: {failures: half}}", "write a number with a percent sign, such as 50%"},
		{"a share", "defaults: {breaker: {failures: 0.5}}", "write 50% or 0.5%"},
		{"over a hundred", "defaults: {breaker: {failures: 150%}}", "150% is not between 0.01% and 100%"},
		{"no number", "defaults: {retry: {attempts: many}}", `"many" is no whole number`},
		{"a number in quotes", `defaults: {retry: {attempts: "3"}}`, `"3" is a text: write it without quotes`},
		{"neither", "defaults: {idempotent: maybe}", `"maybe" is neither true nor false`},
		{"mode", "defaults: {breaker: {mode: maybe}}", `"maybe" is none of on, dry-run, off`},
		{"mode, nearly", "defaults: {breaker: {mode: dryrun}}", "did you mean dry-run?"},
		{"mode of YAML", "defaults: {breaker: {mode: true}}", "did you mean on?"},
		{"backoff", "defaults: {retry: {backoff: exponentiall}}", "did you mean exponential?"},
		{"attempts", "defaults: {retry: {attempts: 99}}", "99 is not between 1 and 8"},
		{"balancer", "defaults: {balancer: roundrobin}", `"roundrobin" is none of p2c, round-robin, random, weighted, least-connections, consistent-hash, prequal; did you mean round-robin?`},
		{"hash and subset", "defaults: {balancer: consistent-hash}\nservices: {a: {subset: {size: 20}}}", "services.a.subset.size: consistent-hash does not go with a subset"},
		{"hash and subset, the other way", "defaults: {subset: {size: 20}}\nservices: {a: {balancer: consistent-hash}}", "services.a.balancer: consistent-hash does not go with a subset"},
		{"hash bound", "defaults: {hash_bound: 1}", "1 is not between 1.01 and 1000"},
		{"canary without share", `defaults: {canary: {version: "2"}}`, "defaults.canary.version: it needs share"},
		{"canary without version", "defaults: {canary: {share: 5%}}", "defaults.canary.share: it needs version"},
		{"canary misspelt", "defaults: {canary: {versio: 2}}", "version"},
		{"method's name", "services: {a: {methods: {/a.B/C: {}}}}", "without a leading slash"},
		{"a method's bare name", "services: {a: {methods: {C: {}}}}", "with a slash"},
		{"service's name", "services: {a b: {}}", "services.a b:"},
		{"methods of all services", "defaults: {methods: {a.B/C: {}}}", "methods belong to a service"},
		{"not a mapping", "[1, 2]", "here stands a list"},
		{"a value for a group", "defaults: {retry: 3}", `defaults.retry: here stands "3"`},
		{"a list for a value", "defaults: {timeout: [1s]}", "here stands a list, where one value is expected"},
		{"a name that is none", "defaults: {[a]: 1}", "the name of a field is a word"},
		{"not YAML", "a: [", "it is no YAML"},
		{"two documents", "defaults: {}\n---\ndefaults: {}\n", "a second document"},
		{"too large", strings.Repeat("#", MaxSize+1), "it is larger than"},

		{"least above most", "defaults: {attempt_timeout: {min: 2s, max: 1s}}", "min: 2s is more than max, which is 1s"},
		{"above what is built in", "defaults:\n  ejection: {base: 2m}", "line 2: defaults.ejection.base: 2m is more than max, which is 1m with nothing configured"},
		{"above what is inherited", "defaults: {retry: {cap: 1s}}\nservices: {a: {retry: {base: 2s}}}",
			"line 2: services.a.retry.base: 2s is more than cap, which is 1s in defaults"},
		{"below what is inherited", "services: {a: {retry: {base: 2s}, methods: {a.B/C: {retry: {cap: 1s}}}}}",
			"services.a.methods.a.B/C.retry.cap: 1s is less than base, which is 2s in services.a"},
		{"slow calls that nobody counts", "defaults: {breaker: {slow_calls: 10%}}", "it needs slow"},
		{"too fast", "defaults: {rate: {limit: 1000000, per: 1ms}}", "more than 100 million a second"},
		{"leaky", "defaults: {rate: {limit: 10, shape: leaky-bucket, burst: 3}}", "it has no burst"},
		{"for ever", "defaults: {rate: {limit: 0.001, per: 24h, burst: 1000}}", "more than a year"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("test.yaml", []byte(tt.doc))
			if err == nil {
				t.Fatal("it was accepted")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q does not say %q", err, tt.want)
			}
		})
	}
}

// TestAllFaultsAtOnce: whatever their kind, each with its line, in YAML and in JSON.
func TestAllFaultsAtOnce(t *testing.T) {
	inYAML := `defaults:
  timeout: -1s
  balancer: best
services:
  greeter:
    timeuot: 1s
    breaker:
      failures: 0.5
      mode: onn
    retry: {base: 2s, cap: 1s}
    methods:
      Hello:
        hedge: {delay: soon}
`
	inJSON := "{\"defaults\": {\n\t\"timeout\": \"-1s\",\n\t\"balancer\": \"best\"},\n\"services\": {\n\"greeter\": {\"timeuot\": \"1s\",\n" +
		"\"breaker\": {\n\"failures\": 0.5,\n\"mode\": \"onn\"},\n\"retry\": {\"base\": \"2s\", \"cap\": \"1s\"},\n\"methods\": {\n\"Hello\": {\n\"hedge\": {\"delay\": \"soon\"}}}}}}"
	for name, tt := range map[string]struct {
		doc   string
		lines []int
	}{"a.yaml": {inYAML, []int{2, 3, 6, 8, 9, 10, 12, 13}}, "a.json": {inJSON, []int{2, 3, 5, 7, 8, 9, 11, 12}}} {
		_, err := Parse(name, []byte(tt.doc))
		f, ok := errors.AsType[*FaultsError](err)
		if !ok {
			t.Fatalf("%s: error %v is no FaultsError", name, err)
		}
		paths := []string{"defaults.timeout", "defaults.balancer", "services.greeter.timeuot", "services.greeter.breaker.failures",
			"services.greeter.breaker.mode", "services.greeter.retry.base", "services.greeter.methods.Hello", "services.greeter.methods.Hello.hedge.delay"}
		var got []string
		var lines []int
		for _, f := range f.List {
			got, lines = append(got, f.Path), append(lines, f.Line)
		}
		if !reflect.DeepEqual(got, paths) || !reflect.DeepEqual(lines, tt.lines) {
			t.Errorf("%s: faults in %v\n%v\nwant %v\n%v", name, lines, err, tt.lines, paths)
		}
	}
}

func TestJSONFaultsHaveLines(t *testing.T) {
	for _, tt := range []struct{ doc, want string }{
		{"{\n\"defaults\": {\n\"timeout\": 1s}}", "line 3: it is no JSON"},
		{"{\n\n}\n{}", "line 4: it is no JSON: more follows after its end"},
		{"{\n\"defaults\": {\"timeout\": \"1s\", \n\"timeout\": \"2s\"}}", "line 3: defaults.timeout: it stands in line 2 already"},
		{"{\n\"defaults\": {\"timeout\": {\n}}}", "line 2: defaults.timeout: here stands a mapping"},
		{"nonsense", "line 1: it is no JSON"},
	} {
		if _, err := Parse("p.json", []byte(tt.doc)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: error %v, want %q", tt.doc, err, tt.want)
		}
	}
	if _, err := Parse("p.json", []byte("{\t\"$schema\": \"spec.schema.json\",\n\t\"defaults\": {\"timeout\": \"1\\u0073\", \"idempotent\": null}}")); err != nil {
		t.Errorf("tabs, escapes and $schema: %v", err)
	}
}

func TestManyFaultsAreCut(t *testing.T) {
	var b strings.Builder
	b.WriteString("defaults:\n")
	for i := range 300 {
		fmt.Fprintf(&b, "  x%d: 1\n", i)
	}
	_, err := Parse("", []byte(b.String()))
	f, ok := errors.AsType[*FaultsError](err)
	if !ok || len(f.List) != MaxFaults || f.More != 200 || !strings.HasSuffix(err.Error(), "and 200 more") {
		t.Errorf("%v", err)
	}
}

// TestAliasesAreBounded: a small document that stands for a huge one is refused quickly.
func TestAliasesAreBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString("services:\n  s0:\n    methods: &m\n")
	for i := range 2000 {
		fmt.Fprintf(&b, "      a.B/C%d: {timeout: 1s}\n", i)
	}
	for i := range 2000 {
		fmt.Fprintf(&b, "  t%d: {methods: *m}\n", i)
	}
	if _, err := Parse("", []byte(b.String())); err == nil || !strings.Contains(err.Error(), "aliases repeat too much") {
		t.Errorf("error %v", err)
	}
	s, err := Parse("", []byte("defaults: {retry: &r {attempts: 2}}\nservices: {a: {retry: *r}}"))
	if err != nil || s.Services["a"].Retry.Attempts != 2 {
		t.Errorf("an alias for a whole value: %v", err)
	}
}

func TestUnits(t *testing.T) {
	for in, want := range map[string]string{"60s": "1m", "90s": "1m30s", "3600s": "1h", "5400s": "1h30m", "0s": "0s", "10h0m1s": "10h0m1s", "1.5ms": "1.5ms", " 2s ": "2s"} {
		var d, again Duration
		if err := d.UnmarshalText([]byte(in)); err != nil || d.String() != want {
			t.Errorf("%q: %s (%v), want %s", in, d, err, want)
		}
		if err := again.UnmarshalText([]byte(d.String())); err != nil || again != d {
			t.Errorf("%s is read as %s (%v)", d, again, err)
		}
	}
	for in, want := range map[string]string{"7%": "7%", "0.5%": "0.5%", "33.3 %": "33.3%", "100%": "100%"} {
		var p Percent
		if err := p.UnmarshalText([]byte(in)); err != nil || p.String() != want {
			t.Errorf("%q: %s (%v), want %s", in, p, err, want)
		}
	}
	for _, in := range []string{"", "%", "5", "NaN%", "inf%", "1e999%", "5%%", "50%x"} {
		if err := new(Percent).UnmarshalText([]byte(in)); err == nil {
			t.Errorf("%q was accepted", in)
		}
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "p.yaml")
	if _, err := ReadFile(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := ReadFile(dir); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a folder: %v", err)
	}
	if err := os.WriteFile(path, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := ReadFile(path); err != nil || len(s.Services) != 2 {
		t.Errorf("%v", err)
	}
}

// builds makes everything that a document can ask for: what validation accepts, no policy may refuse.
func builds(t testing.TB, s *Spec) {
	t.Helper()
	b, err := NewBook(s)
	if err != nil {
		t.Fatalf("accepted, but no book can be made of it: %v", err)
	}
	for _, name := range append(sorted(s.Services), "another") {
		for _, m := range append(sorted(s.Services[name].Methods), "an.Other/Method") {
			p, err := b.Picker(name)
			if err != nil {
				t.Fatalf("accepted, but service %s: %v", name, err)
			}
			if _, err := b.Method(name, m, p, nil); err != nil {
				t.Fatalf("accepted, but %s/%s: %v", name, m, err)
			}
		}
	}
	if err := b.Apply(s); err != nil {
		t.Fatalf("accepted, but not applied: %v", err)
	}
}

// TestWhatIsValidCanBeBuilt draws documents with values at and between the bounds of each field.
func TestWhatIsValidCanBeBuilt(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	valid := 0
	for range 1000 {
		s := &Spec{Services: map[string]Service{}}
		var sv Service
		var m Service
		for i := range leaves() {
			l := &leaves()[i]
			l.draw(r, &s.Defaults)
			l.draw(r, &sv)
			if l.method {
				l.draw(r, &m)
			}
		}
		sv.Methods = map[string]Policy{"a.B/C": m.Policy}
		s.Services["a"] = sv
		if s.Validate() != nil {
			continue
		}
		valid++
		builds(t, s)
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Parse("a.json", b); err != nil {
			t.Errorf("written and read again: %v\n%s", err, b)
		} else if c, _ := json.Marshal(again); string(b) != string(c) {
			t.Errorf("written and read again:\n%s\n%s", b, c)
		}
	}
	if valid < 100 {
		t.Errorf("only %d documents were valid: the test shows little", valid)
	}
}

// draw sets the leaf in one of twenty documents.
func (l *leaf) draw(r *rand.Rand, s *Service) {
	if r.IntN(20) > 0 {
		return
	}
	v := reflect.ValueOf(s).Elem().FieldByIndex(l.index)
	e := v
	if l.pointer {
		e = reflect.New(v.Type().Elem()).Elem()
	}
	n := l.least
	switch r.IntN(3) {
	case 0:
		n = l.most
	case 1:
		n += (l.most - l.least) * r.Float64() * r.Float64() * r.Float64()
	}
	switch {
	case len(l.choices) > 0:
		e.SetString(l.choices[r.IntN(len(l.choices))])
	case l.kind == kindBool:
		e.SetBool(r.IntN(2) == 0)
	case l.kind == kindWord:
		e.SetString([]string{"a", "b"}[r.IntN(2)])
	case l.kind == kindJSON:
		e.SetString([]string{`{"a":[1.50,"x"]}`, `0`}[r.IntN(2)])
	case e.CanInt():
		e.SetInt(int64(n))
	default:
		e.SetFloat(float64(int64(n*1e4)) / 1e4)
	}
	if l.pointer {
		v.Set(e.Addr())
	}
}

// TestBuiltinIsWhatThePoliciesDo: the defaults in the tags build without a document, and modes are as the contract says.
func TestBuiltinIsWhatThePoliciesDo(t *testing.T) {
	builds(t, new(Spec))
	b := builtin()
	for path, want := range map[string]policy.Mode{"retry.mode": policy.On, "hedge.mode": policy.Off, "breaker.mode": policy.On, "attempt_timeout.mode": policy.On,
		"ejection.mode": policy.On, "concurrency.mode": policy.On, "throttle.mode": policy.On} {
		v, _ := leafAt(path).value(b)
		if got := Mode(v.String()).Slot(); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
}

// TestDeepDocuments: a document of brackets takes no stack to speak of.
func TestDeepDocuments(t *testing.T) {
	for _, name := range []string{"x.json", "x.yaml"} {
		for _, open := range []string{"[", `{"a":`} {
			if _, err := Parse(name, []byte(strings.Repeat(open, MaxSize/len(open)))); err == nil || !strings.Contains(err.Error(), "10000") {
				t.Errorf("%s of %s: %v", name, open, err)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(doc))
	f.Add([]byte(`{"defaults":{"timeout":"1s"}}`))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("defaults: &d {timeout: 1s}\nservices: {a: *d, b: {<<: *d}}"))
	f.Add([]byte("defaults: {retry: {base: 2s, cap: 1s}, rate: {limit: 1e3, burst: 3, shape: leaky-bucket}}"))
	f.Add([]byte("services: {a: {fallback: {service: b, answer: {n: 0x1p-2, l: [&x [1], *x, ~, 2026-11-21]}}}, b: {fallback: {mode: dry-run, code: NotFound}}}"))
	f.Add([]byte("defaults: {breaker: {jitter: 0%, ramp: 0s, consecutive: 0}}\n---\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse("fuzz", b)
		if err != nil {
			if f, ok := errors.AsType[*FaultsError](err); !ok || len(f.List) == 0 {
				t.Errorf("error %v lists no faults", err)
			}
			return
		}
		if err := s.Validate(); err != nil {
			t.Errorf("accepted, and then not: %v", err)
		}
		things := len(s.Services)
		for _, sv := range s.Services {
			things += len(sv.Methods)
		}
		if things < 20 { // aliases can ask for many
			builds(t, s)
		}
	})
}

package spec

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestFallback(t *testing.T) {
	for _, tt := range []struct {
		name, doc string
		want      string // of a.B/C in service a: service, stale, answer, code; or the fault
	}{
		{"nothing", `{}`, "none"},
		{"another service", `services: {a: {fallback: {service: b}}}`, "b 0s  "},
		{"inherited", `defaults: {fallback: {service: b}}`, "b 0s  "},
		{"not its own, from defaults", `defaults: {fallback: {service: a}}`, "none"},
		{"its own, but something else too", `defaults: {fallback: {service: a, stale: 1m}}`, " 1m  "},
		{"off for the method", `services: {a: {fallback: {service: b}, methods: {a.B/C: {fallback: {mode: off}}}}}`, "none"},
		{"mapping", `services: {a: {methods: {a.B/C: {fallback: {answer: {n: 1.50, s: "x", l: [true, null, 0x10, 1_000]}}}}}}`,
			` 0s {"n":1.50,"s":"x","l":[true,null,16,1000]} `},
		{"text", `services: {a: {fallback: {answer: hello}}}`, ` 0s "hello" `},
		{"list", `services: {a: {fallback: {answer: []}}}`, ` 0s [] `},
		{"alias", `services: {a: {fallback: {answer: [&x {k: v}, *x]}}}`, ` 0s [{"k":"v"},{"k":"v"}] `},
		{"as JSON", `{"services": {"a": {"fallback": {"answer": {"n": 12345678901234567890, "t": "\u00e9"}}}}}`, ` 0s {"n":12345678901234567890,"t":"é"} `},
		{"code", `services: {a: {fallback: {code: NotFound, message: gone}}}`, " 0s  NotFound"},

		{"of itself", `services: {a: {fallback: {service: a}}}`, "services.a.fallback.service: a service is no fallback of itself"},
		{"of itself by method", `services: {a: {methods: {a.B/C: {fallback: {service: a}}}}}`, "services.a.methods.a.B/C.fallback.service: a service is no fallback of itself"},
		{"circle", `services: {a: {fallback: {service: b}}, b: {fallback: {service: a}}}`, "services.a.fallback.service: it leads back to itself: a → b → a"},
		{"circle through defaults", `{defaults: {fallback: {service: b}}, services: {b: {fallback: {service: c}}}}`, "services.b.fallback.service: it leads back to itself: b → c → b"},
		{"circle of one method", `services: {a: {methods: {a.B/C: {fallback: {service: b}}}}, b: {fallback: {service: a}}}`, "services.a.methods.a.B/C.fallback.service: it leads back to itself: a → b → a"},
		{"no circle for the method", `services: {a: {methods: {a.B/C: {fallback: {service: b}}}}, b: {fallback: {service: a}, methods: {a.B/C: {fallback: {mode: off}}}}}`, "b 0s  "},
		{"no name", `services: {a: {fallback: {service: "b/c"}}}`, `services.a.fallback.service: service "b/c": only letters`},
		{"both", `services: {a: {fallback: {answer: 1, code: NotFound}}}`, "services.a.fallback.answer: it does not go with code: a call is answered or fails"},
		{"both, one inherited", `services: {a: {fallback: {code: NotFound}, methods: {a.B/C: {fallback: {answer: 1}}}}}`, "services.a.methods.a.B/C.fallback.answer: it does not go with code, which stands in services.a"},
		{"message alone", `services: {a: {fallback: {message: sorry}}}`, "services.a.fallback.message: it needs code"},
		{"no code", `services: {a: {fallback: {code: notfound}}}`, "did you mean NotFound?"},
		{"no JSON", `services: {a: {fallback: {answer: [.inf]}}}`, ".inf cannot be said in JSON"},
		{"twice", `services: {a: {fallback: {answer: {k: 1, k: 2}}}}`, "it stands in line 1 already"},
		{"endless", "services: {a: {fallback: {answer: &x [*x]}}}", "more than 100 levels deep"},
		{"too large", "services: {a: {fallback: {answer: " + strings.Repeat("x", 70_000) + "}}}", "larger than the 65536 bytes"},
		{"many aliases", "services: {a: {fallback: {answer: [" + "&a [x,x,x,x,x,x,x,x,x], &b [*a,*a,*a,*a,*a,*a,*a,*a], &c [*b,*b,*b,*b,*b,*b,*b,*b], &d [*c,*c,*c,*c,*c,*c,*c,*c], &e [*d,*d,*d,*d,*d,*d,*d,*d], [*e,*e,*e,*e,*e,*e,*e,*e]" + "]}}}", "larger than the 65536 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Parse("", []byte(tt.doc))
			if err != nil {
				if !strings.Contains(err.Error(), tt.want) {
					t.Fatalf("got %v\nwant %s", err, tt.want)
				}
				return
			}
			b, err := NewBook(s)
			if err != nil {
				t.Fatal(err)
			}
			m, err := b.Method("a", "a.B/C", nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			got := "none"
			if f := m.Else; f != nil {
				got = fmt.Sprintf("%s %v %s %s", f.Service, f.Stale, f.Answer, f.Code)
			}
			if got != tt.want {
				t.Fatalf("got  %q\nwant %q", got, tt.want)
			}
			for _, form := range []func(any) ([]byte, error){json.Marshal, yaml.Marshal} {
				text, err := form(s)
				if err != nil {
					t.Fatal(err)
				}
				again, err := Parse("", text)
				if err != nil {
					t.Fatalf("%s: %v", text, err)
				}
				if now := again.Method("a", "a.B/C").Fallback; now != s.Method("a", "a.B/C").Fallback {
					t.Errorf("%s: became %+v", text, now)
				}
			}
		})
	}
}

// TestLongFallbacks: many services, each with the next as its fallback, are refused before they are all called, and quickly.
func TestLongFallbacks(t *testing.T) {
	s := &Spec{Services: map[string]Service{}}
	for i := range 2000 {
		s.Services[fmt.Sprintf("s%d", i)] = Service{Policy: Policy{Fallback: Fallback{Service: fmt.Sprintf("s%d", i+1)}}}
	}
	err := s.Validate()
	if err == nil || !strings.Contains(err.Error(), "more than 8 services would be called one after the other") {
		t.Fatal(err)
	}
}

package archtest

import (
	"slices"
	"strings"
	"testing"
)

// arrows says which package of the module may import which: the drawing in
// docs/architecture.md, as a table. The first row that fits a package counts.
// Names are paths below the module; "." is the front door, a/* what lies
// directly below a, a/... also a itself, and "..." everything but programs.
//
// Tests may import what their package may, what is in forTests, and what their
// row adds.
var arrows = []struct {
	packages string
	imports  string
	tests    string
}{
	// The vocabulary.
	{"status", "", ""},
	{"codec", "internal/prototable", ""},
	{"policy", "status internal/stripe", "policy/policytest policy/*"},

	// One package per policy; each stands alone above the vocabulary.
	{"policy/policytest", "status policy internal/*", "policy/*"},
	{"policy/hedge", "status policy policy/retry internal/*", "policy/policytest"}, // hedges are paid from the retry budget
	{"policy/admission", "status policy policy/concurrency policy/rate internal/*", "policy/policytest"},
	{"policy/httppolicy policy/grpcpolicy", "status policy internal/*", "policy/* transport/memnet"}, // adapters: servers in their tests need a network
	{"policy/*", "status policy internal/*", "policy/*"},

	// Drop-ins for what people leave behind: executors over the policies.
	{"compat/hystrix/rolling", "policy", ""},
	{"compat/hystrix/metric_collector", "compat/hystrix/rolling", ""},
	{"compat/...", "status policy policy/* internal/* compat/...", ""},

	// The wire.
	{"transport", "status policy codec", ""},
	{"transport/memnet", "", ""}, // a net.Conn with faults; knows nothing of calls
	{"transport/transporttest", "status policy codec transport transport/memnet internal/*", "transport/*"},
	{"transport/httptransport", "status policy policy/httppolicy codec transport internal/*", "transport/memnet transport/transporttest"}, // what HTTP says is read in one place
	{"transport/*", "status policy codec transport internal/*", "transport/memnet transport/transporttest"},

	// Discovery: a driver sees its parent only, and leaves.
	{"registry", "status policy internal/*", "registry/memregistry registry/registrytest"},
	{"registry/registrytest", "status policy registry", "registry/memregistry"},
	{"registry/*", "registry internal/*", "registry/registrytest"},

	// What is put together from those.
	{"balance", "status policy registry internal/*", ""},
	{"spec", "status policy policy/* registry balance internal/*", ""},

	// Keys that make calls safe to repeat: an interceptor for servers, and where nodes share keys.
	{"idempotency", "status policy", "codec idempotency/storetest"},
	{"idempotency/*", "status idempotency", "idempotency/storetest"},

	// Outages in virtual time: decisions only, so that no clock and no wire get in.
	{"sim", "status policy policy/* registry balance spec", ""},

	// The front door, with the drivers that need no configuration.
	{".", "status policy policy/* idempotency codec transport transport/pool transport/muxtransport transport/grpctransport transport/httptransport registry registry/fileregistry balance spec internal/*",
		"hulltest registry/* transport/* idempotency/storetest"},

	// What stands on the front door.
	{"hulltest", "...", ""},
	{"internal/cli", "... demo demo/...", ""},
	{"cmd/hull", "... internal/cli demo", ""},
	{"demo/...", "... demo/...", ""},
	{"examples/...", "... examples/...", ""},

	{"internal/callctx", "policy", ""},                  // deadlines are policy.Time
	{"internal/quantile", "policy internal/stripe", ""}, // latencies over policy.Time
	{"internal/window", "internal/stripe", ""},
	{"internal/spell", "policy", ""},      // events of policies that refuse
	{"internal/hop", "status policy", ""}, // a request's place in its call tree, for the adapters

	// Protocols that are not Hull's own, in front of the same handlers.
	{"internal/foreign", "status policy transport", ""},
	{"internal/grpcfront internal/webfront", "status policy codec transport internal/foreign internal/oneport", "transport/memnet"},
	{"internal/oneport", "", "transport/memnet"},
	{"internal/porttest", "internal/oneport transport/memnet", ""},

	{"internal/invariant", "status policy", ""}, // judges what was observed of calls

	{"internal/prototable", "internal/varint", "internal/prototable/testpb"},
	{"internal/prototable/testpb", "", ""},

	// Small parts used by several packages: leaves, which any package but the
	// vocabulary may use.
	{"internal/*", "", ""},
}

// programs are what nothing imports, unless its row names it: neither "..." nor
// internal/* stands for them.
const programs = "internal/cli cmd/... demo/... examples/..."

// forTests is what every test may import: leaves, and generated code.
const forTests = "internal/* examples/greeter/greeterpb"

// allowed reports whether the package may import the other, and if not why.
func allowed(name, imported string, inTest bool) (why string, ok bool) {
	for _, row := range arrows {
		if !matchAny(row.packages, name) {
			continue
		}
		list := row.imports
		if inTest {
			list += " " + row.tests + " " + forTests + " " + name
		}
		if matchAny(programs, imported) {
			list = strings.Join(slices.DeleteFunc(strings.Fields(list), func(pattern string) bool {
				return !matchAny(programs, pattern)
			}), " ")
		}
		if matchAny(list, imported) {
			return "", true
		}
		return "its row allows: " + list, false
	}
	return "it is in no row of the table arrows in internal/archtest/arrows_test.go: add it there and to docs/architecture.md", false
}

func TestArrows(t *testing.T) {
	eachPackage(t, func(t *testing.T, _ graph, p *pkg, name string) {
		if why, ok := allowed(name, name, true); !ok {
			t.Errorf("package %s: %s", name, why)
			return
		}
		check := func(imports []string, inTest bool) {
			for _, path := range imports {
				imported, local := localName(path)
				if !local {
					continue
				}
				if why, ok := allowed(name, imported, inTest); !ok {
					what := "package " + name
					if inTest {
						what = "a test of package " + name
					}
					t.Errorf("%s imports %s, against docs/architecture.md; %s", what, imported, why)
				}
			}
		}
		check(p.Imports, false)
		check(p.TestImports, true)
		check(p.XTestImports, true)
	})
}

// The table's reading is code too.
func TestAllowed(t *testing.T) {
	tests := []struct {
		name, imported string
		inTest, want   bool
	}{
		{"status", "policy", false, false},
		{"status", "internal/echopb", false, false},
		{"status", "internal/echopb", true, true},
		{"policy", "status", false, true},
		{"policy", "internal/quantile", false, false},
		{"policy/breaker", "policy", false, true},
		{"policy/breaker", "policy/retry", false, false},
		{"policy/breaker", "policy/policytest", true, true},
		{"policy/hedge", "policy/retry", false, true},
		{"compat/hystrix", "policy/concurrency", false, true},
		{"compat/hystrix", "balance", false, false},
		{"compat/hystrix/rolling", "policy/breaker", false, false},
		{"registry/fileregistry", "registry", false, true},
		{"registry/fileregistry", "status", false, false},
		{"transport/muxtransport", "registry", false, false},
		{".", "registry/fileregistry", false, true},
		{".", "registry/memregistry", false, false},
		{".", "registry/memregistry", true, true},
		{".", "examples/greeter/greeterpb", false, false},
		{"hulltest", ".", false, true},
		{"hulltest", "demo", false, false},
		{"internal/cli", "examples/greeter", false, false},
		{"cmd/hull", "internal/cli", false, true},
		{"demo/ui", "demo/backend", false, true},
		{"demo/ui", "cmd/hull", false, false},
		{"internal/echopb", "status", false, false},
		{"hulltest", "internal/cli", false, false},
		{"transport/muxtransport", "internal/cli", false, false},
		{"transport/muxtransport", "internal/wire", false, true},
		{"policy/breaker", "internal/cli", true, false},
		{"mystery", "status", false, false},
	}
	for _, tt := range tests {
		if why, got := allowed(tt.name, tt.imported, tt.inTest); got != tt.want {
			t.Errorf("allowed(%s, %s, test %v) = %v, want %v (%s)", tt.name, tt.imported, tt.inTest, got, tt.want, why)
		}
	}
}

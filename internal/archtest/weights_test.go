package archtest

import (
	"slices"
	"strings"
	"testing"
)

// The modules that the front door may bring into a user's program, and what
// for.
const (
	grpcModules  = "google.golang.org/grpc google.golang.org/protobuf google.golang.org/genproto/googleapis/rpc"
	goModules    = "golang.org/x/net golang.org/x/sys golang.org/x/text"
	watchModules = "github.com/fsnotify/fsnotify golang.org/x/sys"
	yamlModules  = "go.yaml.in/yaml/v3"
	// connectModule serves gRPC-Web and Connect; it brings nothing but protobuf.
	connectModule = "connectrpc.com/connect"
	// zstdModule compresses messages, several times as fast as gzip of the standard library and better; it brings nothing else. 0.6 MB.
	zstdModule = "github.com/klauspost/compress"
)

// weights says which third-party modules a package may bring along, directly
// or through others. The first row that fits counts; a package in no row may
// bring what it likes, because only the program that links it pays.
var weights = []struct {
	packages string
	modules  string
}{
	{"policy/grpcpolicy", grpcModules + " " + goModules},
	{"status policy policy/... compat/...", ""},
	{"registry balance registry/memregistry registry/staticregistry registry/registrytest", ""},
	{"registry/fileregistry", watchModules},
	{"codec", "google.golang.org/protobuf"},
	{"transport/muxtransport", zstdModule + " " + grpcModules + " " + goModules},
	{"transport transport/memnet transport/grpctransport transport/httptransport transport/pool", grpcModules + " " + goModules},
	{"spec", yamlModules},
	{".", connectModule + " " + zstdModule + " " + grpcModules + " " + goModules + " " + watchModules + " " + yamlModules},
}

// tooHeavy lists the modules that p brings along and its row does not allow.
func tooHeavy(g graph, p *pkg, name string) []string {
	for _, row := range weights {
		if !matchAny(row.packages, name) {
			continue
		}
		var found []string
		for _, path := range p.Deps {
			dep := g[path]
			if dep == nil || dep.Standard || dep.Module == nil || dep.Module.Path == modulePath {
				continue
			}
			if m := dep.Module.Path; !slices.Contains(strings.Fields(row.modules), m) && !slices.Contains(found, m) {
				found = append(found, m)
			}
		}
		return found
	}
	return nil
}

func TestWeights(t *testing.T) {
	eachPackage(t, func(t *testing.T, g graph, p *pkg, name string) {
		for _, m := range tooHeavy(g, p, name) {
			t.Errorf("package %s brings module %s into every program that uses it: do without, or add it to the table weights with a reason", name, m)
		}
	})
}

func TestTooHeavy(t *testing.T) {
	module := func(path string) *struct{ Path string } { return &struct{ Path string }{path} }
	g := graph{
		"fmt":                          {ImportPath: "fmt", Standard: true},
		modulePath + "/status":         {ImportPath: modulePath + "/status", Module: module(modulePath)},
		"google.golang.org/grpc/codes": {ImportPath: "google.golang.org/grpc/codes", Module: module("google.golang.org/grpc")},
		"example.com/a":                {ImportPath: "example.com/a", Module: module("example.com")},
		"example.com/b":                {ImportPath: "example.com/b", Module: module("example.com")},
	}
	p := &pkg{}
	for path := range g {
		p.Deps = append(p.Deps, path)
	}
	for name, want := range map[string][]string{
		".":              {"example.com"},
		"policy/breaker": {"example.com", "google.golang.org/grpc"},
		"internal/cli":   nil,
	} {
		got := tooHeavy(g, p, name)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

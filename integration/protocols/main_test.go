package protocols

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/hull-go/hull"
	pb "github.com/hull-go/hull/examples/greeter/greeterpb"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
)

// limit bounds each foreign program: many times what it needs on a busy machine.
const limit = 3 * time.Minute

// greeter is the service that the programs call.
type greeter struct {
	pb.UnimplementedGreeterServer
	cancelled chan error // what the context of a cancelled Hello said
}

// Hello greets; some names have meanings of their own.
func (g *greeter) Hello(ctx context.Context, r *pb.HelloRequest) (*pb.HelloReply, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	_ = grpc.SetHeader(ctx, metadata.MD{"x-head": md["x-ask"]}) // fails outside of a call only
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-trail-bin", "\x00\xff"))
	switch name := r.GetName(); name {
	case "fail":
		st, err := grpcstatus.New(codes.NotFound, "nobody called \"fäil\"").WithDetails(&errdetails.ErrorInfo{Reason: "GONE"})
		if err != nil {
			return nil, err
		}
		return nil, st.Err()
	case "much": // more than Node takes of a trailer
		st, err := grpcstatus.New(codes.FailedPrecondition, "no").WithDetails(&errdetails.ErrorInfo{Reason: "GONE"}, &errdetails.DebugInfo{Detail: strings.Repeat("x", 200<<10)})
		if err != nil {
			return nil, err
		}
		return nil, st.Err()
	case "wait":
		<-ctx.Done()
		select {
		case g.cancelled <- ctx.Err():
		default:
		}
		return nil, ctx.Err()
	default:
		return &pb.HelloReply{Message: "Hello, " + name}, nil
	}
}

// Count sends 1 to UpTo.
func (g *greeter) Count(r *pb.CountRequest, s grpc.ServerStreamingServer[pb.CountReply]) error {
	for i := range r.GetUpTo() {
		if err := s.Send(&pb.CountReply{N: i + 1}); err != nil {
			return err
		}
	}
	return nil
}

// Sum adds.
func (g *greeter) Sum(s grpc.ClientStreamingServer[pb.SumRequest, pb.SumReply]) error {
	var sum int64
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return s.SendAndClose(&pb.SumReply{Sum: sum})
		}
		if err != nil {
			return err
		}
		sum += m.GetN()
	}
}

// Chat answers each message.
func (g *greeter) Chat(s grpc.BidiStreamingServer[pb.ChatMessage, pb.ChatMessage]) error {
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.Send(&pb.ChatMessage{Text: "re: " + m.GetText()}); err != nil {
			return err
		}
	}
}

type point struct {
	X int `json:"x"`
	Y int `json:"y"`
}

// serve runs a server on a free port until the test ends, and returns its address.
func serve(t *testing.T, opts ...hull.ServerOption) (string, *greeter) {
	t.Helper()
	reg, err := registry.New(memregistry.New(), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := hull.NewServer("greeter", append([]hull.ServerOption{hull.WithRegistry(reg), hull.Drain(0, limit)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	g := &greeter{cancelled: make(chan error, 1)}
	pb.RegisterGreeterServer(s, g)
	hull.Handle(s, "geo.Geo/Mirror", func(_ context.Context, p *point) (*point, error) { return &point{X: p.Y, Y: p.X}, nil })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, reg.Close()); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-s.Ready():
	case err := <-done:
		t.Fatalf("the server ended: %v", err)
	}
	return s.Addr(), g
}

// run runs a program and returns what it printed.
func run(t *testing.T, dir, name string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		t.Fatalf("%s is missing: run scripts/setup", name)
	}
	return out.String(), errs.String(), err
}

func TestCurl(t *testing.T) {
	addr, _ := serve(t)
	tests := []struct {
		name string
		args []string
		want []string
	}{
		{"with nothing but data", []string{"-d", `{"name":"Ada"}`, addr + "/greeter.Greeter/Hello"}, []string{`"Hello, Ada"`, "200"}},
		{"to a Go function", []string{"-d", `{"x":1,"y":2}`, addr + "/geo.Geo/Mirror"}, []string{`{"x":2,"y":1}`, "200"}},
		{"with HTTP/2", []string{"--http2-prior-knowledge", "-d", `{"name":"Ada"}`, addr + "/greeter.Greeter/Hello"}, []string{`"Hello, Ada"`, "200"}},
		{"with an upgrade to HTTP/2 offered", []string{"--http2", "-d", `{"name":"Ada"}`, addr + "/greeter.Greeter/Hello"}, []string{`"Hello, Ada"`, "200"}},
		{"and fails", []string{"-i", "-d", `{"name":"fail"}`, addr + "/greeter.Greeter/Hello"}, []string{"not_found", "fäil", "GONE", "404"}},
		{"with metadata", []string{"-i", "-H", "x-ask: answer", "-d", `{"name":"Ada"}`, addr + "/greeter.Greeter/Hello"}, []string{"X-Head: answer", "Trailer-X-Trail-Bin: AP8"}},
		{"and waits too long", []string{"-H", "connect-timeout-ms: 50", "-d", `{"name":"wait"}`, addr + "/greeter.Greeter/Hello"}, []string{"deadline_exceeded", "504"}},
		{"a stream of Connect's", []string{"-H", "content-type: application/connect+json", "--data-binary", "@count", addr + "/greeter.Greeter/Count"}, []string{`{"n":"1"}`, `{"n":"3"}`, "200"}},
		{"a large message", []string{"-H", "content-type: application/json", "-d", "@large", "-o", os.DevNull, addr + "/greeter.Greeter/Hello"}, []string{"200"}},
		{"one too large", []string{"-H", "content-type: application/json", "-d", "@toolarge", addr + "/greeter.Greeter/Hello"}, []string{"resource_exhausted", "413"}},
		{"what is there", []string{addr + "/hull/methods"}, []string{"greeter.Greeter/Hello", "geo.Geo/Mirror", `"x"`, "200"}},
	}
	dir := t.TempDir()
	count := `{"upTo":"3"}`
	for name, content := range map[string]string{"count": "\x00\x00\x00\x00" + string(rune(len(count))) + count,
		"large": `{"name":"` + strings.Repeat("x", 3<<20) + `"}`, "toolarge": `{"name":"` + strings.Repeat("x", 5<<20) + `"}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, errs, err := run(t, dir, "curl", append([]string{"-s", "-S", "-w", "\n%{http_code}"}, tt.args...)...)
			if err != nil {
				t.Fatalf("%v: %s", err, errs)
			}
			for _, want := range tt.want {
				if !strings.Contains(strings.ToLower(strings.ReplaceAll(out, " ", "")), strings.ToLower(strings.ReplaceAll(want, " ", ""))) { // protojson's spaces vary
					t.Errorf("no %q in %s", want, out)
				}
			}
		})
	}
}

func TestGrpcurl(t *testing.T) {
	addr, _ := serve(t)
	out, errs, err := run(t, filepath.Join("..", ".."), "go", "tool", "-modfile=tools/go.mod", "-n", "grpcurl")
	if err != nil {
		t.Fatalf("building grpcurl: %v: %s", err, errs)
	}
	grpcurl := strings.TrimSpace(out)
	tests := []struct {
		name string
		args []string
		want []string
		fail bool
	}{
		{"list", []string{addr, "list"}, []string{"greeter.Greeter", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"}, false},
		{"describe", []string{addr, "describe", "greeter.Greeter.Hello"}, []string{"rpc Hello ( .greeter.HelloRequest ) returns ( .greeter.HelloReply )"}, false},
		{"unary", []string{"-d", `{"name":"Ada"}`, addr, "greeter.Greeter/Hello"}, []string{`"message": "Hello, Ada"`}, false},
		{"server stream", []string{"-d", `{"upTo":3}`, addr, "greeter.Greeter/Count"}, []string{`"n": "1"`, `"n": "3"`}, false},
		{"client stream", []string{"-d", `{"n":1}{"n":2}`, addr, "greeter.Greeter/Sum"}, []string{`"sum": "3"`}, false},
		{"both ways", []string{"-d", `{"text":"a"}{"text":"b"}`, addr, "greeter.Greeter/Chat"}, []string{"re: a", "re: b"}, false},
		{"metadata", []string{"-v", "-H", "x-ask: answer", "-d", `{"name":"Ada"}`, addr, "greeter.Greeter/Hello"}, []string{"x-head: answer", "x-trail-bin: AP8"}, false},
		{"through what looks like a proxy", []string{"-H", "via: 1.1 proxy", "-d", `{"name":"Ada"}`, addr, "greeter.Greeter/Hello"}, []string{`"message": "Hello, Ada"`}, false},
		{"failure", []string{"-d", `{"name":"fail"}`, addr, "greeter.Greeter/Hello"}, []string{`"code": 5`, "fäil", "GONE"}, true},
		{"deadline", []string{"-max-time", "1", "-d", `{"name":"wait"}`, addr, "greeter.Greeter/Hello"}, []string{`"code": 4`}, true},
		{"health", []string{addr, "grpc.health.v1.Health/Check"}, []string{"SERVING"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, errs, err := run(t, "", grpcurl, append([]string{"-plaintext", "-format-error"}, tt.args...)...)
			if (err != nil) != tt.fail {
				t.Fatalf("%v: %s%s", err, out, errs)
			}
			for _, want := range tt.want {
				if !strings.Contains(out+errs, want) {
					t.Errorf("no %q in %s%s", want, out, errs)
				}
			}
		})
	}
}

// node runs testdata/<dir>/client.js with its packages, and checks what it prints: one JSON object for each thing it tried.
func node(t *testing.T, dir string, want map[string]string, args ...string) {
	t.Helper()
	tmp := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", "client.js"} {
		b, err := os.ReadFile(filepath.Join("testdata", dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tmp, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, errs, err := run(t, tmp, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"); err != nil {
		t.Fatalf("npm ci: %v: %s%s", err, out, errs)
	}
	out, errs, err := run(t, tmp, "node", append([]string{"client.js"}, args...)...)
	if err != nil {
		t.Fatalf("%v: %s%s", err, out, errs)
	}
	compare(t, out, want)
}

// compare checks what a client has printed.
func compare(t *testing.T, out string, want map[string]string) {
	t.Helper()
	for line := range strings.Lines(out) {
		var r struct{ Name, Got string }
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if r.Got != want[r.Name] {
			t.Errorf("%s: %q, want %q", r.Name, r.Got, want[r.Name])
		}
		delete(want, r.Name)
	}
	if len(want) > 0 {
		t.Errorf("not tried: %v", want)
	}
}

// TestPython runs a client of the native protocol that was written from its document.
func TestPython(t *testing.T) {
	addr, g := serve(t)
	script, err := filepath.Abs(filepath.Join("testdata", "native", "client.py"))
	if err != nil {
		t.Fatal(err)
	}
	out, errs, err := run(t, t.TempDir(), "python3", script, addr)
	if err != nil {
		t.Fatalf("%v: %s%s", err, out, errs)
	}
	compare(t, out, map[string]string{
		"unary":      "Hello, Ada one 00ff, Hello, Ada two 00ff",
		"json":       "Hello, Ada",
		"go":         "2",
		"failure":    "5 2 0 nobody called \"fäil\"",
		"expired":    "4 1 6",
		"late":       "Hello, Ada",
		"unknown":    "12 2 1", // and 4: no-method
		"trace":      "Hello, Ada",
		"large":      "3145740",
		"compressed": "100011 1",
		"bomb":       "8 1 12",
		"cancel":     "Hello, Ada",
		"server":     "[1, 2, 3] 0",
		"client":     "1999000 0",
		"bidi":       "1051784 0",
		"again":      "Hello, Ada",
		"plain":      "Hello, Ada plain",
		"broken":     "0 1",
	})
	select {
	case err := <-g.cancelled:
		if err == nil {
			t.Error("the handler's context had no error")
		}
	case <-time.After(limit):
		t.Error("the cancelled handler went on")
	}
}

// TestGrpcWeb runs Google's client for browsers: as text, which it speaks unless it is told otherwise, and as bytes.
func TestGrpcWeb(t *testing.T) {
	addr, g := serve(t)
	want := map[string]string{"text stream": "1 2 3"}
	for _, format := range []string{"text ", "binary "} {
		for name, got := range map[string]string{
			"unary":    "Hello, Ada answer AP8",
			"large":    "1048583",
			"failure":  "5 nobody called \"fäil\"",
			"deadline": "4",
			"unknown":  "12",
			"toolarge": "8",
		} {
			want[format+name] = got
		}
	}
	node(t, "grpcweb", want, addr)
	select {
	case err := <-g.cancelled:
		if err == nil {
			t.Error("the handler's context had no error")
		}
	case <-time.After(limit):
		t.Error("the handler whose time was up was not cancelled")
	}
}

// TestGrpcJS runs grpc-js.
func TestGrpcJS(t *testing.T) {
	addr, g := serve(t)
	proto, err := filepath.Abs(filepath.Join("..", "..", "examples", "greeter", "greeterpb", "greeter.proto"))
	if err != nil {
		t.Fatal(err)
	}
	node(t, "grpcjs", map[string]string{
		"unary":    "Hello, Ada answer 00ff",
		"large":    "3145735",
		"gzip":     "107",
		"server":   "1 2 3",
		"client":   "6",
		"bidi":     "re: a,re: b",
		"failure":  "5 nobody called \"fäil\" GONE 00ff",
		"much":     "9 no GONE 00ff",
		"deadline": "ended",
		"cancel":   "1",
		"unknown":  "12",
		"toolarge": "8",
	}, addr, proto)
	select {
	case err := <-g.cancelled:
		if err == nil {
			t.Error("the cancelled handler's context had no error")
		}
	case <-time.After(limit):
		t.Error("the handler was not cancelled")
	}
}

package cli

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/examples/greeter/greeterpb"
)

// generated is a service of generated code.
type generated struct {
	greeterpb.UnimplementedGreeterServer
	entered chan struct{} // gets a value for each SayOnce that begins
}

// Hello answers.
func (generated) Hello(_ context.Context, r *greeterpb.HelloRequest) (*greeterpb.HelloReply, error) {
	return &greeterpb.HelloReply{Message: "Hello, " + r.GetName()}, nil
}

// SayOnce never answers.
func (g generated) SayOnce(ctx context.Context, _ *greeterpb.HelloRequest) (*greeterpb.HelloReply, error) {
	g.entered <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

// serveGenerated runs a server of generated code with a health service until the test ends, and returns the flag for its
// registry.
func serveGenerated(t *testing.T, g generated, h *health.Server) string {
	t.Helper()
	dir := t.TempDir()
	reg, err := openFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := hull.NewServer("generated", hull.WithRegistry(reg), hull.Drain(0, time.Second))
	if err != nil {
		t.Fatal(err)
	}
	greeterpb.RegisterGreeterServer(s, g)
	healthpb.RegisterHealthServer(s, h)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		reg.Close()
	})
	select {
	case <-s.Ready():
	case err := <-done:
		t.Fatal(err)
	}
	return "--registry=" + fileURL(dir)
}

func TestGeneratedCode(t *testing.T) {
	h := health.NewServer()
	at := serveGenerated(t, generated{}, h)
	got := run(t, "call", "generated", "Hello", `{"name":"Ada"}`, at, "-o", "json")
	got.want(t, ExitOK, "", "")
	if text := strings.ReplaceAll(got.out, " ", ""); text != `{"message":"Hello,Ada"}`+"\n" {
		t.Errorf("%q", got.out)
	}
	run(t, "call", "generated", "Hello", `{"name":1}`, at).want(t, ExitFailed, "", "cannot be decoded")
	run(t, "get", "generated", at).want(t, ExitOK, "greeter.Greeter/Hello        idempotent  1", "")

	run(t, "health", at).want(t, ExitOK, healthServing, "")
	h.Shutdown()
	run(t, "health", at).want(t, ExitFailed, healthFailing, `no node of service "generated" is healthy`)
}

// A call that is interrupted ends at once and says so.
func TestInterrupt(t *testing.T) {
	g := generated{entered: make(chan struct{}, 1)}
	at := serveGenerated(t, g, health.NewServer())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	code := make(chan int, 1)
	var said strings.Builder
	go func() {
		code <- Run(ctx, []string{"call", "generated", "SayOnce", at, "--timeout=1m"}, Options{Stdout: io.Discard, Stderr: &said, Drivers: testDrivers()})
	}()
	<-g.entered
	cancel()
	if got := <-code; got != ExitInterrupted || said.String() != "hull: interrupted\n" {
		t.Errorf("exit %d, %q", got, said.String())
	}
}

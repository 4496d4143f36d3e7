package hull_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/examples/greeter/greeterpb"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
	"github.com/hull-go/hull/status"
)

// TestLargeRequestsToForeigners is that a server of gRPC or JSON that takes more than the usual gets it from a client, or a call, that says so.
func TestLargeRequestsToForeigners(t *testing.T) {
	const large = 6 << 20
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(grpc.MaxRecvMsgSize(4 * large))
	greeterpb.RegisterGreeterServer(g, shortGreeter{})
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Serve(ln) }()
	defer func() { g.Stop(); <-done }()
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var b [1 << 16]byte
		for {
			if _, err := r.Body.Read(b[:]); err != nil {
				break
			}
		}
		_, _ = w.Write([]byte(`{"message":"short"}`))
	}))
	defer h.Close()
	reg, err := registry.New(memregistry.New(), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	call := func(target string, opts []hull.ClientOption, callOpts ...hull.CallOption) error {
		c, err := hull.NewClient(append(opts, hull.WithRegistry(reg))...)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, err = hull.Call[greeterpb.HelloReply](t.Context(), c.To(target), "greeter.Greeter/Hello",
			&greeterpb.HelloRequest{Name: strings.Repeat("a", large)}, append(callOpts, hull.Timeout(time.Minute))...)
		return err
	}
	for _, target := range []string{"grpc://" + ln.Addr().String(), "http://" + h.Listener.Addr().String()} {
		if e := status.From(call(target, nil)); e == nil || e.Kind != status.TooLarge || e.Fate != status.NotSent {
			t.Errorf("%s: %v", target, e)
		}
		if err := call(target, []hull.ClientOption{hull.WithMaxRequest(2 * large)}); err != nil {
			t.Errorf("%s: told the client: %v", target, err)
		}
		if err := call(target, nil, grpc.MaxCallSendMsgSize(2*large)); err != nil {
			t.Errorf("%s: told the call: %v", target, err)
		}
	}
	if _, err := hull.NewClient(hull.WithMaxRequest(0)); err == nil {
		t.Error("a size of 0 is taken")
	}
}

type shortGreeter struct {
	greeterpb.UnimplementedGreeterServer
}

func (shortGreeter) Hello(context.Context, *greeterpb.HelloRequest) (*greeterpb.HelloReply, error) {
	return &greeterpb.HelloReply{Message: "short"}, nil
}

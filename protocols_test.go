package hull_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"

	"github.com/hull-go/hull"
	pb "github.com/hull-go/hull/examples/greeter/greeterpb"
	"github.com/hull-go/hull/hulltest"
)

// dialGRPC returns a plain grpc-go client of the node "a".
func dialGRPC(t *testing.T, w *hulltest.World, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	host := w.Network.Host("foreigner")
	c, err := grpc.NewClient("passthrough:///a:80", append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return host.Dial(ctx, addr) })}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// dialHTTP returns an HTTP client on a host of its own.
func dialHTTP(t *testing.T, w *hulltest.World, h2 bool) *http.Client {
	tr := &http.Transport{DialContext: w.Network.Host("browser").DialContext, Protocols: new(http.Protocols)}
	tr.Protocols.SetHTTP1(!h2)
	tr.Protocols.SetUnencryptedHTTP2(h2)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func post(t *testing.T, c *http.Client, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://a:80"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		if req.Header.Set(header[i], header[i+1]); header[i+1] == "" {
			req.Header.Del(header[i])
		}
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(bytes.TrimSpace(b))
}

func TestEveryProtocolReachesTheSameHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		n := w.Serve("greeter", "a", func(s *hull.Server) {
			pb.RegisterGreeterServer(s, &impl{})
			hull.Handle(s, "typed.Greeter/Hello", func(_ context.Context, r *helloRequest) (*helloReply, error) {
				return &helloReply{Text: "typed " + r.Name}, nil
			})
		})
		c := pb.NewGreeterClient(dialGRPC(t, w))
		rep, err := c.Hello(t.Context(), &pb.HelloRequest{Name: "Ada"})
		if err != nil || rep.GetMessage() != "Hello, Ada" {
			t.Errorf("gRPC: %v, %v", rep, err)
		}
		for _, h2 := range []bool{false, true} {
			web := dialHTTP(t, w, h2)
			res, body := post(t, web, "/greeter.Greeter/Hello", `{"name":"Ada"}`)
			if res.StatusCode != http.StatusOK || !strings.Contains(body, `"Hello, Ada"`) {
				t.Errorf("JSON: %s: %s", res.Status, body)
			}
			res, body = post(t, web, "/typed.Greeter/Hello", `{"Name":"Ada"}`)
			if res.StatusCode != http.StatusOK || !strings.Contains(body, `"typed Ada"`) {
				t.Errorf("typed JSON: %s: %s", res.Status, body)
			}
		}
		if p := n.Server.Snapshot().Port; p.GRPC != 1 || p.HTTP != 2 {
			t.Errorf("%+v", p)
		}
	})
}

// jsonCalls makes grpc-go's client send bytes and say that they are JSON.
func jsonCalls() grpc.CallOption { return grpc.ForceCodecV2(jsonBytes{}) }

type jsonBytes struct{}

func (jsonBytes) Name() string { return "json" }

func (jsonBytes) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (jsonBytes) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// chatDesc is a stream with many messages both ways.
var chatDesc = grpc.StreamDesc{ClientStreams: true, ServerStreams: true}

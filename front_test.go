package hull_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/codec"
	pb "github.com/hull-go/hull/examples/greeter/greeterpb"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/status"
)

// TestOnePort: HTTP and the native protocol on the same port.
func TestOnePort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "page "+r.URL.Path) })
		w.Serve("greeter", "a", greeter, hull.HTTP(page))
		host := w.Network.Host("browser")
		web := &http.Client{Transport: &http.Transport{DialContext: host.DialContext}}
		res, err := web.Get("http://a:80/hello")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || string(body) != "page /hello" {
			t.Errorf("%q, %v", body, err)
		}
		web.CloseIdleConnections()
		if _, err := hello(t.Context(), w.Client("caller")); err != nil {
			t.Error(err)
		}
	})
}

// TestStrangersOnThePort: whoever says nothing, or nonsense, is sent away in bounded time and disturbs nobody.
func TestStrangersOnThePort(t *testing.T) {
	for _, opts := range [][]hull.ServerOption{nil, {hull.HTTP(http.NotFoundHandler())}} {
		synctest.Test(t, func(t *testing.T) {
			w := hulltest.New(t)
			w.Serve("greeter", "a", greeter, opts...)
			c := w.Client("caller")
			host := w.Network.Host("stranger")
			var conns []net.Conn
			for _, first := range []string{"", "\x00\x01\x02", "\x9e", "\x9eHULL\x00\x01\x01" + strings.Repeat("\xff", 100), "SSH-2.0-OpenSSH\r\n", "GET / HTTP/9.9\r\n\r\n"} {
				conn, err := host.Dial(t.Context(), "a:80")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(conn, first); err != nil {
					t.Fatal(err)
				}
				conns = append(conns, conn)
			}
			if _, err := hello(t.Context(), c); err != nil {
				t.Errorf("beside strangers: %v", err)
			}
			for i, conn := range conns {
				start := time.Now()
				if err := conn.SetReadDeadline(start.Add(time.Minute)); err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, conn); errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 20*time.Second {
					t.Errorf("stranger %d was still served after %v (%v)", i, time.Since(start), err)
				}
				conn.Close()
			}
		})
	}
}

func TestBadRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", greeter, hull.MaxRequest(1<<20))
		c := w.Client("caller").To("greeter")
		call := func(method string, req any, opts ...hull.CallOption) error {
			var rep any
			return c.Invoke(t.Context(), method, req, &rep, opts...)
		}
		raw := hull.WithCodec(jsonAsIs{})
		tests := []struct {
			name string
			err  error
			code status.Code
			want string
		}{
			{"wrong JSON", call("greeter.Greeter/Hello", []byte(`{"Name": 7}`), raw), status.InvalidArgument, "Name"},
			{"broken JSON", call("greeter.Greeter/Hello", []byte(`{"Name": `), raw), status.InvalidArgument, "greeter.Greeter/Hello cannot be decoded"},
			{"a method nobody has", call("greeter.Greeter/Hallo", &helloRequest{}), status.Unimplemented, "did you mean greeter.Greeter/Hello"},
			{"a stream called as unary", call("greeter.Greeter/Chat", &helloRequest{}), status.Unimplemented, "is a stream"},
			{"protobuf for a Go function", c.Invoke(t.Context(), "greeter.Greeter/Hello", &pb.HelloRequest{}, &pb.HelloReply{}), status.Unimplemented, "speaks JSON"},
			{"too large", call("greeter.Greeter/Hello", &helloRequest{Name: strings.Repeat("x", 2<<20)}), status.ResourceExhausted, "1048576"},
			{"what JSON cannot say", call("greeter.Greeter/Hello", make(chan int)), status.Internal, "chan int"},
			{"a wrong selector", func() error { _, err := hello(t.Context(), w.Client("other"), hull.Select("=")); return err }(), status.InvalidArgument, "="},
		}
		for _, tt := range tests {
			e := status.From(tt.err)
			if e == nil || e.Code != tt.code || !strings.Contains(tt.err.Error(), tt.want) {
				t.Errorf("%s: %v; want %v and %q", tt.name, tt.err, tt.code, tt.want)
			}
		}
		if _, err := hull.Call[helloReply](t.Context(), c, "greeter.Greeter/Hello", &helloRequest{Name: "Ada"}); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// jsonAsIs sends bytes that claim to be JSON.
type jsonAsIs struct{ codec.Bytes }

func (jsonAsIs) Name() string { return "json" }

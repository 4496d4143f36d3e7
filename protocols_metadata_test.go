package hull_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/hull-go/hull"
	pb "github.com/hull-go/hull/examples/greeter/greeterpb"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/status"
)

// TestWordsThatHTTPCannotCarry: metadata of a handler that would cost a caller over HTTP the whole answer is left out over every protocol, each key is logged once, and
// all that stands beside it arrives.
func TestWordsThatHTTPCannotCarry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := metadata.MD{"x-control": {"a\x01b"}, "x-line": {"a\nb"}, "x-del": {"a\x7fb"}, "x key": {"v"}, ":path": {"v"}, "x-some": {"\x00", "good"},
			"X-Upper": {"upper"}, "x-tab": {"a\tb"}, "x-word": {"grüße"}, "x-any-bin": {"\x00\n\xff"}}
		want := []string{"x-any-bin=\x00\n\xff", "x-some=good", "x-tab=a\tb", "x-upper=upper", "x-word=grüße"}
		var log bytes.Buffer
		w := hulltest.New(t)
		w.Serve("greeter", "a", func(s *hull.Server) {
			pb.RegisterGreeterServer(s, &impl{})
			hull.Handle(s, "typed.Greeter/Hello", func(ctx context.Context, r *helloRequest) (*helloReply, error) {
				_ = grpc.SetHeader(ctx, said)
				_ = grpc.SetTrailer(ctx, said)
				if r.Name == "nobody" {
					return nil, status.Errorf(status.NotFound, "no such\nname: grüße")
				}
				return &helloReply{Text: "typed " + r.Name}, nil
			})
			hull.HandleStream(s, "typed.Greeter/Chat", func(st *hull.ServerStream[helloRequest, helloReply]) error {
				if err := grpc.SendHeader(st.Context(), said); err != nil {
					t.Error(err)
				}
				_ = grpc.SetTrailer(st.Context(), said)
				return nil
			})
		}, hull.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		heard := func(md metadata.MD) (list []string) {
			for k, vs := range md {
				for _, v := range vs {
					if strings.HasPrefix(k, "x") {
						list = append(list, k+"="+v)
					}
				}
			}
			slices.Sort(list)
			return list
		}
		by := map[string]*hull.Conn{}
		for _, to := range []string{"native", "gRPC", "JSON"} {
			by[to] = w.Client(to, hull.WithDialer(dialers(t, w, to)[to])).To("greeter")
		}
		for to, c := range by {
			for _, name := range []string{"Ada", "nobody"} {
				var header, trailer metadata.MD
				rep, err := hull.Call[helloReply](t.Context(), c, "typed.Greeter/Hello", &helloRequest{Name: name}, grpc.Header(&header), grpc.Trailer(&trailer))
				if name == "Ada" && (err != nil || rep.Text != "typed Ada") {
					t.Errorf("%s: %v, %v", to, rep, err)
				}
				if e, ok := errors.AsType[*status.Error](err); name == "nobody" && (!ok || e.Code != status.NotFound || e.Message != "no such\nname: grüße") {
					t.Errorf("%s: %v", to, err)
				}
				if h, tr := heard(header), heard(trailer); !slices.Equal(h, want) || !slices.Equal(tr, want) {
					t.Errorf("%s, %s: header %q, trailer %q, want %q", to, name, h, tr, want)
				}
			}
		}
		for _, to := range []string{"native", "gRPC"} {
			st, err := by[to].NewStream(t.Context(), &grpc.StreamDesc{StreamName: "typed.Greeter/Chat", ClientStreams: true, ServerStreams: true}, "/typed.Greeter/Chat",
				grpc.CallContentSubtype("json"))
			if err != nil {
				t.Fatal(err)
			}
			header, err := st.Header()
			if rerr := st.RecvMsg(new(helloReply)); err != nil || !errors.Is(rerr, io.EOF) {
				t.Errorf("%s: %v, %v", to, err, rerr)
			}
			if h, tr := heard(header), heard(st.Trailer()); !slices.Equal(h, want) || !slices.Equal(tr, want) {
				t.Errorf("%s, a stream: header %q, trailer %q, want %q", to, h, tr, want)
			}
		}
		for _, key := range []string{"x-control", "x-line", "x-del", `"x key"`, ":path", "x-some"} {
			if n := strings.Count(log.String(), "key="+key+"\n"); n != 1 {
				t.Errorf("%s is logged %d times:\n%s", key, n, log.String())
			}
		}
	})
}

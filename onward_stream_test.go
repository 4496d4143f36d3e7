package hull_test

import (
	"context"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/metadata"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
)

// TestRetryControlOfStreams is that what a trusted caller says of repetitions holds for the streams that are opened on its behalf, and reaches
// those who serve them.
func TestRetryControlOfStreams(t *testing.T) {
	const retries, on = "x-envoy-max-retries", "x-envoy-retry-on"
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		said := map[string]string{}
		for _, name := range []string{"leaf-0", "leaf-1"} {
			w.Serve("leaf", name, func(s *hull.Server) {
				hull.HandleStream(s, "leaf.Leaf/Chat", func(st *hull.ServerStream[helloRequest, helloReply]) error {
					md, _ := metadata.FromIncomingContext(st.Context())
					for _, k := range []string{retries, on} {
						if v := md.Get(k); len(v) > 0 {
							said[k] = v[0]
						}
					}
					return nil
				})
			})
		}
		next := w.Client("mid")
		var attempts int
		w.Serve("mid", "mid", func(s *hull.Server) {
			hull.Handle(s, "mid.Mid/Open", func(ctx context.Context, r *helloRequest) (*helloReply, error) {
				var info hull.CallInfo
				st, err := hull.OpenStream[helloRequest, helloReply](ctx, next.To("leaf"), "leaf.Leaf/Chat", hull.Info(&info))
				if err == nil {
					_, _ = st.Recv()
				}
				attempts = len(info.Attempts)
				return &helloReply{}, nil
			})
		})
		c := w.Client("caller").To("mid")
		open := func(headers ...string) int {
			t.Helper()
			ctx := metadata.AppendToOutgoingContext(t.Context(), headers...)
			if _, err := hull.Call[helloReply](ctx, c, "mid.Mid/Open", &helloRequest{}); err != nil {
				t.Fatal(err)
			}
			return attempts
		}
		if n := open(retries, "1", on, "reset, connect-failure"); n != 1 || said[retries] != "1" || said[on] != "reset, connect-failure" {
			t.Errorf("%d attempts, the leaf is told %v", n, said)
		}
		for _, name := range []string{"leaf-0", "leaf-1"} {
			w.Node(name).Kill()
		}
		synctest.Wait()
		for _, tt := range []struct {
			headers []string
			want    int
		}{
			{nil, 3},
			{[]string{retries, "0"}, 1},
			{[]string{retries, "1"}, 2},
			{[]string{on, "connect-failure"}, 3},
			{[]string{on, "refused-stream"}, 1},
		} {
			if n := open(tt.headers...); n != tt.want {
				t.Errorf("%v: %d attempts, want %d", tt.headers, n, tt.want)
			}
		}
	})
}

package hull_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	grpcstatus "google.golang.org/grpc/status"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/status"
)

// TestMessagesStayAsTheyAre is a regression test: an error that was handed on grew its code as a prefix at every hop.
func TestMessagesStayAsTheyAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("leaf", "leaf", func(s *hull.Server) {
			hull.Handle(s, "l.L/Get", func(context.Context, *helloRequest) (*helloReply, error) {
				return nil, status.Errorf(status.NotFound, "no such user")
			})
			hull.HandleStream(s, "l.L/Watch", func(*hull.ServerStream[helloRequest, helloReply]) error {
				return status.Errorf(status.NotFound, "no such user")
			})
		})
		below := "leaf"
		for _, name := range []string{"mid", "top"} {
			c := w.Client(name + "-client").To(below)
			w.Serve(name, name, func(s *hull.Server) {
				hull.Handle(s, "l.L/Get", func(ctx context.Context, r *helloRequest) (*helloReply, error) {
					return hull.Call[helloReply](ctx, c, "l.L/Get", r)
				})
				hull.Handle(s, "l.L/Said", func(ctx context.Context, r *helloRequest) (*helloReply, error) {
					_, err := hull.Call[helloReply](ctx, c, "l.L/Get", r)
					return nil, fmt.Errorf("asking %s: %w", name, err)
				})
				hull.HandleStream(s, "l.L/Watch", func(up *hull.ServerStream[helloRequest, helloReply]) error {
					st, err := hull.OpenStream[helloRequest, helloReply](up.Context(), c, "l.L/Watch")
					if err != nil {
						return err
					}
					_, err = st.Recv()
					return err
				})
			})
			below = name
		}
		c := w.Client("user")
		for _, name := range []string{"leaf", "mid", "top"} {
			_, err := hull.Call[helloReply](t.Context(), c.To(name), "l.L/Get", &helloRequest{})
			if st := grpcstatus.Convert(err); st.Message() != "no such user" || err.Error() != "NotFound: no such user" {
				t.Errorf("%s: %q, %q", name, st.Message(), err)
			}
			st, err := hull.OpenStream[helloRequest, helloReply](t.Context(), c.To(name), "l.L/Watch")
			if err != nil {
				t.Fatal(err)
			}
			if _, err = st.Recv(); grpcstatus.Convert(err).Message() != "no such user" {
				t.Errorf("a stream of %s: %q", name, err)
			}
		}
		if _, err := hull.Call[helloReply](t.Context(), c.To("mid"), "l.L/Said", &helloRequest{}); grpcstatus.Convert(err).Message() != "asking mid: NotFound: no such user" {
			t.Errorf("what a handler says of it is lost: %q", err)
		}
	})
}

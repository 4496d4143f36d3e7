package hull_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
)

// TestWhatRunSaysOfTheDrain is a regression test: what was cut off was told three times over, a second signal as "context canceled", and a stream that has no
// end, such as a watch, made each restart a failure.
func TestWhatRunSaysOfTheDrain(t *testing.T) {
	for _, tt := range []struct {
		name   string
		stream bool
		closed bool
		want   string // "" = nil
	}{
		{"a call that takes too long", false, false, "1 calls under way were cut off: they may take 5s at most, see hull.Drain"},
		{"a stream without an end", true, false, ""},
		{"closed meanwhile", false, true, "the server was closed"},
	} {
		type question struct{}
		type reply struct{}
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				n := w.Serve("watcher", "a", func(s *hull.Server) {
					hull.Handle(s, "watcher.Watcher/Get", func(ctx context.Context, _ *question) (*reply, error) { <-ctx.Done(); return nil, ctx.Err() })
					hull.HandleStream(s, "watcher.Watcher/Watch", func(st *hull.ServerStream[question, reply]) error {
						_ = st.Send(&reply{})
						<-st.Context().Done()
						return st.Context().Err()
					})
				}, hull.Drain(time.Second, 5*time.Second))
				conn := w.Client("caller").To("watcher")
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if tt.stream {
					st, err := hull.OpenStream[question, reply](ctx, conn, "watcher.Watcher/Watch")
					if err != nil {
						t.Fatal(err)
					}
					if _, err := st.Recv(); err != nil {
						t.Fatal(err)
					}
				} else {
					go func() {
						_, _ = hull.Call[reply](ctx, conn, "watcher.Watcher/Get", &question{}, hull.Timeout(time.Minute))
					}()
				}
				time.Sleep(time.Second)
				if tt.closed {
					time.AfterFunc(3*time.Second, func() { _ = n.Server.Close() })
				}
				n.Stop()
				err := n.Err()
				if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.HasSuffix(err.Error(), ": "+tt.want)) {
					t.Errorf("Run: %v, want %q", err, tt.want)
				}
			})
		})
	}
}

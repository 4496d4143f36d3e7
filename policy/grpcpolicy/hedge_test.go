package grpcpolicy_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/hull-go/hull/internal/echopb"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/grpcpolicy"
	"github.com/hull-go/hull/policy/hedge"
)

// TestHedge is that a method whose .proto declares no side effects is hedged, that the first good answer is the call's, with its header, trailer and peer, and that the loser is cancelled and
// writes nowhere.
func TestHedge(t *testing.T) {
	for _, c := range []struct {
		name   string
		first  func(ctx context.Context) error // how the first attempt ends
		fails  bool                            // so does the second
		winner string
		code   codes.Code
		after  time.Duration
	}{
		{"the first hangs", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, false, "2", codes.OK, 30 * time.Millisecond},
		{"the first is slower", func(context.Context) error { time.Sleep(40 * time.Millisecond); return nil }, false, "2", codes.OK, 30 * time.Millisecond},
		{"the first is faster", func(context.Context) error { time.Sleep(20 * time.Millisecond); return nil }, false, "1", codes.OK, 20 * time.Millisecond},
		{"the first fails later", func(context.Context) error {
			time.Sleep(15 * time.Millisecond)
			return grpcstatus.Error(codes.Unavailable, "no")
		}, false, "2", codes.OK, 30 * time.Millisecond},
		{"both fail", func(context.Context) error {
			time.Sleep(15 * time.Millisecond)
			return grpcstatus.Error(codes.InvalidArgument, "no")
		}, true, "", codes.InvalidArgument, 15 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int64
				e := &echo{f: func(ctx context.Context, m *echopb.EchoMessage) (*echopb.EchoMessage, error) {
					n := "1"
					if calls.Add(1) == 1 {
						_ = grpc.SetHeader(ctx, metadata.Pairs("who", n))
						_ = grpc.SetTrailer(ctx, metadata.Pairs("who", n))
						if err := c.first(ctx); err != nil {
							return nil, err
						}
						return &echopb.EchoMessage{Text: n}, nil
					}
					n = "2"
					_ = grpc.SetHeader(ctx, metadata.Pairs("who", n))
					_ = grpc.SetTrailer(ctx, metadata.Pairs("who", n))
					time.Sleep(20 * time.Millisecond)
					if c.fails {
						return nil, grpcstatus.Error(codes.InvalidArgument, "no")
					}
					return &echopb.EchoMessage{Text: n}, nil
				}}
				hd, err := hedge.New(hedge.Options{Delay: 10 * time.Millisecond, Extra: 1})
				if err != nil {
					t.Fatal(err)
				}
				p := pipeline(t, policy.Options{Retries: retries(t), Hedging: hd})
				w, end := begin(t, e, nil, grpcpolicy.NewClient(p, grpcpolicy.Options{}).DialOptions())
				defer end()
				var header, trailer metadata.MD
				var from peer.Peer
				finished := 0
				reply := &echopb.EchoMessage{Text: "left over"}
				began := time.Now()
				err = w.conn.Invoke(t.Context(), "/echo.Echo/Echo", &echopb.EchoMessage{Text: "hello"}, reply,
					grpc.Header(&header), grpc.Trailer(&trailer), grpc.Peer(&from), grpc.OnFinish(func(error) { finished++ }))
				if grpcstatus.Code(err) != c.code || time.Since(began) != c.after {
					t.Errorf("%v after %v", err, time.Since(began))
				}
				if err == nil && (reply.Text != c.winner || header.Get("who")[0] != c.winner || trailer.Get("who")[0] != c.winner || from.Addr == nil) {
					t.Errorf("%q, %v, %v, %v, want those of %s", reply.Text, header, trailer, from, c.winner)
				}
				if err != nil && reply.Text != "left over" {
					t.Errorf("a call that failed has the reply %q", reply.Text)
				}
				if finished != 1 {
					t.Errorf("finished %d times", finished)
				}
				time.Sleep(time.Second)
				if n := p.Snapshot(); n.Hedges != 1 || n.Abandoned != 0 {
					t.Errorf("%+v", n)
				}
			})
		})
	}
}

// TestNoHedge is that what is not free of side effects is not hedged, whatever else it is.
func TestNoHedge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &echo{f: func(_ context.Context, m *echopb.EchoMessage) (*echopb.EchoMessage, error) {
			time.Sleep(time.Second)
			return m, nil
		}}
		hd, err := hedge.New(hedge.Options{Delay: time.Millisecond, Extra: 1})
		if err != nil {
			t.Fatal(err)
		}
		p := pipeline(t, policy.Options{Retries: retries(t), Hedging: hd})
		o := grpcpolicy.Options{Call: func(_ context.Context, _ string, c *policy.Call) { c.SideEffectFree = false }}
		w, end := begin(t, e, nil, grpcpolicy.NewClient(p, o).DialOptions())
		defer end()
		if _, err := echopb.NewEchoClient(w.conn).Echo(t.Context(), &echopb.EchoMessage{}); err != nil || p.Snapshot().Attempts != 1 {
			t.Errorf("%v, %+v", err, p.Snapshot())
		}
	})
}

// TestHop is what a call's place in its tree does, over a middle service: criticality goes down, and that a failure is not the
// middle's own comes up, so that only the layer next to it repeats.
func TestHop(t *testing.T) {
	for _, trusted := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var calls atomic.Int64
			want := map[bool]string{true: "critical-plus"}[trusted]
			bottom := &echo{f: func(ctx context.Context, _ *echopb.EchoMessage) (*echopb.EchoMessage, error) {
				calls.Add(1)
				if v := metadata.ValueFromIncomingContext(ctx, "hull-criticality"); len(v) > 0 != trusted || trusted && v[0] != want {
					t.Errorf("trusted %v: criticality %q at the bottom", trusted, v)
				}
				return nil, grpcstatus.Error(codes.Unavailable, "down")
			}}
			idempotent := func(_ context.Context, _ string, c *policy.Call) { c.Idempotent = true }
			below := pipeline(t, policy.Options{Retries: retries(t)})
			wb, endBottom := begin(t, bottom, nil, grpcpolicy.NewClient(below, grpcpolicy.Options{Call: idempotent}).DialOptions())
			defer endBottom()
			middle := &echo{f: func(ctx context.Context, m *echopb.EchoMessage) (*echopb.EchoMessage, error) {
				return echopb.NewEchoClient(wb.conn).Echo(ctx, m)
			}}
			so := grpcpolicy.ServerOptions{Trusted: func(context.Context, string) bool { return trusted }}
			above := pipeline(t, policy.Options{Retries: retries(t)})
			top := grpcpolicy.NewClient(above, grpcpolicy.Options{Call: func(_ context.Context, _ string, c *policy.Call) {
				c.Idempotent, c.Criticality = true, policy.CriticalPlus
			}})
			wm, endMiddle := begin(t, middle, server(t, policy.Options{}, so), top.DialOptions())
			defer endMiddle()
			if _, err := echopb.NewEchoClient(wm.conn).Echo(t.Context(), &echopb.EchoMessage{}); grpcstatus.Code(err) != codes.Unavailable {
				t.Error(err)
			}
			if calls.Load() != below.Snapshot().Attempts || below.Snapshot().Attempts < 2 || above.Snapshot().Attempts != 1 {
				t.Errorf("%d at the bottom, the middle made %d attempts and the top %d: only the middle repeats", calls.Load(), below.Snapshot().Attempts, above.Snapshot().Attempts)
			}
		})
	}
}

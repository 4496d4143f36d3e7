package hull_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/metadata"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/idempotency"
)

// TestIdempotencyKeyFrom: what a handler does below is done once for a key, however often and wherever the handler itself runs.
func TestIdempotencyKeyFrom(t *testing.T) {
	for _, protocol := range []string{"native", "gRPC", "JSON"} {
		t.Run(protocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				var orders, charges, mails atomic.Int64
				w.Serve("leaf", "leaf", func(s *hull.Server) {
					hull.Handle(s, "leaf.Leaf/Charge", func(context.Context, *helloRequest) (*helloReply, error) {
						charges.Add(1)
						return &helloReply{Text: "charged"}, nil
					})
					hull.Handle(s, "leaf.Leaf/Mail", func(ctx context.Context, _ *helloRequest) (*helloReply, error) {
						mails.Add(1)
						md, _ := metadata.FromIncomingContext(ctx)
						return &helloReply{Text: strings.Join(md.Get("idempotency-key"), ",")}, nil
					})
				})
				for _, name := range []string{"mid-1", "mid-2"} { // which know nothing of each other's keys
					leaf := w.Client(name+"-client", hull.WithDialer(dialers(t, w, name+"-client")[protocol])).To("leaf")
					w.Serve(name, name, func(s *hull.Server) {
						hull.Handle(s, "mid.Mid/Order", func(ctx context.Context, r *helloRequest) (*helloReply, error) {
							orders.Add(1)
							if _, err := hull.Call[helloReply](ctx, leaf, "leaf.Leaf/Charge", r, hull.IdempotencyKeyFrom(ctx, "charge")); err != nil {
								return nil, err
							}
							return hull.Call[helloReply](ctx, leaf, "leaf.Leaf/Mail", r, hull.IdempotencyKeyFrom(ctx, strings.Repeat("m", 300)))
						})
					})
				}
				c := w.Client("caller")
				order := func(node string, opts ...hull.CallOption) string {
					rep, err := hull.Call[helloReply](t.Context(), c.To(node), "mid.Mid/Order", &helloRequest{Name: "Ada"}, opts...)
					if err != nil {
						t.Fatal(err)
					}
					return rep.Text
				}
				key := order("mid-1", hull.IdempotencyKey("order-1"))
				if again := order("mid-2", hull.IdempotencyKey("order-1")); again != key || len(key) != 64 || orders.Load() != 2 || charges.Load() != 1 || mails.Load() != 1 {
					t.Errorf("%d orders, %d charges, %d mails; keys %q and %q", orders.Load(), charges.Load(), mails.Load(), key, again)
				}
				order("mid-2", hull.IdempotencyKey("order-2"))
				if charges.Load() != 2 {
					t.Errorf("%d charges of two orders", charges.Load())
				}
				if none := order("mid-1"); none != "" || order("mid-1") != "" || charges.Load() != 4 {
					t.Errorf("orders without a key: key %q, %d charges", none, charges.Load())
				}
			})
		})
	}
}

// TestKeysBelowOfTenants: what two tenants do below under the same key, or one under two methods, are different things.
func TestKeysBelowOfTenants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		var charges atomic.Int64
		w.Serve("leaf", "leaf", func(s *hull.Server) {
			hull.Handle(s, "leaf.Leaf/Charge", func(context.Context, *helloRequest) (*helloReply, error) {
				charges.Add(1)
				return &helloReply{Text: "charged"}, nil
			})
		})
		leaf := w.Client("mid-client").To("leaf")
		w.Serve("mid", "mid", func(s *hull.Server) {
			for _, method := range []string{"mid.Mid/Order", "mid.Mid/Renew"} {
				hull.Handle(s, method, func(ctx context.Context, _ *helloRequest) (*helloReply, error) {
					return hull.Call[helloReply](ctx, leaf, "leaf.Leaf/Charge", &helloRequest{Name: "5 EUR"}, hull.IdempotencyKeyFrom(ctx, "charge"))
				})
			}
		}, hull.WithIdempotency(idempotency.Options{Scope: func(ctx context.Context, _ string) string {
			return strings.Join(metadata.ValueFromIncomingContext(ctx, "tenant"), ",")
		}}))
		c := w.Client("caller")
		want := int64(0)
		for _, method := range []string{"mid.Mid/Order", "mid.Mid/Renew"} {
			for _, tenant := range []string{"X", "Y"} {
				want++
				for range 2 {
					ctx := metadata.AppendToOutgoingContext(t.Context(), "tenant", tenant)
					_, err := hull.Call[helloReply](ctx, c.To("mid"), method, &helloRequest{Name: "Ada"}, hull.IdempotencyKey("1"))
					if n := charges.Load(); err != nil || n != want {
						t.Errorf("%s of %s: %v, %d charges, want %d", method, tenant, err, n, want)
					}
				}
			}
		}
	})
}

// TestBaggageLeavesRoom: what a caller puts into the baggage does not make the calls fail that its call is served with.
func TestBaggageLeavesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		var inner *hull.Client
		w.Serve("mail", "m", func(s *hull.Server) {
			hull.Handle(s, "mail.S/Send", func(context.Context, *payRequest) (*payReply, error) { return &payReply{1}, nil })
		})
		w.Serve("shop", "a", func(s *hull.Server) {
			hull.Handle(s, "shop.Till/Pay", func(ctx context.Context, r *payRequest) (*payReply, error) {
				ctx = metadata.AppendToOutgoingContext(ctx, "authorization", strings.Repeat("t", 6<<10)) // a large token
				return hull.Call[payReply](ctx, inner.To("mail"), "mail.S/Send", r)
			})
		})
		inner = w.Client("inner")
		c := w.Client("caller")
		for _, n := range []int{0, 12 << 10} {
			ctx := metadata.AppendToOutgoingContext(t.Context(), "baggage", "k="+strings.Repeat("v", n))
			if _, err := pay(ctx, c, 7); err != nil {
				t.Errorf("with %d bytes of baggage: %v", n, err)
			}
		}
	})
}

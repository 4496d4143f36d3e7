package hull_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/idempotency"
	"github.com/hull-go/hull/idempotency/storetest"
	"github.com/hull-go/hull/status"
)

// keptIn runs a test with keys in memory and with shared ones.
func keptIn(t *testing.T, test func(t *testing.T, w *hulltest.World, keys hull.ServerOption)) {
	for name, shared := range map[string]bool{"memory": false, "shared": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := idempotency.Options{}
				if shared {
					o.Store = storetest.NewMem()
				}
				test(t, hulltest.New(t), hull.WithIdempotency(o))
			})
		})
	}
}

// TestKeyStaysWhenALowerCallWasNotSent is a regression test: a handler had its effect, and a call that it made afterwards could not be sent; that set the key free,
// and the effect happened again.
func TestKeyStaysWhenALowerCallWasNotSent(t *testing.T) {
	for name, pass := range map[string]func(error) error{
		"as it is":         func(err error) error { return err },
		"unwrapped":        func(err error) error { return status.From(err) },
		"as gRPC's status": func(err error) error { return grpcstatus.Convert(err).Err() },
	} {
		t.Run(name, func(t *testing.T) {
			keptIn(t, func(t *testing.T, w *hulltest.World, keys hull.ServerOption) {
				var inner *hull.Client
				paid := 0
				w.Serve("shop", "a", func(s *hull.Server) {
					hull.Handle(s, "shop.Till/Pay", func(ctx context.Context, r *payRequest) (*payReply, error) {
						paid++
						if _, err := hull.Call[payReply](ctx, inner.To("mail"), "mail.S/Send", r); err != nil {
							return nil, pass(err)
						}
						return &payReply{}, nil
					})
				}, keys)
				inner = w.Client("inner")
				c := w.Client("caller")
				var first *status.Error
				for i := range 2 {
					_, err := pay(t.Context(), c, 7, hull.IdempotencyKey("k"), hull.Timeout(10*time.Second))
					e := status.From(err)
					if e == nil || e.Fate != status.Processed {
						t.Fatalf("call %d: %v", i+1, err)
					}
					if i == 0 {
						first = e
					} else if e.Code != first.Code || e.Error() != first.Error() || e.Origin != first.Origin {
						t.Errorf("the first call ended with %v (%v), the second with %v (%v)", first, first.Origin, e, e.Origin)
					}
				}
				if paid != 1 {
					t.Errorf("the handler ran %d times for one key", paid)
				}
			})
		})
	}
}

// TestKeyIsFreeWhenTheHandlerSaysSo: a handler's own word that it has done nothing sets the key free.
func TestKeyIsFreeWhenTheHandlerSaysSo(t *testing.T) {
	keptIn(t, func(t *testing.T, w *hulltest.World, keys hull.ServerOption) {
		tried := 0
		w.Serve("shop", "a", func(s *hull.Server) {
			hull.Handle(s, "shop.Till/Pay", func(context.Context, *payRequest) (*payReply, error) {
				if tried++; tried == 1 {
					return nil, &status.Error{Code: status.Aborted, Message: "rolled back", Fate: status.NotSent}
				}
				return &payReply{1}, nil
			})
		}, keys)
		c := w.Client("caller")
		if _, err := pay(t.Context(), c, 7, hull.IdempotencyKey("k"), hull.MaxAttempts(1)); status.CodeOf(err) != status.Aborted {
			t.Error(err)
		}
		if rep, err := pay(t.Context(), c, 7, hull.IdempotencyKey("k")); err != nil || rep.Receipt != 1 || tried != 2 {
			t.Errorf("%+v, %v, tried %d times", rep, err, tried)
		}
	})
}

// TestReplayedFailureKeepsItsOrigin is a regression test: a duplicate of a call that had failed because of something below heard that its node had failed, and was
// repeated.
func TestReplayedFailureKeepsItsOrigin(t *testing.T) {
	keptIn(t, func(t *testing.T, w *hulltest.World, keys hull.ServerOption) {
		var inner *hull.Client
		w.Serve("mail", "m", func(s *hull.Server) {
			hull.Handle(s, "mail.S/Send", func(context.Context, *payRequest) (*payReply, error) {
				return nil, &status.Error{Code: status.Unavailable, Message: "the post is on strike"}
			})
		})
		w.Serve("shop", "a", func(s *hull.Server) {
			hull.Handle(s, "shop.Till/Pay", func(ctx context.Context, r *payRequest) (*payReply, error) {
				return hull.Call[payReply](ctx, inner.To("mail"), "mail.S/Send", r)
			}, hull.Idempotent())
		}, keys)
		inner = w.Client("inner")
		c := w.Client("caller")
		for i := range 2 {
			var info hull.CallInfo
			_, err := pay(t.Context(), c, 7, hull.IdempotencyKey("k"), hull.Info(&info))
			if e := status.From(err); e == nil || e.Origin != status.Downstream || len(info.Attempts) != 1 {
				t.Errorf("call %d: %v\n%v", i+1, err, &info)
			}
		}
	})
}

// TestReplayedFailureKeepsGRPCsStatus is a regression test: a failure that a handler returned as an error of grpc-go's was Unknown for duplicates.
func TestReplayedFailureKeepsGRPCsStatus(t *testing.T) {
	keptIn(t, func(t *testing.T, w *hulltest.World, keys hull.ServerOption) {
		w.Serve("shop", "a", func(s *hull.Server) {
			hull.Handle(s, "shop.Till/Pay", func(context.Context, *payRequest) (*payReply, error) {
				return nil, grpcstatus.Error(grpccodes.FailedPrecondition, "the till is closed")
			})
		}, keys)
		c := w.Client("caller")
		for i := range 2 {
			_, err := pay(t.Context(), c, 7, hull.IdempotencyKey("k"))
			if err == nil || err.Error() != "FailedPrecondition: the till is closed" {
				t.Errorf("call %d: %v", i+1, err)
			}
		}
	})
}

// TestMiddlewareSeesTheAnswersType is a regression test: a server's middleware that looked at the answer as its handler's type panicked when it was given again.
func TestMiddlewareSeesTheAnswersType(t *testing.T) {
	keptIn(t, func(t *testing.T, w *hulltest.World, keys hull.ServerOption) {
		var shop till
		var seen []int64
		w.Serve("shop", "a", shop.serve, keys, hull.Intercept(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			rep, err := next(ctx, req)
			if err == nil {
				seen = append(seen, rep.(*payReply).Receipt) // for an audit log
			}
			return rep, err
		}))
		c := w.Client("caller")
		for i := range 2 {
			if rep, err := pay(t.Context(), c, 7, hull.IdempotencyKey("k")); err != nil || rep.Receipt != 1 {
				t.Errorf("call %d: %+v, %v", i+1, rep, err)
			}
		}
		if len(seen) != 2 || seen[0] != 1 || seen[1] != 1 {
			t.Errorf("the middleware saw %v", seen)
		}
	})
}

// sealed writes its JSON itself, and cannot read it.
type sealed struct{ sum string }

func (s sealed) MarshalJSON() ([]byte, error) { return []byte(`{"sum":"` + s.sum + `"}`), nil }

// TestAnswersThatCannotBeReadStayAsTheyAre: middleware does not make another answer of one that its type cannot read.
func TestAnswersThatCannotBeReadStayAsTheyAre(t *testing.T) {
	keptIn(t, func(t *testing.T, w *hulltest.World, keys hull.ServerOption) {
		w.Serve("shop", "a", func(s *hull.Server) {
			hull.Handle(s, "shop.Till/Sum", func(context.Context, *payRequest) (*sealed, error) { return &sealed{"12.50"}, nil })
		}, keys, hull.Intercept(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			return next(ctx, req)
		}))
		c := w.Client("caller")
		type sum struct {
			Sum string `json:"sum"`
		}
		for i := range 2 {
			rep, err := hull.Call[sum](t.Context(), c.To("shop"), "shop.Till/Sum", &payRequest{7}, hull.IdempotencyKey("k"))
			if err != nil || rep.Sum != "12.50" {
				t.Errorf("call %d: %+v, %v", i+1, rep, err)
			}
		}
	})
}

// TestKeyAcrossVersions is a regression test: one call, made again with its key after a rolling update of the service that added a field, was refused as another
// request.
func TestKeyAcrossVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		with := hull.WithIdempotency(idempotency.Options{Store: storetest.NewMem()})
		old := w.Serve("shop", "a", func(s *hull.Server) {
			hull.Handle(s, "shop.Till/Pay", func(context.Context, *payRequest) (*payReply, error) { return &payReply{1}, nil })
		}, with)
		c := w.Client("caller")
		if _, err := pay(t.Context(), c, 7, hull.IdempotencyKey("k")); err != nil {
			t.Fatal(err)
		}
		type payRequest2 struct {
			Amount   int
			Currency string
		}
		w.Serve("shop", "b", func(s *hull.Server) {
			hull.Handle(s, "shop.Till/Pay", func(context.Context, *payRequest2) (*payReply, error) { return &payReply{2}, nil })
		}, with)
		old.Stop()
		if rep, err := pay(t.Context(), c, 7, hull.IdempotencyKey("k")); err != nil || rep.Receipt != 1 {
			t.Errorf("%+v, %v", rep, err)
		}
		if _, err := pay(t.Context(), c, 8, hull.IdempotencyKey("k")); !idempotency.Reused(err) {
			t.Errorf("another amount: %v", err)
		}
	})
}

// TestKeyOfAHandlerThatPassesMetadataOn is a regression test: a handler that passed on what it was sent, as gateways do, could not give its own calls keys of
// their own.
func TestKeyOfAHandlerThatPassesMetadataOn(t *testing.T) {
	keptIn(t, func(t *testing.T, w *hulltest.World, keys hull.ServerOption) {
		var inner *hull.Client
		var below string
		w.Serve("mail", "m", func(s *hull.Server) {
			hull.Handle(s, "mail.S/Send", func(ctx context.Context, _ *payRequest) (*payReply, error) {
				below, _, _ = idempotency.Current(ctx)
				return &payReply{1}, nil
			})
		})
		w.Serve("shop", "a", func(s *hull.Server) {
			hull.Handle(s, "shop.Till/Pay", func(ctx context.Context, r *payRequest) (*payReply, error) {
				md, _ := metadata.FromIncomingContext(ctx)
				return hull.Call[payReply](metadata.NewOutgoingContext(ctx, md), inner.To("mail"), "mail.S/Send", r, hull.IdempotencyKeyFrom(ctx, "mail"))
			})
		}, keys)
		inner = w.Client("inner")
		if _, err := pay(t.Context(), w.Client("caller"), 7, hull.IdempotencyKey("k")); err != nil || below == "" || below == "mail.S/Send\x00\x00k" {
			t.Errorf("%v; below it is %q", err, below)
		}
	})
}

// TestStreamsHaveNoKeys: a stream that is opened with a key fails, instead of running without one.
func TestStreamsHaveNoKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("shop", "a", func(s *hull.Server) {
			hull.HandleStream(s, "shop.Till/Watch", func(*hull.ServerStream[payRequest, payReply]) error { t.Error("it ran"); return nil })
		})
		_, err := w.Client("caller").To("shop").NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "shop.Till/Watch", hull.IdempotencyKey("k"))
		if e := status.From(err); e == nil || e.Code != status.InvalidArgument || e.Fate != status.NotSent {
			t.Error(err)
		}
	})
}

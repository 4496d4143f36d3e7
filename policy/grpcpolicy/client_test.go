package grpcpolicy_test

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/hull-go/hull/internal/echopb"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/policy/grpcpolicy"
	"github.com/hull-go/hull/status"
)

// TestAgain is who is tried again. The .proto declares the method free of side effects.
func TestAgain(t *testing.T) {
	tests := []struct {
		name     string
		code     codes.Code
		pushback string
		unsafe   bool
		want     int64
		took     time.Duration // at least
	}{
		{"ok", codes.OK, "", false, 1, 0},
		{"not found", codes.NotFound, "", false, 1, 0},
		{"aborted", codes.Aborted, "", false, 1, 0},
		{"internal", codes.Internal, "", false, 1, 0},
		{"unavailable", codes.Unavailable, "", false, 3, 0},
		{"unavailable, not idempotent", codes.Unavailable, "", true, 1, 0},
		{"exhausted", codes.ResourceExhausted, "", false, 3, 0},
		{"pushback", codes.ResourceExhausted, "1000", false, 3, 2 * time.Second},
		{"too long", codes.ResourceExhausted, "60000", false, 1, 0},
		{"stay away", codes.Unavailable, "-1", false, 1, 0},
		{"unreadable", codes.Unavailable, "soon", false, 1, 0},
		{"unimplemented", codes.Unimplemented, "", true, 3, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int64
				e := &echo{f: func(ctx context.Context, m *echopb.EchoMessage) (*echopb.EchoMessage, error) {
					calls.Add(1)
					if tt.pushback != "" {
						_ = grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", tt.pushback))
					}
					return m, grpcstatus.Error(tt.code, "as told")
				}}
				p := pipeline(t, policy.Options{Retries: retries(t)})
				o := grpcpolicy.Options{}
				if tt.unsafe {
					o.Call = func(_ context.Context, _ string, c *policy.Call) { c.Idempotent = false }
				}
				w, end := begin(t, e, nil, grpcpolicy.NewClient(p, o).DialOptions())
				defer end()
				start := time.Now()
				var trailer metadata.MD
				rep, err := echopb.NewEchoClient(w.conn).Echo(t.Context(), &echopb.EchoMessage{Text: "hi"}, grpc.Trailer(&trailer))
				if grpcstatus.Code(err) != tt.code || tt.code == codes.OK && rep.Text != "hi" || calls.Load() != tt.want {
					t.Errorf("%v, %v after %d calls, want %v after %d", rep, err, calls.Load(), tt.code, tt.want)
				}
				if err != nil && (grpcstatus.Convert(err).Message() != "as told" || status.FateOf(err) != status.Processed) {
					t.Errorf("%v, fate %v", err, status.FateOf(err))
				}
				if got := trailer.Get("grpc-retry-pushback-ms"); tt.pushback != "" && (len(got) != 1 || got[0] != tt.pushback) {
					t.Errorf("the caller's trailer is %v", trailer)
				}
				if took := time.Since(start); took < tt.took || took > tt.took+time.Second {
					t.Errorf("took %v, want %v and a bit", took, tt.took)
				}
			})
		})
	}
}

// TestFate is what is proved when no answer comes, for a method that must not be repeated.
func TestFate(t *testing.T) {
	tests := []struct {
		name     string
		do       func(w *world)
		bare     bool // without the stats handler
		kind     status.Kind
		fate     status.Fate
		attempts int64
	}{
		{"refused", func(w *world) { w.net.Pair("a", "b").Refuse(true) }, false, status.Dial, status.NotSent, 3},
		{"refused, bare", func(w *world) { w.net.Pair("a", "b").Refuse(true) }, true, status.Answered, status.Maybe, 1},
		{"dial hangs", func(w *world) { w.net.Pair("a", "b").Drop(true) }, false, status.Timeout, status.NotSent, 1},
		{"no answer", nil, false, status.Timeout, status.Maybe, 1},
		{"cut", nil, false, status.Reset, status.Maybe, 1},
		{"cancelled", nil, false, status.Cancelled, status.Maybe, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				var w *world
				e := &echo{f: func(call context.Context, m *echopb.EchoMessage) (*echopb.EchoMessage, error) {
					switch tt.name {
					case "cut":
						w.net.Pair("a", "b").Cut()
					case "cancelled":
						cancel()
					}
					<-call.Done()
					time.Sleep(time.Millisecond) // both sides know the deadline: the client is first
					return m, nil
				}}
				p := pipeline(t, policy.Options{Retries: retries(t)})
				c := grpcpolicy.NewClient(p, grpcpolicy.Options{Call: func(_ context.Context, _ string, c *policy.Call) { c.Idempotent = false }})
				dial := c.DialOptions()
				if tt.bare {
					dial = []grpc.DialOption{grpc.WithDisableRetry(), grpc.WithUnaryInterceptor(c.Unary)}
				}
				w, end := begin(t, e, nil, dial)
				defer end()
				if tt.do != nil {
					tt.do(w)
				}
				_, err := echopb.NewEchoClient(w.conn).Echo(ctx, &echopb.EchoMessage{})
				e2, ok := errors.AsType[*status.Error](err)
				if !ok || e2.Kind != tt.kind || e2.Fate != tt.fate || p.Snapshot().Attempts != tt.attempts {
					t.Errorf("%v: %+v after %d attempts, want %v, %v after %d", err, e2, p.Snapshot().Attempts, tt.kind, tt.fate, tt.attempts)
				}
			})
		})
	}
}

// TestRefused is that refusals are errors of both worlds.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := breaker.New(breaker.Options{})
		if err != nil {
			t.Fatal(err)
		}
		b.ForceOpen(policy.Now())
		p := pipeline(t, policy.Options{Key: "echo", Breaker: policy.Slot{Name: "breaker", Gate: b}})
		w, end := begin(t, &echo{}, nil, grpcpolicy.NewClient(p, grpcpolicy.Options{}).DialOptions())
		defer end()
		_, err = echopb.NewEchoClient(w.conn).Echo(t.Context(), &echopb.EchoMessage{})
		e, ok := errors.AsType[*status.Error](err)
		if grpcstatus.Code(err) != codes.Unavailable || !ok || e.Refusal == nil || e.Refusal.Policy != "breaker" || e.Fate != status.NotSent {
			t.Errorf("%v", err)
		}
		if _, err = w.conn.NewStream(t.Context(), &desc().Streams[0], "/echo.Echo/Stream"); grpcstatus.Code(err) != codes.Unavailable {
			t.Errorf("stream: %v", err)
		}
	})
}

// TestAttemptTimeout is that an attempt that hangs is followed by another.
func TestAttemptTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		e := &echo{f: func(ctx context.Context, m *echopb.EchoMessage) (*echopb.EchoMessage, error) {
			md, _ := metadata.FromIncomingContext(ctx)
			if got := md.Get("x-envoy-attempt-count"); len(got) != 1 || got[0] != string('0'+rune(calls.Load()+1)) {
				t.Errorf("attempt %v", got)
			}
			if calls.Add(1) == 1 {
				<-ctx.Done()
				time.Sleep(time.Millisecond) // both sides know the deadline: the client is first
			}
			return m, nil
		}}
		p := pipeline(t, policy.Options{Retries: retries(t), Timeouts: fixed(time.Second)})
		w, end := begin(t, e, nil, grpcpolicy.NewClient(p, grpcpolicy.Options{}).DialOptions())
		defer end()
		if _, err := echopb.NewEchoClient(w.conn).Echo(t.Context(), &echopb.EchoMessage{}); err != nil || calls.Load() != 2 {
			t.Errorf("%v after %d calls", err, calls.Load())
		}
	})
}

type fixed time.Duration

func (f fixed) Attempt(policy.Time, *policy.Call, time.Duration, bool) time.Duration {
	return time.Duration(f)
}
func (fixed) Fair(policy.Time, time.Duration) bool { return true }
func (fixed) Done(policy.Time, policy.Ended)       {}

// TestStream is that a stream holds its place until it ends, in each way in which it can, and outlives an attempt's time.
func TestStream(t *testing.T) {
	for _, how := range []string{"end", "cancel", "deadline", "cut", "single"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := places(t, concurrency.Options{})
				p := pipeline(t, policy.Options{Retries: retries(t), Timeouts: fixed(time.Second), Concurrency: policy.Slot{Name: "places", Gate: l}})
				w, end := begin(t, &echo{}, nil, grpcpolicy.NewClient(p, grpcpolicy.Options{}).DialOptions())
				defer end()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				d := desc().Streams[0]
				d.ServerStreams = how != "single"
				s, err := w.conn.NewStream(ctx, &d, "/echo.Echo/Stream")
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(3 * time.Second)
				if err := s.SendMsg(&echopb.EchoMessage{Text: "hi"}); err != nil {
					t.Fatal(err)
				}
				if n := l.Snapshot().InUse; n != 1 {
					t.Errorf("%d places in use", n)
				}
				m := new(echopb.EchoMessage)
				if how == "single" {
					_ = s.CloseSend()
				}
				if err := s.RecvMsg(m); err != nil || m.Text != "hi" {
					t.Fatal(m, err)
				}
				switch how {
				case "end":
					_ = s.CloseSend()
					if err := s.RecvMsg(m); !errors.Is(err, io.EOF) {
						t.Error(err)
					}
				case "cancel":
					cancel()
				case "deadline":
					time.Sleep(time.Minute)
				case "cut":
					w.net.Pair("a", "b").Cut()
					err := s.RecvMsg(m)
					if e, ok := errors.AsType[*status.Error](err); grpcstatus.Code(err) != codes.Unavailable || !ok || e.Kind != status.Reset {
						t.Error(err)
					}
				}
				synctest.Wait()
				if n := l.Snapshot().InUse; n != 0 {
					t.Errorf("%d places in use at the end", n)
				}
			})
		})
	}
}

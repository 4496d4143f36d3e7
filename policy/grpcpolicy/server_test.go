package grpcpolicy_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
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
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/policy/grpcpolicy"
	"github.com/hull-go/hull/policy/hedge"
	"github.com/hull-go/hull/policy/rate"
	"github.com/hull-go/hull/policy/retry"
)

// TestServerRate is that a refusal says when to come back.
func TestServerRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := rate.New(rate.Options{Limit: 1, Per: 10 * time.Second, Burst: 1})
		if err != nil {
			t.Fatal(err)
		}
		e := &echo{f: func(_ context.Context, m *echopb.EchoMessage) (*echopb.EchoMessage, error) { return m, nil }}
		w, end := begin(t, e, server(t, policy.Options{Rate: policy.Slot{Name: "rate", Gate: l}}, grpcpolicy.ServerOptions{}), nil)
		defer end()
		c := echopb.NewEchoClient(w.conn)
		if _, err := c.Echo(t.Context(), &echopb.EchoMessage{}); err != nil {
			t.Error(err)
		}
		var trailer metadata.MD
		_, err = c.Echo(t.Context(), &echopb.EchoMessage{}, grpc.Trailer(&trailer))
		if got := trailer.Get("grpc-retry-pushback-ms"); grpcstatus.Code(err) != codes.ResourceExhausted || len(got) != 1 || got[0] != "10000" {
			t.Errorf("%v, pushback %v", err, got)
		}
		s, err := w.conn.NewStream(t.Context(), &desc().Streams[0], "/echo.Echo/Stream")
		if err != nil {
			t.Fatal(err)
		}
		err = s.RecvMsg(new(echopb.EchoMessage))
		if got := s.Trailer().Get("grpc-retry-pushback-ms"); grpcstatus.Code(err) != codes.ResourceExhausted || len(got) != 1 {
			t.Errorf("stream: %v, pushback %v", err, got)
		}
	})
}

// TestServerQueue is that calls wait for a place, and that no handler runs for a call whose deadline has passed meanwhile.
func TestServerQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var served atomic.Int64
		l := places(t, concurrency.Options{Limit: 1, Queue: 2, MaxWait: time.Minute})
		e := &echo{f: func(_ context.Context, m *echopb.EchoMessage) (*echopb.EchoMessage, error) {
			time.Sleep(time.Second)
			served.Add(1)
			return m, nil
		}}
		w, end := begin(t, e, server(t, policy.Options{Concurrency: policy.Slot{Name: "places", Gate: l}}, grpcpolicy.ServerOptions{}), nil)
		defer end()
		got := make(chan codes.Code, 4)
		call := func(d time.Duration) {
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), d)
				defer cancel()
				_, err := echopb.NewEchoClient(w.conn).Echo(ctx, &echopb.EchoMessage{})
				got <- grpcstatus.Code(err)
			}()
			synctest.Wait()
		}
		call(time.Minute)
		call(time.Minute)
		call(time.Second / 2)
		call(time.Minute) // the line is full
		for _, want := range []codes.Code{codes.Unavailable, codes.DeadlineExceeded, codes.OK, codes.OK} {
			if c := <-got; c != want {
				t.Errorf("%v, want %v", c, want)
			}
		}
		if served.Load() != 2 || l.Snapshot().InUse != 0 {
			t.Errorf("%d served, %d places in use", served.Load(), l.Snapshot().InUse)
		}
	})
}

// TestServerDeadline is that what is dead on arrival is not served, and that MaxTimeout bounds the rest.
func TestServerDeadline(t *testing.T) {
	s, err := grpcpolicy.NewServer(pipeline(t, policy.Options{}), grpcpolicy.ServerOptions{MaxTimeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	info := &grpc.UnaryServerInfo{FullMethod: "/echo.Echo/Echo"}
	dead, cancel := context.WithTimeout(t.Context(), -1)
	defer cancel()
	_, err = s.Unary(dead, nil, info, func(context.Context, any) (any, error) {
		t.Error("a handler began")
		return nil, nil
	})
	if grpcstatus.Code(err) != codes.DeadlineExceeded {
		t.Error(err)
	}
	if _, err = s.Unary(t.Context(), nil, info, func(ctx context.Context, _ any) (any, error) {
		if d, ok := ctx.Deadline(); !ok || time.Until(d) > time.Hour {
			t.Error("no deadline")
		}
		return nil, nil
	}); err != nil {
		t.Error(err)
	}
}

// TestServerPanic is that a panic is an answer, and gives the place back.
func TestServerPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		l := places(t, concurrency.Options{Limit: 1})
		e := &echo{f: func(context.Context, *echopb.EchoMessage) (*echopb.EchoMessage, error) { panic("no luck") }}
		o := grpcpolicy.ServerOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))}
		w, end := begin(t, e, server(t, policy.Options{Concurrency: policy.Slot{Name: "places", Gate: l}}, o), nil)
		defer end()
		for range 2 {
			if _, err := echopb.NewEchoClient(w.conn).Echo(t.Context(), &echopb.EchoMessage{}); grpcstatus.Code(err) != codes.Internal {
				t.Error(err)
			}
		}
		s, err := w.conn.NewStream(t.Context(), &desc().Streams[0], "/echo.Echo/Stream")
		if err != nil {
			t.Fatal(err)
		}
		_ = s.SendMsg(&echopb.EchoMessage{Text: "panic"})
		if err := s.RecvMsg(new(echopb.EchoMessage)); grpcstatus.Code(err) != codes.Internal {
			t.Error(err)
		}
		if n := l.Snapshot().InUse; n != 0 || strings.Count(log.String(), "no luck") != 3 {
			t.Errorf("%d places in use, log:\n%s", n, log.String())
		}
	})
}

// TestPath is that a call that serves a repeated one is not repeated again unless it was not sent.
func TestPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		e := &echo{f: func(context.Context, *echopb.EchoMessage) (*echopb.EchoMessage, error) {
			calls.Add(1)
			return nil, grpcstatus.Error(codes.Unavailable, "down")
		}}
		p := pipeline(t, policy.Options{Retries: retries(t)})
		w, end := begin(t, e, nil, grpcpolicy.NewClient(p, grpcpolicy.Options{}).DialOptions())
		defer end()
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("x-envoy-attempt-count", "2"))
		if _, err := echopb.NewEchoClient(w.conn).Echo(ctx, &echopb.EchoMessage{}); grpcstatus.Code(err) != codes.Unavailable || calls.Load() != 1 {
			t.Errorf("%v after %d calls, want one", err, calls.Load())
		}
	})
}

// TestNewServer is which pipelines are refused.
func TestNewServer(t *testing.T) {
	hd, err := hedge.New(hedge.Options{})
	if err != nil {
		t.Fatal(err)
	}
	once, err := retry.New(retry.Options{Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		p *policy.Pipeline
		o grpcpolicy.ServerOptions
	}{
		"none":    {nil, grpcpolicy.ServerOptions{}},
		"retries": {pipeline(t, policy.Options{Retries: retries(t)}), grpcpolicy.ServerOptions{}},
		"hedges":  {pipeline(t, policy.Options{Retries: once, Hedging: hd}), grpcpolicy.ServerOptions{}},
		"timeout": {pipeline(t, policy.Options{}), grpcpolicy.ServerOptions{MaxTimeout: -1}},
	} {
		if s, err := grpcpolicy.NewServer(tt.p, tt.o); err == nil || s != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

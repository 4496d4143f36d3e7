package hull_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
	"github.com/hull-go/hull/spec"
	"github.com/hull-go/hull/status"
)

// nobodyAt returns an address at which nobody listens.
func nobodyAt(t *testing.T) string {
	t.Helper()
	// A listener that takes no connection is in the way of everybody else who would like to have the port; over this one nothing can be said.
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = ln.Close() })
	return ln.Addr().String()
}

// TestStreamsThatNobodyTookAreOpenedElsewhere: over every protocol a stream that did not reach a server is opened at another node, and one that a server has
// taken is not, whatever becomes of it.
func TestStreamsThatNobodyTookAreOpenedElsewhere(t *testing.T) {
	var begun atomic.Int64
	addr := hullServerWith(t, func(s *hull.Server) {
		hull.HandleStream(s, "greeter.Greeter/Talk", func(st *hull.ServerStream[helloRequest, helloReply]) error {
			begun.Add(1)
			r, err := st.Recv()
			if err != nil {
				return err
			}
			if r.Name == "lost" {
				return &status.Error{Code: status.Unavailable, Message: "the handler failed"}
			}
			return st.Send(&helloReply{Text: "hello " + r.Name})
		}, hull.Idempotent())
	})
	for _, tt := range []struct {
		name  string
		dead  []string // what the node speaks at which nobody answers
		live  []string
		plain bool // the first node is there, and cannot have streams
	}{
		{"native", []string{"hull/1"}, []string{"hull/1"}, false},
		{"gRPC", []string{"grpc"}, []string{"grpc"}, false},
		{"HTTP, which has none", []string{"http"}, []string{"hull/1"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			begun.Store(0)
			first := nobodyAt(t)
			if tt.plain {
				first = jsonServer(t)
			}
			reg, err := registry.New(memregistry.New(), registry.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { reg.Close() })
			for _, n := range []registry.Node{{ID: "dead", Address: first, Protocols: tt.dead, Version: "1"}, {ID: "live", Address: addr, Protocols: tt.live, Version: "2"}} {
				n.Service = "greeter"
				g, err := reg.Register(t.Context(), n)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = g.Close(context.Background()) })
			}
			c, err := hull.NewClient(hull.WithRegistry(reg), hull.WithSpec(&spec.Spec{Defaults: spec.Service{Balancer: "round-robin"}}))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			talk := func(name string) (info hull.CallInfo, err error) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				st, err := hull.OpenStream[helloRequest, helloReply](ctx, c.To("greeter"), "greeter.Greeter/Talk", hull.Info(&info))
				if err != nil {
					return info, err
				}
				if err := st.Send(&helloRequest{Name: name}); err != nil && !errors.Is(err, io.EOF) {
					return info, err
				}
				if _, err = st.Recv(); err != nil {
					return info, err
				}
				_, err = st.Recv()
				if errors.Is(err, io.EOF) {
					err = nil
				}
				return info, err
			}
			again := 0
			for range 10 {
				info, err := talk("Ada")
				if err != nil {
					t.Fatal(err)
				}
				for _, a := range info.Attempts[:len(info.Attempts)-1] {
					again++
					if status.FateOf(a.Err) != status.NotSent || a.Node != "dead" {
						t.Errorf("%+v", a)
					}
				}
			}
			if again == 0 || begun.Load() != 10 {
				t.Errorf("%d streams were opened again, %d handlers began: want 1 at least, and 10", again, begun.Load())
			}
			if info, err := talk("lost"); status.CodeOf(err) != status.Unavailable || begun.Load() != 11 {
				t.Errorf("a stream that was taken, and failed: %v, %d handlers, %+v", err, begun.Load()-10, info)
			}
		})
	}
}

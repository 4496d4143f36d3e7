package muxtransport_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/internal/echopb"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/muxtransport"
)

// echoHandler answers with what it got, in the codec of the call.
type echoHandler struct{}

func (echoHandler) Unary(_ context.Context, in *transport.Incoming) transport.Outgoing {
	if in.Codec == "proto" {
		m := new(echopb.EchoMessage)
		if err := (codec.Proto{}).Unmarshal(in.Payload, m); err != nil {
			return transport.Outgoing{Status: status.From(err)}
		}
		return transport.Outgoing{Codec: codec.Proto{}, Message: m}
	}
	return transport.Outgoing{Codec: codec.Bytes{}, Message: &in.Payload}
}

func (echoHandler) Stream(_ context.Context, _ *transport.Incoming, s transport.ServerStream) transport.Outgoing {
	s.SetCodec(codec.Bytes{})
	var b []byte
	for {
		if err := s.Recv(&b); err != nil {
			return transport.Outgoing{}
		}
		if err := s.Send(&b); err != nil {
			return transport.Outgoing{Status: err}
		}
	}
}

func benchConn(b *testing.B) transport.Conn {
	b.Helper()
	s, err := muxtransport.NewServer(echoHandler{}, muxtransport.Options{})
	if err != nil {
		b.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go s.ServeConn(nc)
		}
	}()
	d, err := muxtransport.NewDialer(muxtransport.Options{})
	if err != nil {
		b.Fatal(err)
	}
	c, serr := d.Dial(b.Context(), ln.Addr().String())
	if serr != nil {
		b.Fatal(serr)
	}
	b.Cleanup(func() { c.Close(); s.Close(); ln.Close() })
	return c
}

// run makes b.N calls from n workers.
func run(b *testing.B, n int, call func() *status.Error) {
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for w := range n {
		wg.Go(func() {
			for range (b.N + n - 1 - w) / n {
				if err := call(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}

func BenchmarkUnary(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		name := map[int]string{1: "c=1", 100: "c=100", 1000: "c=1000"}[n]
		b.Run("bytes/"+name, func(b *testing.B) {
			c := benchConn(b)
			payload := make([]byte, 100)
			pool := sync.Pool{New: func() any { return &transport.Reply{Message: new([]byte)} }}
			run(b, n, func() *status.Error {
				rep := pool.Get().(*transport.Reply)
				defer pool.Put(rep)
				req := transport.Request{Method: "echo.Echo/Echo", Codec: codec.Bytes{}, Message: &payload, Deadline: policy.Now().Add(5 * time.Second)}
				return c.Call(context.Background(), &req, rep)
			})
		})
		b.Run("proto/"+name, func(b *testing.B) {
			c := benchConn(b)
			m := &echopb.EchoMessage{Id: "b5e3e2b4-31b1-4a3e-9a0c-7b1f3a5d7e11", Text: "hello, this is a message", N: 123456789, Ok: true, Data: make([]byte, 24)}
			run(b, n, func() *status.Error {
				rep := transport.Reply{Message: new(echopb.EchoMessage)}
				req := transport.Request{Method: "echo.Echo/Echo", Codec: codec.Proto{}, Message: m, Deadline: policy.Now().Add(5 * time.Second)}
				return c.Call(context.Background(), &req, &rep)
			})
		})
	}
}

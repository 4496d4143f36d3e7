package muxtransport_test

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/internal/echopb"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/memnet"
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
	ln := listenTCP(b)
	serveOn(b, ln, echoHandler{}, muxtransport.Options{})
	d, err := muxtransport.NewDialer(muxtransport.Options{})
	if err != nil {
		b.Fatal(err)
	}
	c, serr := d.Dial(b.Context(), ln.Addr().String())
	if serr != nil {
		b.Fatal(serr)
	}
	b.Cleanup(func() { c.Close() })
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

// BenchmarkStream sends messages of 100 B along one stream and takes their echo, as fast as the windows allow.
func BenchmarkStream(b *testing.B) {
	c := benchConn(b)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s, err := c.Open(ctx, &transport.Request{Method: "echo.Echo/Stream", Codec: codec.Bytes{}})
	if err != nil {
		b.Fatal(err)
	}
	payload := make([]byte, 100)
	b.ReportAllocs()
	b.ResetTimer()
	go func() {
		for range b.N {
			if s.Send(&payload) != nil {
				return
			}
		}
	}()
	var out []byte
	for range b.N {
		if err := s.Recv(&out); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

// BenchmarkIdle reports what an idle connection costs on both sides together, without the kernel's part.
func BenchmarkIdle(b *testing.B) {
	var before, after runtime.MemStats
	var conns []transport.Conn
	s, err := muxtransport.NewServer(echoHandler{}, muxtransport.Options{})
	if err != nil {
		b.Fatal(err)
	}
	n := memnet.New(memnet.Options{})
	ln, err := n.Host("server").Listen(":80")
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
	d, err := muxtransport.NewDialer(muxtransport.Options{Dial: n.Host("client").Dial})
	if err != nil {
		b.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&before)
	b.ResetTimer()
	for range b.N {
		c, err := d.Dial(b.Context(), "server:80")
		if err != nil {
			b.Fatal(err)
		}
		conns = append(conns, c)
	}
	b.StopTimer()
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc+after.StackInuse-before.HeapAlloc-before.StackInuse)/float64(b.N), "B/conn")
	for _, c := range conns {
		c.Close()
	}
	s.Close()
	ln.Close()
}

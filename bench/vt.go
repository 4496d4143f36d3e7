package main

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"

	"github.com/hull-go/hull/bench/echopb"
	"github.com/hull-go/hull/bench/echovt"
)

// toVT and fromVT carry a message from one generated type to the other. Workers
// that are measured keep a message instead, see keeper.
func toVT(m *echopb.Msg) *echovt.Msg {
	return &echovt.Msg{Id: m.Id, Text: m.Text, N: m.N, Ok: m.Ok, Data: m.Data}
}

func fromVT(m *echovt.Msg) *echopb.Msg {
	return &echopb.Msg{Id: m.GetId(), Text: m.GetText(), N: m.GetN(), Ok: m.GetOk(), Data: m.GetData()}
}

// vtEcho is the service of both rivals.
type vtEcho struct{ echovt.UnimplementedEchoServer }

// Echo returns m.
func (vtEcho) Echo(_ context.Context, m *echovt.Msg) (*echovt.Msg, error) { return m, nil }

// grpcVTRival is grpc-go with a codec that uses the generated methods.
type grpcVTRival struct{}

func (grpcVTRival) Info() Info {
	return Info{
		Name:    "grpc-vt",
		Module:  "google.golang.org/grpc",
		Setup:   "as grpc, deadlines included, with vtprotobuf's methods through a codec of its own on both sides",
		Streams: true,
	}
}

func (grpcVTRival) Serve(ctx context.Context, ln net.Listener) error {
	srv := grpc.NewServer(grpc.ForceServerCodecV2(vtCodec{}))
	echovt.RegisterEchoServer(srv, vtEcho{})
	registerStreams[echovt.Msg](srv)
	stop := context.AfterFunc(ctx, srv.Stop)
	defer stop()
	return srv.Serve(ln)
}

func (grpcVTRival) Dial(_ context.Context, addr string) (Caller, error) {
	cc, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(vtCodec{})))
	if err != nil {
		return nil, err
	}
	return &grpcVTCaller{cc: cc, client: echovt.NewEchoClient(cc)}, nil
}

type grpcVTCaller struct {
	cc     *grpc.ClientConn
	client echovt.EchoClient
}

func (c *grpcVTCaller) Call(ctx context.Context, m *echopb.Msg) (*echopb.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := c.client.Echo(ctx, toVT(m))
	return fromVT(answer), err
}

// Keep implements keeper.
func (c *grpcVTCaller) Keep(m *echopb.Msg) func(ctx context.Context) (answer, error) {
	v := toVT(m)
	return func(ctx context.Context) (answer, error) {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		v.N = m.N
		return c.client.Echo(ctx, v)
	}
}

// Streams implements Streamer.
func (c *grpcVTCaller) Streams() grpc.ClientConnInterface { return c.cc }

// Kind implements kindStreamer.
func (c *grpcVTCaller) Kind() kind { return kindVT }

func (c *grpcVTCaller) Close() error { return c.cc.Close() }

// vtCodec encodes with the generated methods, into grpc's own buffers where
// grpc's codec would.
type vtCodec struct{}

var _ encoding.CodecV2 = vtCodec{}

type vtMessage interface {
	SizeVT() int
	MarshalToSizedBufferVT(b []byte) (int, error)
	UnmarshalVT(b []byte) error
}

func (vtCodec) Name() string { return "proto" }

func (vtCodec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(vtMessage)
	if !ok {
		return nil, fmt.Errorf("%T has no generated methods", v)
	}
	size := m.SizeVT()
	if mem.IsBelowBufferPoolingThreshold(size) {
		b := make([]byte, size)
		_, err := m.MarshalToSizedBufferVT(b)
		return mem.BufferSlice{mem.SliceBuffer(b)}, err
	}
	pool := mem.DefaultBufferPool()
	b := pool.Get(size)
	if _, err := m.MarshalToSizedBufferVT((*b)[:size]); err != nil {
		pool.Put(b)
		return nil, err
	}
	return mem.BufferSlice{mem.NewBuffer(b, pool)}, nil
}

func (vtCodec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(vtMessage)
	if !ok {
		return fmt.Errorf("%T has no generated methods", v)
	}
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buf.Free()
	return m.UnmarshalVT(buf.ReadOnlyData())
}

// hullVTRival is Hull with messages that have the generated methods: its codec
// finds them by itself.
type hullVTRival struct{}

func (hullVTRival) Info() Info {
	return Info{
		Name:    "hull-vt",
		Module:  "github.com/hull-go/hull",
		Setup:   "as hull, deadlines included, with vtprotobuf's methods on the message",
		Streams: true,
	}
}

func (hullVTRival) Serve(ctx context.Context, ln net.Listener) error {
	return serveHull(ctx, ln, func(r grpc.ServiceRegistrar) {
		echovt.RegisterEchoServer(r, vtEcho{})
		registerStreams[echovt.Msg](r)
	})
}

func (hullVTRival) Dial(_ context.Context, addr string) (Caller, error) {
	h, err := dialHull(addr)
	if err != nil {
		return nil, err
	}
	return &hullVTCaller{h, echovt.NewEchoClient(h.client.To(hullService))}, nil
}

type hullVTCaller struct {
	*hullClient
	echo echovt.EchoClient
}

func (c *hullVTCaller) Call(ctx context.Context, m *echopb.Msg) (*echopb.Msg, error) {
	answer, err := c.echo.Echo(ctx, toVT(m))
	return fromVT(answer), err
}

// Keep implements keeper.
func (c *hullVTCaller) Keep(m *echopb.Msg) func(ctx context.Context) (answer, error) {
	v := toVT(m)
	return func(ctx context.Context) (answer, error) {
		v.N = m.N
		return c.echo.Echo(ctx, v)
	}
}

// Streams implements Streamer.
func (c *hullVTCaller) Streams() grpc.ClientConnInterface { return c.client.To(hullService) }

// Kind implements kindStreamer.
func (c *hullVTCaller) Kind() kind { return kindVT }

package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"unsafe"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/hull-go/hull/bench/echopb"
	"github.com/hull-go/hull/bench/echovt"
)

// rawMsg is a message that is nothing but bytes: its codec copies them. It has vtprotobuf's methods, so that both frameworks take it, and is as long
// as an ordinary message of the same content: the number, whether it is Ok, how long text and data are, these, and something for the rest.
type rawMsg struct{ b []byte }

const rawHead = 8 + 1 + 4 + 4

// rawCopy returns a message with m's content.
func rawCopy(m *echopb.Msg) *rawMsg {
	b := make([]byte, rawHead, max(proto.Size(m), rawHead+len(m.Text)+len(m.Data)))
	binary.LittleEndian.PutUint64(b, uint64(m.N))
	if m.Ok {
		b[8] = 1
	}
	binary.LittleEndian.PutUint32(b[9:], uint32(len(m.Text)))
	binary.LittleEndian.PutUint32(b[13:], uint32(len(m.Data)))
	b = append(append(b, m.Text...), m.Data...)
	return &rawMsg{b[:cap(b)]}
}

// SizeVT returns the length.
func (m *rawMsg) SizeVT() int { return len(m.b) }

// MarshalToSizedBufferVT copies m to the end of b.
func (m *rawMsg) MarshalToSizedBufferVT(b []byte) (int, error) {
	if len(b) < len(m.b) {
		return 0, io.ErrShortBuffer
	}
	return copy(b[len(b)-len(m.b):], m.b), nil
}

// UnmarshalVT copies b.
func (m *rawMsg) UnmarshalVT(b []byte) error {
	if len(b) > 0 && len(b) < rawHead {
		return fmt.Errorf("a message of %d bytes, which is less than its head", len(b))
	}
	m.b = append(m.b[:0], b...)
	return nil
}

// parts returns what follows the head, and how much of it is text and data.
func (m *rawMsg) parts() (rest []byte, text, data int) {
	if len(m.b) < rawHead {
		return nil, 0, 0
	}
	text, data = int(binary.LittleEndian.Uint32(m.b[9:])), int(binary.LittleEndian.Uint32(m.b[13:]))
	if rest = m.b[rawHead:]; text+data > len(rest) {
		return nil, 0, 0
	}
	return rest, text, data
}

// GetId returns nothing: it is not told apart.
func (m *rawMsg) GetId() string { return "" }

// GetText returns the text. It is valid until m changes.
func (m *rawMsg) GetText() string {
	rest, text, _ := m.parts()
	return unsafe.String(unsafe.SliceData(rest), text)
}

// GetN returns the number.
func (m *rawMsg) GetN() int64 {
	if len(m.b) < rawHead {
		return 0
	}
	return int64(binary.LittleEndian.Uint64(m.b))
}

// setN changes the number.
func (m *rawMsg) setN(n int64) {
	if len(m.b) < rawHead {
		m.b = make([]byte, rawHead)
	}
	binary.LittleEndian.PutUint64(m.b, uint64(n))
}

// GetOk returns whether m is Ok.
func (m *rawMsg) GetOk() bool { return len(m.b) >= rawHead && m.b[8] == 1 }

// GetData returns the data. It is valid until m changes.
func (m *rawMsg) GetData() []byte {
	rest, text, data := m.parts()
	return rest[text : text+data]
}

// grpcRawRival is grpc-go with a codec that only copies.
type grpcRawRival struct{}

func (grpcRawRival) Info() Info {
	return Info{
		Name:        "grpc-raw",
		Module:      "google.golang.org/grpc",
		Setup:       "as grpc, with messages that are bytes, and a codec that copies them; streams only, which have no deadline",
		Streams:     true,
		StreamsOnly: true,
	}
}

func (grpcRawRival) Serve(ctx context.Context, ln net.Listener) error {
	srv := grpc.NewServer(grpc.ForceServerCodecV2(vtCodec{}))
	echovt.RegisterEchoServer(srv, vtEcho{})
	registerStreams[rawMsg](srv)
	stop := context.AfterFunc(ctx, srv.Stop)
	defer stop()
	return srv.Serve(ln)
}

func (grpcRawRival) Dial(_ context.Context, addr string) (Caller, error) {
	cc, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(vtCodec{})))
	if err != nil {
		return nil, err
	}
	return &grpcRawCaller{grpcVTCaller{cc: cc, client: echovt.NewEchoClient(cc)}}, nil
}

// grpcRawCaller makes calls as grpcVTCaller does, for the tests.
type grpcRawCaller struct{ grpcVTCaller }

// Kind implements kindStreamer.
func (*grpcRawCaller) Kind() kind { return kindRaw }

// hullRawRival is Hull with messages that its codec only copies.
type hullRawRival struct{}

func (hullRawRival) Info() Info {
	return Info{
		Name:        "hull-raw",
		Module:      "github.com/hull-go/hull",
		Setup:       "as hull, with messages that are bytes, which the codec copies; streams only, which have no deadline",
		Streams:     true,
		StreamsOnly: true,
	}
}

func (hullRawRival) Serve(ctx context.Context, ln net.Listener) error {
	return serveHull(ctx, ln, func(r grpc.ServiceRegistrar) {
		echovt.RegisterEchoServer(r, vtEcho{})
		registerStreams[rawMsg](r)
	})
}

func (hullRawRival) Dial(_ context.Context, addr string) (Caller, error) {
	h, err := dialHull(addr)
	if err != nil {
		return nil, err
	}
	return &hullRawCaller{hullVTCaller{h, echovt.NewEchoClient(h.client.To(hullService))}}, nil
}

// hullRawCaller makes calls as hullVTCaller does, for the tests.
type hullRawCaller struct{ hullVTCaller }

// Kind implements kindStreamer.
func (*hullRawCaller) Kind() kind { return kindRaw }

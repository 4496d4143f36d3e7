package grpcfront

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/internal/foreign"
	"github.com/hull-go/hull/internal/oneport"
	"github.com/hull-go/hull/internal/porttest"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/memnet"
)

// TestStreamNumbers: grpc-go still keeps the numbers of streams where streamID looks for them. Where it does not, slow readers have as much time as those of streams.
func TestStreamNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.Options{Seed: 1})
		defer n.Close()
		ln, err := n.Host("a").Listen(":80")
		if err != nil {
			t.Fatal(err)
		}
		var got []uint32
		g := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
			got = append(got, streamID(grpc.ServerTransportStreamFromContext(s.Context())))
			return nil
		}))
		go func() { _ = g.Serve(ln) }()
		defer g.Stop()
		c, err := grpc.NewClient("passthrough:///a:80", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return n.Host("b").Dial(ctx, addr) }))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for range 3 {
			st, err := c.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/a.B/C")
			if err != nil {
				t.Fatal(err)
			}
			_ = st.RecvMsg(nil) // the end
			synctest.Wait()
		}
		if len(got) != 3 || got[0] != 1 || got[1] != 3 || got[2] != 5 {
			t.Errorf("the streams 1, 3 and 5 are %d", got)
		}
	})
}

// changed is what grpc-go's stream may look like one day.
type changed struct{ grpc.ServerTransportStream }

type inner struct{ id uint32 }

// TestStreamNumbersThatCannotBeHad: nothing of what might take the place of grpc-go's stream does any harm.
func TestStreamNumbersThatCannotBeHad(t *testing.T) {
	for name, s := range map[string]grpc.ServerTransportStream{
		"nothing": nil,
		"nobody":  (*changed)(nil),
		"a value": changed{},
		"no number": &struct {
			changed
			number uint32
		}{},
		"another number": &struct {
			changed
			id uint64
		}{},
		"a number that is not there": &struct {
			changed
			*inner
		}{},
	} {
		if id := streamID(s); id != 0 {
			t.Errorf("%s: %d", name, id)
		}
	}
	for _, s := range []grpc.ServerTransportStream{
		&struct {
			changed
			id uint32
		}{id: 7},
		&struct {
			changed
			*inner
		}{inner: &inner{7}},
	} {
		if id := streamID(s); id != 7 {
			t.Errorf("%+v: %d", s, id)
		}
	}
}

// large answers with a MiB.
type large struct{ transport.Handler }

func (large) Unary(context.Context, *transport.Incoming) transport.Outgoing {
	return transport.Outgoing{Message: []byte(strings.Repeat("x", 1<<20)), Codec: codec.Bytes{}}
}

// TestAwaitWithoutNumbers: if grpc-go's streams cannot be told apart, an answer that nobody takes is given up all the same, and alone, though later.
func TestAwaitWithoutNumbers(t *testing.T) {
	const slow = time.Second
	for _, tt := range []struct {
		name        string
		number      func(grpc.ServerTransportStream) uint32
		least, most time.Duration
	}{
		{"with numbers", streamID, slow, 2 * slow},
		{"without", func(grpc.ServerTransportStream) uint32 { return 0 }, 30 * slow, 32 * slow},
	} {
		synctest.Test(t, func(t *testing.T) {
			srv := New(large{}, []foreign.Method{{Name: "a.B/C"}}, new(net.TCPAddr), Options{MaxMessage: 1 << 20, MaxHeader: 16 << 10, MaxStreams: 10, Handshake: slow})
			srv.streamID = tt.number
			p := porttest.Serve(t, oneport.Protocols{GRPC: srv.ServeConn}, oneport.Options{SlowReader: slow})
			peer := p.Dial()
			fr := http2.NewFramer(peer, peer)
			_, err := io.WriteString(peer, http2.ClientPreface)
			for _, err := range []error{err, fr.WriteSettings(), fr.WriteSettingsAck(), fr.WriteSettingsAck(),
				fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: porttest.GRPC(), EndHeaders: true}),
				fr.WriteData(1, true, []byte{0, 0, 0, 0, 0})} {
				if err != nil {
					t.Fatal(err)
				}
			}
			start := time.Now()
			for {
				f, err := fr.ReadFrame()
				if err != nil {
					t.Fatalf("%s: the connection ended after %v: %v", tt.name, time.Since(start), err)
				}
				if r, ok := f.(*http2.RSTStreamFrame); ok {
					if took := time.Since(start); r.StreamID != 1 || r.ErrCode != http2.ErrCodeEnhanceYourCalm || took < tt.least || took > tt.most {
						t.Errorf("%s: %v after %v", tt.name, r, took)
					}
					break
				}
			}
			if got := p.Counters().SlowReaders; got != 1 {
				t.Errorf("%s: %d slow readers were counted", tt.name, got)
			}
			srv.Close()
		})
	}
}

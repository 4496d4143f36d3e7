package hull_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/codec"
	pb "github.com/hull-go/hull/examples/greeter/greeterpb"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/grpctransport"
	"github.com/hull-go/hull/transport/httptransport"
)

// starving is an HTTP/2 client that says itself how much it takes.
type starving struct {
	c      net.Conn
	f      *http2.Framer
	next   uint32
	frames chan http2.FrameHeader // what came, without settings; closed at the connection's end
	codes  chan http2.ErrCode     // of the resets among them
}

// starve connects to the node "a", with that window for each stream.
func starve(t *testing.T, w *hulltest.World, window uint32) *starving {
	t.Helper()
	c, err := w.Network.Host("starving").Dial(t.Context(), "a:80")
	if err != nil {
		t.Fatal(err)
	}
	s := &starving{c: c, f: http2.NewFramer(c, c), next: 1, frames: make(chan http2.FrameHeader, 10000), codes: make(chan http2.ErrCode, 100)}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	s.must(t, s.f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}))
	go func() {
		defer close(s.frames)
		for {
			fr, err := s.f.ReadFrame()
			if err != nil {
				return
			}
			if r, ok := fr.(*http2.RSTStreamFrame); ok {
				s.codes <- r.ErrCode
			}
			if h := fr.Header(); h.Type != http2.FrameSettings && h.Type != http2.FrameWindowUpdate {
				s.frames <- h
			}
		}
	}()
	synctest.Wait()
	s.must(t, s.f.WriteSettingsAck())
	s.must(t, s.f.WriteSettingsAck())
	return s
}

func (s *starving) must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ask sends a whole request and returns its stream.
func (s *starving) ask(t *testing.T, contentType, path, body string) uint32 {
	t.Helper()
	id := s.begin(t, contentType, path)
	s.must(t, s.f.WriteData(id, true, []byte(body)))
	return id
}

// begin sends a request's header.
func (s *starving) begin(t *testing.T, contentType, path string) uint32 {
	t.Helper()
	var b strings.Builder
	enc := hpack.NewEncoder(&b)
	for _, f := range []hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "a"},
		{Name: ":path", Value: path}, {Name: "content-type", Value: contentType}, {Name: "te", Value: "trailers"}} {
		s.must(t, enc.WriteField(f))
	}
	id := s.next
	s.next += 2
	s.must(t, s.f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte(b.String()), EndHeaders: true}))
	return id
}

// calmed expects that the server has reset so many streams, and told the peer that it was too slow.
func (s *starving) calmed(t *testing.T, n int) {
	t.Helper()
	if len(s.codes) != n {
		t.Errorf("%d streams were reset, not %d", len(s.codes), n)
	}
	for len(s.codes) > 0 {
		if code := <-s.codes; code != http2.ErrCodeEnhanceYourCalm {
			t.Errorf("a stream was reset with %v", code)
		}
	}
}

func enveloped(b []byte) string {
	return string(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(b)))) + string(b)
}

// bulky answers with three MiB.
type bulky struct{ pb.UnimplementedGreeterServer }

func (bulky) Hello(context.Context, *pb.HelloRequest) (*pb.HelloReply, error) {
	return &pb.HelloReply{Message: strings.Repeat("x", 3<<20)}, nil
}

// TestAnswersNobodyTakesAreGivenUp: an HTTP/2 peer that asks for large answers and never opens its windows, or opens them by a byte now and then, does not
// hold them in memory for longer than Limits.SlowReader, although its connection is alive.
func TestAnswersNobodyTakesAreGivenUp(t *testing.T) {
	for _, tt := range []struct {
		name, contentType, body string
	}{
		{"plain JSON", "application/json", `{}`},
		{"Connect", "application/proto", ""},
		{"gRPC-Web", "application/grpc-web", enveloped(nil)},
		{"gRPC", "application/grpc", enveloped(nil)},
	} {
		for _, drip := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, bulky{}) },
					hull.WithLimits(hull.Limits{SlowReader: 5 * time.Second}))
				c := starve(t, w, 1000)
				for range 3 {
					c.ask(t, tt.contentType, "/greeter.Greeter/Hello", tt.body)
				}
				resets, closed := 0, false
				for range 15 {
					time.Sleep(time.Second)
					for more := true; more; {
						select {
						case h, ok := <-c.frames:
							if closed = closed || !ok; h.Type == http2.FrameRSTStream {
								resets++
							}
							more = ok
						default:
							more = false
						}
					}
					for id := uint32(1); drip && id < c.next && !closed; id += 2 {
						_ = c.f.WriteWindowUpdate(id, 1) // fails when the server has given up
					}
				}
				p := n.Server.Snapshot().Port
				if closed || resets != 3 || p.SlowReaders != 3 {
					t.Errorf("%s, drip %v: closed %v, %d resets, %+v", tt.name, drip, closed, resets, p)
				}
				c.calmed(t, 3)
			})
		}
	}
}

// TestSlowlyTakenAnswersArrive: who takes a large answer slowly, but takes it, gets all of it.
func TestSlowlyTakenAnswersArrive(t *testing.T) {
	for _, tt := range []struct{ name, contentType, body string }{
		{"plain JSON", "application/json", `{}`}, {"gRPC-Web", "application/grpc-web", enveloped(nil)}, {"gRPC", "application/grpc", enveloped(nil)},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := hulltest.New(t)
			n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, bulky{}) },
				hull.WithLimits(hull.Limits{SlowReader: 5 * time.Second}))
			c := starve(t, w, 70000)
			id := c.ask(t, tt.contentType, "/greeter.Greeter/Hello", tt.body)
			got, ended := 0, false
			for i := 0; i < 60 && !ended; i++ {
				time.Sleep(4 * time.Second)
				for more := true; more; {
					select {
					case h, ok := <-c.frames:
						if h.Type == http2.FrameData {
							got += int(h.Length)
						}
						ended = ended || !ok || h.StreamID == id && h.Flags.Has(http2.FlagDataEndStream)
						more = ok
					default:
						more = false
					}
				}
				if !ended {
					_ = c.f.WriteWindowUpdate(0, 70000) // fails when the server has given up
					_ = c.f.WriteWindowUpdate(id, 70000)
				}
			}
			if p := n.Server.Snapshot().Port; got < 3<<20 || p.SlowReaders != 0 {
				t.Errorf("%s: %d bytes, %+v", tt.name, got, p)
			}
		})
	}
}

// TestTooLargeInEveryProtocol: each message over the limit is counted once, and HTTP says 413.
func TestTooLargeInEveryProtocol(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, &impl{}) }, hull.MaxRequest(1<<20))
		req := &pb.HelloRequest{Name: strings.Repeat("x", 2<<20)}
		counted := int64(0)
		check := func(name string, err error) {
			counted++
			code := grpcstatus.Code(err)
			if c := (*connect.Error)(nil); errors.As(err, &c) {
				code = codes.Code(c.Code())
			}
			if p := n.Server.Snapshot().Port; code != codes.ResourceExhausted || p.TooLarge != counted {
				t.Errorf("%s: %v; %d were counted, want %d", name, err, p.TooLarge, counted)
			}
		}
		_, err := pb.NewGreeterClient(dialGRPC(t, w)).Hello(t.Context(), req)
		check("gRPC", err)
		web := dialHTTP(t, w, false)
		for name, opts := range map[string][]connect.ClientOption{"Connect": nil, "Connect, a bomb": {connect.WithSendGzip()},
			"gRPC-Web": {connect.WithGRPCWeb()}, "gRPC-Web, a bomb": {connect.WithGRPCWeb(), connect.WithSendGzip()}} {
			c := connect.NewClient[pb.HelloRequest, pb.HelloReply](web, "http://a:80/greeter.Greeter/Hello", opts...)
			_, err = c.CallUnary(t.Context(), connect.NewRequest(req))
			check(name, err)
		}
		for _, version := range []string{"", "1"} {
			res, body := post(t, web, "/greeter.Greeter/Hello", `{"name":"`+req.GetName()+`"}`, "Connect-Protocol-Version", version)
			if counted++; res.StatusCode != http.StatusRequestEntityTooLarge || res.Header.Get("Hull-Kind") != "too-large" ||
				n.Server.Snapshot().Port.TooLarge != counted {
				t.Errorf("version %q: %s %v %s", version, res.Status, res.Header, body)
			}
		}
	})
}

// TestSlowSenders: the one message of a request has SlowSender's time to come, or the call's if that is less.
func TestSlowSenders(t *testing.T) {
	for _, tt := range []struct {
		contentType, timeout string
		status               int
		slow, expired        int64
	}{
		{"application/json", "", 499, 1, 0},
		{"application/json", "1000", http.StatusGatewayTimeout, 0, 1},
		{"application/proto", "", 499, 1, 0},
		{"application/proto", "1000", http.StatusGatewayTimeout, 0, 1},
		{"application/grpc-web", "", http.StatusOK, 1, 0},
		{"application/grpc", "", http.StatusOK, 1, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := hulltest.New(t)
			n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, &impl{}) },
				hull.WithLimits(hull.Limits{SlowSender: 5 * time.Second}))
			pr, pw := io.Pipe()
			defer pw.Close()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://a:80/greeter.Greeter/Hello", pr)
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = 100
			req.Header.Set("Content-Type", tt.contentType)
			want := 5 * time.Second
			if tt.timeout != "" {
				want = time.Second
				req.Header.Set("Connect-Timeout-Ms", tt.timeout)
			}
			start := time.Now()
			res, err := dialHTTP(t, w, false).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(res.Body) // the connection may be closed
			res.Body.Close()
			took, p := time.Since(start), n.Server.Snapshot().Port
			if res.StatusCode != tt.status || p.SlowSenders != tt.slow || p.Expired != tt.expired || took < want || took > want+time.Second ||
				strings.Contains(string(body), "i/o") {
				t.Errorf("%+v: %s %q after %v, %d slow, %d expired", tt, res.Status, body, took, p.SlowSenders, p.Expired)
			}
		})
	}
}

// broken encodes protobuf that does not decode.
type broken struct{ codec.Proto }

func (broken) Append(dst []byte, _ any) ([]byte, error) { return append(dst, 10, 5, 'a', 'b'), nil }

// brokenGRPC is broken for grpc-go, brokenConnect for connect-go.
type brokenGRPC struct{ brokenConnect }

func (brokenGRPC) Marshal(any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer{10, 5, 'a', 'b'}}, nil
}

func (c brokenGRPC) Unmarshal(d mem.BufferSlice, v any) error {
	return c.brokenConnect.Unmarshal(d.Materialize(), v)
}

type brokenConnect struct{}

func (brokenConnect) Name() string                    { return "proto" }
func (brokenConnect) Marshal(any) ([]byte, error)     { return broken{}.Append(nil, nil) }
func (brokenConnect) Unmarshal(b []byte, v any) error { return codec.Proto{}.Unmarshal(b, v) }

// TestUndecodableMessages: what does not decode is its sender's fault, in streams as in unary calls and over every protocol.
func TestUndecodableMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, &impl{}) })
		for name, c := range map[string]struct {
			cc  grpc.ClientConnInterface
			opt grpc.CallOption
		}{"native": {w.Client("c").To("greeter"), hull.WithCodec(broken{})}, "gRPC": {dialGRPC(t, w), grpc.ForceCodecV2(brokenGRPC{})}} {
			g := pb.NewGreeterClient(c.cc)
			if _, err := g.Hello(t.Context(), &pb.HelloRequest{}, c.opt); grpcstatus.Code(err) != codes.InvalidArgument {
				t.Errorf("%s: %v", name, err)
			}
			s, err := g.Chat(t.Context(), c.opt)
			if err != nil {
				t.Fatal(err)
			}
			_ = s.Send(&pb.ChatMessage{}) // Recv says why it failed
			if _, err := s.Recv(); grpcstatus.Code(err) != codes.InvalidArgument {
				t.Errorf("%s, a stream: %v", name, err)
			}
		}
		for name, opt := range map[string]connect.ClientOption{"Connect": connect.WithClientOptions(), "gRPC-Web": connect.WithGRPCWeb()} {
			c := connect.NewClient[pb.ChatMessage, pb.ChatMessage](dialHTTP(t, w, true), "http://a:80/greeter.Greeter/Chat", connect.WithCodec(brokenConnect{}), opt)
			s := c.CallBidiStream(t.Context())
			_ = s.Send(&pb.ChatMessage{})
			_ = s.CloseRequest()
			if _, err := s.Receive(); connect.CodeOf(err) != connect.CodeInvalidArgument {
				t.Errorf("%s: %v", name, err)
			}
			_ = s.CloseResponse()
		}
	})
}

// TestLargerAnswersCanBeAskedFor: grpc's option raises the limit of one answer over gRPC and HTTP; over the native protocol the error says what does.
func TestLargerAnswersCanBeAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, bulky{}) })
		dial := w.Network.Host("c2").Dial
		overGRPC, err := grpctransport.NewDialer(grpctransport.Options{Dial: dial, MaxMessage: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		overHTTP, err := httptransport.NewDialer(httptransport.Options{Dial: dial, MaxMessage: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		for name, d := range map[string]transport.Dialer{"gRPC": overGRPC, "HTTP": overHTTP} {
			c, e := d.Dial(t.Context(), "a:80")
			if e != nil {
				t.Fatal(e)
			}
			cd := codec.Codec(codec.Proto{})
			if name == "HTTP" {
				cd = codec.JSON{}
			}
			for limit, want := range map[int]status.Code{0: status.ResourceExhausted, 8 << 20: status.OK} {
				req := transport.Request{Method: "greeter.Greeter/Hello", Codec: cd, Message: &pb.HelloRequest{}, MaxReply: limit}
				if e := c.Call(t.Context(), &req, &transport.Reply{Message: &pb.HelloReply{}}); (e == nil) != (want == status.OK) || e != nil && e.Code != want {
					t.Errorf("%s, limit %d: %v", name, limit, e)
				}
			}
			c.Close()
			<-c.Done()
		}
		w.Serve("echo", "b", func(s *hull.Server) { pb.RegisterGreeterServer(s, &impl{}) }, hull.MaxRequest(16<<20))
		_, err = pb.NewGreeterClient(w.Client("c").To("echo")).Hello(t.Context(), &pb.HelloRequest{Name: strings.Repeat("x", 6<<20)},
			grpc.MaxCallSendMsgSize(16<<20), grpc.MaxCallRecvMsgSize(16<<20))
		if err == nil || !strings.Contains(err.Error(), "WithMaxReply") {
			t.Errorf("native: %v", err)
		}
	})
}

// TestLargeWindowsAreOpenedSeldom is a regression test: peers make room by halves of their windows, and one that had large ones and read slowly, but all
// the time, lost its connection or its stream between two halves, or the end of its answer.
func TestLargeWindowsAreOpenedSeldom(t *testing.T) {
	const perSecond, window = 20 << 10, 1 << 20
	for _, tt := range []struct{ name, contentType, body string }{
		{"gRPC", "application/grpc", enveloped(nil)}, {"plain JSON", "application/json", `{}`}, {"Connect", "application/proto", ""},
		{"gRPC-Web", "application/grpc-web", enveloped(nil)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, bulky{}) })
				c := starve(t, w, window)
				c.must(t, c.f.WriteWindowUpdate(0, window))
				c.ask(t, tt.contentType, "/greeter.Greeter/Hello", tt.body)
				got, owed, open, whole := 0, 0, true, false
				for credit := perSecond; open && !whole; credit = min(credit, 0) + perSecond {
					time.Sleep(time.Second)
					for idle := false; open && !whole && credit > 0 && !idle; {
						select {
						case h, ok := <-c.frames:
							open, whole = ok && h.Type != http2.FrameRSTStream, ok && h.StreamID == 1 && h.Flags.Has(http2.FlagDataEndStream)
							if ok && h.Type == http2.FrameData {
								got, owed, credit = got+int(h.Length), owed+int(h.Length), credit-int(h.Length)
							}
						default:
							idle = true
						}
						if owed >= window/2 {
							_, _ = c.f.WriteWindowUpdate(0, uint32(owed)), c.f.WriteWindowUpdate(1, uint32(owed))
							owed = 0
						}
					}
				}
				if s := n.Server.Snapshot().Port.SlowReaders; !open || got < 3<<20 || s != 0 {
					t.Errorf("it was given up after %d bytes, %d slow readers", got, s)
				}
			})
		})
	}
}

// TestLateBodiesEndTheirStreamsOnly is a regression test: a body that was late or too large had the connection go, which over HTTP/2 others share.
func TestLateBodiesEndTheirStreamsOnly(t *testing.T) {
	for _, tt := range []struct{ name, contentType, header, value string }{
		{"json", "application/json", "connect-timeout-ms", "50"},
		{"connect", "application/proto", "connect-timeout-ms", "50"},
		{"grpc behind a proxy", "application/grpc", "grpc-timeout", "50m"},
		{"large", "application/json", "content-length", "9999999"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, bulky{}) })
				c := starve(t, w, 70000)
				var b strings.Builder
				enc := hpack.NewEncoder(&b)
				for _, f := range []hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "a"},
					{Name: ":path", Value: "/greeter.Greeter/Hello"}, {Name: "content-type", Value: tt.contentType}, {Name: "te", Value: "trailers"},
					{Name: "via", Value: "1.1 proxy"}, {Name: tt.header, Value: tt.value}} {
					c.must(t, enc.WriteField(f))
				}
				c.must(t, c.f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(b.String()), EndHeaders: true}))
				c.must(t, c.f.WriteData(1, false, []byte("{")))
				time.Sleep(5 * time.Second)
				synctest.Wait()
				ended := false
				for more := true; more; {
					select {
					case h, ok := <-c.frames:
						ended = ended || ok && h.StreamID == 1
						if more = ok; !ok || h.Type == http2.FrameGoAway {
							t.Errorf("the connection ends: %v", h)
						}
					default:
						more = false
					}
				}
				if !ended {
					t.Error("nothing was heard of the stream")
				}
			})
		})
	}
}

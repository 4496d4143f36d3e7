package hull_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/hull-go/hull"
	pb "github.com/hull-go/hull/examples/greeter/greeterpb"
	"github.com/hull-go/hull/hulltest"
)

// starving is an HTTP/2 client that says itself how much it takes.
type starving struct {
	c      net.Conn
	f      *http2.Framer
	next   uint32
	frames chan http2.FrameHeader // what came, without settings; closed at the connection's end
}

// starve connects to the node "a", with that window for each stream.
func starve(t *testing.T, w *hulltest.World, window uint32) *starving {
	t.Helper()
	c, err := w.Network.Host("starving").Dial(t.Context(), "a:80")
	if err != nil {
		t.Fatal(err)
	}
	s := &starving{c: c, f: http2.NewFramer(c, c), next: 1, frames: make(chan http2.FrameHeader, 10000)}
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
	var b strings.Builder
	enc := hpack.NewEncoder(&b)
	for _, f := range []hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "a"},
		{Name: ":path", Value: path}, {Name: "content-type", Value: contentType}, {Name: "te", Value: "trailers"}} {
		s.must(t, enc.WriteField(f))
	}
	id := s.next
	s.next += 2
	s.must(t, s.f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte(b.String()), EndHeaders: true}))
	s.must(t, s.f.WriteData(id, true, []byte(body)))
	return id
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
		closed                  bool // the connection, not its streams
	}{
		{"plain JSON", "application/json", `{}`, false},
		{"Connect", "application/proto", "", false},
		{"gRPC-Web", "application/grpc-web", enveloped(nil), false},
		{"gRPC", "application/grpc", enveloped(nil), true},
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
				if tt.closed && (!closed || p.SlowReaders != 1) || !tt.closed && (closed || resets != 3 || p.SlowReaders != 3) {
					t.Errorf("%s, drip %v: closed %v, %d resets, %+v", tt.name, drip, closed, resets, p)
				}
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

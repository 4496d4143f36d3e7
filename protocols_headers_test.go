package hull_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/hull-go/hull"
	pb "github.com/hull-go/hull/examples/greeter/greeterpb"
	"github.com/hull-go/hull/hulltest"
)

// TestLargeHeadersAreCounted: each header over the limit is refused and counted once, whatever it came by and however far it is over.
func TestLargeHeadersAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, &impl{}) }, hull.WithLimits(hull.Limits{Header: 8 << 10}))
		want := int64(0)
		check := func(name string, refused bool) {
			t.Helper()
			time.Sleep(2 * time.Second) // net/http closes some connections a second after it has said so
			want++
			if got := n.Server.Snapshot().Port.LargeHeaders; got != want || !refused {
				t.Errorf("%s: refused %v, %d counted, want %d", name, refused, got, want)
				want = got
			}
		}
		one := dialHTTP(t, w, false)
		res, _ := post(t, one, "/greeter.Greeter/Hello", `{"name":"Ada"}`, "X-Large", strings.Repeat("x", 7<<10))
		if res.StatusCode != http.StatusOK {
			t.Errorf("what is below the limit: %s", res.Status)
		}
		for _, kib := range []int{8, 11, 12, 20} { // net/http itself is content with 4 KiB more
			c, err := w.Network.Host("large").Dial(t.Context(), "a:80")
			if err != nil {
				t.Fatal(err)
			}
			if _, err = fmt.Fprintf(c, "POST /greeter.Greeter/Hello HTTP/1.1\r\nHost: a\r\nX-Large: %s\r\n\r\n", strings.Repeat("x", kib<<10)); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 1000)
			m, _ := io.ReadAtLeast(c, b, 100)
			check(fmt.Sprintf("HTTP/1.1, %d KiB", kib), strings.HasPrefix(string(b), "HTTP/1.1 431 "))
			if kib < 12 && (!strings.Contains(string(b[:m]), "Hull-Kind: too-large") || !strings.Contains(string(b[:m]), "8192")) {
				t.Errorf("%s", b[:m])
			}
			c.Close()
		}
		for _, contentType := range []string{"application/json", "application/grpc"} {
			for _, size := range []int{9 << 10, 15 << 10, 40 << 10} {
				for _, letter := range []string{"x", "\x01"} { // that is short in HPACK, and one that is long
					if letter == "\x01" {
						letter = "~" // 13 bits
					}
					c := starve(t, w, 70000)
					c.ask(t, contentType, "/greeter.Greeter/Hello", enveloped(nil)) // the connection is in use
					synctest.Wait()
					c.heard()
					c.headers(t, contentType, hpack.HeaderField{Name: "x-large", Value: strings.Repeat(letter, size)})
					synctest.Wait()
					refused := false
					for more := true; more; {
						select {
						case h, ok := <-c.frames:
							refused = refused || !ok || h.StreamID == 3 || h.Type == http2.FrameGoAway
							more = ok
						default:
							more = false
						}
					}
					check(fmt.Sprintf("%s, %d bytes of %q", contentType, size, letter), refused)
					c.c.Close()
				}
			}
		}
	})
}

// headers begins a request with some fields more, in as many frames as it takes.
func (s *starving) headers(t *testing.T, contentType string, more ...hpack.HeaderField) {
	t.Helper()
	block := s.block(t, contentType, more...)
	const frame = 16 << 10
	first := block[:min(len(block), frame)]
	s.must(t, s.f.WriteHeaders(http2.HeadersFrameParam{StreamID: s.next, BlockFragment: first, EndStream: true, EndHeaders: len(first) == len(block)}))
	for block = block[len(first):]; len(block) > 0; {
		part := block[:min(len(block), frame)]
		block = block[len(part):]
		if s.f.WriteContinuation(s.next, len(block) == 0, part) != nil {
			break // the server has seen enough
		}
	}
	s.next += 2
}

// block encodes a request's header.
func (s *starving) block(t *testing.T, contentType string, more ...hpack.HeaderField) []byte {
	t.Helper()
	var b strings.Builder
	enc := hpack.NewEncoder(&b)
	enc.SetMaxDynamicTableSize(0)
	for _, f := range append([]hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "a"},
		{Name: ":path", Value: "/greeter.Greeter/Hello"}, {Name: "content-type", Value: contentType}, {Name: "te", Value: "trailers"}}, more...) {
		s.must(t, enc.WriteField(f))
	}
	return []byte(b.String())
}

// TestSlowHeaders: a request's header that does not come whole in time ends its connection, also when that is in use; an idle connection is none of those.
func TestSlowHeaders(t *testing.T) {
	const limit = 2 * time.Second
	serve := func(t *testing.T) (*hulltest.World, *hulltest.Node) {
		w := hulltest.New(t)
		return w, w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, &impl{}) }, hull.WithLimits(hull.Limits{Handshake: limit}))
	}
	for _, contentType := range []string{"application/grpc", "application/json"} {
		for name, drip := range map[string]bool{"silence": false, "empty CONTINUATION frames": true} {
			t.Run(contentType+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w, n := serve(t)
					c := starve(t, w, 70000)
					c.ask(t, contentType, "/greeter.Greeter/Hello", enveloped(nil))
					time.Sleep(time.Minute)
					if _, _, open := c.heard(); !open || n.Server.Snapshot().Port.SlowHeaders != 0 {
						t.Fatal("an idle connection was closed")
					}
					start, block := time.Now(), c.block(t, contentType)
					c.must(t, c.f.WriteHeaders(http2.HeadersFrameParam{StreamID: c.next, BlockFragment: block[:3], EndStream: true}))
					open := true
					for open && time.Since(start) < time.Minute {
						time.Sleep(limit / 10)
						if drip {
							_ = c.f.WriteContinuation(c.next, false, nil) // fails when the server has given up
						}
						_, _, open = c.heard()
					}
					if took, s := time.Since(start), n.Server.Snapshot().Port.SlowHeaders; open || s != 1 || took < limit || took > limit+limit/5 {
						t.Errorf("open %v after %v, %d counted", open, took, s)
					}
				})
			})
		}
	}
	t.Run("HTTP/1.1", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, n := serve(t)
			for i, first := range []bool{true, false} {
				c, err := w.Network.Host("slow").Dial(t.Context(), "a:80")
				if err != nil {
					t.Fatal(err)
				}
				if !first {
					exchange(t, c)
					time.Sleep(time.Minute) // idle
				}
				if s := n.Server.Snapshot().Port.SlowHeaders; s != int64(i) {
					t.Errorf("%d counted before", s)
				}
				start := time.Now()
				if _, err := io.WriteString(c, "POST /greeter.Greeter/Hello HTTP/1.1\r\nHost:"); err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, c)
				if took, s := time.Since(start), n.Server.Snapshot().Port.SlowHeaders; s != int64(i)+1 || took < limit || took > 2*limit {
					t.Errorf("first %v: after %v, %d counted", first, took, s)
				}
				c.Close()
			}
			// Neither is one that has nothing to ask, or hangs up.
			c, err := w.Network.Host("idle").Dial(t.Context(), "a:80")
			if err != nil {
				t.Fatal(err)
			}
			exchange(t, c)
			_, _ = io.Copy(io.Discard, c) // until the server has had enough of it
			c.Close()
			if s := n.Server.Snapshot().Port.SlowHeaders; s != 2 {
				t.Errorf("%d counted in the end", s)
			}
		})
	})
}

// dallying answers after a while, whether anybody waits for it or not.
type dallying struct{ pb.UnimplementedGreeterServer }

func (dallying) Hello(context.Context, *pb.HelloRequest) (*pb.HelloReply, error) {
	time.Sleep(10 * time.Second)
	return &pb.HelloReply{}, nil
}

// TestHeadersThatTheServerDoesNotRead: a header that has come is not slow because the server reads no further, as grpc-go's does not while cancelled handlers run.
func TestHeadersThatTheServerDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, dallying{}) },
			hull.WithLimits(hull.Limits{StreamsPerConn: 2, Handshake: 5 * time.Second}))
		c := starve(t, w, 70000)
		for range 2 {
			id := c.ask(t, "application/grpc", "/greeter.Greeter/Hello", enveloped(nil))
			synctest.Wait()
			c.must(t, c.f.WriteRSTStream(id, http2.ErrCodeCancel))
			synctest.Wait()
		}
		var sent bytes.Buffer
		f := http2.NewFramer(&sent, nil)
		cut := 0
		for _, id := range []uint32{5, 7} {
			block := c.block(t, "application/grpc")
			cut = sent.Len() + len(block)/2
			c.must(t, f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true}))
			c.must(t, f.WriteData(id, true, []byte(enveloped(nil))))
		}
		for _, part := range [][]byte{sent.Bytes()[:cut], sent.Bytes()[cut:]} { // the server's last read ends within a header
			_, err := c.c.Write(part)
			c.must(t, err)
			synctest.Wait()
		}
		time.Sleep(9 * time.Second)
		if _, _, open := c.heard(); !open || n.Server.Snapshot().Port.SlowHeaders != 0 {
			t.Errorf("open %v, %d slow headers, though all came at once", open, n.Server.Snapshot().Port.SlowHeaders)
		}
		c.c.Close()
		time.Sleep(time.Minute)
	})
}

// TestSlowBodyIsNoSlowHeader: a message that begins together with its header and ends much later does not make that slow.
func TestSlowBodyIsNoSlowHeader(t *testing.T) {
	for _, contentType := range []string{"application/grpc", "application/json"} {
		t.Run(contentType, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, &impl{}) },
					hull.WithLimits(hull.Limits{Handshake: 2 * time.Second, SlowSender: time.Minute}))
				c := starve(t, w, 70000)
				c.ask(t, contentType, "/greeter.Greeter/Hello", enveloped(nil))
				synctest.Wait()
				c.heard()
				var sent bytes.Buffer
				f := http2.NewFramer(&sent, nil)
				c.must(t, f.WriteHeaders(http2.HeadersFrameParam{StreamID: c.next, BlockFragment: c.block(t, contentType), EndHeaders: true}))
				c.must(t, f.WriteData(c.next, true, make([]byte, 1000)))
				for _, part := range [][]byte{sent.Bytes()[:sent.Len()-900], sent.Bytes()[sent.Len()-900:]} {
					_, err := c.c.Write(part)
					c.must(t, err)
					time.Sleep(10 * time.Second)
				}
				if _, _, open := c.heard(); !open || n.Server.Snapshot().Port.SlowHeaders != 0 {
					t.Errorf("open %v, %d slow headers", open, n.Server.Snapshot().Port.SlowHeaders)
				}
			})
		})
	}
}

// exchange makes a call over HTTP/1.1 by hand.
func exchange(t *testing.T, c net.Conn) {
	t.Helper()
	const body = `{"name":"Ada"}`
	if _, err := fmt.Fprintf(c, "POST /greeter.Greeter/Hello HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for b := make([]byte, 1000); !strings.Contains(string(got), "}"); {
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, b[:n]...)
	}
}

// TestReasonsNameNoGoTypes: whoever sends what does not decode is told where, in the words of what was sent, over every protocol.
func TestReasonsNameNoGoTypes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", both)
		const want = `at "Name": expected a string, got a number`
		body := []byte(`{"Name":7}`)
		var out []byte
		native, overGRPC := w.Client("c").To("greeter"), dialGRPC(t, w)
		said := map[string]error{
			"native": native.Invoke(t.Context(), "/typed.Greeter/Hello", body, &out, jsonCalls()),
			"gRPC":   overGRPC.Invoke(t.Context(), "/typed.Greeter/Hello", body, &out, jsonCalls()),
		}
		for name, cc := range map[string]grpc.ClientConnInterface{"native, a stream": native, "gRPC, a stream": overGRPC} {
			s, err := cc.NewStream(t.Context(), &chatDesc, "/typed.Greeter/Chat", jsonCalls())
			if err == nil {
				err = s.SendMsg(body)
			}
			if err == nil {
				err = s.RecvMsg(&out)
			}
			said[name] = err
		}
		for name, err := range said {
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "helloRequest") || strings.Contains(err.Error(), "codec") {
				t.Errorf("%s: %v", name, err)
			}
		}
		web := dialHTTP(t, w, true)
		for _, contentType := range []string{"application/json", "application/connect+json", "application/grpc-web+json"} {
			path, sent := "/typed.Greeter/Chat", enveloped(body)
			if contentType == "application/json" {
				path, sent = "/typed.Greeter/Hello", string(body)
			}
			res, text := post(t, web, path, sent, "Content-Type", contentType)
			text += res.Header.Get("Grpc-Message") + res.Trailer.Get("Grpc-Message")
			if text = strings.ReplaceAll(strings.ReplaceAll(text, `\"`, `"`), "%22", `"`); !strings.Contains(text, want) || strings.Contains(text, "helloRequest") {
				t.Errorf("%s: %s %q", contentType, res.Status, text)
			}
		}
	})
}

// TestEnvoysTimeouts: what Envoy says of the time is honoured over gRPC as over HTTP, also what it expects itself; what makes no sense is refused alike.
func TestEnvoysTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", func(s *hull.Server) {
			hull.Handle(s, "typed.Greeter/Left", func(ctx context.Context, _ *helloRequest) (*helloReply, error) {
				d, ok := ctx.Deadline()
				if !ok {
					return &helloReply{Text: "none"}, nil
				}
				return &helloReply{Text: time.Until(d).Round(100 * time.Millisecond).String()}, nil
			})
		})
		overGRPC, web := dialGRPC(t, w), dialHTTP(t, w, false)
		var out []byte
		if err := overGRPC.Invoke(t.Context(), "/typed.Greeter/Left", []byte("{}"), &out, jsonCalls()); err != nil { // no proxy, as far as anybody can see
			t.Fatal(err)
		}
		for _, tt := range []struct{ key, value, want string }{
			{"x-envoy-expected-rq-timeout-ms", "2000", "2s"},
			{"x-envoy-upstream-rq-timeout-ms", "3000", "3s"},
			{"x-envoy-expected-rq-timeout-ms", "0", "none"},
			{"x-envoy-expected-rq-timeout-ms", "soon", "is no timeout"},
			{"x-envoy-upstream-rq-timeout-ms", "-1", "is no timeout"},
		} {
			err := overGRPC.Invoke(metadata.AppendToOutgoingContext(t.Context(), tt.key, tt.value), "/typed.Greeter/Left", []byte("{}"), &out, jsonCalls())
			said := string(out)
			if err != nil {
				if said = grpcstatus.Convert(err).Message(); grpcstatus.Code(err) != codes.InvalidArgument {
					t.Errorf("%v over gRPC: %v", tt, err)
				}
			}
			res, body := post(t, web, "/typed.Greeter/Left", "{}", tt.key, tt.value)
			if !strings.Contains(said, tt.want) || !strings.Contains(body, tt.want) || (err != nil) != (res.StatusCode == http.StatusBadRequest) {
				t.Errorf("%v: %q over gRPC, %s %s over HTTP", tt, said, res.Status, body)
			}
		}
	})
}

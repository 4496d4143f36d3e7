package hull_test

import (
	"context"
	"crypto/tls"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/hull-go/hull"
	pb "github.com/hull-go/hull/examples/greeter/greeterpb"
	"github.com/hull-go/hull/hulltest"
)

// bulkyFor answers Ada with three MiB, and others with their names. A count is sent in pieces of 16 KiB, and how it ended to done.
type bulkyFor struct {
	pb.UnimplementedGreeterServer
	done chan error
}

func (bulkyFor) Hello(_ context.Context, r *pb.HelloRequest) (*pb.HelloReply, error) {
	if r.GetName() == "Ada" {
		return &pb.HelloReply{Message: strings.Repeat("x", 3<<20)}, nil
	}
	return &pb.HelloReply{Message: r.GetName()}, nil
}

func (s bulkyFor) Chat(st grpc.BidiStreamingServer[pb.ChatMessage, pb.ChatMessage]) (err error) {
	for err == nil {
		err = st.Send(&pb.ChatMessage{Text: strings.Repeat("x", 16<<10)})
	}
	s.done <- err
	return err
}

// TestSlowReaderCostsItsOwnStream is a regression test: a gRPC answer that its peer did not take had the connection closed, with the calls of others on it.
func TestSlowReaderCostsItsOwnStream(t *testing.T) {
	const slow = 5 * time.Second
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, bulkyFor{}) }, hull.WithLimits(hull.Limits{SlowReader: slow}))
		c := starve(t, w, 1000)
		// answered asks for a small answer and reports whether it has come whole.
		answered := func() (ok bool) {
			id := c.ask(t, "application/grpc", "/greeter.Greeter/Hello", enveloped([]byte("\n\x01B")))
			synctest.Wait()
			for {
				select {
				case h, open := <-c.frames:
					if !open {
						return false
					}
					ok = ok || h.StreamID == id && h.Type == http2.FrameHeaders && h.Flags.Has(http2.FlagHeadersEndStream)
				default:
					return ok
				}
			}
		}
		start := time.Now()
		ada := c.ask(t, "application/grpc", "/greeter.Greeter/Hello", enveloped([]byte("\n\x03Ada")))
		for time.Since(start) < 4*slow {
			if !answered() {
				t.Fatalf("no answer beside that which waits after %v", time.Since(start))
			}
			// The answer given up must not come back with the room for it.
			if p := n.Server.Snapshot().Port; time.Since(start) > 2*slow && p.SlowReaders != 1 {
				t.Fatalf("%d slow readers were counted after %v", p.SlowReaders, time.Since(start))
			}
			time.Sleep(slow / 10)
		}
		c.calmed(t, 1)
		c.must(t, c.f.WriteWindowUpdate(ada, 1<<20))
		c.must(t, c.f.WriteWindowUpdate(0, 1<<20))
		synctest.Wait()
		for len(c.frames) > 0 {
			if h := <-c.frames; h.StreamID == ada {
				t.Errorf("the server says %v on a stream that it has given up", h)
			}
		}
		if !answered() {
			t.Error("no answer afterwards")
		}
	})
}

// TestAnswersGivenUpAreFreed: what a stream held that was cut off is gone, and its connection remains.
func TestAnswersGivenUpAreFreed(t *testing.T) {
	const streams, slow = 20, 5 * time.Second
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, bulkyFor{}) }, hull.WithLimits(hull.Limits{SlowReader: slow}))
		held := func() int64 {
			var m runtime.MemStats
			runtime.GC()
			runtime.GC() // what pools keep goes with the second
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc) >> 20
		}
		c := starve(t, w, 1000)
		before := held()
		for range streams {
			c.ask(t, "application/grpc", "/greeter.Greeter/Hello", enveloped([]byte("\n\x03Ada")))
		}
		synctest.Wait()
		waiting := held() - before
		time.Sleep(2 * slow)
		left := held() - before
		if p := n.Server.Snapshot().Port; p.SlowReaders != streams || p.Conns != 1 {
			t.Fatalf("%+v", p)
		}
		if left > 3*streams/6 { // what other tests have left may go meanwhile, but nothing comes
			t.Errorf("%d MiB were held by %d answers, and %d when they were given up", waiting, streams, left)
		}
	})
}

// TestSmallAnswersNobodyTakes: an answer for which there is no room at all is not kept for as long as its connection lives because it is small.
func TestSmallAnswersNobodyTakes(t *testing.T) {
	const slow = 5 * time.Second
	envelope := enveloped([]byte("\n\x08Babbages"))
	for _, tt := range []struct {
		contentType, body string
		most              uint32 // window, into which the answer does not fit
	}{
		{"application/grpc", envelope, 10}, {"application/grpc+proto", envelope, 10}, {"application/json", `{"name":"Babbages"}`, 10},
		{"application/proto", "\n\x08Babbages", 9}, {"application/grpc-web", envelope, 10},
	} {
		for _, window := range []uint32{0, 5, tt.most} {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, bulkyFor{}) }, hull.WithLimits(hull.Limits{SlowReader: slow}))
				c := starve(t, w, window)
				for range 3 {
					c.ask(t, tt.contentType, "/greeter.Greeter/Hello", tt.body)
				}
				time.Sleep(slow / 2)
				if _, resets, open := c.heard(); resets != 0 || !open {
					t.Errorf("%s, window %d: %d streams reset at once, open %v", tt.contentType, window, resets, open)
				}
				time.Sleep(slow)
				_, resets, open := c.heard()
				if p := n.Server.Snapshot().Port; resets != 3 || !open || p.SlowReaders != 3 {
					t.Errorf("%s, window %d: %d streams reset, open %v, %d slow readers were counted", tt.contentType, window, resets, open, p.SlowReaders)
				}
				c.calmed(t, 3)
			})
		}
	}
}

// TestSlowReaderInTheMiddleOfAFrame: a peer cannot keep an answer that it does not take by beginning a frame and never ending it.
func TestSlowReaderInTheMiddleOfAFrame(t *testing.T) {
	const slow = 5 * time.Second
	for _, begun := range []string{"\x00\x00\x08", "\x00\x00\x08\x06\x00\x00\x00\x00\x00", "\x00\x00\x08\x06\x00\x00\x00\x00\x00\x01\x02"} { // of a PING
		synctest.Test(t, func(t *testing.T) {
			w := hulltest.New(t)
			n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, bulkyFor{}) }, hull.WithLimits(hull.Limits{SlowReader: slow}))
			c := starve(t, w, 1000)
			start := time.Now()
			c.ask(t, "application/grpc", "/greeter.Greeter/Hello", enveloped([]byte("\n\x03Ada")))
			_, err := c.c.Write([]byte(begun))
			c.must(t, err)
			for open := true; open; {
				_, open = <-c.frames
			}
			if took, p := time.Since(start), n.Server.Snapshot().Port; took < slow || took > 3*slow || p.SlowReaders != 2 { // the stream, then the connection
				t.Errorf("%q: the connection was closed after %v; %d slow readers were counted", begun, took, p.SlowReaders)
			}
			// One that does end it in time has lost its stream alone.
			c = starve(t, w, 1000)
			c.ask(t, "application/grpc", "/greeter.Greeter/Hello", enveloped([]byte("\n\x03Ada")))
			whole := "\x00\x00\x08\x06\x00\x00\x00\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08"
			_, err = c.c.Write([]byte(begun))
			c.must(t, err)
			time.Sleep(slow + slow/2)
			_, err = c.c.Write([]byte(whole[len(begun):]))
			c.must(t, err)
			time.Sleep(3 * slow)
			pong, open := false, true
			for more := true; more; {
				select {
				case h, ok := <-c.frames:
					open, more = ok, ok
					pong = pong || ok && h.Type == http2.FramePing && h.Flags.Has(http2.FlagPingAck)
				default:
					more = false
				}
			}
			if !open || !pong || len(c.codes) != 1 {
				t.Errorf("%q: connection open %v, PING answered %v, %d streams reset", begun, open, pong, len(c.codes))
			}
		})
	}
}

// TestSlowReaderOfGRPC is grpc-go's client, whose caller reads nothing of a stream while calls go on beside it, through TLS and without.
func TestSlowReaderOfGRPC(t *testing.T) {
	const slow = time.Second
	for _, secure := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := hulltest.New(t)
			impl := bulkyFor{done: make(chan error, 1)}
			opts := []hull.ServerOption{hull.WithLimits(hull.Limits{SlowReader: slow})}
			var dial []grpc.DialOption
			if secure {
				cert, pool := testCertificate(t, "localhost")
				opts = append(opts, hull.ServeTLS(&tls.Config{Certificates: []tls.Certificate{cert}}))
				dial = append(dial, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: pool, ServerName: "localhost"})))
			}
			n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, impl) }, opts...)
			c := pb.NewGreeterClient(dialGRPC(t, w, dial...))
			st, err := c.Chat(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			for time.Since(start) < 35*slow {
				if _, err := c.Hello(t.Context(), &pb.HelloRequest{Name: "Bob"}); err != nil {
					t.Fatalf("beside the stream, after %v: %v", time.Since(start), err)
				}
				time.Sleep(slow)
			}
			select {
			case err := <-impl.done:
				if err == nil {
					t.Error("the handler sends on")
				}
			default:
				t.Error("the handler still waits")
			}
			for err = nil; err == nil; {
				_, err = st.Recv()
			}
			if p := n.Server.Snapshot().Port; grpcstatus.Code(err) != codes.ResourceExhausted || p.SlowReaders != 1 || p.GRPC != 1 {
				t.Errorf("TLS %v: the stream ended with %v; %+v", secure, err, p)
			}
		})
	}
}

// TestSlowSendersOfGRPC: the one message of a gRPC request has SlowSender's time to come, whatever its caller says of a deadline; then its stream is reset, and no other.
func TestSlowSendersOfGRPC(t *testing.T) {
	const slow = 8 * time.Second
	half := enveloped(make([]byte, 100))[:50]
	for _, tt := range []struct {
		name, path string
		send       func(t *testing.T, c *starving, id uint32)
		reset      bool // the stream
		closed     bool // the connection
	}{
		{"nothing of the message", "Hello", func(*testing.T, *starving, uint32) {}, true, false},
		{"half of the message", "Hello", func(t *testing.T, c *starving, id uint32) { c.must(t, c.f.WriteData(id, false, []byte(half))) }, true, false},
		{"half of a stream's only request", "Count", func(t *testing.T, c *starving, id uint32) { c.must(t, c.f.WriteData(id, false, []byte(half))) }, true, false},
		{"half of a frame", "Hello", func(t *testing.T, c *starving, id uint32) {
			_, err := c.c.Write([]byte{0, 0, 100, 0, 0, 0, 0, 0, byte(id), 0, 0})
			c.must(t, err)
		}, false, true},
		// grpc-go starts no handler before the end, so nothing is under way that could be lost.
		{"all but the end", "Hello", func(t *testing.T, c *starving, id uint32) {
			c.must(t, c.f.WriteData(id, false, []byte(enveloped(nil))))
		}, true, false},
		{"all but the end of a stream's only request", "Count", func(t *testing.T, c *starving, id uint32) {
			c.must(t, c.f.WriteData(id, false, []byte(enveloped(nil))))
		}, true, false},
		{"messages, now and then", "Chat", func(t *testing.T, c *starving, id uint32) { c.must(t, c.f.WriteData(id, false, []byte(half))) }, false, false},
		{"all, and the handler takes its time", "Hello", func(t *testing.T, c *starving, id uint32) { c.must(t, c.f.WriteData(id, true, []byte(enveloped(nil)))) }, false, false},
		{"all, and the end later", "Hello", func(t *testing.T, c *starving, id uint32) {
			c.must(t, c.f.WriteData(id, false, []byte(enveloped(nil))))
			c.must(t, c.f.WriteData(id, true, nil))
		}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				var begun atomic.Int64
				n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, unhurried{begun: &begun}) }, hull.WithLimits(hull.Limits{SlowSender: slow}))
				c := starve(t, w, 65535)
				tt.send(t, c, c.begin(t, "application/grpc", "/greeter.Greeter/"+tt.path))
				other := uint32(0)
				if !tt.closed { // else nobody gets a word in
					other = c.ask(t, "application/grpc", "/greeter.Greeter/Hello", enveloped(nil))
				}
				start := time.Now()
				reset, ended, answered := time.Duration(0), time.Duration(0), false
				for ended == 0 && time.Since(start) < 4*slow {
					time.Sleep(slow / 16)
					for more := true; more; {
						select {
						case h, ok := <-c.frames:
							switch {
							case !ok:
								ended = time.Since(start)
							case h.Type == http2.FrameRSTStream:
								reset = time.Since(start)
							}
							answered = answered || ok && h.StreamID == other && h.Flags.Has(http2.FlagHeadersEndStream) && h.Type == http2.FrameHeaders
							more = ok
						default:
							more = false
						}
					}
				}
				counted := n.Server.Snapshot().Port.SlowSenders
				if (reset != 0) != tt.reset || (ended != 0) != tt.closed || answered == tt.closed || (counted == 1) != (tt.reset || tt.closed) || counted > 1 {
					t.Errorf("reset after %v, connection closed after %v, the other answered: %v; %d slow senders were counted", reset, ended, answered, counted)
				}
				if took := reset + ended; took != 0 && (took < slow || took > 2*slow) {
					t.Errorf("given up after %v", took)
				}
				if tt.reset && begun.Load() != 1 {
					t.Errorf("%d handlers were begun, where only the other's request has come whole", begun.Load())
				}
				if tt.reset && (len(c.codes) != 1 || <-c.codes != http2.ErrCodeCancel) {
					t.Error("it was not reset with CANCEL")
				}
			})
		})
	}
}

// unhurried takes half a minute for each answer, and says nothing in conversations.
type unhurried struct {
	pb.UnimplementedGreeterServer
	begun *atomic.Int64 // calls with one request
}

func (u unhurried) Count(*pb.CountRequest, grpc.ServerStreamingServer[pb.CountReply]) error {
	u.begun.Add(1)
	return nil
}

func (u unhurried) Hello(ctx context.Context, _ *pb.HelloRequest) (*pb.HelloReply, error) {
	u.begun.Add(1)
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(30 * time.Second):
		return &pb.HelloReply{}, nil
	}
}

func (unhurried) Chat(st grpc.BidiStreamingServer[pb.ChatMessage, pb.ChatMessage]) error {
	<-st.Context().Done()
	return st.Context().Err()
}

// TestBusyClientsAreNoFlood is a regression test: grpc-go's client asks how far its server is whenever an answer has come, and one that made more than some 10,000 calls
// per second one after another lost its connection.
func TestBusyClientsAreNoFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, &impl{}) }, hull.WithLimits(hull.Limits{ControlFrames: 20}))
		c := pb.NewGreeterClient(dialGRPC(t, w))
		for i := range 500 { // at one moment of a bubble's time
			if _, err := c.Hello(t.Context(), &pb.HelloRequest{Name: "Bob"}); err != nil {
				t.Fatalf("call %d: %v; %+v", i, err, n.Server.Snapshot().Port)
			}
		}
		chat, err := c.Chat(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range 500 {
			if err := chat.Send(&pb.ChatMessage{Text: "a"}); err != nil {
				t.Fatal(err)
			}
			if _, err := chat.Recv(); err != nil {
				t.Fatalf("message %d: %v; %+v", i, err, n.Server.Snapshot().Port)
			}
		}
		if p := n.Server.Snapshot().Port; p.ControlFloods != 0 || p.GRPC != 1 {
			t.Errorf("%+v", p)
		}
	})
}

// sink is bulkyFor, but for conversations, in which it only listens.
type sink struct{ bulkyFor }

func (sink) Chat(st grpc.BidiStreamingServer[pb.ChatMessage, pb.ChatMessage]) error {
	for {
		if _, err := st.Recv(); err != nil {
			return err
		}
	}
}

// TestSlowReaderThatUploads: a peer that sends all the time, so that what there is to read ends in the middle of a frame, loses the stream that it does not take and no other.
func TestSlowReaderThatUploads(t *testing.T) {
	const slow = 5 * time.Second
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, sink{}) }, hull.WithLimits(hull.Limits{SlowReader: slow}))
		c := starve(t, w, 1000)
		c.ask(t, "application/grpc", "/greeter.Greeter/Hello", enveloped([]byte("\n\x03Ada")))
		chat := c.begin(t, "application/grpc", "/greeter.Greeter/Chat")
		message := enveloped([]byte("\n\x03abc"))
		frame := append([]byte{0, 0, byte(len(message)), 0, 0, 0, 0, 0, byte(chat)}, message...)
		const ahead = 12
		_, err := c.c.Write(frame[:ahead])
		c.must(t, err)
		straddling := append(append([]byte(nil), frame[ahead:]...), frame[:ahead]...)
		for start := time.Now(); time.Since(start) < 4*slow; time.Sleep(10 * time.Millisecond) {
			if _, err := c.c.Write(straddling); err != nil {
				t.Fatalf("after %v: %v; %+v", time.Since(start), err, n.Server.Snapshot().Port)
			}
		}
		c.calmed(t, 1)
	})
}

// together answers all its callers at the same moment.
type together struct {
	pb.UnimplementedGreeterServer
	now chan struct{}
}

func (s together) Hello(context.Context, *pb.HelloRequest) (*pb.HelloReply, error) {
	<-s.now
	return &pb.HelloReply{Message: strings.Repeat("x", 3900)}, nil
}

// TestSmallAnswersThatEndTogether is a regression test: answers over HTTP each of which had room when it was done, but not all of them, were reset with an error of the server's own,
// and nobody counted them.
func TestSmallAnswersThatEndTogether(t *testing.T) {
	const answers, slow = 30, 5 * time.Second
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		s := together{now: make(chan struct{})}
		n := w.Serve("greeter", "a", func(srv *hull.Server) { pb.RegisterGreeterServer(srv, s) }, hull.WithLimits(hull.Limits{SlowReader: slow}))
		c := starve(t, w, 65535)
		for range answers {
			c.ask(t, "application/json", "/greeter.Greeter/Hello", `{"name":"Ada"}`)
		}
		synctest.Wait()
		close(s.now)
		time.Sleep(3 * slow)
		resets, whole := len(c.codes), 65535/3900 // these found room
		if p := n.Server.Snapshot().Port; p.SlowReaders != int64(resets) || resets < answers-whole || resets == answers {
			t.Errorf("%d streams were reset, and %d slow readers counted", resets, p.SlowReaders)
		}
		c.calmed(t, resets)
	})
}

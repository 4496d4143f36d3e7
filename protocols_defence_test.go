package hull_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"

	"github.com/hull-go/hull"
	pb "github.com/hull-go/hull/examples/greeter/greeterpb"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/transport/muxtransport"
)

// gushing answers each message, and each call, with three MiB.
type gushing struct{ bulky }

func (gushing) Chat(s grpc.BidiStreamingServer[pb.ChatMessage, pb.ChatMessage]) error {
	for {
		if _, err := s.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := s.Send(&pb.ChatMessage{Text: strings.Repeat("x", 3<<20)}); err != nil {
			return err
		}
	}
}

// heard takes what has come so far; open = the connection is.
func (s *starving) heard() (data, resets int, open bool) {
	for {
		select {
		case h, ok := <-s.frames:
			switch {
			case !ok:
				return data, resets, false
			case h.Type == http2.FrameData:
				data += int(h.Length)
			case h.Type == http2.FrameRSTStream:
				resets++
			}
		default:
			return data, resets, true
		}
	}
}

// TestAnswersWaitBehindPatientStreams is a regression test: if a stream's messages fill the window of a connection, an answer that waits for that alone had the
// connection closed long before the stream's time was up, and later with that. A peer whose window answers fill gets no such time. The stream that fills the window ends first, and if
// its peer gives back what it held nobody else loses anything; a connection of which that does not help ends.
func TestAnswersWaitBehindPatientStreams(t *testing.T) {
	const slow = 1500 * time.Millisecond // thirty times as long is less than what grpc-go waits before it asks whether the peer is alive
	for _, tt := range []struct {
		name   string
		first  string // method of the first call
		gone   bool   // the first is reset by its peer, which keeps what it held
		honest bool   // the peer gives back what streams held that have ended
		busy   bool   // it asks for more and more, and makes room by a byte now and then
		least  time.Duration
	}{
		{"behind a stream", "Chat", false, true, false, 30 * slow},
		{"behind an answer", "Hello", false, true, false, slow},
		{"behind a stream that keeps all", "Chat", false, false, false, 30 * slow},
		{"behind an answer that keeps all", "Hello", false, false, false, slow},
		{"behind an answer that keeps nearly all", "Hello", false, false, true, slow},
		{"behind a stream that has ended", "Chat", true, false, false, 30 * slow},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, gushing{}) },
					hull.WithLimits(hull.Limits{SlowReader: slow}))
				c := starve(t, w, 120<<10) // the connection's own window is smaller
				start := time.Now()
				first := c.ask(t, "application/grpc", "/greeter.Greeter/"+tt.first, enveloped(nil))
				time.Sleep(time.Second / 10)
				if tt.gone {
					c.must(t, c.f.WriteRSTStream(first, http2.ErrCodeCancel))
				}
				second := c.ask(t, "application/grpc", "/greeter.Greeter/Hello", enveloped(nil))
				held, reset, closed, answered := uint32(0), time.Duration(0), time.Duration(0), false
				for closed == 0 && !answered && time.Since(start) < time.Hour {
					time.Sleep(slow / 8)
					if tt.busy { // fails when the server has given up
						_ = c.f.WriteWindowUpdate(0, 1)
						_ = c.f.WriteHeaders(http2.HeadersFrameParam{StreamID: c.next, BlockFragment: c.block(t, "application/grpc"), EndHeaders: true})
						_ = c.f.WriteData(c.next, true, []byte(enveloped(nil)))
						c.next += 2
					}
					for more := true; more; {
						select {
						case h, open := <-c.frames:
							switch {
							case !open:
								closed, more = time.Since(start), false
							case h.Type == http2.FrameData && h.StreamID == first:
								held += h.Length
							case h.Type == http2.FrameData && tt.honest && h.Length > 0:
								c.must(t, c.f.WriteWindowUpdate(0, h.Length))
								c.must(t, c.f.WriteWindowUpdate(second, h.Length))
							case h.Type == http2.FrameRSTStream && h.StreamID == first:
								if reset = time.Since(start); tt.honest {
									c.must(t, c.f.WriteWindowUpdate(0, held))
								}
							case h.Type == http2.FrameRSTStream:
								t.Errorf("stream %d was reset", h.StreamID)
							}
							answered = answered || open && h.StreamID == second && h.Type == http2.FrameHeaders && h.Flags.Has(http2.FlagHeadersEndStream)
						default:
							more = false
						}
					}
				}
				p, ended, slowReaders := n.Server.Snapshot().Port, tt.least, int64(1)
				if !tt.gone {
					slowReaders++
					c.calmed(t, 1)
					if reset < tt.least || reset > tt.least+slow {
						t.Errorf("the stream that filled the window was reset after %v", reset)
					}
					ended = reset + slow
				}
				switch {
				case tt.honest && (!answered || p.SlowReaders != slowReaders-1 || p.ShutConns != 0):
					t.Errorf("the other was answered: %v, the connection closed after %v; %+v", answered, closed, p)
				case !tt.honest && (closed < ended || closed > ended+slow || p.ShutConns != 1 || p.SlowReaders != slowReaders):
					t.Errorf("the connection was closed after %v; %+v", closed, p)
				}
			})
		})
	}
}

// TestPagesNobodyTakesAreGivenUp: what hull.HTTP serves over HTTP/2 is bounded as streams' messages are, and a reader that is only slow gets all of it.
func TestPagesNobodyTakesAreGivenUp(t *testing.T) {
	const slow, size = time.Second, 3 << 20
	for _, every := range []time.Duration{0, 20 * slow} { // in which the peer takes 70,000 bytes; 0 = never
		synctest.Test(t, func(t *testing.T) {
			w := hulltest.New(t)
			ended := make(chan error, 1)
			page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, flushes := w.(http.Flusher)
				_, pushes := w.(http.Pusher)
				_, err := w.Write(make([]byte, size))
				if !flushes || !pushes {
					err = errors.New("the page's writer can do less than net/http's")
				}
				ended <- err
			})
			n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, bulky{}) },
				hull.WithLimits(hull.Limits{SlowReader: slow}), hull.HTTP(page))
			c := starve(t, w, 70000)
			start := time.Now()
			id := c.ask(t, "text/plain", "/page", "")
			got, reset, open := 0, 0, true
			for open && reset == 0 && got < size && time.Since(start) < time.Hour {
				time.Sleep(max(every, slow))
				d, r, o := c.heard()
				got, reset, open = got+d, reset+r, o
				if every > 0 {
					_, _ = c.f.WriteWindowUpdate(0, 70000), c.f.WriteWindowUpdate(id, 70000)
				}
			}
			took, counted := time.Since(start), n.Server.Snapshot().Port.SlowReaders
			c.calmed(t, reset)
			switch err := <-ended; {
			case every > 0 && (err != nil || got < size || counted != 0):
				t.Errorf("a slow reader got %d bytes: %v, %d counted", got, err, counted)
			case every == 0 && (err == nil || !open || reset != 1 || counted != 1 || took < 30*slow || took > 33*slow):
				t.Errorf("one that takes nothing: %v, connection open %v, %d resets after %v, %d counted", err, open, reset, took, counted)
			}
		})
	}
}

// TestPagesKeepTheirDeadlines: a write deadline that a page sets holds, whatever the server's own bound is.
func TestPagesKeepTheirDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		took := make(chan time.Duration, 1)
		page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			start := time.Now()
			if err := http.NewResponseController(w).SetWriteDeadline(start.Add(3 * time.Second)); err != nil {
				t.Error(err)
			}
			if _, err := w.Write(make([]byte, 1<<20)); err == nil {
				t.Error("all of it was written")
			}
			took <- time.Since(start)
		})
		w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, bulky{}) }, hull.HTTP(page))
		starve(t, w, 1000).ask(t, "text/plain", "/page", "")
		if d := <-took; d != 3*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

// TestIdleHTTP2LeavesAtOnce: net/http waits for a second after GOAWAY for a peer to hang up. A connection whose peer says that it has read the GOAWAY, and all
// before it, ends then; one that says nothing has its second.
func TestIdleHTTP2LeavesAtOnce(t *testing.T) {
	for _, tt := range []struct {
		name string
		most time.Duration // for the last step
		run  func(t *testing.T, w *hulltest.World) (check func())
	}{
		{"net/http's client", 50 * time.Millisecond, func(t *testing.T, w *hulltest.World) func() {
			post(t, dialHTTP(t, w, true), "/greeter.Greeter/Hello", `{"name":"Ada"}`)
			return func() {}
		}},
		{"a request under way", 900 * time.Millisecond, // net/http looks twice a second whether all is done
			func(t *testing.T, w *hulltest.World) func() {
				web, done := dialHTTP(t, w, true), make(chan string, 1)
				go func() {
					_, body := post(t, web, "/greeter.Greeter/Hello", `{"name":"slow"}`)
					done <- body
				}()
				synctest.Wait()
				return func() {
					if body := <-done; !strings.Contains(body, "slow") {
						t.Errorf("the call was answered with %q", body)
					}
				}
			}},
		{"a peer that is silent", 1500 * time.Millisecond, func(t *testing.T, w *hulltest.World) func() {
			c := starve(t, w, 1000)
			c.ask(t, "application/json", "/greeter.Greeter/Hello", `{"name":"Ada"}`)
			synctest.Wait()
			return func() {}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				var draining time.Time
				n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, drowsy{}) },
					hull.OnPhase(func(c hull.PhaseChange) {
						if c.Phase == hull.Draining {
							draining = time.Now()
						}
					}))
				check := tt.run(t, w)
				n.Stop()
				took := time.Since(draining)
				check()
				if err := n.Err(); err != nil || draining.IsZero() || took > tt.most {
					t.Errorf("it took %v: %v", took, err)
				}
			})
		})
	}
}

// drowsy takes its time for who asks for that, most of it while the server drains.
type drowsy struct{ pb.UnimplementedGreeterServer }

func (drowsy) Hello(_ context.Context, r *pb.HelloRequest) (*pb.HelloReply, error) {
	if r.GetName() == "slow" {
		time.Sleep(hull.DefaultDrainWait + 300*time.Millisecond)
	}
	return &pb.HelloReply{Message: r.GetName()}, nil
}

// TestStreamsBeyondTheLimitAreCounted: a peer that opens more streams than it was told it may learns that of each, and so does who watches the server.
func TestStreamsBeyondTheLimitAreCounted(t *testing.T) {
	for _, contentType := range []string{"application/grpc", "application/json"} {
		synctest.Test(t, func(t *testing.T) {
			w := hulltest.New(t)
			n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, bulky{}) }, hull.WithLimits(hull.Limits{StreamsPerConn: 3}))
			c := starve(t, w, 1000)
			for range 5 {
				c.must(t, c.f.WriteHeaders(http2.HeadersFrameParam{StreamID: c.next, BlockFragment: c.block(t, contentType), EndHeaders: true}))
				c.next += 2
				synctest.Wait()
			}
			_, resets, open := c.heard()
			if s := n.Server.Snapshot().Port.OverStreams; s != 2 || resets != 2 || !open {
				t.Errorf("%s: %d counted, %d reset, open %v", contentType, s, resets, open)
			}
		})
	}
}

// TestTooManyPingsAreCounted: grpc-go closes connections whose clients ping too often, and tells nobody but them.
func TestTooManyPingsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, &impl{}) })
		c := starve(t, w, 70000)
		c.ask(t, "application/grpc", "/greeter.Greeter/Hello", enveloped(nil))
		open := true
		for i := 0; i < 20 && open; i++ {
			time.Sleep(time.Millisecond)
			_ = c.f.WritePing(false, [8]byte{}) // fails when the server has given up
			_, _, open = c.heard()
		}
		for range 10 {
			time.Sleep(time.Second)
			_, _, o := c.heard()
			open = open && o
		}
		if s := n.Server.Snapshot().Port.ControlFloods; open || s != 1 {
			t.Errorf("open %v, %d counted", open, s)
		}
	})
}

// TestLimitsHoldForTheNativeProtocol: those of a server's limits that mean something there.
func TestLimitsHoldForTheNativeProtocol(t *testing.T) {
	const (
		greeting = "\x9eHULL\x00\x01\x01\x00\x00\x00\x01\x00\x00\x00\x00" // version 1, a HELLO that says nothing
		ping     = "\x08\x00\x00\x0c\x00\x00\x00\x00abcdefgh"
	)
	const name = "a.B/C"
	var resets strings.Builder
	for id := byte(1); id <= 4; id++ { // CALLs whose messages do not come whole, and CANCELs
		resets.WriteString(string([]byte{byte(6 + len(name)), 0, 0, 0x82, 0, 0, id, 0, 48, 0, byte(len(name))}) + name + "\x03\x0ax" +
			string([]byte{0, 0, 0, 10, 0, 0, id, 0}))
	}
	for _, tt := range []struct {
		name, send string
		limits     hull.Limits
		within     time.Duration
		count      func(p muxtransport.Counters) int64
	}{
		{"pings", strings.Repeat(ping, 81), hull.Limits{Pings: 80}, 0, func(p muxtransport.Counters) int64 { return p.PingFloods }},
		{"resets", resets.String(), hull.Limits{Resets: 3}, 0, func(p muxtransport.Counters) int64 { return p.ResetFloods }},
		{"half a frame", ping[:9], hull.Limits{SlowSender: 3 * time.Second}, 3 * time.Second, func(p muxtransport.Counters) int64 { return p.ReadStalls }},
		{"half a greeting", "", hull.Limits{Handshake: 2 * time.Second}, 2 * time.Second, func(p muxtransport.Counters) int64 { return p.HandshakesFailed }},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := hulltest.New(t)
			n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, &impl{}) }, hull.WithLimits(tt.limits))
			c, err := w.Network.Host("peer").Dial(t.Context(), "a:80")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			start, said := time.Now(), greeting+tt.send
			if tt.send == "" {
				said = greeting[:5]
			}
			if _, err := io.WriteString(c, said); err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, c)
			synctest.Wait()
			if took, got := time.Since(start), n.Server.Snapshot().Native; tt.count(got) != 1 || took < tt.within || took > tt.within+2*time.Second {
				t.Errorf("%s: after %v, %+v", tt.name, took, got)
			}
		})
	}
}

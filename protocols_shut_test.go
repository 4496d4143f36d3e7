package hull_test

import (
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/hull-go/hull"
	pb "github.com/hull-go/hull/examples/greeter/greeterpb"
	"github.com/hull-go/hull/hulltest"
)

// TestShutWindowsAreRelievedEachTime is a regression test: a connection whose window had been filled once, and given back, was closed at once when that happened again minutes later.
// Each time the stream that fills it is reset, and no other.
func TestShutWindowsAreRelievedEachTime(t *testing.T) {
	const slow = 1500 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, gushing{}) }, hull.WithLimits(hull.Limits{SlowReader: slow}))
		c := starve(t, w, 120<<10) // the connection's own window is smaller
		for round := range 3 {
			start := time.Now()
			first := c.ask(t, "application/grpc", "/greeter.Greeter/Hello", enveloped(nil))
			time.Sleep(time.Second / 10)
			second := c.ask(t, "application/grpc", "/greeter.Greeter/Hello", enveloped(nil))
			held, answered, reset := uint32(0), false, time.Duration(0)
			for !answered && time.Since(start) < time.Minute {
				time.Sleep(slow / 8)
				for len(c.frames) > 0 {
					switch h := <-c.frames; {
					case h.Type == http2.FrameData && h.StreamID == first:
						held += h.Length
					case h.Type == http2.FrameData && h.StreamID == second && h.Length > 0:
						c.must(t, c.f.WriteWindowUpdate(0, h.Length))
						c.must(t, c.f.WriteWindowUpdate(second, h.Length))
					case h.Type == http2.FrameRSTStream && h.StreamID == first:
						reset = time.Since(start)
						c.must(t, c.f.WriteWindowUpdate(0, held))
					case h.Type == http2.FrameHeaders && h.StreamID == second:
						answered = h.Flags.Has(http2.FlagHeadersEndStream)
					}
				}
			}
			if p := n.Server.Snapshot().Port; !answered || reset < slow || reset > 2*slow || p.ShutConns != 0 {
				t.Fatalf("round %d: answered %v, the first was reset after %v; %+v", round, answered, reset, p)
			}
			c.calmed(t, 1)
			time.Sleep(30 * time.Second) // in a minute grpc-go asks whether the peer is alive
		}
	})
}

// TestStreamsOutliveAnswersBesideThem is a regression test: a stream that fills less than half of its connection's window, and may wait thirty times as long as answers do, was reset
// when answers beside it had filled the rest for too long. A peer that does not give back what these held loses the connection all the same.
func TestStreamsOutliveAnswersBesideThem(t *testing.T) {
	const slow = 1500 * time.Millisecond
	for _, tt := range []struct {
		name        string
		chat, first uint32 // how much the peer takes of the stream, and of the answer beside it: less than half of the connection's 65535 bytes, and not all; another answer fills these
		wide        bool   // then it takes more of the answer, but not on the connection
		honest      bool   // it gives back what streams held that were reset; if not it goes on to ask
		busy        bool   // it asks all the time, and takes nothing of those answers
	}{
		{"an answer waits for its own window", 25_000, 25_000, false, true, false},
		{"an answer waits for its own window, and keeps it", 25_000, 25_000, false, false, false},
		{"more and more answers do", 25_000, 25_000, false, false, true},
		{"answers wait for the connection's", 30_000, 17_000, true, true, false},
		{"answers wait for the connection's, and keep it", 30_000, 17_000, true, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				n := w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, gushing{}) }, hull.WithLimits(hull.Limits{SlowReader: slow}))
				c := starve(t, w, 0)
				start := time.Now()
				ask := func(method string, most uint32) uint32 {
					id := c.ask(t, "application/grpc", "/greeter.Greeter/"+method, enveloped(nil))
					if most > 0 {
						c.must(t, c.f.WriteWindowUpdate(id, most))
					}
					time.Sleep(time.Second / 10)
					return id
				}
				chat, first, second := ask("Chat", tt.chat), ask("Hello", tt.first), ask("Hello", 25_000)
				if tt.wide {
					c.must(t, c.f.WriteWindowUpdate(first, 1))
				}
				held, reset, closed := map[uint32]uint32{}, map[uint32]time.Duration{}, time.Duration(0)
				for closed == 0 && time.Since(start) < 32*slow {
					time.Sleep(slow / 8)
					if tt.busy || !tt.honest && reset[second] != 0 { // fails when the server has given up
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
							case h.Type == http2.FrameData:
								held[h.StreamID] += h.Length
							case h.Type == http2.FrameRSTStream:
								reset[h.StreamID] = time.Since(start)
								if tt.honest && held[h.StreamID] > 0 {
									c.must(t, c.f.WriteWindowUpdate(0, held[h.StreamID]))
								}
							}
						default:
							more = false
						}
					}
				}
				p := n.Server.Snapshot().Port
				for _, id := range []uint32{first, second} {
					if reset[id] < slow || reset[id] > 3*slow {
						t.Errorf("answer %d was reset after %v", id, reset[id])
					}
				}
				if took := held[second]; tt.honest && !tt.wide && took != 25_000 {
					t.Errorf("the second answer got %d bytes, which has had the first's room", took)
				}
				switch reset := reset[chat]; {
				case tt.honest && (closed != 0 || reset < 30*slow || reset > 31*slow || p.SlowReaders != 3 || p.ShutConns != 0):
					t.Errorf("the stream was reset after %v, the connection closed after %v; %+v", reset, closed, p)
				case !tt.honest && (closed < slow || closed > 4*slow || reset != 0 || p.ShutConns != 1):
					t.Errorf("the connection was closed after %v, the stream reset after %v; %+v", closed, reset, p)
				}
			})
		})
	}
}

// TestAnswersOutliveStreamsBesideThem: when streams' messages have filled most of a connection's window for their longer time they end, and not an answer that has the rest of it.
func TestAnswersOutliveStreamsBesideThem(t *testing.T) {
	const slow = 1500 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", func(s *hull.Server) { pb.RegisterGreeterServer(s, gushing{}) }, hull.WithLimits(hull.Limits{SlowReader: slow}))
		c := starve(t, w, 60_000)
		start := time.Now()
		chat := c.ask(t, "application/grpc", "/greeter.Greeter/Chat", enveloped(nil))
		time.Sleep(time.Second / 10)
		answer := c.ask(t, "application/grpc", "/greeter.Greeter/Hello", enveloped(nil))
		time.Sleep(time.Second / 10)
		c.must(t, c.f.WriteWindowUpdate(chat, 1)) // both wait for the connection's window now
		held, reset := map[uint32]uint32{}, time.Duration(0)
		for time.Since(start) < 32*slow && held[answer] < 60_000 {
			time.Sleep(slow / 8)
			for len(c.frames) > 0 {
				switch h := <-c.frames; {
				case h.Type == http2.FrameData:
					held[h.StreamID] += h.Length
				case h.Type == http2.FrameRSTStream && h.StreamID == chat:
					reset = time.Since(start)
					c.must(t, c.f.WriteWindowUpdate(0, held[chat]))
				case h.Type == http2.FrameRSTStream:
					t.Errorf("the answer was reset after %v", time.Since(start))
				}
			}
		}
		if reset < 30*slow || reset > 31*slow || held[answer] != 60_000 {
			t.Errorf("the stream was reset after %v, the answer got %d bytes", reset, held[answer])
		}
	})
}

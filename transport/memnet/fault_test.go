package memnet_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/transport/memnet"
)

// world is a network with one connection, dialled from a to b:80.
type world struct {
	t    *testing.T
	n    *memnet.Network
	a, b *memnet.Host
	l    net.Listener
	cli  net.Conn // a's end
	srv  net.Conn // b's end
}

// inBubble runs f over a fresh world in virtual time.
func inBubble(t *testing.T, o memnet.Options, f func(*testing.T, *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(o)
		defer n.Close()
		w := &world{t: t, n: n, a: n.Host("a"), b: n.Host("b")}
		var err error
		if w.l, err = w.b.Listen(":80"); err != nil {
			t.Fatal(err)
		}
		w.cli = w.dial()
		w.srv = w.accept()
		f(t, w)
	})
}

func (w *world) dial() net.Conn {
	w.t.Helper()
	c, err := w.a.Dial(w.t.Context(), "b:80")
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) accept() net.Conn {
	w.t.Helper()
	c, err := w.l.Accept()
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) write(c net.Conn, s string) {
	w.t.Helper()
	if n, err := c.Write([]byte(s)); n != len(s) || err != nil {
		w.t.Fatalf("write %q: %d, %v", s, n, err)
	}
}

// read expects exactly s next.
func (w *world) read(c net.Conn, s string) {
	w.t.Helper()
	b := make([]byte, len(s))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != s {
		w.t.Fatalf("read %q, %v, want %q", b, err, s)
	}
}

// silent expects no data for d.
func (w *world) silent(c net.Conn, d time.Duration) {
	w.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(d))
	defer func() { _ = c.SetReadDeadline(time.Time{}) }()
	b := make([]byte, 16)
	if n, err := c.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		w.t.Fatalf("read %q, %v, want a timeout", b[:n], err)
	}
}

// fails expects an *net.OpError of op around target.
func (w *world) fails(err error, op string, target error) {
	w.t.Helper()
	var oe *net.OpError
	if !errors.As(err, &oe) || oe.Op != op || !errors.Is(err, target) {
		w.t.Fatalf("got %v, want %s: %v", err, op, target)
	}
}

func readErr(c net.Conn) error  { _, err := c.Read(make([]byte, 1)); return err }
func writeErr(c net.Conn) error { _, err := c.Write([]byte("x")); return err }

func (w *world) dialWithin(d time.Duration) error {
	ctx, cancel := context.WithTimeout(w.t.Context(), d)
	defer cancel()
	c, err := w.a.Dial(ctx, "b:80")
	if err == nil {
		_ = c.Close()
	}
	return err
}

func TestClose(t *testing.T) {
	tests := []struct {
		name string
		f    func(*testing.T, *world)
	}{
		{"end follows data", func(t *testing.T, w *world) {
			w.write(w.cli, "bye")
			_ = w.cli.Close()
			w.read(w.srv, "bye")
			if err := readErr(w.srv); err != io.EOF { //nolint:errorlint // must be bare
				t.Fatal(err)
			}
			w.write(w.srv, "into the void")
			w.fails(writeErr(w.srv), "write", syscall.EPIPE)
		}},
		{"unread data makes it a reset", func(t *testing.T, w *world) {
			w.write(w.srv, "unread")
			w.write(w.cli, "last words")
			_ = w.cli.Close()
			w.read(w.srv, "last words")
			w.fails(readErr(w.srv), "read", syscall.ECONNRESET)
			w.fails(writeErr(w.srv), "write", syscall.ECONNRESET)
		}},
		{"half close", func(t *testing.T, w *world) {
			_ = w.cli.(interface{ CloseWrite() error }).CloseWrite()
			if err := readErr(w.srv); err != io.EOF { //nolint:errorlint // must be bare
				t.Fatal(err)
			}
			w.write(w.srv, "answer")
			w.read(w.cli, "answer")
			w.fails(writeErr(w.cli), "write", net.ErrClosed)
		}},
		{"own calls", func(t *testing.T, w *world) {
			_ = w.cli.Close()
			w.fails(readErr(w.cli), "read", net.ErrClosed)
			w.fails(writeErr(w.cli), "write", net.ErrClosed)
			w.fails(w.cli.Close(), "close", net.ErrClosed)
			w.fails(w.cli.SetDeadline(time.Now()), "set", net.ErrClosed)
		}},
		{"blocked read", func(t *testing.T, w *world) {
			time.AfterFunc(time.Second, func() { _ = w.cli.Close() })
			w.fails(readErr(w.cli), "read", net.ErrClosed)
		}},
		{"blocked write to a peer that closes", func(t *testing.T, w *world) {
			time.AfterFunc(time.Second, func() { _ = w.srv.Close() })
			_, err := w.cli.Write(make([]byte, 1<<20))
			w.fails(err, "write", syscall.ECONNRESET)
		}},
		{"listener", func(t *testing.T, w *world) {
			c := w.dial()
			_ = w.l.Close()
			w.fails(readErr(c), "read", syscall.ECONNRESET)
			w.fails(w.dialWithin(time.Second), "dial", syscall.ECONNREFUSED)
			_, err := w.l.Accept()
			w.fails(err, "accept", net.ErrClosed)
			if _, err := w.b.Listen("b:80"); err != nil {
				t.Fatal(err)
			}
		}},
		{"books are kept", func(t *testing.T, w *world) {
			if n := w.n.Conns(); n != 2 {
				t.Fatalf("%d ends open, want 2", n)
			}
			_ = w.cli.Close()
			_ = w.srv.Close()
			if n := w.n.Conns(); n != 0 {
				t.Fatalf("%d ends open, want 0", n)
			}
		}},
		{"network", func(t *testing.T, w *world) {
			w.a.Freeze()
			time.AfterFunc(time.Second, func() { _ = w.n.Close() })
			w.fails(readErr(w.cli), "read", net.ErrClosed)
			_, err := w.a.Dial(t.Context(), "b:80")
			w.fails(err, "dial", net.ErrClosed)
			_, err = w.a.Listen(":1")
			w.fails(err, "listen", net.ErrClosed)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { inBubble(t, memnet.Options{}, tt.f) })
	}
}

func TestAddresses(t *testing.T) {
	inBubble(t, memnet.Options{}, func(t *testing.T, w *world) {
		if l, r := w.cli.LocalAddr().String(), w.cli.RemoteAddr().String(); l != "a:32768" || r != "b:80" {
			t.Errorf("client end: %s to %s", l, r)
		}
		if l, r := w.srv.LocalAddr().String(), w.srv.RemoteAddr().String(); l != "b:80" || r != "a:32768" {
			t.Errorf("server end: %s to %s", l, r)
		}
		if l, err := w.b.Listen("localhost:0"); err != nil || l.Addr().String() != "b:32768" {
			t.Errorf("listen on a free port: %v, %v", l, err)
		}
		if _, err := w.b.Dial(t.Context(), "127.0.0.1:80"); err != nil {
			t.Errorf("dial oneself: %v", err)
		}
		_, err := w.b.Listen(":80")
		w.fails(err, "listen", syscall.EADDRINUSE)
		_, err = w.b.Listen("a:81")
		w.fails(err, "listen", syscall.EADDRNOTAVAIL)
		_, err = w.a.Dial(t.Context(), "b:81")
		w.fails(err, "dial", syscall.ECONNREFUSED)
		var dns *net.DNSError
		if _, err = w.a.Dial(t.Context(), "nobody:80"); !errors.As(err, &dns) || !dns.IsNotFound {
			t.Errorf("unknown host: %v", err)
		}
		for _, bad := range []string{"b", "b:http", "b:70000"} {
			if _, err := w.a.Dial(t.Context(), bad); err == nil {
				t.Errorf("dial %q succeeded", bad)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = w.a.Dial(ctx, "b:80")
		w.fails(err, "dial", context.Canceled)
	})
}

func TestBufferIsBounded(t *testing.T) {
	inBubble(t, memnet.Options{Buffer: 1000}, func(t *testing.T, w *world) {
		_ = w.cli.SetWriteDeadline(time.Now().Add(time.Second))
		start := time.Now()
		n, err := w.cli.Write(make([]byte, 1500))
		var ne net.Error
		if n != 1000 || !errors.As(err, &ne) || !ne.Timeout() || time.Since(start) != time.Second {
			t.Fatalf("%d, %v after %v, want 1000 bytes and a timeout after 1 s", n, err, time.Since(start))
		}
		_ = w.cli.SetWriteDeadline(time.Time{})
		done := make(chan struct{})
		go func() { w.write(w.cli, "more"); close(done) }()
		w.read(w.srv, string(make([]byte, 1000))+"more")
		<-done
	})
}

func TestLateDeadlineWakesWaiter(t *testing.T) {
	inBubble(t, memnet.Options{}, func(t *testing.T, w *world) {
		start := time.Now()
		time.AfterFunc(time.Second, func() { _ = w.cli.SetReadDeadline(time.Now().Add(time.Second)) })
		w.fails(readErr(w.cli), "read", os.ErrDeadlineExceeded)
		if d := time.Since(start); d != 2*time.Second {
			t.Fatalf("woke after %v, want 2 s", d)
		}
	})
}

func TestCut(t *testing.T) {
	for name, plant := range map[string]func(*memnet.Network){
		"direction": func(n *memnet.Network) { n.Link("a", "b").Cut() },
		"other":     func(n *memnet.Network) { n.Link("b", "a").Cut() },
		"pair":      func(n *memnet.Network) { n.Pair("a", "b").Cut() },
		"host":      func(n *memnet.Network) { n.Pair("b", memnet.Any).Cut() },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, memnet.Options{}, func(t *testing.T, w *world) {
				w.write(w.cli, "lost")
				time.AfterFunc(time.Second, func() { plant(w.n) })
				w.fails(readErr(w.cli), "read", syscall.ECONNRESET)
				w.fails(readErr(w.srv), "read", syscall.ECONNRESET)
				w.fails(writeErr(w.cli), "write", syscall.ECONNRESET)
				w.fails(writeErr(w.srv), "write", syscall.ECONNRESET)
				w.dial() // new ones are fine
				w.write(w.accept(), "x")
			})
		})
	}
	t.Run("others stay", func(t *testing.T) {
		inBubble(t, memnet.Options{}, func(t *testing.T, w *world) {
			w.n.Pair("a", "c").Cut()
			w.n.Link("c", memnet.Any).Cut()
			w.write(w.cli, "x")
			w.read(w.srv, "x")
		})
	})
}

// TestCutAfter cuts a request of 6 bytes and its answer at every byte.
func TestCutAfter(t *testing.T) {
	for _, short := range []bool{false, true} {
		for _, delay := range []time.Duration{0, 10 * time.Millisecond} {
			for n := range 7 {
				t.Run(fmt.Sprintf("short=%v delay=%v n=%d", short, delay, n), func(t *testing.T) {
					inBubble(t, memnet.Options{}, func(t *testing.T, w *world) {
						w.n.Pair("a", "b").Delay(delay, 0)
						w.write(w.srv, "early")
						time.Sleep(delay)
						if link := w.n.Link("a", "b"); short {
							link.BreakAfter(int64(n))
						} else {
							link.CutAfter(int64(n))
						}
						wrote, err := w.cli.Write([]byte("123456"))
						switch {
						case short && n < 6:
							w.fails(err, "write", syscall.ECONNRESET)
							if wrote != n {
								t.Fatalf("wrote %d", wrote)
							}
						case wrote != 6 || err != nil:
							t.Fatalf("write: %d, %v", wrote, err)
						}
						got, err := io.ReadAll(w.srv)
						w.fails(err, "read", syscall.ECONNRESET)
						if string(got) != "123456"[:n] {
							t.Fatalf("the peer read %q", got)
						}
						w.fails(writeErr(w.srv), "write", syscall.ECONNRESET)
						w.read(w.cli, "early")
						w.fails(readErr(w.cli), "read", syscall.ECONNRESET)
						w.fails(writeErr(w.cli), "write", syscall.ECONNRESET)

						second := w.dial() // counts from its own first byte
						if n > 0 {
							w.write(second, "123456"[:n-1])
						}
						w.n.Link("a", "b").CutAfter(-1)
						w.write(second, "123456")
					})
				})
			}
		}
	}
}

func TestRefuse(t *testing.T) {
	inBubble(t, memnet.Options{}, func(t *testing.T, w *world) {
		link := w.n.Link(memnet.Any, "b").Refuse(true)
		w.fails(w.dialWithin(time.Second), "dial", syscall.ECONNREFUSED)
		w.write(w.cli, "x")
		w.read(w.srv, "x")
		link.Refuse(false)
		if err := w.dialWithin(time.Second); err != nil {
			t.Fatal(err)
		}
	})
}

func TestFreeze(t *testing.T) {
	inBubble(t, memnet.Options{Buffer: 10, Backlog: 1}, func(t *testing.T, w *world) {
		w.b.Freeze()
		start := time.Now()
		answered := make(chan time.Duration, 1)
		go func() {
			w.read(w.srv, "request")
			w.write(w.srv, "answer")
			answered <- time.Since(start)
		}()
		w.write(w.cli, "request") // piles up in the buffer
		_ = w.cli.SetWriteDeadline(time.Now().Add(time.Second))
		if n, err := w.cli.Write([]byte("12345")); n != 3 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("write into a full buffer: %d, %v", n, err)
		}
		late := w.dial() // the backlog takes one, and no more
		w.write(late, "hello")
		w.fails(w.dialWithin(time.Second), "dial", context.DeadlineExceeded)
		_ = w.srv.SetDeadline(time.Now().Add(time.Second)) // passes unseen …
		time.Sleep(5 * time.Second)
		_ = w.srv.SetDeadline(time.Time{})
		w.silent(w.cli, 3*time.Second)

		w.b.Thaw()
		if d := <-answered; d != 10*time.Second {
			t.Fatalf("answered after %v, want 10 s", d)
		}
		w.read(w.cli, "answer")
		w.read(w.accept(), "hello")
	})
	t.Run("deadline is told after the thaw", func(t *testing.T) {
		inBubble(t, memnet.Options{}, func(t *testing.T, w *world) {
			w.a.Freeze()
			start := time.Now()
			_ = w.cli.SetReadDeadline(start.Add(time.Second))
			time.AfterFunc(3*time.Second, w.a.Thaw)
			w.fails(readErr(w.cli), "read", os.ErrDeadlineExceeded)
			if d := time.Since(start); d != 3*time.Second {
				t.Fatalf("after %v", d)
			}
		})
	})
	t.Run("close and dial", func(t *testing.T) {
		inBubble(t, memnet.Options{}, func(t *testing.T, w *world) {
			w.a.Freeze()
			time.AfterFunc(time.Second, func() { _ = w.cli.Close() })
			w.fails(readErr(w.cli), "read", net.ErrClosed)
			time.AfterFunc(time.Second, w.a.Thaw)
			w.dial()
		})
	})
	t.Run("what was sent before still arrives", func(t *testing.T) {
		inBubble(t, memnet.Options{}, func(t *testing.T, w *world) {
			w.n.Link("a", "b").Delay(time.Second, 0)
			w.write(w.cli, "x")
			w.a.Freeze()
			w.read(w.srv, "x")
		})
	})
}

func TestKill(t *testing.T) {
	inBubble(t, memnet.Options{}, func(t *testing.T, w *world) {
		unread := w.dial()
		w.write(unread, "never accepted")
		w.b.Freeze()
		w.b.Kill()
		if err := readErr(w.cli); err != io.EOF { //nolint:errorlint // must be bare
			t.Fatal(err)
		}
		w.fails(readErr(unread), "read", syscall.ECONNRESET)
		w.fails(w.dialWithin(time.Second), "dial", syscall.ECONNREFUSED)
		if _, err := w.b.Listen(":80"); err != nil {
			t.Fatal(err)
		}
		w.dial()
	})
}

func TestDelay(t *testing.T) {
	inBubble(t, memnet.Options{}, func(t *testing.T, w *world) {
		w.n.Link("a", "b").Delay(30*time.Millisecond, 0)
		w.n.Link("b", memnet.Any).Delay(20*time.Millisecond, 0)
		start := time.Now()
		at := func(what string, want int64) {
			t.Helper()
			if d := time.Since(start).Milliseconds(); d != want {
				t.Fatalf("%s at %d ms, want %d", what, d, want)
			}
		}
		w.write(w.cli, "ping")
		at("written", 0)
		w.read(w.srv, "ping")
		at("request", 30)
		w.write(w.srv, "pong")
		w.read(w.cli, "pong")
		at("answer", 50)
		w.dial()
		at("connection", 100)
		_ = w.cli.Close()
		_ = readErr(w.srv)
		at("end", 130)
		w.write(w.srv, "x") // comes back as a reset
		time.Sleep(49 * time.Millisecond)
		w.write(w.srv, "x")
		time.Sleep(time.Millisecond)
		w.fails(writeErr(w.srv), "write", syscall.EPIPE)
	})
}

func TestJitterKeepsOrderAndSeed(t *testing.T) {
	run := func(seed uint64) (at []time.Duration) {
		inBubble(t, memnet.Options{Seed: seed}, func(t *testing.T, w *world) {
			w.n.Link("a", "b").Delay(10*time.Millisecond, 20*time.Millisecond)
			start := time.Now()
			go func() {
				for i := range 50 {
					w.write(w.cli, string(rune('A'+i)))
					time.Sleep(time.Millisecond)
				}
			}()
			for i := range 50 {
				w.read(w.srv, string(rune('A'+i)))
				d := time.Since(start)
				if low := time.Duration(i)*time.Millisecond + 10*time.Millisecond; d < low {
					t.Fatalf("byte %d after %v", i, d)
				}
				at = append(at, d)
			}
		})
		return at
	}
	a, b, c := fmt.Sprint(run(1)), fmt.Sprint(run(1)), fmt.Sprint(run(2))
	if a != b {
		t.Errorf("the same seed gave different times:\n%s\n%s", a, b)
	}
	if a == c {
		t.Error("another seed gave the same times")
	}
}

func TestRate(t *testing.T) {
	inBubble(t, memnet.Options{}, func(t *testing.T, w *world) {
		w.n.Link("a", "b").Rate(100 << 10)
		start := time.Now()
		w.write(w.cli, string(make([]byte, 200<<10)))
		w.read(w.srv, string(make([]byte, 100<<10)))
		if d := time.Since(start); d != time.Second {
			t.Fatalf("half arrived after %v, want 1 s", d)
		}
		w.read(w.srv, string(make([]byte, 100<<10)))
		if d := time.Since(start); d != 2*time.Second {
			t.Fatalf("all arrived after %v, want 2 s", d)
		}
	})
}

func TestDrop(t *testing.T) {
	t.Run("data", func(t *testing.T) {
		inBubble(t, memnet.Options{Buffer: 10}, func(t *testing.T, w *world) {
			link := w.n.Link("a", "b").Drop(true)
			w.write(w.cli, "swallowed")
			w.silent(w.srv, time.Second)
			w.write(w.srv, "sails") // data passes the other way, its acknowledgement does not
			w.read(w.cli, "sails")
			_ = w.srv.SetWriteDeadline(time.Now().Add(time.Second))
			if n, err := w.srv.Write([]byte("1234567")); n != 5 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("write without acknowledgements: %d, %v", n, err)
			}
			_ = w.cli.SetWriteDeadline(time.Now().Add(time.Second))
			if n, err := w.cli.Write([]byte("full")); n != 1 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("write into the void: %d, %v", n, err)
			}
			link.Drop(false)
			w.read(w.srv, "swallowedf")
		})
	})
	t.Run("dial", func(t *testing.T) {
		inBubble(t, memnet.Options{}, func(t *testing.T, w *world) {
			for _, dir := range [][2]string{{"a", "b"}, {"b", "a"}, {memnet.Any, "b"}} {
				link := w.n.Link(dir[0], dir[1]).Drop(true)
				start := time.Now()
				err := w.dialWithin(time.Second)
				w.fails(err, "dial", context.DeadlineExceeded)
				var ne net.Error
				if d := time.Since(start); !errors.As(err, &ne) || !ne.Timeout() || d != time.Second {
					t.Fatalf("%v after %v", err, d)
				}
				time.AfterFunc(time.Second, func() { link.Drop(false) })
				w.dial()
			}
		})
	})
	t.Run("end", func(t *testing.T) {
		inBubble(t, memnet.Options{}, func(t *testing.T, w *world) {
			w.n.Pair("a", "b").Drop(true)
			_ = w.cli.Close()
			w.silent(w.srv, time.Second)
			w.write(w.srv, "x")
			w.write(w.srv, "x")
			w.n.Pair("a", "b").Drop(false)
			if err := readErr(w.srv); err != io.EOF { //nolint:errorlint // must be bare
				t.Fatal(err)
			}
			w.fails(writeErr(w.srv), "write", syscall.EPIPE)
		})
	})
	t.Run("one's own loop is not a cable", func(t *testing.T) {
		inBubble(t, memnet.Options{}, func(t *testing.T, w *world) {
			w.n.Pair("b", memnet.Any).Drop(true)
			if _, err := w.b.Dial(t.Context(), ":80"); err != nil {
				t.Fatal(err)
			}
			w.n.Link("b", "b").Drop(true)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := w.b.Dial(ctx, ":80")
			w.fails(err, "dial", context.DeadlineExceeded)
		})
	})
}

// TestBytesSurvive sends many sizes through a small buffer, with all that delays.
// TestWritingOnAfterAnUnheardClose: the writer has bytes under way that were dropped, and cannot know that nobody reads any more.
func TestWritingOnAfterAnUnheardClose(t *testing.T) {
	inBubble(t, memnet.Options{}, func(t *testing.T, w *world) {
		w.write(w.cli, "heard")
		w.read(w.srv, "heard")
		w.n.Pair("a", "b").Drop(true)
		w.write(w.cli, "unheard")
		if err := w.srv.Close(); err != nil {
			t.Fatal(err)
		}
		w.write(w.cli, "in vain")
		w.n.Pair("a", "b").Drop(false)
		synctest.Wait()
		w.fails(writeErr(w.cli), "write", syscall.EPIPE)
	})
}

func TestBytesSurvive(t *testing.T) {
	inBubble(t, memnet.Options{Buffer: 3000}, func(t *testing.T, w *world) {
		w.n.Pair("a", "b").Delay(time.Millisecond, time.Millisecond).Rate(1 << 20)
		var sent bytes.Buffer
		for i := range 400 {
			sent.Write(bytes.Repeat([]byte{byte(i)}, i*7%1013))
		}
		want := bytes.Clone(sent.Bytes())
		go func() {
			for sent.Len() > 0 {
				_, _ = w.cli.Write(sent.Next(1 + sent.Len()%777))
			}
			_ = w.cli.Close()
		}()
		got, err := io.ReadAll(w.srv)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes of %d, %v", len(got), len(want), err)
		}
	})
}

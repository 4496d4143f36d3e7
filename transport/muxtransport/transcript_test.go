package muxtransport_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/memnet"
	"github.com/hull-go/hull/transport/muxtransport"
)

// tape is a client's connection that keeps what is said on it.
type tape struct {
	net.Conn
	mu             sync.Mutex
	sent, received []byte
}

func (c *tape) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.received = append(c.received, b[:n]...)
	return n, err
}

func (c *tape) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent = append(c.sent, b[:n]...)
	return n, err
}

// text writes what was said down: a line for each preface and frame, the header apart from the payload.
func (c *tape) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var s strings.Builder
	for _, side := range []struct {
		name string
		said []byte
	}{{"client", c.sent}, {"server", c.received}} {
		fmt.Fprintf(&s, "%s\n  % x\n", side.name, side.said[:8])
		for b := side.said[8:]; len(b) > 0; {
			n := 8 + int(b[0]) | int(b[1])<<8 | int(b[2])<<16
			fmt.Fprintf(&s, "  %s\n", strings.TrimRight(fmt.Sprintf("% x | % x", b[:8], b[8:n]), " |"))
			b = b[n:]
		}
	}
	return s.String()
}

// sameTranscript compares with the file of that name. A change that is meant has to be one that old peers do not notice; the file that
// is wanted then is among the artifacts of the test (go test -artifacts).
func sameTranscript(t *testing.T, name, got string) {
	t.Helper()
	want, err := os.ReadFile(filepath.Join("testdata", "transcripts", name))
	if err != nil {
		t.Error(err)
	}
	if got == string(want) {
		return
	}
	path := filepath.Join(t.ArtifactDir(), name)
	if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
		t.Error(err)
	}
	t.Errorf("another conversation than in testdata/transcripts/%s, see %s:\n%s", name, path, got)
}

// converse has a call of each kind that is short.
func converse(t *testing.T, c transport.Conn) {
	t.Helper()
	request := func(method, msg string) *transport.Request {
		b := []byte(msg)
		return &transport.Request{Method: method, Codec: codec.Bytes{}, Message: &b, Deadline: policy.Now().Add(time.Second), Metadata: transport.Metadata{
			{Key: "user", Value: "ada"}, {Key: "traceparent", Value: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}}}
	}
	for range 2 {
		var out []byte
		if err := c.Call(t.Context(), request("echo", "ahoy"), &transport.Reply{Message: &out}); err != nil || string(out) != "ahoy" {
			t.Errorf("echo: %q, %v", out, err)
		}
		time.Sleep(time.Millisecond)
	}
	if err := c.Call(t.Context(), request("fail", ""), &transport.Reply{Message: new([]byte)}); err == nil || err.Code != status.NotFound {
		t.Errorf("fail: %v", err)
	}
	s, err := c.Open(t.Context(), request("bidi", ""))
	if err != nil {
		t.Fatal(err)
	}
	for _, msg := range []string{"one", "two"} {
		b := []byte(msg)
		if err := s.Send(&b); err != nil {
			t.Error(err)
		}
		if err := s.Recv(&b); err != nil || string(b) != msg {
			t.Errorf("%q, %v", b, err)
		}
	}
	if err := s.CloseSend(); err != nil {
		t.Error(err)
	}
	if err := s.Recv(new([]byte)); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// What today's client and server, and an old server, say to each other byte by byte.
func TestTranscripts(t *testing.T) {
	for _, tt := range []struct {
		name  string
		serve func(net.Conn) // nil = today's server
	}{{"today.txt", nil}, {"old-server.txt", oldServer}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var tp *tape
				n := memnet.New(memnet.Options{})
				ln, err := n.Host("server").Listen(":80")
				if err != nil {
					t.Fatal(err)
				}
				s, err := muxtransport.NewServer(shapesHandler{make(chan string, 1)}, muxtransport.Options{Instance: func() string { return "greeter/a1" }})
				if err != nil {
					t.Fatal(err)
				}
				serve := tt.serve
				if serve == nil {
					serve = func(nc net.Conn) { s.ServeConn(nc) }
				}
				var wg sync.WaitGroup
				wg.Go(func() {
					if nc, err := ln.Accept(); err == nil {
						serve(nc)
					}
				})
				d, err := muxtransport.NewDialer(muxtransport.Options{Dial: func(ctx context.Context, addr string) (net.Conn, error) {
					nc, err := n.Host("client").Dial(ctx, addr)
					tp = &tape{Conn: nc}
					return tp, err
				}})
				if err != nil {
					t.Fatal(err)
				}
				c, serr := d.Dial(t.Context(), "server:80")
				if serr != nil {
					t.Fatal(serr)
				}
				converse(t, c)
				sameTranscript(t, tt.name, tp.text())
				c.Close()
				s.Close()
				ln.Close()
				wg.Wait()
				if err := s.Wait(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// What an old client says, and is answered. Its last frame has a type that it cannot know.
func TestTranscriptOfOldClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, shapesHandler{make(chan string, 1)}, muxtransport.Options{}, everything())
		defer l.close()
		nc, err := l.net.Host("client").Dial(t.Context(), "server:80")
		if err != nil {
			t.Fatal(err)
		}
		tp := &tape{Conn: nc}
		p := frozenDial(tp)
		await := func(types ...byte) {
			t.Helper()
			for _, typ := range types {
				if f, err := p.next(); err != nil || f.typ != typ {
					t.Fatalf("%v, %v; want a frame of type %d", f, err, typ)
				}
			}
		}
		p.send(frozenCall, 1<<16, frozenCallPayload(1, "echo", 0, "user", "ada"), []byte("ahoy"))
		await(frozenAnswer)
		p.send(frozenCall, 1<<16|1, frozenCallPayload(1, "", 0, "user", "ada"), bytes.Repeat([]byte("ahoy "), 20))
		await(frozenAnswer)
		p.send(frozenCall|frozenMore, 1<<16|2, frozenCallPayload(1, "", 8), []byte("ahoy"))
		p.send(frozenPart, 1<<16|2, []byte("ahoy"))
		await(frozenAnswer)
		p.send(frozenOpen, 1<<16|3, frozenCallPayload(2, "collect", 0))
		p.send(frozenData, 1<<16|3, []byte("one"))
		p.send(frozenData, 1<<16|3, []byte("two"))
		p.send(frozenHalf, 1<<16|3)
		await(frozenData, frozenEnd)
		p.send(99, 0)
		await(frozenGoAway)
		sameTranscript(t, "old-client.txt", tp.text())
		nc.Close()
	})
}

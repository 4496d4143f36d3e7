package httptransport_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/httptransport"
	"github.com/hull-go/hull/transport/memnet"
)

// town is a plain net/http server in virtual time, and a Conn to it.
type town struct {
	transport.Conn
	server  *memnet.Host
	dials   atomic.Int64 // network connections that were made
	accepts func(net.Conn) net.Conn
}

func (w *town) Accept(ln net.Listener) (net.Conn, error) {
	c, err := ln.Accept()
	if err == nil {
		w.dials.Add(1)
		if w.accepts != nil {
			c = w.accepts(c)
		}
	}
	return c, err
}

type counting struct {
	net.Listener
	w *town
}

func (l counting) Accept() (net.Conn, error) { return l.w.Accept(l.Listener) }

// inTown runs f with a Conn to a server, made by Prove or by Dial. It answers 1; a/Panic panics, a/Parting answers and closes without a word.
func inTown(t *testing.T, f func(t *testing.T, w *town)) {
	for _, how := range []string{"proved", "dialled"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := memnet.New(memnet.Options{})
				defer n.Close()
				w := &town{server: n.Host("server")}
				ln, err := w.server.Listen(":80")
				if err != nil {
					t.Fatal(err)
				}
				srv := &http.Server{ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Hour, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					switch r.URL.Path {
					case "/a/Panic":
						panic("on purpose")
					case "/a/Slow":
						time.Sleep(50 * time.Millisecond)
					case "/a/Parting":
						c, rest, err := rw.(http.Hijacker).Hijack()
						if err != nil {
							t.Error(err)
							return
						}
						fmt.Fprint(rest, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1")
						_ = rest.Flush()
						_ = c.Close()
						return
					}
					fmt.Fprint(rw, 1)
				})}
				var serving sync.WaitGroup
				serving.Go(func() { _ = srv.Serve(counting{ln, w}) })
				defer serving.Wait()
				defer srv.Close()
				d, err := httptransport.NewDialer(httptransport.Options{Dial: n.Host("client").Dial})
				if err != nil {
					t.Fatal(err)
				}
				dial := d.Dial
				if how == "proved" {
					dial = d.Prove
				}
				c, e := dial(t.Context(), "server:80")
				if e != nil {
					t.Fatal(e)
				}
				w.Conn = c
				defer func() { c.Close(); <-c.Done() }()
				f(t, w)
			})
		})
	}
}

func (w *town) ask(t *testing.T, method string) *status.Error {
	return ask(t.Context(), w.Conn, method, 0, new(int))
}

// TestPanicsOfOthers is a regression test: net/http ends the connection when a handler panics, and with it the whole Conn was given up. Calls of
// other methods failed, for as long as somebody called the one that panics.
func TestPanicsOfOthers(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ctx, cancel := context.WithCancel(t.Context())
		var poison sync.WaitGroup
		for k := range 2 { // also before the first answer
			poison.Go(func() {
				for ctx.Err() == nil {
					if err := w.ask(t, "a/Panic"); err == nil || err.Kind != status.Reset || err.Fate != status.Maybe {
						t.Errorf("a call that panics: %v", err)
					}
					time.Sleep(time.Duration(10+7*k) * time.Millisecond)
				}
			})
		}
		for i := range 500 {
			method := "a/Well"
			if i%3 == 0 {
				method = "a/Slow"
			}
			if err := w.ask(t, method); err != nil || !w.Usable() {
				t.Fatalf("call %d: %v, usable %v", i, err, w.Usable())
			}
			time.Sleep(time.Duration(i%30) * time.Millisecond)
		}
		cancel()
		poison.Wait()
	})
}

// TestPartingAfterEachAnswer: a server that closes each connection after its answer, and does not say so, gets every call, and is not stormed when there
// are none.
func TestPartingAfterEachAnswer(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		for range 50 {
			for range 4 {
				if err := w.ask(t, "a/Parting"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Millisecond) // a call that is sent before the end is known may have been served
				synctest.Wait()
			}
			time.Sleep(time.Second)
		}
		busy := w.dials.Load()
		if busy > 500 {
			t.Errorf("%d connections for 200 calls", busy)
		}
		time.Sleep(30 * time.Minute)
		if n := w.dials.Load() - busy; n > 2 {
			t.Errorf("%d connections while nobody called", n)
		}
	})
}

// TestGoneWithoutCall: that a server has died, or hangs up on everybody, is noticed without a call.
func TestGoneWithoutCall(t *testing.T) {
	for name, fault := range map[string]func(w *town){
		"died":     func(w *town) { w.server.Kill() },
		"hangs up": func(w *town) { w.accepts = func(c net.Conn) net.Conn { _ = c.Close(); return c } },
	} {
		t.Run(name, func(t *testing.T) {
			inTown(t, func(t *testing.T, w *town) {
				if err := w.ask(t, "a/Well"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				fault(w)
				_ = w.ask(t, "a/Panic") // ends the connection, if it has not ended
				select {
				case <-w.Done():
				case <-time.After(time.Second):
					t.Fatal("nobody has noticed")
				}
				if err := w.ask(t, "a/Well"); err == nil || err.Fate != status.NotSent {
					t.Errorf("a call afterwards: %v", err)
				}
			})
		})
	}
}

// TestKeysAreNotSentAgain is a regression test: for a request with a header Idempotency-Key net/http sent it again by itself, when a server had read it and
// ended the connection.
func TestKeysAreNotSentAgain(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var seen atomic.Int64
	var all sync.WaitGroup
	serve := func(c net.Conn) {
		defer c.Close()
		for br := bufio.NewReader(c); ; {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return
			}
			if r.URL.Path == "/a/Die" {
				if r.Header.Get("Idempotency-Key") == "k" {
					seen.Add(1)
				}
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1")
		}
	}
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() { serve(c) })
		}
	})
	d, err := httptransport.NewDialer(httptransport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, e := d.Dial(t.Context(), ln.Addr().String())
	if e != nil {
		t.Fatal(e)
	}
	if e := ask(t.Context(), c, "a/Well", 0, new(int)); e != nil { // what has answered once may be stale the next time
		t.Fatal(e)
	}
	req := &transport.Request{Method: "a/Die", Codec: codec.JSON{}, Message: 0, Metadata: transport.Metadata{{Key: "idempotency-key", Value: "k"}}}
	if e := c.Call(t.Context(), req, &transport.Reply{Message: new(int)}); e == nil || e.Fate == status.NotSent || seen.Load() != 1 {
		t.Errorf("%v; the server got it %d times", e, seen.Load())
	}
	c.Close()
	ln.Close()
	all.Wait()
}

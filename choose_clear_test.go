package hull_test

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// listening is a client of a service whose only node is at addr and says that it speaks HTTP.
func listening(t *testing.T, addr string) *hull.Client {
	t.Helper()
	engine := memregistry.New()
	reg, err := registry.New(engine, registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reg.Close() })
	if _, err := engine.Announce(t.Context(), &registry.Node{ID: "a", Service: "greeter", Address: addr, Protocols: []string{"http"}}, time.Hour); err != nil {
		t.Fatal(err)
	}
	c, err := hull.NewClient(hull.WithRegistry(reg))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// port answers what comes first on each connection, and hangs up. heard returns what has come so far.
func port(t *testing.T, answer string) (addr string, heard func() []byte) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all bytes.Buffer
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				b := make([]byte, 4096)
				n, _ := c.Read(b)
				mu.Lock()
				all.Write(b[:n])
				mu.Unlock()
				_, _ = c.Write([]byte(answer))
			})
		}
	})
	t.Cleanup(func() { ln.Close(); serving.Wait() })
	return ln.Addr().String(), func() []byte {
		mu.Lock()
		defer mu.Unlock()
		return bytes.Clone(all.Bytes())
	}
}

// TestNothingIsSentInTheClearToATLSPort: a node that said it speaks HTTP, and wants TLS, gets no word of a call.
func TestNothingIsSentInTheClearToATLSPort(t *testing.T) {
	for what, answer := range map[string]string{"an alert": "\x15\x03\x01\x00\x02\x02\x46",
		"words": "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"} {
		t.Run(what, func(t *testing.T) {
			addr, heard := port(t, answer)
			_, err := hull.Call[helloReply](t.Context(), listening(t, addr).To("greeter"), "greeter.Greeter/Hello", &helloRequest{Name: "secret"},
				hull.Timeout(20*time.Second))
			if err == nil || status.FateOf(err) != status.NotSent || !errors.Is(err, transport.ErrTLS) {
				t.Errorf("%v", err)
			}
			if b := heard(); bytes.Contains(b, []byte("secret")) || bytes.Contains(b, []byte("Greeter")) || len(b) == 0 {
				t.Errorf("sent in the clear: %q", b)
			}
		})
	}
}

// TestNothingIsSentInTheClearToAPortThatHangsUp: there are TLS servers that say nothing to who does not speak TLS.
func TestNothingIsSentInTheClearToAPortThatHangsUp(t *testing.T) {
	addr, heard := port(t, "")
	_, err := hull.Call[helloReply](t.Context(), listening(t, addr).To("greeter"), "greeter.Greeter/Hello", &helloRequest{Name: "secret"}, hull.Timeout(20*time.Second))
	if err == nil || status.FateOf(err) != status.NotSent {
		t.Errorf("%v", err)
	}
	if b := heard(); bytes.Contains(b, []byte("secret")) || bytes.Contains(b, []byte("Greeter")) || len(b) == 0 {
		t.Errorf("sent in the clear: %q", b)
	}
}

// TestHTTPServerThatAnswersNoOptions is called all the same.
func TestHTTPServerThatAnswersNoOptions(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{DisableGeneralOptionsHandler: true, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodOptions {
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"Text":"hello"}`))
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	defer func() { srv.Close(); <-done }()
	conn := listening(t, ln.Addr().String()).To("greeter")
	var rep *helloReply
	for range 5 { // a machine that is very busy may not even dial in time
		if rep, err = hull.Call[helloReply](t.Context(), conn, "greeter.Greeter/Hello", &helloRequest{Name: "Ada"}, hull.Timeout(20*time.Second)); err == nil {
			break
		}
	}
	if err != nil || rep.Text != "hello" {
		t.Errorf("%v, %v", rep, err)
	}
}

// Package porttest serves ports of internal/oneport on networks in memory, and writes what HTTP/2 peers say to them, for tests.
package porttest

import (
	"bytes"
	"net"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/hull-go/hull/internal/oneport"
	"github.com/hull-go/hull/transport/memnet"
)

// Magic is the first byte by which the ports know the native protocol.
const Magic = 0x9e

// Network is a port and who may connect to it. It is for the goroutine of the test.
type Network struct {
	*oneport.Port
	t    testing.TB
	net  *memnet.Network
	stop sync.Once
}

// Serve serves a port until Stop, or until the test ends. Connections for which to has no function are closed.
func Serve(t testing.TB, to oneport.Protocols, o oneport.Options) *Network {
	t.Helper()
	for _, f := range []*func(net.Conn){&to.Native, &to.GRPC, &to.HTTP} {
		if *f == nil {
			*f = func(c net.Conn) { c.Close() }
		}
	}
	n := &Network{t: t, net: memnet.New(memnet.Options{Seed: 1})}
	ln, err := n.net.Host("a").Listen(":80")
	if err != nil {
		t.Fatal(err)
	}
	if n.Port, err = oneport.New(ln, Magic, to, o); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- n.Port.Serve() }()
	t.Cleanup(func() {
		n.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		_ = n.net.Close()
	})
	return n
}

// Dial connects to the port. The connection is closed when the test ends.
func (n *Network) Dial() net.Conn {
	n.t.Helper()
	c, err := n.net.Host("b").Dial(n.t.Context(), "a:80")
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { c.Close() })
	return c
}

// Stop accepts no more, and waits until the port has nothing left to do.
func (n *Network) Stop() {
	n.stop.Do(func() {
		n.StopAccepting()
		n.Wait()
	})
}

// Frames returns the frames that write writes.
func Frames(write func(f *http2.Framer)) string {
	var b bytes.Buffer
	write(http2.NewFramer(&b, nil))
	return b.String()
}

// Headers returns a header's block of names and values, one after the other.
func Headers(kv ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(kv); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]}) // a Buffer takes all
	}
	return b.Bytes()
}

// GRPC is the header's block of a gRPC call.
func GRPC() []byte {
	return Headers(":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/a.B/C", "content-type", "application/grpc+proto", "te", "trailers")
}

// Request writes a header's block as the first request of a connection.
func Request(f *http2.Framer, block []byte) {
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true}) // a Buffer takes all
}

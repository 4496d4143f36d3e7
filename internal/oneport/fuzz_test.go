package oneport_test

import (
	"bytes"
	"io"
	"net"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"

	"github.com/hull-go/hull/internal/oneport"
	"github.com/hull-go/hull/internal/porttest"
)

// FuzzPort: whatever is sent, in whatever pieces, the connection ends, nothing is left, and the protocol that gets it gets a part of what was sent,
// in order; all of it but for SETTINGS acknowledgements and PINGs.
func FuzzPort(f *testing.F) {
	settings := porttest.Frames(func(f *http2.Framer) { _ = f.WriteSettings() })
	ack := porttest.Frames(func(f *http2.Framer) { _ = f.WriteSettingsAck() })
	ping := porttest.Frames(func(f *http2.Framer) { _ = f.WritePing(false, [8]byte{1}) })
	grpc := porttest.Frames(func(f *http2.Framer) { porttest.Request(f, grpcHeaders) })
	for _, s := range []string{"\x9eHULL", "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x00\x01\x00", preface, preface + settings + ack + grpc + ack,
		preface + settings + ping + grpc + ping + ack + settings, preface + grpc, preface + settings + "\xff\xff\xff\x01\x04\x00\x00\x00\x01"} {
		f.Add([]byte(s), 1)
		f.Add([]byte(s), 1000)
	}
	f.Fuzz(func(t *testing.T, sent []byte, piece int) {
		if piece < 1 || len(sent) > 1<<17 || len(sent)/piece > 1<<10 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			var read []byte
			taken := make(chan struct{})
			take := func(c net.Conn) {
				read, _ = io.ReadAll(c)
				c.Close()
				close(taken)
			}
			p := porttest.Serve(t, oneport.Protocols{Native: take, GRPC: take, HTTP: take}, oneport.Options{})
			c := p.Dial()
			for b := sent; len(b) > 0; {
				k := min(piece, len(b))
				if _, err := c.Write(b[:k]); err != nil {
					break
				}
				b = b[k:]
			}
			synctest.Wait()
			c.Close()
			synctest.Wait()
			p.Stop()
			if n := p.Counters(); n.Conns != 0 || n.Waiting != 0 {
				t.Fatalf("%+v", n)
			}
			if n := p.Counters(); n.Native+n.GRPC+n.HTTP == 0 {
				return
			}
			<-taken
			if !bytes.HasPrefix(sent, []byte(preface)) && !bytes.Equal(read, sent) {
				t.Fatalf("%q became %q", sent, read)
			}
			if !isSubsequence(read, sent) {
				t.Fatalf("%q became %q, which is no part of it", sent, read)
			}
		})
	})
}

// isSubsequence reports whether a can be had from b by leaving bytes out.
func isSubsequence(a, b []byte) bool {
	for _, x := range b {
		if len(a) > 0 && a[0] == x {
			a = a[1:]
		}
	}
	return len(a) == 0
}

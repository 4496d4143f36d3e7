package oneport_test

import (
	"bytes"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/hull-go/hull/internal/oneport"
	"github.com/hull-go/hull/transport/memnet"
)

// TestReasonInPieces: the peer is told why its stream was cut off wherever the server's writes end. grpc-go's end after 32 KiB, in the middle of frames.
func TestReasonInPieces(t *testing.T) {
	reset := frames(func(f *http2.Framer) { _ = f.WriteRSTStream(1, http2.ErrCodeProtocol) })
	want := frames(func(f *http2.Framer) { _ = f.WriteRSTStream(1, http2.ErrCodeEnhanceYourCalm) })
	for at := range len(reset) {
		synctest.Test(t, func(t *testing.T) {
			n := memnet.New(memnet.Options{Seed: 1})
			defer n.Close()
			ln, err := n.Host("a").Listen(":80")
			if err != nil {
				t.Fatal(err)
			}
			p, err := oneport.New(ln, magic, oneport.Protocols{Native: func(c net.Conn) { c.Close() }, HTTP: func(c net.Conn) { c.Close() }, GRPC: func(c net.Conn) {
				defer c.Close()
				var read []byte
				b := make([]byte, 100)
				for !bytes.HasSuffix(read, []byte(cutOff)) {
					n, err := c.Read(b)
					if err != nil {
						t.Error(err)
						return
					}
					read = append(read, b[:n]...)
					c.(*oneport.Conn).Await(1, 1)
				}
				for _, piece := range []string{reset[:at], reset[at:]} {
					if _, err := io.WriteString(c, piece); err != nil {
						t.Error(err)
					}
				}
			}}, oneport.Options{SlowReader: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			go func() { _ = p.Serve() }()
			c, err := n.Host("b").Dial(t.Context(), "a:80")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, preface+frames(func(f *http2.Framer) {
				_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize})
				request(f, grpcHeaders)
			})); err != nil {
				t.Fatal(err)
			}
			all, _ := io.ReadAll(c)
			if !bytes.HasSuffix(all, []byte(want)) {
				t.Errorf("%d bytes in the first piece: %q", at, all)
			}
			p.StopAccepting()
			p.Wait()
		})
	}
}

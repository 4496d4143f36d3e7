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
	"github.com/hull-go/hull/internal/porttest"
)

// TestReasonInPieces: the peer is told why its stream was cut off wherever the server's writes end. grpc-go's end after 32 KiB, in the middle of frames.
func TestReasonInPieces(t *testing.T) {
	reset := func(stream uint32, code http2.ErrCode) string {
		return porttest.Frames(func(f *http2.Framer) { _ = f.WriteRSTStream(stream, code) })
	}
	webHeaders := porttest.Headers(":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/a.B/C", "content-type", "application/json")
	// calm is what net/http's side says of stream 1.
	calm := func(after time.Duration, counted bool) func(*oneport.Conn) {
		return func(c *oneport.Conn) { c.Calm(1, time.Now().Add(after), counted) }
	}
	for _, tt := range []struct {
		name       string
		block      []byte // of the request
		say        func(c *oneport.Conn)
		sent, told string
		counted    int64
	}{
		{"grpc-go", grpcHeaders, func(c *oneport.Conn) { c.Await(1, 1) }, reset(1, http2.ErrCodeProtocol), reset(1, http2.ErrCodeEnhanceYourCalm), 1},
		{"net/http", webHeaders, calm(0, false), reset(1, http2.ErrCodeInternal), reset(1, http2.ErrCodeEnhanceYourCalm), 1},
		{"net/http, counted before", webHeaders, calm(0, true), reset(1, http2.ErrCodeInternal), reset(1, http2.ErrCodeEnhanceYourCalm), 0},
		{"net/http, for another reason", webHeaders, calm(0, false), reset(1, http2.ErrCodeNo), reset(1, http2.ErrCodeNo), 0},
		{"net/http, before the time", webHeaders, calm(time.Second, false), reset(1, http2.ErrCodeInternal), reset(1, http2.ErrCodeInternal), 0},
		{"net/http, another stream", webHeaders, calm(0, false), reset(3, http2.ErrCodeInternal), reset(3, http2.ErrCodeInternal), 0},
		{"net/http, nothing said", webHeaders, func(c *oneport.Conn) { c.Calm(0, time.Now(), false) }, reset(1, http2.ErrCodeInternal), reset(1, http2.ErrCodeInternal), 0},
	} {
		for at := range len(tt.sent) {
			synctest.Test(t, func(t *testing.T) {
				serve := func(last string) func(net.Conn) {
					return func(c net.Conn) {
						defer c.Close()
						var read []byte
						b := make([]byte, 100)
						for !bytes.HasSuffix(read, []byte(last)) {
							n, err := c.Read(b)
							if err != nil {
								t.Error(err)
								return
							}
							read = append(read, b[:n]...)
							tt.say(c.(*oneport.Conn))
						}
						for _, piece := range []string{tt.sent[:at], tt.sent[at:]} {
							if _, err := io.WriteString(c, piece); err != nil {
								t.Error(err)
							}
						}
					}
				}
				p := porttest.Serve(t, oneport.Protocols{GRPC: serve(cutOff), HTTP: serve(string(tt.block))}, oneport.Options{SlowReader: time.Second})
				c := p.Dial()
				if _, err := io.WriteString(c, preface+porttest.Frames(func(f *http2.Framer) {
					_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize})
					porttest.Request(f, tt.block)
				})); err != nil {
					t.Fatal(err)
				}
				all, _ := io.ReadAll(c)
				if n := p.Counters().SlowReaders; !bytes.HasSuffix(all, []byte(tt.told)) || n != tt.counted {
					t.Errorf("%s, %d bytes in the first piece: %q; %d were counted", tt.name, at, all, n)
				}
			})
		}
	}
}

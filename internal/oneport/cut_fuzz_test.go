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

// cutOff is what a gRPC server reads when its stream 1 is cut off.
const cutOff = "\x00\x00\x04\x08\x00\x00\x00\x00\x01\x00\x00\x00\x00"

// FuzzCut: whatever comes behind a call whose answer is not taken, in whatever pieces, nothing is said in the peer's place but between its frames, and at most once.
func FuzzCut(f *testing.F) {
	ping := porttest.Frames(func(f *http2.Framer) { _ = f.WritePing(false, [8]byte{1}) })
	ack := porttest.Frames(func(f *http2.Framer) { _ = f.WriteSettingsAck() })
	more := porttest.Frames(func(f *http2.Framer) { _ = f.WriteWindowUpdate(1, 100) })
	begun := "\x00\x00\x01\x01\x00\x00\x00\x00\x03\x82" // HEADERS that CONTINUATION must follow
	for _, s := range []string{"", ping, ping[:5], ping[:12], ack + ping, ping + ack + ack + ping[:12], more, begun, begun + "\x00\x00\x01\x09\x04\x00\x00\x00\x03\x84" + ping,
		cutOff, "\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x08", "\xff\xff\xff\x00\x00\x00\x00\x00\x01"} {
		f.Add([]byte(s), 1, 100)
		f.Add([]byte(s), 7, 900)
		f.Add([]byte(s), 1000, 3000)
	}
	f.Fuzz(func(t *testing.T, rest []byte, piece, millis int) {
		if piece < 1 || millis < 0 || millis > 10_000 || len(rest)/piece > 200 {
			return
		}
		sent := preface + porttest.Frames(func(f *http2.Framer) {
			_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize})
			porttest.Request(f, grpcHeaders)
		})
		synctest.Test(t, func(t *testing.T) {
			var read []byte
			taken := make(chan struct{})
			p := porttest.Serve(t, oneport.Protocols{GRPC: func(c net.Conn) {
				c.(*oneport.Conn).Await(1, 1) // nothing has been read yet, so it does nothing
				b := make([]byte, 100)
				for {
					n, err := c.Read(b)
					read = append(read, b[:n]...)
					c.(*oneport.Conn).Await(1, 1)
					if err != nil {
						break
					}
				}
				c.Close()
				close(taken)
			}}, oneport.Options{SlowReader: time.Second, SlowSender: 10 * time.Hour})
			c := p.Dial()
			go func() { _, _ = io.Copy(io.Discard, c) }()
			if _, err := io.WriteString(c, sent); err != nil {
				t.Fatal(err)
			}
			for b := rest; len(b) > 0; {
				time.Sleep(time.Duration(millis) * time.Millisecond)
				k := min(piece, len(b))
				if _, err := c.Write(b[:k]); err != nil {
					break
				}
				b = b[k:]
			}
			time.Sleep(time.Duration(millis) * time.Millisecond)
			c.Close()
			<-taken
			p.Stop()
			if n := p.Counters(); n.Conns != 0 || n.SlowReaders > 2 {
				t.Fatalf("%+v", n)
			}
			all := append([]byte(sent), rest...)
			if isSubsequence(read, all) {
				return
			}
			at := placeOf(read)
			if at < 0 || !isSubsequence(append(bytes.Clone(read[:at]), read[at+len(cutOff):]...), all) {
				t.Fatalf("%q became %q", all, read)
			}
		})
	})
}

// placeOf is where cutOff stands first between two frames, outside of headers' blocks; -1 if it does not.
func placeOf(read []byte) int {
	block := false
	for at := len(preface); at+9 <= len(read); {
		if !block && bytes.HasPrefix(read[at:], []byte(cutOff)) {
			return at
		}
		typ, flags := read[at+3], read[at+4]
		if typ == 1 || typ == 9 {
			block = flags&4 == 0
		} else {
			block = false
		}
		at += 9 + int(read[at])<<16 + int(read[at+1])<<8 + int(read[at+2])
	}
	return -1
}

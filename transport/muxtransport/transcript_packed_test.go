package muxtransport

import (
	"bytes"
	"context"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/memnet"
)

// keepConn is a client's connection that keeps what is sent on it.
type keepConn struct {
	net.Conn
	sent []byte
}

func (c *keepConn) Write(b []byte) (int, error) {
	c.sent = append(c.sent, b...)
	return c.Conn.Write(b)
}

// What other libraries, and other versions of these, make of a message has other bytes. So a conversation with compressed messages is
// not compared but said again: the server has to understand it, and what it answers.
func TestCompressedTranscript(t *testing.T) {
	said := exampleBytes(t, "testdata/transcripts/compressed.md")["client"]
	text := bytes.Repeat([]byte("ahoy "), 40)
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, drainHandler{}, Options{CompressFrom: 1}, memnet.Options{})
		defer r.stop()
		if len(said) == 0 {
			t.Fatalf("there is none; it could be:\n%s", dump("client", sayCompressed(t, r, text)))
		}
		nc := r.raw(t, said[:prefaceLen])
		defer nc.Close()
		for said = said[prefaceLen:]; len(said) > 0; said = said[frameSize(said):] {
			say(t, nc, said[:frameSize(said)])
			time.Sleep(time.Millisecond) // the client waited for an answer before it used a place again
		}
		b := make([]byte, 1<<20)
		n, err := nc.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		for b = b[prefaceLen:n]; len(b) > 0; b = b[frameSize(b):] {
			f := parseFrame(b[:frameSize(b)])
			switch f.typ {
			case typeAnswer:
				f.payload = f.payload[1:] // a head of no flags
			case typeData:
			default:
				continue
			}
			out, err := r.server.sh.unpack(nil, f.payload)
			if !f.packed || err != nil || !bytes.Equal(out, text) {
				t.Errorf("%q in a frame of type %d: %v", out, f.typ, err)
			}
			got = append(got, f.typ, f.payload[0])
		}
		slices.Sort(got)
		// Two answers and two messages, one of each with gzip and with zstd.
		if want := []byte{byte(packGzip), byte(packGzip), byte(packZstd), byte(packZstd), typeAnswer, typeAnswer, typeData, typeData}; !slices.Equal(got, want) {
			t.Errorf("frames and compressions: %v, want %v", got, want)
		}
	})
}

// sayCompressed returns what a client says that has a call and a stream with each compression.
func sayCompressed(t *testing.T, r *rig, text []byte) []byte {
	t.Helper()
	var kept *keepConn
	c := dialed(t, Options{CompressFrom: 1, Dial: func(ctx context.Context, addr string) (net.Conn, error) {
		nc, err := r.net.Host("client").Dial(ctx, addr)
		kept = &keepConn{Conn: nc}
		return kept, err
	}})
	defer c.Close()
	for i, name := range []string{"gzip", "zstd", "gzip", "zstd"} {
		req := &transport.Request{Method: "a.B/C", Codec: codec.Bytes{}, Message: &text, Compressor: name, Deadline: policy.Now().Add(time.Hour)}
		if i < 2 {
			if err := c.Call(t.Context(), req, &transport.Reply{Message: new([]byte)}); err != nil {
				t.Fatal(err)
			}
			continue
		}
		s, err := c.Open(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send(&text); err != nil {
			t.Fatal(err)
		}
		if err := s.Recv(new([]byte)); err != nil {
			t.Fatal(err)
		}
	}
	return kept.sent
}

package muxtransport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/memnet"
)

// saying returns n bytes that compress well.
func saying(n int) []byte {
	return bytes.Repeat([]byte("how often must this be said "), n/28+1)[:n]
}

// noise returns n bytes that do not compress.
func noise(n int) []byte {
	r := rand.NewChaCha8([32]byte{1})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

func TestPack(t *testing.T) {
	sh := &shared{opts: Options{CompressFrom: 100}}
	for _, c := range []compression{packGzip, packZstd} {
		for _, n := range []int{100, 1000, 100_000, 3 << 20} {
			b, ok := sh.tryPack(nil, saying(n), c)
			if !ok || len(b) >= n || n >= 1000 && len(b) > n/5 {
				t.Fatalf("%v: %d bytes became %d, %v", c, n, len(b), ok)
			}
			size, err := packedSize(b)
			if err != nil || size != n {
				t.Fatalf("%v: %d bytes say that they are %d: %v", c, n, size, err)
			}
			if out, err := sh.unpack(nil, b); err != nil || !bytes.Equal(out, saying(n)) {
				t.Fatalf("%v: %d bytes came back as %d: %v", c, n, len(out), err)
			}
			for _, cut := range []int{0, 1, 2, 3, len(b) / 2, len(b) - 1} {
				if _, err := packedSize(b[:cut]); err != nil {
					continue
				}
				if out, err := sh.unpack(nil, b[:cut]); err == nil {
					t.Errorf("%v: %d of %d bytes became %d", c, cut, len(b), len(out))
				}
			}
			if _, err := sh.unpack(nil, append(b, "and more"...)); err == nil {
				t.Errorf("%v: what follows is not noticed", c)
			}
		}
		if _, ok := sh.tryPack(nil, noise(1000), c); ok {
			t.Errorf("%v: noise became smaller", c)
		}
		if _, ok := sh.tryPack(nil, saying(99), c); ok {
			t.Errorf("%v: a small message was compressed", c)
		}
	}
	for _, b := range [][]byte{{}, {1}, {0, 5}, {3, 5}, {200, 5}, {1, 0}, {1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}} {
		if _, err := packedSize(b); !errors.Is(err, errMalformed) {
			t.Errorf("% x: %v", b, err)
		}
	}
}

// lied returns msg compressed, with another size than it has.
func lied(msg []byte, c compression, size int) []byte {
	b, ok := (&shared{opts: Options{CompressFrom: 1}}).tryPack(nil, msg, c)
	if !ok {
		panic("does not become smaller")
	}
	cur := cursor{in: b}
	cur.byte()
	cur.uvarint()
	head := []byte{byte(c)}
	for v := uint(size); ; v >>= 7 {
		if v < 0x80 {
			head = append(head, byte(v))
			break
		}
		head = append(head, byte(v)|0x80)
	}
	return append(head, cur.rest()...)
}

func TestBombs(t *testing.T) {
	sh := &shared{opts: Options{CompressFrom: 1}}
	for _, c := range []compression{packGzip, packZstd} {
		for _, n := range []int{1, 1000, 99_999} {
			out, err := sh.unpack(nil, lied(saying(100_000), c, n))
			if !errors.Is(err, errBomb) || cap(out) > 128<<10+n+1000 {
				t.Errorf("%v: 100000 bytes that say %d became %d, room for %d: %v", c, n, len(out), cap(out), err)
			}
			if e := sh.unpackError("the request", err); e.Code != status.ResourceExhausted || e.Kind != status.TooLarge {
				t.Errorf("%v: %v", c, e)
			}
		}
		if _, err := sh.unpack(nil, lied(saying(100_000), c, 100_001)); !errors.Is(err, errMalformed) {
			t.Errorf("%v: a message that is smaller than it says: %v", c, err)
		}
		// Two frames of zstd, or members of gzip, in one message.
		double := append(lied(saying(5000), c, 5000), lied(saying(5000), c, 5000)[3:]...)
		if _, err := sh.unpack(nil, double); !errors.Is(err, errBomb) {
			t.Errorf("%v: two in one: %v", c, err)
		}
	}
	if n := sh.bombs.Load(); n != 6 {
		t.Errorf("%d bombs were counted", n)
	}
}

// sizes is a Dial function that counts what a connection carries.
type sizes struct {
	dial           func(context.Context, string) (net.Conn, error)
	sent, received atomic.Int64
}

type sizedConn struct {
	net.Conn
	s *sizes
}

func (s *sizes) Dial(ctx context.Context, addr string) (net.Conn, error) {
	c, err := s.dial(ctx, addr)
	return &sizedConn{c, s}, err
}

func (c *sizedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.s.received.Add(int64(n))
	return n, err
}

func (c *sizedConn) Write(b []byte) (int, error) {
	c.s.sent.Add(int64(len(b))) // before the peer can have it
	return c.Conn.Write(b)
}

// A request that asks for a compression that the protocol has no number for fails, and says which there are.
func TestUnknownCompressor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, drainHandler{}, Options{}, memnet.Options{})
		defer r.stop()
		c := r.dial(t, Options{})
		defer c.Close()
		msg, out := []byte("x"), []byte(nil)
		for _, name := range []string{"snappy", "GZIP", "none"} {
			req := &transport.Request{Method: "a.B/C", Codec: codec.Bytes{}, Message: &msg, Compressor: name}
			_, open := c.Open(t.Context(), req)
			for shape, e := range map[string]*status.Error{"unary": c.Call(t.Context(), req, &transport.Reply{Message: &out}), "stream": open} {
				if e == nil || e.Code != status.Unimplemented || e.Fate != status.NotSent || !strings.Contains(e.Message, "gzip, zstd or identity") {
					t.Errorf("%s, %s: %v", name, shape, e)
				}
			}
		}
		if n := c.InFlight(); n != 0 {
			t.Errorf("%d are in flight", n)
		}
	})
}

// Who asks for compression, and what is compressed then: messages to the server, and from it.
func TestWhatIsCompressed(t *testing.T) {
	const size = 40_000 // more than a part, less than one when compressed
	on, local := Options{Compression: "zstd"}, Options{Compression: "gzip", CompressLocal: true}
	tests := []struct {
		name           string
		client, server Options
		compressor     string // of the request
		up, down       bool
	}{
		{"nobody asks", Options{}, Options{}, "", false, false},
		{"the client asks", on, Options{}, "", true, true},
		{"the server asks", Options{}, on, "", true, true},
		{"each asks for another", on, local, "", true, true},
		{"the server refuses", on, Options{Compression: "none"}, "", false, false},
		{"the client refuses", Options{Compression: "none"}, on, "", false, false},
		{"the request asks", Options{}, Options{}, "gzip", true, true},
		{"the request asks, the server refuses", Options{}, Options{Compression: "none"}, "gzip", false, false},
		{"the request asks, the client refuses", Options{Compression: "none"}, Options{}, "gzip", false, false},
		{"the request refuses", on, on, identity, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, drainHandler{}, tt.server, memnet.Options{})
				defer r.stop()
				s := &sizes{dial: r.net.Host("client").Dial}
				tt.client.Dial = s.Dial
				c := dialed(t, tt.client)
				defer c.Close()
				check := func(what string, call func() ([]byte, *status.Error)) {
					s.sent.Store(0)
					s.received.Store(0)
					out, err := call()
					if err != nil || !bytes.Equal(out, saying(size)) {
						t.Fatalf("%s: %d bytes came back: %v", what, len(out), err)
					}
					if up, down := s.sent.Load() < size/10, s.received.Load() < size/10; up != tt.up || down != tt.down {
						t.Errorf("%s: sent %d and received %d bytes for %d each", what, s.sent.Load(), s.received.Load(), size)
					}
				}
				msg := saying(size)
				req := &transport.Request{Method: "a.B/C", Codec: codec.Bytes{}, Message: &msg, Compressor: tt.compressor}
				check("unary", func() (out []byte, err *status.Error) {
					err = c.Call(t.Context(), req, &transport.Reply{Message: &out})
					return out, err
				})
				check("stream", func() (out []byte, err *status.Error) {
					s, err := c.Open(t.Context(), req)
					if err == nil {
						err = s.Send(&msg)
					}
					if err == nil {
						err = s.CloseSend()
					}
					if err != nil {
						return nil, err
					}
					if err := s.Recv(&out); err != nil {
						return nil, status.From(err)
					}
					if err := s.Recv(new([]byte)); !errors.Is(err, io.EOF) {
						return nil, status.From(err)
					}
					return out, nil
				})
				want := int64(0)
				if tt.up {
					want = 2
				}
				for side, c := range map[string]Counters{"client": c.d.Counters(), "server": r.server.Counters()} {
					if c.Compressed != want || c.Decompressed != want {
						t.Errorf("the %s counts %d compressed and %d decompressed messages, want %d", side, c.Compressed, c.Decompressed, want)
					}
				}
			})
		})
	}
}

// Connections within one machine do not ask for compression by themselves.
func TestLocalIsNotCompressed(t *testing.T) {
	for addr, local := range map[string]bool{"127.0.0.1": true, "::1": true, "10.0.0.1": false, "2001:db8::1": false} {
		o := Options{Compression: "gzip"}
		at := &net.TCPAddr{IP: net.ParseIP(addr), Port: 1}
		if o.wish(at) == packNone != local {
			t.Errorf("%s: %v is asked for", addr, o.wish(at))
		}
		if o.CompressLocal = true; o.wish(at) != packGzip {
			t.Errorf("%s: %v is asked for", addr, o.wish(at))
		}
	}
	if o := (Options{Compression: "gzip"}); o.wish(&net.UnixAddr{}) != packNone {
		t.Error("compression for a Unix socket")
	}
}

// Compressed messages that are too large, lie or are broken fail alone: their call or stream ends, the connection lives.
func TestBombsOnTheWire(t *testing.T) {
	const limit = 100_000
	named := callHead{method: 1, name: "a.B/C", codec: "bytes"}
	tests := []struct {
		name  string
		msg   []byte
		code  status.Code
		count int64
	}{
		{"too large", lied(saying(limit+1), packZstd, limit+1), status.ResourceExhausted, 1},
		{"a bomb of gzip", lied(saying(limit+1), packGzip, 2000), status.ResourceExhausted, 1},
		{"a bomb of zstd", lied(saying(limit+1), packZstd, 2000), status.ResourceExhausted, 1},
		{"broken", append(lied(saying(2000), packZstd, 2000)[:10], "xxxxxxxxxxxxx"...), status.Internal, 0},
		{"well", lied(saying(2000), packGzip, 2000), status.OK, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int64 // handlers of two calls run at once
				r := newRig(t, funcHandler(func(ctx context.Context, in *transport.Incoming) transport.Outgoing {
					calls.Add(1)
					return drainHandler{}.Unary(ctx, in)
				}), Options{MaxMessage: limit}, memnet.Options{})
				defer r.stop()
				half := named
				half.total, half.name = len(tt.msg), ""
				s := clientScript().call(typeCall|flagPacked, 1<<16, named, string(tt.msg)).
					call(typeCall|flagPacked|flagMore, 1<<16|1, half, string(tt.msg[:15])).frame(typePart, 1<<16|1, tt.msg[15:]...).
					frame(typePing, 0, 1, 2, 3, 4, 5, 6, 7, 8)
				nc := r.raw(t, s.b)
				defer nc.Close()
				time.Sleep(time.Millisecond)
				said := make([]byte, 1<<20)
				n, _ := nc.Read(said)
				codes := answers(t, said[:n])
				want := []status.Code{tt.code, tt.code}
				if len(codes) != 2 || codes[0] != want[0] || codes[1] != want[1] {
					t.Errorf("the answers are %v, want %v", codes, want)
				}
				c := r.server.Counters()
				if c.Bombs != 2*tt.count || c.ProtocolErrors != 0 || c.Conns != 1 {
					t.Errorf("%+v", c)
				}
				if tt.code != status.OK && calls.Load() != 0 {
					t.Errorf("%d handlers ran", calls.Load())
				}
			})
		})
	}
}

// clientHello is what a Dialer says first.
func clientHello() []byte {
	var o Options
	if err := o.complete(); err != nil {
		panic(err)
	}
	h := o.hello(nil)
	h.features |= featureInstance
	return appendHello(preface{min: 1, max: 1}.bytes(), h)
}

// answers returns the codes of the ANSWER frames among what a server said.
func answers(t *testing.T, said []byte) (codes []status.Code) {
	t.Helper()
	for said = said[prefaceLen:]; len(said) > 0; said = said[frameSize(said):] {
		if f := parseFrame(said[:frameSize(said)]); f.typ == typeAnswer {
			var h answerHead
			if err := parseAnswer(&cursor{in: f.payload}, 1<<20, nil, &h); err != nil {
				t.Fatal(err)
			}
			code := status.OK
			if h.status != nil {
				code = h.status.Code
			}
			codes = append(codes, code)
		}
	}
	return codes
}

// The same from a server, whose client has calls and a stream.
func TestBombsFromServer(t *testing.T) {
	bomb := lied(saying(100_000), packZstd, 2000)
	for _, large := range []bool{false, true} {
		if large {
			bomb = lied(saying(100_000), packZstd, 100_000) // within what it says, over the limit
		}
		synctest.Test(t, func(t *testing.T) {
			n := memnet.New(memnet.Options{})
			ln, err := n.Host("server").Listen(":80")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			go func() {
				nc, err := ln.Accept()
				if err != nil {
					return
				}
				defer nc.Close()
				_, _ = io.CopyN(io.Discard, nc, int64(prefaceLen))
				for calls := 0; ; {
					head := make([]byte, headerLen)
					if _, err := io.ReadFull(nc, head); err != nil {
						return
					}
					f := parseFrame(head)
					_, _ = io.CopyN(io.Discard, nc, int64(frameSize(head)-headerLen))
					s := &script{}
					switch {
					case f.typ == typeHello:
						s = serverScript()
					case f.typ == typeOpen:
						s.frame(typeData|flagPacked, f.id, bomb...)
					case f.typ == typeCall && calls == 0:
						s.answer(typeAnswer|flagPacked, f.id, answerHead{}, string(bomb))
						calls++
					case f.typ == typeCall:
						s.answer(typeAnswer|flagPacked|flagMore, f.id, answerHead{total: len(bomb)}, string(bomb[:9])).frame(typePart, f.id, bomb[9:]...)
					}
					say(t, nc, s.b)
				}
			}()
			c := dialed(t, Options{Dial: n.Host("client").Dial, MaxMessage: 50_000})
			defer c.Close()
			for i := range 2 {
				_, err := unary(c, "a.B/C", []byte("x"), time.Second)
				if err == nil || err.Code != status.ResourceExhausted || err.Kind != status.TooLarge || err.Fate != status.Processed {
					t.Errorf("call %d: %v", i, err)
				}
			}
			s, serr := c.Open(t.Context(), &transport.Request{Method: "a.B/C", Codec: codec.Bytes{}, Deadline: policy.Now().Add(time.Second)})
			if serr != nil {
				t.Fatal(serr)
			}
			if err := status.From(s.Recv(new([]byte))); err == nil || err.Code != status.ResourceExhausted || !strings.Contains(err.Message, "message") {
				t.Errorf("stream: %v", err)
			}
			if got := c.d.Counters(); got.Bombs != 3 || got.ProtocolErrors != 0 || !c.Usable() {
				t.Errorf("%+v", got)
			}
		})
	}
}

// Requests that wait count with the size that they will have.
func TestCompressedCountsWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, funcHandler(func(_ context.Context, in *transport.Incoming) transport.Outgoing {
			time.Sleep(time.Second)
			return transport.Outgoing{Codec: codec.Bytes{}, Message: new([]byte)}
		}), Options{MaxBuffered: 1 << 20}, memnet.Options{})
		defer r.stop()
		c := r.dial(t, Options{Compression: "zstd"})
		defer c.Close()
		errs := make(chan *status.Error)
		for range 4 {
			go func() {
				_, err := unary(c, "a.B/C", saying(400<<10), 5*time.Second)
				errs <- err
			}()
		}
		shed := 0
		for range 4 {
			if err := <-errs; err != nil && err.Kind == status.Shed {
				shed++
			} else if err != nil {
				t.Error(err)
			}
		}
		if shed != 2 {
			t.Errorf("%d of 4 requests of 400 KiB were shed, with room for 1 MiB", shed)
		}
	})
}

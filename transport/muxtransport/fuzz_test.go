package muxtransport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// scriptConn is a connection on which the peer says a fixed text, whatever it hears, and then hangs up.
type scriptConn struct {
	in     *bytes.Reader
	wrote  int
	closed chan struct{}
	hold   bool // after the text wait for Close in place of hanging up
}

func (c *scriptConn) Read(b []byte) (int, error) {
	n, err := c.in.Read(b)
	if err != nil && c.hold {
		<-c.closed
	}
	return n, err
}

func (c *scriptConn) Write(b []byte) (int, error) {
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	default:
	}
	c.wrote += len(b)
	return len(b), nil
}

func (c *scriptConn) Close() error {
	select {
	case <-c.closed:
	default:
		close(c.closed)
	}
	return nil
}

func (*scriptConn) LocalAddr() net.Addr              { return nil }
func (*scriptConn) RemoteAddr() net.Addr             { return nil }
func (*scriptConn) SetDeadline(time.Time) error      { return nil }
func (*scriptConn) SetReadDeadline(time.Time) error  { return nil }
func (*scriptConn) SetWriteDeadline(time.Time) error { return nil }

// drainHandler answers calls with their payload and reads streams to their end, apart from those of the method "deaf".
type drainHandler struct{}

func (drainHandler) Unary(_ context.Context, in *transport.Incoming) transport.Outgoing {
	return transport.Outgoing{Codec: codec.Bytes{}, Message: &in.Payload}
}

func (drainHandler) Stream(ctx context.Context, in *transport.Incoming, s transport.ServerStream) transport.Outgoing {
	if in.Method == "deaf" {
		<-ctx.Done()
		return transport.Outgoing{}
	}
	s.SetCodec(codec.Bytes{})
	var b []byte
	for s.Recv(&b) == nil {
		if s.Send(&b) != nil {
			break
		}
	}
	return transport.Outgoing{}
}

// script builds the bytes of one side of a connection.
type script struct {
	b     []byte
	names *sentNames
}

func (s *script) frame(typ byte, id uint32, payload ...byte) *script {
	s.b = appendFrame(s.b, typ, id, payload...)
	return s
}

func (s *script) call(typ byte, id uint32, h callHead, payload string) *script {
	return s.frame(typ, id, append(h.append(nil, s.names), payload...)...)
}

func (s *script) answer(typ byte, id uint32, h answerHead, payload string) *script {
	return s.frame(typ, id, append(h.append(nil, s.names), payload...)...)
}

// packed adds a message that is compressed.
func (s *script) packed(typ byte, id uint32, h callHead, payload string, c compression) *script {
	return s.call(typ|flagPacked, id, h, string(pack(payload, c)))
}

// pack compresses s as a frame carries it.
func pack(s string, c compression) []byte {
	b, ok := (&shared{opts: Options{CompressFrom: 1}}).tryPack(nil, []byte(s), c)
	if !ok {
		panic("does not become smaller")
	}
	return b
}

const aTrace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func clientScript() *script {
	var o Options
	if err := o.complete(); err != nil {
		panic(err)
	}
	return &script{appendHello(preface{min: 1, max: 1}.bytes(), o.hello(nil)), &sentNames{limit: maxNames}}
}

// serverScripts are conversations of a client, whole and broken.
func serverScripts() [][]byte {
	named := callHead{method: 1, name: "a.B/C", codec: "bytes", hasDeadline: true, timeout: time.Second}
	known := callHead{method: 1, codec: "proto", attempt: 2, criticality: 3, metadata: transport.Metadata{{Key: "k", Value: "v"}}}
	custom := callHead{name: "once", codec: "msgpack"}
	large := callHead{method: 1, codec: "bytes", total: 12}
	ping := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	large1k := strings.Repeat("how often must this be said ", 40)
	traced := callHead{method: 1, name: "a.B/C", codec: "json", metadata: transport.Metadata{{Key: traceKey, Value: aTrace}}, trace: 1}
	answered := callHead{method: 1, codec: "bytes", hasReply: true, reply: packGzip}
	inParts := callHead{method: 1, name: "a.B/C", codec: "bytes", total: len(pack(large1k, packGzip))}
	bomb := pack(large1k, packZstd)
	bomb[1], bomb[2] = 0x85, 1
	old := &script{b: appendHello(preface{min: 1, max: 1}.bytes(), hello{maxMessage: 1 << 20, maxHeader: 1 << 10, streamWindow: 1 << 16, connWindow: 1 << 16})}
	old.call(typeCall, 1<<16, named, "ahoy").call(typeCall, 2<<16, known, "again")
	flood := clientScript()
	for range 2 * pingsPerSecond {
		flood.frame(typePing, 0, ping...)
	}
	var list [][]byte
	for _, s := range []*script{
		clientScript().call(typeCall, 1<<16, named, "ahoy").call(typeCall, 1<<16|1, known, "again").call(typeCall, 2<<16, custom, ""),
		clientScript().call(typeCall|flagMore, 1<<16, named, "ahoy"),
		clientScript().call(typeCall, 1<<16, named, "").call(typeCall|flagMore, 2<<16, large, "ahoy").frame(typePart|flagMore, 2<<16, 1, 2, 3, 4).frame(typePart, 2<<16, 1, 2, 3, 4),
		clientScript().call(typeCall, 1<<16, named, "").call(typeCall|flagMore, 2<<16, large, "ahoy").frame(typeCancel, 2<<16).frame(typePart, 2<<16, 1),
		clientScript().call(typeOpen, 1<<16, named, "").frame(typeData, 1<<16, 1, 2, 3).frame(typeData|flagMore, 1<<16, 5, 1, 2).frame(typeData, 1<<16, 3, 4, 5).frame(typeHalf, 1<<16),
		clientScript().call(typeOpen, 1<<16, named, "").frame(typeData, 1<<16).frame(typeHalf, 1<<16).frame(typeData, 1<<16, 1),
		clientScript().call(typeOpen, 1<<16, named, "").frame(typeWindow, 1<<16, 0xff, 0x7f).frame(typeWindow, 0, 1).frame(typeCancel, 1<<16),
		clientScript().frame(typePing, 0, ping...).frame(typePong, 0, ping...).frame(99, 0),
		clientScript().call(typeCall, 1<<16, callHead{method: 9, codec: "json"}, ""),
		clientScript().frame(typeCall, 1<<16, 0xff, 0xff, 0xff),
		flood,
		clientScript().packed(typeCall, 1<<16, named, large1k, packGzip).packed(typeCall, 2<<16, known, large1k, packZstd).call(typeCall, 3<<16, known, "x"),
		clientScript().call(typeCall, 1<<16, traced, "").call(typeCall, 1<<16|1, answered, "").call(typeOpen, 1<<16|2, answered, ""),
		clientScript().call(typeOpen, 1<<16, named, "").frame(typeData|flagPacked, 1<<16, pack(large1k, packZstd)...).frame(typeHalf, 1<<16),
		clientScript().call(typeCall|flagMore|flagPacked, 1<<16, inParts, string(pack(large1k, packGzip)[:10])).frame(typePart, 1<<16, pack(large1k, packGzip)[10:]...),
		clientScript().call(typeCall|flagPacked, 1<<16, named, string(bomb)).call(typeCall, 2<<16, known, ""),
		clientScript().frame(typePing|flagPacked, 0, ping...),
		clientScript().call(typeCall|withdrawn, 1<<16, named, "ahoy").call(typeCall, 2<<16, known, "again").call(typeOpen|withdrawn, 3<<16, known, "").frame(typeData, 3<<16, 1, 2, 3),
		clientScript().call(typeCall, 1<<16, named, "").call(typeCall|flagMore, 2<<16, large, "ahoy").frame(typePart|withdrawn, 2<<16, 1, 2, 3, 4, 5, 6, 7, 8),
		clientScript().frame(typeData|withdrawn, 1<<16, 1, 2, 3),
		clientScript().frame(typeCall, 1<<16, callMetadata, 0, codecBytes, 2, 7<<1|1, 0),
		old,
	} {
		list = append(list, s.b)
	}
	long := clientScript()
	long.b = append(long.b, 0xff, 0xff, 0xff, typeCall, 0, 0, 1, 0)
	return append(list, long.b, nil, []byte("GET / HTTP/1.1\r\n\r\n"), []byte(Magic), clientScript().b[:prefaceLen+3])
}

// FuzzServer lets a client say anything. The server must neither panic nor hang nor keep much.
func FuzzServer(f *testing.F) {
	for _, s := range serverScripts() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		s, err := NewServer(drainHandler{}, Options{MaxBuffered: 1 << 20, MaxCalls: 64, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		nc := &scriptConn{in: bytes.NewReader(in), closed: make(chan struct{})}
		s.ServeConn(nc)
		select {
		case <-nc.closed:
		case <-time.After(time.Minute):
			t.Error("the connection was not closed")
		}
		if err := s.Drain(context.Background()); err != nil {
			t.Error(err)
		}
		if n := s.Counters().Conns; n != 0 {
			t.Errorf("%d connections are open", n)
		}
		if nc.wrote > 16*len(in)+64<<10 {
			t.Errorf("%d bytes were answered with %d", len(in), nc.wrote)
		}
	})
}

func serverScript() *script {
	var o Options
	if err := o.complete(); err != nil {
		panic(err)
	}
	return &script{appendHello(preface{1, 1, 1}.bytes(), o.hello(nil)), &sentNames{limit: maxNames}}
}

// clientScripts are conversations of a server that knows that call 1<<16 is unary and stream 1<<16|1 comes after it.
func clientScripts() [][]byte {
	const unary, stream = 1 << 16, 1<<16 | 1
	bad := answerHead{status: &status.Error{Code: status.NotFound, Message: "no", Details: []status.Detail{{TypeURL: "x", Value: []byte{1}}}, Pushback: time.Second}}
	rich := answerHead{header: transport.Metadata{{Key: "a", Value: "b"}}, trailer: transport.Metadata{{Key: "c", Value: "d"}}, load: transport.Load{InFlight: 3}}
	large1k := strings.Repeat("how often must this be said ", 40)
	bomb := pack(large1k, packGzip)
	bomb[1], bomb[2] = 0x85, 1
	var list [][]byte
	for _, s := range []*script{
		serverScript().answer(typeAnswer, unary, answerHead{}, "ahoy").frame(typeData, stream, 1, 2).answer(typeEnd, stream, rich, ""),
		serverScript().answer(typeAnswer, unary, bad, "").answer(typeEnd, stream, bad, ""),
		serverScript().answer(typeAnswer|flagMore, unary, answerHead{total: 6}, "ahoy").frame(typePart, unary, 1, 2).answer(typeHeader, stream, rich, "").answer(typeEnd, stream, answerHead{}, ""),
		serverScript().answer(typeAnswer|flagMore, unary, answerHead{total: 1 << 40}, "ahoy"),
		serverScript().frame(typeWindow, 0, 5).frame(typeWindow, stream, 5).frame(typePing, 0, 1, 2, 3, 4, 5, 6, 7, 8),
		serverScript().frame(typeData|flagMore, stream, 3, 1).frame(typeData, stream, 2, 3).answer(typeEnd, stream, answerHead{}, ""),
		{b: appendGoAway(serverScript().b, 1, goAwayDraining, "bye")},
		{b: appendGoAway(serverScript().b, 0, goAwayError, "you")},
		serverScript().frame(77, 0),
		serverScript().answer(typeAnswer|flagPacked, unary, rich, string(pack(large1k, packZstd))).answer(typeHeader, stream, rich, "").
			frame(typeData|flagPacked, stream, pack(large1k, packGzip)...).answer(typeEnd, stream, rich, ""),
		serverScript().answer(typeAnswer|flagPacked, unary, answerHead{}, string(bomb)).frame(typeData|flagPacked, stream, bomb...).answer(typeEnd, stream, rich, ""),
		serverScript().answer(typeAnswer|flagPacked|flagMore, unary, answerHead{total: len(bomb)}, string(bomb[:20])).frame(typePart, unary, bomb[20:]...),
		serverScript().answer(typeAnswer, 9<<16, rich, "").answer(typeAnswer, unary, rich, "").answer(typeEnd, stream, rich, ""),
		{b: appendHello(preface{1, 1, 1}.bytes(), hello{maxMessage: 1 << 20, maxCalls: 10, instance: "a/b"})},
	} {
		list = append(list, s.b)
	}
	return append(list, nil, []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), preface{0, 2, 3}.bytes())
}

// FuzzClient lets a server say anything. Each call must end once, with an answer or an error.
func FuzzClient(f *testing.F) {
	for _, s := range clientScripts() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		nc := &scriptConn{in: bytes.NewReader(in), closed: make(chan struct{})}
		d, err := NewDialer(Options{Dial: func(context.Context, string) (net.Conn, error) { return nc, nil }, MaxBuffered: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		c, serr := d.Dial(context.Background(), "script")
		if serr != nil {
			if serr.Fate != status.NotSent {
				t.Errorf("dial: %v, %v", serr, serr.Fate)
			}
			return
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			var b []byte
			req := &transport.Request{Method: "a.B/C", Codec: codec.Bytes{}, Message: &b, Deadline: policy.Now().Add(time.Minute)}
			_ = c.Call(context.Background(), req, &transport.Reply{Message: new([]byte)})
		}()
		if s, err := c.Open(context.Background(), &transport.Request{Method: "a.B/D", Codec: codec.Bytes{}}); err == nil {
			b := []byte("x")
			_ = s.Send(&b)
			for {
				if err := s.Recv(&b); err != nil {
					if e, ok := errors.AsType[*status.Error](err); !ok && !errors.Is(err, io.EOF) || ok && e.Code == status.OK {
						t.Errorf("the stream ended with %v", err)
					}
					break
				}
			}
		}
		<-done
		c.Close()
		<-c.Done()
		if n := c.InFlight(); n != 0 {
			t.Errorf("%d calls in flight", n)
		}
	})
}

// FuzzHeads checks that a head that parses means the same when it is written and parsed again, with keys of metadata in letters
// and as numbers, and to the reader of plain heads.
func FuzzHeads(f *testing.F) {
	named := callHead{method: 1, name: "a.B/C", codec: "x", hasDeadline: true, timeout: time.Second, attempt: 2, total: 9,
		metadata: transport.Metadata{{Key: "k", Value: "v"}}}
	f.Add(named.append(nil, nil))
	f.Add(appendPlain(nil, 3, 1, time.Second, time.Minute)[headerLen:])
	names := &sentNames{limit: 2}
	named.metadata = transport.Metadata{{Key: "a", Value: "1"}, {Key: "a", Value: "2"}, {Key: "b", Value: "3"}, {Key: "c", Value: "4"}, {Key: "b", Value: "5"}}
	f.Add(named.append(nil, names))
	named.metadata = append(transport.Metadata{{Key: traceKey, Value: aTrace}}, named.metadata...)
	named.trace, named.hasReply, named.reply = 1, true, packZstd
	f.Add(named.append(nil, &sentNames{limit: 2}))
	f.Add((&answerHead{status: &status.Error{Code: 5, Message: "m"}, load: transport.Load{InFlight: 1}}).append(nil, nil))
	f.Add((&answerHead{header: named.metadata, trailer: named.metadata}).append(nil, &sentNames{limit: 2}))
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, intern := range []bool{false, true} {
			tables := func() (*sentNames, *recvNames) {
				if !intern {
					return nil, nil
				}
				return &sentNames{limit: 2}, &recvNames{limit: 2}
			}
			_, given := tables()
			var call rawCall
			cur := cursor{in: in}
			err := parseCall(&cur, 1<<10, given, &call)
			if h, msg, ok := parsePlain(in); ok {
				plain := plainCall{call.method, codecID(call.codec), call.hasDeadline, call.timeout, call.sent}
				if err != nil || call.rawName != nil || call.rawCodec != nil || plain != h || !bytes.Equal(msg, cur.rest()) {
					t.Fatalf("%x is %+v to those in a hurry, and %+v, %v to others", in, h, call, err)
				}
			}
			if err == nil {
				call.name = string(call.rawName)
				if call.rawCodec != nil {
					call.codec = string(call.rawCodec)
				}
				sent, received := tables()
				for range 2 { // the second time with what has been learned
					first := call.callHead.append(nil, sent)
					again := cursor{in: first}
					var second rawCall
					if err := parseCall(&again, 1<<10, received, &second); err != nil || !slices.Equal(call.metadata, second.metadata) {
						t.Fatalf("%x became %x: %v", in, first, err)
					}
				}
			}
			_, given = tables()
			var answer, second answerHead
			cur = cursor{in: in}
			if parseAnswer(&cur, 1<<10, given, &answer) == nil {
				sent, received := tables()
				for range 2 {
					first := answer.append(nil, sent)
					again := cursor{in: first}
					if err := parseAnswer(&again, 1<<10, received, &second); err != nil || !slices.Equal(answer.header, second.header) ||
						!slices.Equal(answer.trailer, second.trailer) {
						t.Fatalf("%x became %x: %v", in, first, err)
					}
					if plain := answer.append(nil, nil); !bytes.Equal(plain, second.append(nil, nil)) {
						t.Fatalf("%x, then %x", plain, second.append(nil, nil))
					}
				}
			}
			if intern && len(given.names) > 2 {
				t.Fatalf("%d keys are remembered", len(given.names))
			}
		}
	})
}

// FuzzHello checks that a HELLO that parses means the same when it is written and parsed again.
func FuzzHello(f *testing.F) {
	var o Options
	if err := o.complete(); err != nil {
		f.Fatal(err)
	}
	h := o.hello(nil)
	f.Add(appendHello(nil, h)[headerLen:])
	h.instance, h.wish = "greeter/a1", packGzip
	f.Add(appendHello(nil, h)[headerLen:])
	f.Fuzz(func(t *testing.T, in []byte) {
		h, err := parseHello(in)
		if err != nil {
			return
		}
		if again, err := parseHello(appendHello(nil, h)[headerLen:]); err != nil || again != h {
			t.Fatalf("%+v became %+v: %v", h, again, err)
		}
	})
}

// FuzzUnpack lets a peer send anything as a compressed message: it never becomes larger than it said, and at most a block of zstd,
// 128 KiB, more than that is made before it is found out.
func FuzzUnpack(f *testing.F) {
	sh := &shared{opts: Options{CompressFrom: 1}}
	text := bytes.Repeat([]byte("how often must this be said "), 50)
	for _, c := range []compression{packGzip, packZstd} {
		b, ok := sh.tryPack(nil, text, c)
		if !ok {
			f.Fatal("does not become smaller")
		}
		f.Add(b)
		f.Add(b[:len(b)-1])
		b = slices.Clone(b)
		b[1], b[2] = 0x85, 1 // a bomb
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		size, err := packedSize(in)
		if err != nil || size > 1<<16 {
			return
		}
		if out, err := sh.unpack(nil, in); err == nil && len(out) != size || cap(out) > 2*size+(256<<10) {
			t.Fatalf("%d bytes, room for %d, where %d were said: %v", len(out), cap(out), size, err)
		}
	})
}

package muxtransport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
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
type script struct{ b []byte }

func (s *script) frame(typ byte, id uint32, payload ...byte) *script {
	s.b = appendFrame(s.b, typ, id, payload...)
	return s
}

func (s *script) call(typ byte, id uint32, h callHead, payload string) *script {
	return s.frame(typ, id, append(h.append(nil), payload...)...)
}

func (s *script) answer(typ byte, id uint32, h answerHead, payload string) *script {
	return s.frame(typ, id, append(h.append(nil), payload...)...)
}

func clientScript() *script {
	var o Options
	if err := o.complete(); err != nil {
		panic(err)
	}
	return &script{appendHello(preface{min: 1, max: 1}.bytes(), o.hello())}
}

// serverScripts are conversations of a client, whole and broken.
func serverScripts() [][]byte {
	named := callHead{method: 1, name: "a.B/C", codec: "bytes", hasDeadline: true, timeout: time.Second}
	known := callHead{method: 1, codec: "proto", attempt: 2, criticality: 3, metadata: transport.Metadata{{Key: "k", Value: "v"}}}
	custom := callHead{name: "once", codec: "msgpack"}
	large := callHead{method: 1, codec: "bytes", total: 12}
	ping := []byte{1, 2, 3, 4, 5, 6, 7, 8}
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
	return &script{appendHello(preface{1, 1, 1}.bytes(), o.hello())}
}

// clientScripts are conversations of a server that knows that call 1<<16 is unary and stream 1<<16|1 comes after it.
func clientScripts() [][]byte {
	const unary, stream = 1 << 16, 1<<16 | 1
	bad := answerHead{status: &status.Error{Code: status.NotFound, Message: "no", Details: []status.Detail{{TypeURL: "x", Value: []byte{1}}}, Pushback: time.Second}}
	rich := answerHead{header: transport.Metadata{{Key: "a", Value: "b"}}, trailer: transport.Metadata{{Key: "c", Value: "d"}}, load: transport.Load{InFlight: 3}}
	var list [][]byte
	for _, s := range []*script{
		serverScript().answer(typeAnswer, unary, answerHead{}, "ahoy").frame(typeData, stream, 1, 2).answer(typeEnd, stream, rich, ""),
		serverScript().answer(typeAnswer, unary, bad, "").answer(typeEnd, stream, bad, ""),
		serverScript().answer(typeAnswer|flagMore, unary, answerHead{total: 6}, "ahoy").frame(typePart, unary, 1, 2).answer(typeHeader, stream, rich, "").answer(typeEnd, stream, answerHead{}, ""),
		serverScript().answer(typeAnswer|flagMore, unary, answerHead{total: 1 << 40}, "ahoy"),
		serverScript().frame(typeWindow, 0, 5).frame(typeWindow, stream, 5).frame(typePing, 0, 1, 2, 3, 4, 5, 6, 7, 8),
		serverScript().frame(typeData|flagMore, stream, 3, 1).frame(typeData, stream, 2, 3).answer(typeEnd, stream, answerHead{}, ""),
		{appendGoAway(serverScript().b, 1, goAwayDraining, "bye")},
		{appendGoAway(serverScript().b, 0, goAwayError, "you")},
		serverScript().frame(77, 0),
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

// FuzzHeads checks that a head that parses means the same when it is written and parsed again.
func FuzzHeads(f *testing.F) {
	f.Add((&callHead{method: 1, name: "a.B/C", codec: "x", hasDeadline: true, timeout: time.Second, attempt: 2, total: 9,
		metadata: transport.Metadata{{Key: "k", Value: "v"}}}).append(nil))
	f.Add((&answerHead{status: &status.Error{Code: 5, Message: "m"}, load: transport.Load{InFlight: 1}}).append(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		var call rawCall
		cur := cursor{b: in}
		if parseCall(&cur, 1<<10, &call) == nil {
			call.name = string(call.rawName)
			if call.rawCodec != nil {
				call.codec = string(call.rawCodec)
			}
			first := call.callHead.append(nil)
			again := cursor{b: first}
			var second rawCall
			if err := parseCall(&again, 1<<10, &second); err != nil {
				t.Fatalf("%x became %x: %v", in, first, err)
			}
		}
		var answer, second answerHead
		cur = cursor{b: in}
		if parseAnswer(&cur, 1<<10, &answer) == nil {
			first := answer.append(nil)
			again := cursor{b: first}
			if err := parseAnswer(&again, 1<<10, &second); err != nil {
				t.Fatalf("%x became %x: %v", in, first, err)
			}
			if !bytes.Equal(first, second.append(nil)) {
				t.Fatalf("%x, then %x", first, second.append(nil))
			}
		}
	})
}

package muxtransport_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/memnet"
	"github.com/hull-go/hull/transport/muxtransport"
)

// everything switches on what can be.
func everything() muxtransport.Options {
	return muxtransport.Options{Compression: "gzip", CompressFrom: 1, CompressLocal: true, Instance: func() string { return "greeter/a1" },
		Logger: slog.New(slog.DiscardHandler)}
}

// shapesHandler has a method for each shape of call. Metadata goes back twice, in header and trailer.
type shapesHandler struct{ cancelled chan string }

func (h shapesHandler) Unary(ctx context.Context, in *transport.Incoming) transport.Outgoing {
	out := transport.Outgoing{Codec: codec.Bytes{}, Message: &in.Payload, Header: in.Metadata, Trailer: in.Metadata, Load: transport.Load{InFlight: 3}}
	switch in.Method {
	case "fail":
		out.Status = &status.Error{Code: status.NotFound, Message: "no such thing", Pushback: time.Second, Fate: status.Processed,
			Details: []status.Detail{{TypeURL: "t", Value: []byte("v")}}}
	case "wait":
		<-ctx.Done()
		h.cancelled <- in.Method
	}
	return out
}

func (h shapesHandler) Stream(ctx context.Context, in *transport.Incoming, s transport.ServerStream) transport.Outgoing {
	s.SetCodec(codec.Bytes{})
	var b, all []byte
	switch in.Method {
	case "bidi":
		for s.Recv(&b) == nil {
			if s.Send(&b) != nil {
				break
			}
		}
	case "collect":
		for s.Recv(&b) == nil {
			all = append(all, b...)
		}
		if err := s.Send(&all); err != nil {
			return transport.Outgoing{Status: err}
		}
	case "emit":
		if err := s.SendHeader(in.Metadata); err != nil {
			return transport.Outgoing{Status: err}
		}
		if s.Recv(&b) == nil {
			for range 3 {
				if s.Send(&b) != nil {
					break
				}
			}
		}
	case "wait":
		<-ctx.Done()
		h.cancelled <- "stream"
	}
	return transport.Outgoing{Trailer: in.Metadata}
}

// repeated is a message of n bytes that compresses well.
func repeated(n int) []byte { return bytes.Repeat([]byte("say it "), n/7+1)[:n] }

// frozenCallPayload is the head of a call of the codec bytes, with a minute left; name is "" if the number is known.
func frozenCallPayload(number byte, name string, total int, md ...string) []byte {
	flags := byte(1)
	b := []byte{0, number}
	if name != "" {
		flags |= 16
		b = append(b, frozenBytes(name)...)
	}
	b = append(b, 3)
	b = binary.AppendUvarint(b, uint64(time.Minute/time.Microsecond))
	if total > 0 {
		flags |= 32
		b = binary.AppendUvarint(b, uint64(total))
	}
	if len(md) > 0 {
		flags |= 8
		b = append(b, frozenMetadata(md...)...)
	}
	b[0] = flags
	return b
}

// An old client has calls of all shapes with this server, which has everything switched on.
func TestOldClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := shapesHandler{make(chan string, 10)}
		l := newLab(t, h, muxtransport.Options{}, everything())
		defer l.close()
		nc, err := l.net.Host("client").Dial(t.Context(), "server:80")
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		p := frozenDial(nc)
		oldClientTalks(t, p, h)
		go func() { _ = l.server.Drain(context.Background()) }()
		if f, err := p.next(); err != nil || f.typ != frozenGoAway || f.payload[len(f.payload)-len("the server is shutting down")-2] != 0 {
			t.Errorf("instead of GOAWAY 0: %v, %v", f, err)
		}
		nc.Close()
		if c := l.server.Counters(); c.ProtocolErrors != 0 || c.Compressed != 0 {
			t.Errorf("%+v", c)
		}
	})
}

func oldClientTalks(t *testing.T, p *frozenPeer, h shapesHandler) {
	md := []string{"user", "ada", "traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "user", "bob"}
	fields := []string{md[0] + "=" + md[1], md[2] + "=" + md[3], md[4] + "=" + md[5]}
	answer := func(id uint32) frozenAnswerHead {
		f, err := p.next()
		if err != nil || f.typ != frozenAnswer || f.id != id {
			t.Fatalf("instead of an answer to %#x: %v, %v", id, f, err)
		}
		a := frozenParseAnswer(f.payload)
		for f.more {
			if f, err = p.next(); err != nil || f.typ != frozenPart || f.id != id {
				t.Fatalf("instead of a part of %#x: %v, %v", id, f, err)
			}
			a.rest = append(a.rest, f.payload...)
		}
		if a.total != 0 && a.total != uint64(len(a.rest)) {
			t.Errorf("an answer of %d bytes has %d", a.total, len(a.rest))
		}
		return a
	}
	// Twice: what the server has seen once it must not leave out.
	for i := range uint32(2) {
		id := 1 << 16 * (i + 1)
		p.send(frozenCall, id, frozenCallPayload(1, []string{"echo", ""}[i], 0, md...), repeated(2000))
		a := answer(id)
		if a.failed || !bytes.Equal(a.rest, repeated(2000)) || a.load != 3 || !slices.Equal(a.header, fields) || !slices.Equal(a.trailer, fields) {
			t.Errorf("echo: %+v", a)
		}
	}
	p.send(frozenCall, 3<<16, frozenCallPayload(2, "fail", 0), nil)
	if a := answer(3 << 16); a.code != 5 || a.fate != 2 || a.message != "no such thing" || a.pushback != 1e6 || !slices.Equal(a.details, []string{"t", "v"}) {
		t.Errorf("fail: %+v", a)
	}
	large := repeated(100_000)
	p.send(frozenCall|frozenMore, 4<<16, frozenCallPayload(1, "", len(large)), large[:60_000])
	p.send(frozenPart|frozenMore, 4<<16, large[60_000:60_001])
	p.send(frozenPart, 4<<16, large[60_001:])
	if a := answer(4 << 16); a.failed || !bytes.Equal(a.rest, large) {
		t.Errorf("a large echo: %+v", a)
	}
	// A name that is not to be remembered, and time that is over.
	p.send(frozenCall, 5<<16, []byte{1 | 16, 0, 4}, []byte("echo"), []byte{3, 0})
	if a := answer(5 << 16); a.code != 4 || a.fate != 1 {
		t.Errorf("a call without time: %+v", a)
	}
	p.send(frozenCall, 6<<16, frozenCallPayload(3, "wait", 0))
	p.send(frozenPing, 0, []byte("12345678"))
	if f, err := p.read(); err != nil || f.typ != frozenPong || string(f.payload) != "12345678" {
		t.Errorf("instead of a PONG: %v, %v", f, err)
	}
	p.send(frozenCancel, 6<<16)
	if what := <-h.cancelled; what != "wait" {
		t.Error(what)
	}
	oldClientStreams(t, p, h, md, fields)
}

func oldClientStreams(t *testing.T, p *frozenPeer, h shapesHandler, md, fields []string) {
	end := func(id uint32) {
		f, err := p.next()
		if err != nil || f.typ != frozenEnd || f.id != id {
			t.Fatalf("instead of the end of %#x: %v, %v", id, f, err)
		}
		if a := frozenParseAnswer(f.payload); a.failed || !slices.Equal(a.trailer, fields) {
			t.Errorf("the end of %#x: %+v", id, a)
		}
	}
	message := func(id uint32, want []byte) {
		var got []byte
		for first, total := true, uint64(0); ; first = false {
			f, err := p.next()
			if err != nil || f.typ != frozenData || f.id != id {
				t.Fatalf("instead of a message of %#x: %v, %v", id, f, err)
			}
			c := &frozenCursor{f.payload}
			if first && f.more {
				total = c.uvarint()
			}
			if got = append(got, c.b...); f.more {
				continue
			}
			if !first && total != uint64(len(got)) || !bytes.Equal(got, want) {
				t.Errorf("a message of %d bytes, %d said, want %d", len(got), total, len(want))
			}
			break
		}
		p.send(frozenWindow, 0, binary.AppendUvarint(nil, uint64(len(got)+32)))
		p.send(frozenWindow, id, binary.AppendUvarint(nil, uint64(len(got)+32)))
	}
	small, large := repeated(2000), repeated(70_000)
	id := uint32(7 << 16)
	p.send(frozenOpen, id, frozenCallPayload(4, "bidi", 0, md...))
	p.send(frozenData, id, small)
	message(id, small)
	p.send(frozenData, id)
	message(id, nil)
	p.send(frozenData|frozenMore, id, binary.AppendUvarint(nil, uint64(len(large))), large[:50_000])
	p.send(frozenData, id, large[50_000:])
	message(id, large)
	p.send(frozenHalf, id)
	end(id)

	id = 8 << 16
	p.send(frozenOpen, id, frozenCallPayload(5, "collect", 0, md...))
	p.send(frozenData, id, small[:1000])
	p.send(frozenData, id, small[1000:])
	p.send(frozenHalf, id)
	message(id, append(slices.Clone(small[:1000]), small[1000:]...))
	end(id)

	id = 9 << 16
	p.send(frozenOpen, id, frozenCallPayload(6, "emit", 0, md...))
	if f, err := p.next(); err != nil || f.typ != frozenHeader || !slices.Equal(frozenParseAnswer(f.payload).header, fields) {
		t.Errorf("instead of a header: %v, %v", f, err)
	}
	p.send(frozenData, id, small)
	for range 3 {
		message(id, small)
	}
	end(id)

	p.send(frozenOpen, 10<<16, frozenCallPayload(3, "", 0))
	synctest.Wait() // or else the handler may never begin
	p.send(frozenCancel, 10<<16)
	if what := <-h.cancelled; what != "stream" {
		t.Error(what)
	}
}

// oldServer serves one connection as shapesHandler does, in the simplest way that an old server could.
func oldServer(nc net.Conn) {
	p := frozenAccept(nc)
	var methods []string
	open := map[uint32]string{} // streams, and calls that are arriving, by their method
	gathered := map[uint32][]byte{}
	heads := map[uint32]frozenCallHead{}
	metadata := func(md []string) []byte {
		var kv []string
		for _, f := range md {
			k, v, _ := strings.Cut(f, "=")
			kv = append(kv, k, v)
		}
		return frozenMetadata(kv...)
	}
	respond := func(id uint32, method string, h frozenCallHead, msg []byte) {
		switch method {
		case "echo":
			head := append([]byte{2 | 4 | 8}, metadata(h.metadata)...)
			head = append(append(head, metadata(h.metadata)...), 3)
			if len(msg) <= 60_000 {
				p.send(frozenAnswer, id, head, msg)
				return
			}
			head[0] |= 16
			p.send(frozenAnswer|frozenMore, id, binary.AppendUvarint(head, uint64(len(msg))), msg[:10])
			for msg = msg[10:]; len(msg) > 60_000; msg = msg[60_000:] {
				p.send(frozenPart|frozenMore, id, msg[:60_000])
			}
			p.send(frozenPart, id, msg)
		case "fail":
			p.send(frozenAnswer, id, []byte{1, 5, 2, 0, 0}, binary.AppendVarint(nil, 1e6), frozenBytes("no such thing"), []byte{1}, frozenBytes("t"), frozenBytes("v"))
		}
	}
	for {
		f, err := p.next()
		if err != nil {
			return
		}
		switch f.typ {
		case frozenCall, frozenOpen:
			h := frozenParseCall(f.payload)
			if h.name != "" && h.number == uint64(len(methods)+1) {
				methods = append(methods, h.name)
			} else if h.name != "" || h.number == 0 || h.number > uint64(len(methods)) {
				frozenFatal("method %d, %q, of %v", h.number, h.name, methods)
			}
			method := methods[h.number-1]
			if f.typ == frozenCall && !f.more {
				respond(f.id, method, h, h.rest)
				continue
			}
			open[f.id], heads[f.id], gathered[f.id] = method, h, h.rest
			if method == "emit" {
				p.send(frozenHeader, f.id, []byte{2}, metadata(h.metadata))
			}
		case frozenPart:
			if gathered[f.id] = append(gathered[f.id], f.payload...); !f.more {
				if uint64(len(gathered[f.id])) != heads[f.id].total {
					frozenFatal("a message of %d bytes has %d", heads[f.id].total, len(gathered[f.id]))
				}
				respond(f.id, open[f.id], heads[f.id], gathered[f.id])
			}
		case frozenData:
			n := binary.AppendUvarint(nil, uint64(len(f.payload)+32))
			p.send(frozenWindow, 0, n)
			p.send(frozenWindow, f.id, n)
			typ := byte(frozenData)
			if f.more {
				typ |= frozenMore
			}
			switch open[f.id] {
			case "bidi":
				p.send(typ, f.id, f.payload)
			case "collect":
				gathered[f.id] = append(gathered[f.id], f.payload...)
			case "emit":
				for range 3 {
					p.send(typ, f.id, f.payload)
				}
				p.send(frozenEnd, f.id, []byte{4}, metadata(heads[f.id].metadata))
			}
		case frozenHalf:
			if open[f.id] == "collect" {
				p.send(frozenData, f.id, gathered[f.id])
			}
			if open[f.id] != "emit" {
				p.send(frozenEnd, f.id, []byte{4}, metadata(heads[f.id].metadata))
			}
		case frozenCancel:
			p.send(frozenGoAway, 0, []byte{100, 0}, frozenBytes("cancelled"))
		default:
			frozenFatal("a frame of type %d from a client", f.typ)
		}
	}
}

// This client, with everything switched on, has calls of all shapes with an old server.
func TestOldServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.Options{})
		ln, err := n.Host("server").Listen(":80")
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			nc, err := ln.Accept()
			if err == nil {
				defer nc.Close()
				oldServer(nc)
			}
		}()
		defer func() { ln.Close(); <-ended }()
		o := everything()
		o.Dial = n.Host("client").Dial
		d, err := muxtransport.NewDialer(o)
		if err != nil {
			t.Fatal(err)
		}
		c, serr := d.Dial(t.Context(), "server:80")
		if serr != nil {
			t.Fatal(serr)
		}
		defer c.Close()
		if name := c.(interface{ Instance() string }).Instance(); name != "" {
			t.Errorf("an old server says that it is %q", name)
		}
		newClientTalks(t, c)
		if got := d.Counters(); got.ProtocolErrors != 0 || got.Compressed != 0 {
			t.Errorf("%+v", got)
		}
	})
}

func newClientTalks(t *testing.T, c transport.Conn) {
	md := transport.Metadata{{Key: "user", Value: "ada"}, {Key: "traceparent", Value: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}, {Key: "user", Value: "bob"}}
	request := func(method string, msg []byte) *transport.Request {
		return &transport.Request{Method: method, Codec: codec.Bytes{}, Message: &msg, Metadata: md, Deadline: policy.Now().Add(time.Minute),
			Compressor: "zstd", PathAttempt: 2, Criticality: policy.Sheddable}
	}
	for _, size := range []int{0, 2000, 2000, 100_000} {
		var out []byte
		rep := transport.Reply{Message: &out}
		if err := c.Call(t.Context(), request("echo", repeated(size)), &rep); err != nil || !bytes.Equal(out, repeated(size)) || rep.Load.InFlight != 3 {
			t.Fatalf("echo of %d bytes: %d bytes, %v: %v", size, len(out), rep.Load, err)
		}
		if !sameFields(rep.Header, md) || !sameFields(rep.Trailer, md) {
			t.Errorf("metadata came back as %v and %v", rep.Header, rep.Trailer)
		}
	}
	err := c.Call(t.Context(), request("fail", nil), &transport.Reply{Message: new([]byte)})
	if err == nil || err.Code != status.NotFound || err.Fate != status.Processed || err.Pushback != time.Second || len(err.Details) != 1 {
		t.Errorf("fail: %v", err)
	}
	small := repeated(2000)
	for _, tt := range []struct {
		method string
		send   [][]byte
		want   [][]byte
	}{
		{"bidi", [][]byte{small, nil, repeated(70_000)}, [][]byte{small, nil, repeated(70_000)}},
		{"collect", [][]byte{small, small}, [][]byte{append(slices.Clone(small), small...)}},
		{"emit", [][]byte{small}, [][]byte{small, small, small}},
	} {
		s, err := c.Open(t.Context(), request(tt.method, nil))
		if err != nil {
			t.Fatal(err)
		}
		if tt.method == "emit" {
			if h, err := s.Header(); err != nil || !sameFields(h, md) {
				t.Errorf("emit: header %v: %v", h, err)
			}
		}
		for _, msg := range tt.send {
			if err := s.Send(&msg); err != nil {
				t.Fatalf("%s: %v", tt.method, err)
			}
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		for i, want := range tt.want {
			var got []byte
			if err := s.Recv(&got); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: message %d has %d bytes, want %d: %v", tt.method, i, len(got), len(want), err)
			}
		}
		if err := s.Recv(new([]byte)); !errors.Is(err, io.EOF) || !sameFields(s.Trailer(), md) {
			t.Errorf("%s: the end: %v, %v", tt.method, err, s.Trailer())
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := c.Call(ctx, request("wait", nil), &transport.Reply{Message: new([]byte)}); err == nil || err.Kind != status.Timeout {
		t.Errorf("a call that nobody answers: %v", err)
	}
	<-c.Done() // because of what the server says to CANCEL
}

// sameFields compares metadata whose trace context may have moved.
func sameFields(a, b transport.Metadata) bool {
	sorted := func(m transport.Metadata) transport.Metadata {
		m = slices.Clone(m)
		slices.SortStableFunc(m, func(a, b transport.Field) int { return strings.Compare(a.Key, b.Key) })
		return m
	}
	return slices.Equal(sorted(a), sorted(b))
}

package oneport

import (
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"
)

// preface opens every HTTP/2 connection.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

const (
	// firstRead is the buffer of a connection that waits for its first request.
	firstRead = 512
	// maxPeek bounds what is read before the first request is known.
	maxPeek = 64 << 10
	// maxHeaderValue bounds one header of the first request; HTTP/2 servers have their own, stricter limits.
	maxHeaderValue = 32 << 10
)

// emptySettings is a SETTINGS frame that changes nothing.
var emptySettings = []byte{0, 0, 0, frameSettings, 0, 0, 0, 0, 0}

// errors that end a connection while it is being looked at.
var (
	errPeekLimit   = errors.New("too much came before the first request")
	errOverWaiting = errors.New("too many HTTP/2 connections wait for their first request")
)

// waiting is the state of a connection that no protocol is responsible for, as far as others need it.
type waiting struct {
	mu    sync.Mutex
	http2 bool // the peer has got our SETTINGS, not through TLS, so a GOAWAY makes sense
}

// goAway says to a waiting HTTP/2 client that it had better ask somebody else.
func (w *waiting) goAway(c net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.http2 {
		return
	}
	_ = c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	_, _ = c.Write([]byte{0, 0, 8, frameGoAway, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
}

// peek reads as far as the first request's headers and says whether a gRPC server is to serve the connection. What it has read is left
// in hc. c is the accepted connection below hc.
func (p *Port) peek(c net.Conn, hc *Conn) (isGRPC bool, err error) {
	k := &peeker{hc: hc, buf: make([]byte, 0, firstRead)}
	if ok, err := k.preface(); err != nil || !ok {
		hc.head = k.buf // HTTP/1.1, or nonsense that its server answers to
		return false, err
	}
	p.mu.Lock()
	w := p.undecided[c]
	full := p.n.waiting.Load() >= int64(p.opt.MaxWaiting)
	if w != nil && !full {
		p.n.waiting.Add(1)
	}
	p.mu.Unlock()
	if w == nil {
		return false, net.ErrClosed
	}
	if full {
		p.n.overWaiting.Add(1)
		return false, errOverWaiting
	}
	defer p.n.waiting.Add(-1)
	isGRPC, err = k.request(w, p.opt.Handshake)
	hc.head = k.buf
	hc.flows = newFlows(hc, isGRPC)
	hc.guard = &guard{port: p, flows: hc.flows, acked: k.acked, framing: framing{left: len(preface)}}
	return isGRPC, err
}

// peeker looks for the first request of an HTTP/2 connection.
type peeker struct {
	hc    *Conn
	buf   []byte // what has been read, without what the server must not see
	at    int    // buf before it has been looked at
	acked bool   // the acknowledgement of our SETTINGS has come
	pings int    // in the second that began at since
	since time.Time
}

// fill reads more.
func (k *peeker) fill() error {
	if len(k.buf) == cap(k.buf) {
		if len(k.buf) >= maxPeek {
			return errPeekLimit
		}
		grown := make([]byte, len(k.buf), min(4*cap(k.buf), maxPeek))
		copy(grown, k.buf)
		k.buf = grown
	}
	n, err := k.hc.Conn.Read(k.buf[len(k.buf):cap(k.buf)])
	k.buf = k.buf[:len(k.buf)+n]
	if n > 0 {
		return nil
	}
	return err
}

// preface reads HTTP/2's preface. It returns false as soon as it is something else.
func (k *peeker) preface() (bool, error) {
	for {
		n := min(len(k.buf), len(preface))
		if string(k.buf[:n]) != preface[:n] {
			return false, nil
		}
		if n == len(preface) {
			k.at = n
			return true, nil
		}
		if err := k.fill(); err != nil {
			return false, err
		}
	}
}

// request reads frames until the first request is complete, or something comes that a server must judge.
func (k *peeker) request(w *waiting, timeout time.Duration) (isGRPC bool, err error) {
	if _, err := k.hc.Conn.Write(emptySettings); err != nil {
		return false, err
	}
	settings := false // the client's own have come
	for {
		hdr, err := k.need(frameHeader)
		if err != nil {
			return false, err
		}
		typ, flags, size := hdr[3], hdr[4], payloadLen(hdr)
		if size > maxFramePayload || (!settings && (typ != frameSettings || flags&flagAck != 0)) {
			return false, nil
		}
		switch typ {
		case frameHeaders:
			block, err := k.headerBlock()
			return err == nil && block != nil && direct(block), err
		case frameSettings, framePing, frameWindow, framePriority:
		default:
			return false, nil
		}
		whole, err := k.need(frameHeader + size)
		if err != nil {
			return false, err
		}
		switch {
		case isSettingsAck(whole) && !k.acked:
			k.acked = true
			k.drop(len(whole))
		case typ == framePing && flags&flagAck == 0 && size == 8:
			if now := time.Now(); now.Sub(k.since) >= time.Second {
				k.since, k.pings = now, 0
			}
			if k.pings++; k.pings > k.hc.port.opt.MaxControl {
				k.hc.port.n.controlFloods.Add(1)
				return false, errControlFlood
			}
			pong := append([]byte{0, 0, 8, framePing, flagAck, 0, 0, 0, 0}, whole[frameHeader:]...)
			if _, err := k.hc.Conn.Write(pong); err != nil {
				return false, err
			}
			k.drop(len(whole))
		default:
			k.at += len(whole)
		}
		if typ == frameSettings && !settings {
			settings = true
			w.mu.Lock()
			w.http2 = k.hc.tls == nil
			w.mu.Unlock()
		}
		// The handshake is over. Whoever asks for nothing may stay, but what has begun must come to its end.
		deadline := time.Time{}
		if len(k.buf) > k.at {
			deadline = time.Now().Add(timeout)
		}
		_ = k.hc.Conn.SetDeadline(deadline)
		if len(k.buf) == k.at {
			if err := k.fill(); err != nil {
				return false, err
			}
			_ = k.hc.Conn.SetDeadline(time.Now().Add(timeout))
		}
	}
}

// need returns the next n bytes that have not been looked at.
func (k *peeker) need(n int) ([]byte, error) {
	for len(k.buf)-k.at < n {
		if err := k.fill(); err != nil {
			return nil, err
		}
	}
	return k.buf[k.at : k.at+n], nil
}

// drop takes the next n bytes out.
func (k *peeker) drop(n int) { k.buf = append(k.buf[:k.at], k.buf[k.at+n:]...) }

// headerBlock reads the HEADERS frame at k.at and its CONTINUATION frames. The block is nil if a server must judge what came.
func (k *peeker) headerBlock() (block []byte, err error) {
	for i := 0; ; i++ {
		hdr, err := k.need(frameHeader)
		if err != nil {
			return nil, err
		}
		typ, flags, size := hdr[3], hdr[4], payloadLen(hdr)
		if size > maxFramePayload || (i > 0 && typ != frameContinuation) {
			return nil, nil
		}
		whole, err := k.need(frameHeader + size)
		if err != nil {
			return nil, err
		}
		fragment := whole[frameHeader:]
		if i == 0 {
			var ok bool
			if fragment, ok = unpad(fragment, flags); !ok {
				return nil, nil
			}
			block = []byte{}
		}
		block = append(block, fragment...)
		k.at += len(whole)
		if flags&flagEndHeaders != 0 {
			return block, nil
		}
	}
}

// unpad takes padding and priority off the payload of a HEADERS frame.
func unpad(b []byte, flags byte) ([]byte, bool) {
	pad := 0
	if flags&flagPadded != 0 {
		if len(b) < 1 {
			return nil, false
		}
		pad, b = int(b[0]), b[1:]
	}
	if flags&flagPriority != 0 {
		if len(b) < 5 {
			return nil, false
		}
		b = b[5:]
	}
	if pad > len(b) {
		return nil, false
	}
	return b[:len(b)-pad], true
}

// attemptCount is the one of Envoy's headers that Hull's own clients say.
const attemptCount = "x-envoy-attempt-count"

// direct reports whether a request is gRPC and comes from the client itself. Proxies share connections between clients that speak
// different protocols, so what the first request is says nothing about the next.
func direct(block []byte) bool {
	isGRPC, proxied := false, false
	d := hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		switch f.Name {
		case "content-type":
			isGRPC = f.Value == "application/grpc" || strings.HasPrefix(f.Value, "application/grpc+") ||
				strings.HasPrefix(f.Value, "application/grpc;")
		case "via", "forwarded":
			proxied = true
		default:
			proxied = proxied || strings.HasPrefix(f.Name, "x-forwarded-") ||
				strings.HasPrefix(f.Name, "x-envoy-") && f.Name != attemptCount
		}
	})
	d.SetMaxStringLength(maxHeaderValue)
	if _, err := d.Write(block); err != nil {
		return false
	}
	return d.Close() == nil && isGRPC && !proxied
}

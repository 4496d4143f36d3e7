package oneport

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Protocols are what the connections of a Port are given to. Each function owns its connection and closes it; it may return before
// that. GRPC and HTTP connections are *Conn.
type Protocols struct {
	// Native serves the native protocol.
	Native func(net.Conn)
	// GRPC serves HTTP/2 connections whose first request is gRPC that no proxy has touched.
	GRPC func(net.Conn)
	// HTTP serves HTTP/1.1 and all other HTTP/2, where gRPC may come too.
	HTTP func(net.Conn)
}

// Port accepts connections. It is safe for concurrent use.
type Port struct {
	ln     net.Listener
	opt    Options
	to     Protocols
	n      counters
	magic  byte
	start  time.Time
	routes sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	undecided map[net.Conn]*waiting // no protocol is responsible yet
	peers     map[netip.Addr]int
}

// New returns a Port over a listener. magic is the first byte of the native protocol.
func New(ln net.Listener, magic byte, to Protocols, o Options) (*Port, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	return &Port{ln: ln, opt: o, to: to, magic: magic, start: time.Now(), undecided: map[net.Conn]*waiting{}, peers: map[netip.Addr]int{}}, nil
}

// Counters reads the counters.
func (p *Port) Counters() Counters { return p.n.read() }

// Serve accepts until the listener is closed or fails; it returns nil when StopAccepting or Close was called.
func (p *Port) Serve() error {
	var pause time.Duration
	for {
		c, err := p.ln.Accept()
		if err != nil {
			p.mu.Lock()
			closed := p.closed
			p.mu.Unlock()
			if closed || errors.Is(err, net.ErrClosed) {
				return nil
			}
			if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Temporary() { //nolint:staticcheck // EMFILE and ECONNABORTED have no other name
				return err
			}
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			p.opt.Logger.Warn("accepting a connection failed; trying again", "error", err, "in", pause)
			time.Sleep(pause)
			continue
		}
		pause = 0
		if c = p.admit(c); c == nil {
			continue
		}
		p.routes.Go(func() { p.route(c) })
	}
}

// Wait waits until no goroutine of the port's own is left: each has handed its connection over, and functions of Protocols that serve on
// their caller's goroutine have returned.
func (p *Port) Wait() { p.routes.Wait() }

// StopAccepting closes the listener and every connection that no protocol is responsible for.
func (p *Port) StopAccepting() {
	p.mu.Lock()
	p.closed = true
	p.ln.Close()
	waiters := p.undecided
	p.undecided = map[net.Conn]*waiting{}
	p.mu.Unlock()
	for c, w := range waiters {
		w.goAway(c)
		c.Close()
	}
}

// admit counts a connection in, and wraps it so that it is counted out when it is closed. It returns nil for one too many.
func (p *Port) admit(c net.Conn) net.Conn {
	peer := peerOf(c)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
	case p.n.conns.Load() >= int64(p.opt.MaxConns):
		p.tellFull(p.n.overTotal.Add(1), "in total", p.opt.MaxConns)
	case p.peers[peer] >= p.opt.MaxConnsPerPeer:
		p.tellFull(p.n.overPeer.Add(1), "from "+peer.String(), p.opt.MaxConnsPerPeer)
	default:
		p.n.conns.Add(1)
		p.peers[peer]++
		if t, ok := c.(*net.TCPConn); ok {
			c = &tcpConn{TCPConn: t, counted: counted{port: p, peer: peer}}
		} else {
			c = &otherConn{Conn: c, counted: counted{port: p, peer: peer}}
		}
		p.undecided[c] = &waiting{}
		return c
	}
	c.Close()
	return nil
}

// tellFull logs the first of many refusals, and then few.
func (p *Port) tellFull(n int64, where string, limit int) {
	if n&(n-1) == 0 {
		p.opt.Logger.Warn("too many connections: closing new ones", "where", where, "limit", limit, "closed_so_far", n)
	}
}

// tellShut counts an HTTP/2 connection that is closed because nothing fits into its window, and logs the first of many, and then few.
func (p *Port) tellShut(c net.Conn) {
	if n := p.n.shutConns.Add(1); n&(n-1) == 0 {
		p.opt.Logger.Warn("closing a gRPC connection whose peer leaves no room for any answer", "peer", c.RemoteAddr(), "closed_so_far", n)
	}
}

func (p *Port) gone(peer netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n.conns.Add(-1)
	if p.peers[peer]--; p.peers[peer] <= 0 {
		delete(p.peers, peer)
	}
}

// peerOf is the address that counts for MaxConnsPerPeer; the zero one for networks without.
func peerOf(c net.Conn) netip.Addr {
	switch a := c.RemoteAddr().(type) {
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap().WithZone("")
	case nil:
		return netip.Addr{}
	default:
		ap, err := netip.ParseAddrPort(a.String())
		if err != nil {
			return netip.Addr{}
		}
		return ap.Addr().Unmap().WithZone("")
	}
}

// decided says that a protocol is responsible for c from here on; false if the port was closed meanwhile.
func (p *Port) decided(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.undecided[c]
	delete(p.undecided, c)
	return ok
}

// fail closes a connection that did not say in time what it speaks.
func (p *Port) fail(c net.Conn) {
	if p.decided(c) {
		p.n.handshakesFailed.Add(1)
	}
	c.Close()
}

// turnAway is fail for a connection that has been told why.
func (p *Port) turnAway(c net.Conn) {
	p.mu.Lock()
	_, ok := p.undecided[c]
	p.mu.Unlock()
	if ok {
		p.n.handshakesFailed.Add(1) // before the peer learns of it
		linger(c)                   // undecided all the while, so that StopAccepting closes it
		p.decided(c)
	}
	c.Close()
}

// route finds out what a connection speaks and hands it over.
func (p *Port) route(c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(p.opt.Handshake))
	b, c2, err := first(c)
	if err != nil {
		p.fail(c)
		return
	}
	switch {
	case p.opt.TLS != nil && b == recordHandshake:
		p.secure(c, c2)
	case p.opt.TLS != nil:
		p.refusePlain(c2, b)
		p.turnAway(c)
	case b == recordHandshake:
		_, _ = c2.Write(noTLS)
		p.turnAway(c)
	default:
		p.tell(c, c2, b, nil)
	}
}

// secure does TLS's handshake. c is the accepted connection, c2 the same with what was read of it.
func (p *Port) secure(c, c2 net.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), p.opt.Handshake)
	defer cancel()
	t := tls.Server(c2, p.opt.TLS)
	if err := t.HandshakeContext(ctx); err != nil {
		if ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) { // it has had its time
			p.fail(c)
		} else {
			p.turnAway(c) // the alert says why
		}
		return
	}
	state := t.ConnectionState()
	if state.NegotiatedProtocol == alpnNative {
		p.native(c, t)
		return
	}
	b, c3, err := readFirst(t)
	if err != nil {
		p.fail(c)
		return
	}
	p.tell(c, c3, b, &state)
}

// tell tells the protocols apart by the first byte, which inner still begins with.
func (p *Port) tell(c, inner net.Conn, b byte, state *tls.ConnectionState) {
	if b == p.magic {
		p.native(c, inner)
		return
	}
	hc := &Conn{Conn: inner, port: p, tls: state}
	isGRPC, err := p.peek(c, hc)
	if err != nil {
		p.fail(c)
		return
	}
	if !p.handOver(c) {
		return
	}
	if isGRPC {
		p.n.grpc.Add(1)
		p.to.GRPC(hc)
		return
	}
	p.n.http.Add(1)
	p.to.HTTP(hc)
}

func (p *Port) native(c, inner net.Conn) {
	if p.handOver(c) {
		p.n.native.Add(1)
		p.to.Native(inner)
	}
}

// handOver frees a connection of the port's deadlines. If it returns false the port was closed, and c with it.
func (p *Port) handOver(c net.Conn) bool {
	if !p.decided(c) {
		c.Close()
		return false
	}
	_ = c.SetDeadline(time.Time{})
	return true
}

// recordHandshake is the first byte of TLS.
const recordHandshake = 0x16

// noTLS is the alert by which a TLS client learns that there is none here: fatal, protocol version.
var noTLS = []byte{0x15, 3, 1, 0, 2, 2, 70}

// tlsOnly is the alert by which a client of the native protocol learns that there is TLS here: fatal, unexpected message.
var tlsOnly = []byte{0x15, 3, 1, 0, 2, 2, 10}

const (
	lingerTime  = time.Second
	lingerBytes = 64 << 10
)

// linger waits until the peer has read what it was told last. Closing a connection of which not all has been read resets it, which may take away what the
// peer has not read yet.
func linger(c net.Conn) {
	w, ok := c.(interface{ CloseWrite() error })
	if !ok || w.CloseWrite() != nil {
		return
	}
	_ = c.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, c, lingerBytes) // to its end, if it goes well
}

// refusePlain tells a client that speaks no TLS to a port that does, if its first byte looks like the native protocol or HTTP.
func (p *Port) refusePlain(c net.Conn, b byte) {
	switch {
	case b == p.magic:
		_, _ = c.Write(tlsOnly)
	case b >= 'A' && b <= 'Z':
		_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n" +
			"this port speaks TLS: use https\n"))
	}
}

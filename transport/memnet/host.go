package memnet

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
)

// firstEphemeral and lastEphemeral bound the ports that dialling and Listen(":0") take.
const (
	firstEphemeral = 32768
	lastEphemeral  = 60999
)

// Host is one process on one machine of the network. All methods are safe for concurrent use.
type Host struct {
	n    *Network
	name string

	// Under Network.mu.
	frozen    bool
	nextPort  int
	listeners map[int]*listener
}

// Name returns the host's name.
func (h *Host) Name() string { return h.name }

// Listen listens on an address of this host: ":80", "name:80", "localhost:80"; port 0 takes a free one.
func (h *Host) Listen(address string) (net.Listener, error) {
	name, port, err := split(address)
	fail := func(err error) error {
		return &net.OpError{Op: "listen", Net: "tcp", Addr: addr(address), Err: err}
	}
	if err != nil {
		return nil, fail(err)
	}
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	switch {
	case h.n.closed:
		return nil, fail(net.ErrClosed)
	case !h.is(name):
		return nil, fail(os.NewSyscallError("bind", syscall.EADDRNOTAVAIL))
	case port == 0:
		port = h.portLocked()
	case h.listeners[port] != nil:
		return nil, fail(os.NewSyscallError("bind", syscall.EADDRINUSE))
	}
	l := &listener{h: h, port: port, addr: h.at(port)}
	l.cond.L = &h.n.mu
	h.listeners[port] = l
	h.n.wakeLocked()
	return l, nil
}

// DialContext is Dial in the shape of net.Dialer's method. network is not looked at.
func (h *Host) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	return h.Dial(ctx, address)
}

// Dial connects to "host:port". It returns when the other host's system has taken the connection, whether or not
// anybody accepts it, and fails when it is refused, the host is unknown or ctx ends.
func (h *Host) Dial(ctx context.Context, address string) (net.Conn, error) {
	c, err := h.dial(ctx, address)
	if err == nil {
		return c, nil
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		err = dialTimeoutError{}
	case ctx.Err() != nil:
		err = ctx.Err()
	}
	return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: addr(address), Err: err}
}

func (h *Host) dial(ctx context.Context, address string) (*Conn, error) {
	name, port, err := split(address)
	if err != nil {
		return nil, err
	}
	n := h.n
	arrived := false // the handshake's time has passed
	for {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		n.mu.Lock()
		to := n.hosts[name]
		if h.is(name) {
			to = h
		}
		if n.closed || to == nil {
			n.mu.Unlock()
			if to == nil {
				return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
			}
			return nil, net.ErrClosed
		}
		there, back := n.shapeLocked(h.name, to.name), n.shapeLocked(to.name, h.name)
		l := to.listeners[port]
		var pause <-chan time.Time
		switch {
		case h.frozen || there.drop || back.drop:
			arrived = false
		case !arrived:
			arrived = true
			d := there.delay + back.delay + draw(n.rnd, there.jitter) + draw(n.rnd, back.jitter)
			if d == 0 {
				n.mu.Unlock()
				continue
			}
			pause = time.After(d)
		case l == nil || n.refusedLocked(h.name, to.name):
			n.mu.Unlock()
			return nil, os.NewSyscallError("connect", syscall.ECONNREFUSED)
		case len(l.backlog) < n.opt.Backlog:
			c := n.connectLocked(h, to, h.at(h.portLocked()), to.at(port))
			l.backlog = append(l.backlog, c.ends[1])
			l.cond.Signal()
			n.mu.Unlock()
			return c.ends[0], nil
		}
		var changed <-chan struct{}
		if pause == nil {
			changed = n.changeLocked()
		}
		n.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-changed:
		case <-pause:
		}
	}
}

// Freeze stops the host's network calls as SIGSTOP stops a process: Read, Write, Accept and Dial of this host do not
// return, errors and passed deadlines included, until Thaw, Kill or a Close of what they wait on. Its kernel goes on.
func (h *Host) Freeze() { h.freeze(true) }

// Thaw releases a frozen host.
func (h *Host) Thaw() { h.freeze(false) }

func (h *Host) freeze(on bool) {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	h.frozen = on
	for _, c := range h.n.endsLocked(h.owns) {
		c.freeze(on)
	}
	for _, l := range h.listeners {
		l.cond.Broadcast()
	}
	h.n.wakeLocked()
}

// Kill closes the host's listeners and connections as the kernel does when a process dies, and thaws it. The host may
// listen and dial again, as a restarted process would.
func (h *Host) Kill() {
	h.n.mu.Lock()
	var ls []*listener
	for _, l := range h.listeners {
		ls = append(ls, l)
	}
	ends := h.n.endsLocked(h.owns)
	h.n.mu.Unlock()
	for _, l := range ls {
		_ = l.Close()
	}
	for _, c := range ends {
		_ = c.Close()
	}
	h.Thaw()
}

// owns reports whether c is this host's end.
func (h *Host) owns(c *Conn) bool { return c.host == h }

// is reports whether name means this host.
func (h *Host) is(name string) bool {
	switch name {
	case "", "localhost", "127.0.0.1", "::1", "0.0.0.0", "::", h.name:
		return true
	}
	return false
}

// at returns the address of a port.
func (h *Host) at(port int) addr { return addr(net.JoinHostPort(h.name, strconv.Itoa(port))) }

// portLocked returns the next ephemeral port that nobody listens on.
func (h *Host) portLocked() int {
	for {
		p := h.nextPort
		if h.nextPort++; h.nextPort > lastEphemeral {
			h.nextPort = firstEphemeral
		}
		if h.listeners[p] == nil {
			return p
		}
	}
}

// split takes "host:port" apart.
func split(address string) (name string, port int, err error) {
	name, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	p, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, &net.AddrError{Err: "invalid port: want a number up to 65535", Addr: address}
	}
	return name, int(p), nil
}

// host returns the host of an address.
func host(a addr) string {
	name, _, _ := net.SplitHostPort(string(a))
	return name
}

// dialTimeoutError is what a dial fails with when its context's deadline passes.
type dialTimeoutError struct{}

func (dialTimeoutError) Error() string   { return "i/o timeout" }
func (dialTimeoutError) Timeout() bool   { return true }
func (dialTimeoutError) Temporary() bool { return true }

// Is makes the error the context's own as well as os.ErrDeadlineExceeded.
func (dialTimeoutError) Is(err error) bool {
	return err == context.DeadlineExceeded || err == os.ErrDeadlineExceeded
}

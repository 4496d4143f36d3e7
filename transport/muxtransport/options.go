package muxtransport

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options say what a Dialer or a Server accepts. The zero value of each field is the default; negative values are errors.
type Options struct {
	// Dial opens the network connection of a Dialer; nil = TCP, or the Unix socket at path for an address such as
	// unix:///run/greeter.sock. Servers do not use it.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// TLS has a Dialer encrypt its connections; nil = in the clear. ServerName is by default the host of the address, and
	// NextProtos is always ALPN alone. Servers are given connections that are encrypted already.
	TLS *tls.Config
	// MaxMessage is the largest message to receive, in bytes; 0 = 4 MiB.
	MaxMessage int
	// MaxHeader is the most metadata to receive with one frame, in bytes; 0 = 16 KiB, at most 24 KiB.
	MaxHeader int
	// MaxCalls is how many calls and streams one connection of a Server carries at a time, counting handlers that go on after
	// their call has ended; 0 = 1000, at most 65536.
	MaxCalls int
	// MaxBuffered bounds what one connection keeps of messages that wait for a handler or for their remaining parts, in bytes;
	// 0 = 64 MiB. A call above it is refused with kind Shed.
	MaxBuffered int
	// StreamWindow and ConnWindow are how many bytes of streams may be on the way or wait to be received, per stream and per
	// connection; 0 = 256 KiB and 16 MiB, at least 64 KiB. A stream of small messages whose receiver waits for more has up to four
	// times that, as long as all streams together have no more than a quarter of ConnWindow on top.
	StreamWindow, ConnWindow int
	// HandshakeTimeout bounds the exchange of prefaces; 0 = 5 s.
	HandshakeTimeout time.Duration
	// FrameTimeout is how long one frame may take from its first byte to its last; 0 = 10 s.
	FrameTimeout time.Duration
	// WriteTimeout is how long the peer may take nothing at all of what is sent to it; 0 = 10 s.
	WriteTimeout time.Duration
	// KeepaliveBusy, KeepaliveSilent and KeepaliveIdle are how often to make sure that the peer is there: with calls under way,
	// with calls under way and nothing heard, and without calls; 0 = 10 s, 1 s and 60 s. KeepaliveTimeout is how long an
	// answer may take; 0 = 2 s.
	KeepaliveBusy, KeepaliveSilent, KeepaliveIdle, KeepaliveTimeout time.Duration
	// Compression is how messages are compressed, in both directions: this side does it to what it sends and asks the peer to do the
	// same, as far as the peer can: "gzip" or "zstd". "" = only as the peer asks; "none" = not at all, nothing compressed is
	// accepted either. Requests may say something else (transport.Request.Compressor). Connections within this machine do not
	// ask unless CompressLocal says so: compressing costs more there than it saves.
	Compression   string
	CompressLocal bool
	// CompressFrom is the size from which on messages are compressed, in bytes; 0 = 1 KiB. One that does not become smaller is
	// sent as it is.
	CompressFrom int
	// Instance says which instance a Server is, which dialers learn as the connection begins; "" and nil = it does not say. It is
	// asked for each connection, from many goroutines, and must not take long. What has more than 512 bytes is not said.
	Instance func() string
	// MaxResets is how many calls and streams a peer may cancel in one second long before they run out of time; 0 = 10,000.
	// More ends the connection.
	MaxResets int
	// MaxPings is how many PINGs a peer may send in one second; 0 = 100. More ends the connection.
	MaxPings int
	// BusyPoll is for how long a connection asks whether something has arrived before its reader sleeps; 0 = not at all, at most 50 µs. It takes some
	// of the wait out of calls that follow one another, for a processor that does nothing else meanwhile. While several are under way, and where
	// it is in vain, it stops by itself. On Linux and without TLS only; elsewhere it does nothing.
	BusyPoll time.Duration
	// Logger is told of panics in handlers; nil = slog.Default().
	Logger *slog.Logger
}

// What a HELLO that does not mention them means, too: they are part of the protocol.
const (
	defaultMaxMessage   = 4 << 20
	defaultMaxHeader    = 16 << 10
	defaultMaxCalls     = 1000
	defaultStreamWindow = 256 << 10
	defaultConnWindow   = 16 << 20
)

// minWindow is the least that StreamWindow and ConnWindow may be: a part and its cost must fit.
const minWindow = 64 << 10

// minPings is the least that MaxPings may be: a peer that keeps a connection alive, or holds calls back until its client has been heard, sends some.
const minPings = 60

func (o *Options) complete() error {
	for _, f := range [...]struct {
		name     string
		v        *int
		def      int
		low, top int
	}{
		{"MaxMessage", &o.MaxMessage, defaultMaxMessage, 1, 1 << 30},
		{"MaxHeader", &o.MaxHeader, defaultMaxHeader, 1, 24 << 10},
		{"MaxCalls", &o.MaxCalls, defaultMaxCalls, 1, maxCallsCeiling},
		{"MaxBuffered", &o.MaxBuffered, 64 << 20, 1, 1 << 40},
		{"StreamWindow", &o.StreamWindow, defaultStreamWindow, minWindow, 1 << 30},
		{"ConnWindow", &o.ConnWindow, defaultConnWindow, minWindow, 1 << 30},
		{"CompressFrom", &o.CompressFrom, 1 << 10, 1, 1 << 30},
		{"MaxResets", &o.MaxResets, 10_000, 1, 1 << 30},
		{"MaxPings", &o.MaxPings, pingsPerSecond, minPings, 1 << 30},
	} {
		if *f.v == 0 {
			*f.v = f.def
		}
		if *f.v < f.low || *f.v > f.top {
			return fmt.Errorf("muxtransport: %s is %d; choose a value from %d to %d", f.name, *f.v, f.low, f.top)
		}
	}
	for _, f := range [...]struct {
		name string
		v    *time.Duration
		def  time.Duration
		top  time.Duration // 0 = none
	}{
		{"HandshakeTimeout", &o.HandshakeTimeout, 5 * time.Second, 0},
		{"FrameTimeout", &o.FrameTimeout, 10 * time.Second, 0},
		{"WriteTimeout", &o.WriteTimeout, 10 * time.Second, 0},
		{"KeepaliveBusy", &o.KeepaliveBusy, 10 * time.Second, 0},
		{"KeepaliveSilent", &o.KeepaliveSilent, time.Second, 0},
		{"KeepaliveIdle", &o.KeepaliveIdle, time.Minute, 0},
		{"KeepaliveTimeout", &o.KeepaliveTimeout, 2 * time.Second, 0},
		{"BusyPoll", &o.BusyPoll, 0, maxPoll},
	} {
		if *f.v == 0 {
			*f.v = f.def
		}
		if *f.v < 0 {
			return fmt.Errorf("muxtransport: %s is %v; choose a positive duration", f.name, *f.v)
		}
		if f.top > 0 && *f.v > f.top {
			return fmt.Errorf("muxtransport: %s is %v; choose a duration up to %v", f.name, *f.v, f.top)
		}
	}
	if c := o.Compression; c != "" && c != compressionOff && compressionByName(c) == packNone {
		return fmt.Errorf("muxtransport: Compression is %q; choose gzip, zstd, none, or nothing", c)
	}
	if o.Dial == nil {
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			if path, ok := unixPath(addr); ok {
				return new(net.Dialer).DialContext(ctx, "unix", path)
			}
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
	}
	if o.TLS != nil {
		o.TLS = o.TLS.Clone()
		o.TLS.NextProtos = []string{ALPN}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return nil
}

// unixPath returns the path of an address that names a Unix socket.
func unixPath(addr string) (path string, ok bool) {
	if path, ok = strings.CutPrefix(addr, "unix://"); ok {
		return path, true
	}
	return strings.CutPrefix(addr, "unix:")
}

// Counters are how often something out of the ordinary happened since the Dialer or Server was made.
type Counters struct {
	// Conns is the number of connections that are open now; Accepted counts all that passed the handshake.
	Conns, Accepted int64
	// HandshakesFailed: the peer was too slow, spoke something else or a version without overlap.
	HandshakesFailed int64
	// ProtocolErrors: connections closed because the peer broke the protocol. PingFloods and ResetFloods, calls opened and
	// cancelled without end, are among them.
	ProtocolErrors, PingFloods, ResetFloods int64
	// TooLarge: messages and metadata over a limit, in either direction.
	TooLarge int64
	// Compressed and Decompressed: messages sent and received compressed. Bombs: compressed messages over a limit, and those that
	// were larger than they said.
	Compressed, Decompressed, Bombs int64
	// Shed: calls refused because the connection had too many of them, or too much waiting.
	Shed int64
	// Expired: calls whose deadline had passed before their handler started. Abandoned: cancelled before that.
	Expired, Abandoned int64
	// Panicked: handlers that panicked or called runtime.Goexit.
	Panicked int64
	// Takeovers: handlers that held up the reading of their connection, so that another goroutine went on with it.
	Takeovers int64
	// Polled: reads that BusyPoll spared a sleep. PolledInVain: those that slept all the same.
	Polled, PolledInVain int64
	// WritesHandedOver: writes that did not end soon and were finished by a goroutine of their own.
	WritesHandedOver int64
	// ReadStalls, WriteStalls, KeepaliveStalls: connections closed because a frame did not arrive whole, because the peer
	// took nothing, and because it did not answer.
	ReadStalls, WriteStalls, KeepaliveStalls int64
}

// shared is what all connections of one Dialer or Server have in common.
type shared struct {
	opts  Options
	watch watch
	idle  idleList
	// hello is what the last peer said: most say the same.
	hello  atomic.Pointer[hello]
	packer packer
	// readBufs holds *[]byte of maxFrame bytes, borrowed while more is to be read than fits the resident buffer.
	readBufs sync.Pool
	large    sync.Pool // of *[]byte, see room
	pages    sync.Pool // of *page, see inbox

	conns, accepted, handshakesFailed, protocolErrors, pingFloods, tooLarge, shed, expired, abandoned, panicked,
	takeovers, handedOver, readStalls, writeStalls, keepaliveStalls, resetFloods, compressed, decompressed, bombs, polled, polledInVain atomic.Int64
}

// intern returns h, which most connections then have in common.
func (s *shared) intern(h hello) *hello {
	if last := s.hello.Load(); last != nil && *last == h {
		return last
	}
	s.hello.Store(&h)
	return &h
}

func (s *shared) counters() Counters {
	return Counters{
		Conns: s.conns.Load(), Accepted: s.accepted.Load(), HandshakesFailed: s.handshakesFailed.Load(),
		ProtocolErrors: s.protocolErrors.Load(), PingFloods: s.pingFloods.Load(), TooLarge: s.tooLarge.Load(),
		Shed: s.shed.Load(), Expired: s.expired.Load(), Abandoned: s.abandoned.Load(), Panicked: s.panicked.Load(),
		Takeovers: s.takeovers.Load(), WritesHandedOver: s.handedOver.Load(), ReadStalls: s.readStalls.Load(),
		WriteStalls: s.writeStalls.Load(), KeepaliveStalls: s.keepaliveStalls.Load(), ResetFloods: s.resetFloods.Load(),
		Compressed: s.compressed.Load(), Decompressed: s.decompressed.Load(), Bombs: s.bombs.Load(),
		Polled: s.polled.Load(), PolledInVain: s.polledInVain.Load(),
	}
}

func (s *shared) borrow() *[]byte {
	if b, ok := s.readBufs.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, maxFrame)
	return &b
}

// Package transport is the seam between Hull's calls and the wire. It speaks in calls, not in bytes: a Dialer makes a
// Conn, a Conn carries many calls at once, a Server hands what arrives to a Handler. Each protocol is a package below
// (muxtransport is the native one); transporttest is the suite that all of them pass; pool keeps connections.
//
// Transports report facts, not opinions: every failure is a *status.Error that says whether the request can have been
// processed (Fate) and how it failed (Kind). Retrying, choosing nodes and counting happen above.
package transport

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// Dialer opens connections to nodes. It is safe for concurrent use.
type Dialer interface {
	// Dial connects to addr (host:port) and completes the protocol's handshake before ctx ends. Failures have fate NotSent
	// and kind Dial or Handshake.
	Dial(ctx context.Context, addr string) (Conn, *status.Error)
}

// Conn is one connection to one node, shared by many calls at the same time.
type Conn interface {
	// Call sends a unary request and waits for the answer, the request's deadline or ctx, whichever comes first. The
	// request's message has been encoded, and is not touched any more, when Call returns. rep is filled in on failure too, as
	// far as the peer said something.
	Call(ctx context.Context, req *Request, rep *Reply) *status.Error
	// Open begins a stream. The stream ends when ctx does.
	Open(ctx context.Context, req *Request) (ClientStream, *status.Error)
	// Usable reports whether new calls may go on the connection: it is up and the peer is not draining it.
	Usable() bool
	// InFlight is the number of calls and streams under way.
	InFlight() int
	// Done is closed when the connection is gone.
	Done() <-chan struct{}
	// Drain lets calls under way finish and then closes; new calls are refused with kind Draining, fate NotSent.
	Drain()
	// Close ends the connection at once. Calls under way fail. It may be called more than once.
	Close() error
}

// Server speaks one protocol on connections it is given and passes calls to its Handler.
type Server interface {
	// ServeConn serves one accepted connection until it ends. It closes c.
	ServeConn(c net.Conn)
	// Drain tells all peers to send nothing new (GOAWAY), waits until the calls under way have ended or ctx has, then closes
	// every connection. It returns ctx's error if calls had to be cut off.
	Drain(ctx context.Context) error
	// Close ends every connection at once and waits for the handlers' contexts to be cancelled, not for the handlers.
	Close() error
}

// Handler is what a Server calls. Both methods may run on the goroutine that reads the connection; a transport sees to
// it that a handler which takes long does not hold up others. A panic ends only its own call.
type Handler interface {
	// Unary serves one call. in and what it points to are valid until Unary returns, except strings.
	// ctx carries the deadline, and is cancelled when it passes, the caller gives up or the connection is lost.
	Unary(ctx context.Context, in *Incoming) Outgoing
	// Stream serves one stream. The returned Outgoing ends it; its Message is not used.
	Stream(ctx context.Context, in *Incoming, s ServerStream) Outgoing
}

// Field is one entry of Metadata.
type Field struct{ Key, Value string }

// Metadata are the headers of a call: lower-case keys, repeated keys allowed, order kept. Values of keys that end in
// "-bin" are arbitrary bytes, others printable ASCII.
type Metadata []Field

// Get returns the first value of key, or "".
func (m Metadata) Get(key string) string {
	for i := range m {
		if m[i].Key == key {
			return m[i].Value
		}
	}
	return ""
}

// Request is what goes out.
type Request struct {
	// Codec encodes Message and decodes the reply. Its name travels with the request.
	Codec   codec.Codec
	Message any // unary only
	// WantLoad asks for Reply.Load, where nodes say nothing unless they are asked.
	WantLoad    bool
	Criticality policy.Criticality
	// Method is pkg.Service/Method, without a leading slash.
	Method string
	// Deadline is when the attempt ends; 0 = none. What is left of it travels with the request.
	Deadline policy.Time
	// PathAttempt is the highest attempt number between the root of the call tree and this request, itself included; ≥ 1.
	PathAttempt int
	// Compressor names how what is sent is compressed, where that is the caller's choice; "" = as the transport likes. A name that the transport does not
	// know fails the call.
	Compressor string
	Metadata   Metadata
	// MaxReply bounds the size of one received message in bytes; 0 = the transport's limit.
	MaxReply int
	// MaxRequest bounds the size of one sent message in bytes, where it is the caller's wish and not the transport's own limit; 0 = the
	// transport's. A server's limit, where it is known, holds in any case.
	MaxRequest int
	// Authority is the server's name where that is not the host of its address; "" = it is. Transports that name no server
	// overlook it.
	Authority string
}

// Reply is what comes back. One call at a time is made with it, and nothing of an earlier one may be in it then: a transport need not touch what the
// peer says nothing of.
type Reply struct {
	// Message is where a unary answer is decoded into; a pointer.
	Message any
	// Scratch is where a transport may keep what it needs for a call, for the next one that is made with this Reply; nil = nowhere. Whoever calls keeps
	// what it points to, and leaves it alone.
	Scratch         *any
	Load            Load
	Header, Trailer Metadata
}

// Reset empties r of what a peer has said, for another attempt at the same call.
func (r *Reply) Reset() { r.Load, r.Header, r.Trailer = Load{}, nil, nil }

// Load is what a node says about itself with each answer. The zero value says nothing.
type Load struct {
	// InFlight is the number of calls that the node was serving, plus one so that zero means "not said".
	InFlight uint32
}

// Incoming is what a server received.
type Incoming struct {
	Method string
	// Codec is the name of the codec that the payload is in and that the answer is expected in.
	Codec    string
	Metadata Metadata
	// Payload is the encoded unary request.
	Payload []byte
	// Received is when the request had arrived; Deadline when its caller stops waiting (0 = never said).
	Received, Deadline policy.Time
	PathAttempt        int
	Criticality        policy.Criticality
	Peer               net.Addr
	// TLS is the state of the connection's TLS, which must not be changed; nil without.
	TLS *tls.ConnectionState
	// Scratch is the handler's, for what it would otherwise make for each call: a transport that uses an Incoming again leaves it as it is.
	Scratch any
}

// Outgoing is a handler's answer.
type Outgoing struct {
	// Status is nil for success.
	Status          *status.Error
	Codec           codec.Codec
	Message         any
	Header, Trailer Metadata
	Load            Load
	// Ended is when the handler was done, where it knows: that spares the transport another look at the clock. 0 = not said.
	Ended policy.Time
}

// Stream is what both sides of a stream have in common. Send and Recv may be used at the same time by two goroutines,
// but neither by two.
type Stream interface {
	// Context ends with the stream.
	Context() context.Context
	// Send encodes and sends one message; it waits while the peer's window is full.
	Send(v any) *status.Error
	// Recv decodes the next message into v. At the end of the peer's messages it fails with io.EOF on a server and after
	// success on a client, or with the call's *status.Error.
	Recv(v any) error
}

// ClientStream is a stream as its caller holds it. It must be read to its end or its context cancelled.
type ClientStream interface {
	Stream
	// CloseSend says that no more messages follow.
	CloseSend() *status.Error
	// Header waits for the peer's header, or the end of the stream.
	Header() (Metadata, *status.Error)
	// Trailer is valid once Recv has failed.
	Trailer() Metadata
}

// ServerStream is a stream as its handler holds it.
type ServerStream interface {
	Stream
	// SendHeader sends the header now; without it the header goes out with the first message or the status.
	SendHeader(h Metadata) *status.Error
	// SetCodec chooses how messages are encoded and decoded, before the first of them.
	SetCodec(c codec.Codec)
}

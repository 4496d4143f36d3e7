package main

import (
	"context"
	"net"
	"net/http"

	"connectrpc.com/connect"

	"github.com/hull-go/hull/bench/echopb"
	"github.com/hull-go/hull/bench/echopb/echopbconnect"
)

// connectRival is connect-go over HTTP/2 without TLS.
type connectRival struct{}

func (connectRival) Info() Info {
	return Info{
		Name:   "connect",
		Module: "connectrpc.com/connect",
		Setup:  "Connect protocol, protobuf, h2c of net/http on one connection, gzip off; deadline by context",
	}
}

func (connectRival) Serve(ctx context.Context, ln net.Listener) error {
	mux := http.NewServeMux()
	mux.Handle(echopbconnect.NewEchoHandler(connectEcho{}))
	return serveHTTP(ctx, ln, &http.Server{
		Handler:   mux,
		Protocols: h2cOnly(),
		// Streams over one connection's limit would wait for others to end.
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxConns},
	})
}

func (connectRival) Dial(_ context.Context, addr string) (Caller, error) {
	c := newHTTPClient(h2cOnly())
	return &connectCaller{c: c, client: echopbconnect.NewEchoClient(c, "http://"+addr,
		// By default the client asks for gzip, and the server compresses even
		// the smallest answer.
		connect.WithAcceptCompression("gzip", nil, nil))}, nil
}

func h2cOnly() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

// connectEcho has the method shape of connect-go.
type connectEcho struct{}

// Echo answers with the message of req.
func (connectEcho) Echo(_ context.Context, req *connect.Request[echopb.Msg]) (*connect.Response[echopb.Msg], error) {
	return connect.NewResponse(req.Msg), nil
}

type connectCaller struct {
	c      *http.Client
	client echopbconnect.EchoClient
}

func (c *connectCaller) Call(ctx context.Context, m *echopb.Msg) (*echopb.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := c.client.Echo(ctx, connect.NewRequest(m))
	if err != nil {
		return nil, err
	}
	return resp.Msg, nil
}

func (c *connectCaller) Close() error {
	c.c.CloseIdleConnections()
	return nil
}

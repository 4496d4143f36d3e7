package main

import (
	"context"
	"net"
	"net/http"

	"github.com/hull-go/hull/bench/echopb"
)

// twirpRival is Twitch's Twirp: protobuf over net/http.
type twirpRival struct{}

func (twirpRival) Info() Info {
	return Info{
		Name:   "twirp",
		Module: "github.com/twitchtv/twirp",
		Setup:  "protobuf client, HTTP/1.1, a kept connection per call in flight; deadline by context",
	}
}

func (twirpRival) Serve(ctx context.Context, ln net.Listener) error {
	return serveHTTP(ctx, ln, &http.Server{Handler: echopb.NewEchoServer(echo{})})
}

func (twirpRival) Dial(_ context.Context, addr string) (Caller, error) {
	c := newHTTPClient(nil)
	return &twirpCaller{c: c, client: echopb.NewEchoProtobufClient("http://"+addr, c)}, nil
}

type twirpCaller struct {
	c      *http.Client
	client echopb.Echo
}

func (c *twirpCaller) Call(ctx context.Context, m *echopb.Msg) (*echopb.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.client.Echo(ctx, m)
}

func (c *twirpCaller) Close() error {
	c.c.CloseIdleConnections()
	return nil
}

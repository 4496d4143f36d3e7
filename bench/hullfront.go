package main

import (
	"context"
	"net"

	"google.golang.org/grpc"

	"github.com/hull-go/hull"
)

// hullGRPCRival is a plain grpc-go client that calls a Hull server: what the one port costs those who do not change their clients.
type hullGRPCRival struct{ grpcRival }

func (hullGRPCRival) Info() Info {
	return Info{
		Name:   "hull-grpc",
		Module: "github.com/hull-go/hull",
		Setup:  "grpc-go's client as in grpc, toward Hull's server with its defaults; deadline by context",
	}
}

func (hullGRPCRival) Serve(ctx context.Context, ln net.Listener) error {
	return hullRival{}.Serve(ctx, ln)
}

// jsonMsg is echopb.Msg as encoding/json writes it.
type jsonMsg struct {
	ID   string `json:"id,omitempty"`
	Text string `json:"text,omitempty"`
	N    int64  `json:"n,omitempty"`
	OK   bool   `json:"ok,omitempty"`
	Data []byte `json:"data,omitempty"`
}

// hullJSONRival is the client of http-json that calls a Go function on a Hull server.
type hullJSONRival struct{}

func (hullJSONRival) Info() Info {
	return Info{
		Name:   "hull-json",
		Module: "github.com/hull-go/hull",
		Setup:  "the client of http-json, toward a typed function on Hull's server with its defaults; deadline by context",
	}
}

func (hullJSONRival) Serve(ctx context.Context, ln net.Listener) error {
	return serveHull(ctx, ln, func(r grpc.ServiceRegistrar) {
		hull.Handle(r.(*hull.Server), "echo.JSON/Echo", func(_ context.Context, m *jsonMsg) (*jsonMsg, error) { return m, nil })
	})
}

func (hullJSONRival) Dial(_ context.Context, addr string) (Caller, error) {
	return &httpJSONCaller{url: "http://" + addr + "/echo.JSON/Echo", client: newHTTPClient(nil)}, nil
}

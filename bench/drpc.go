package main

import (
	"context"
	"errors"
	"net"

	"storj.io/drpc/drpcconn"
	"storj.io/drpc/drpcmux"
	"storj.io/drpc/drpcpool"
	"storj.io/drpc/drpcserver"

	"github.com/hull-go/hull/bench/echopb"
)

// drpcRival is Storj's drpc.
type drpcRival struct{}

func (drpcRival) Info() Info {
	return Info{
		Name:   "drpc",
		Module: "storj.io/drpc",
		Setup:  "drpcpool with a connection per call in flight, as a connection carries one call at a time; deadline by context",
	}
}

func (drpcRival) Serve(ctx context.Context, ln net.Listener) error {
	mux := drpcmux.New()
	if err := echopb.DRPCRegisterEcho(mux, echo{}); err != nil {
		return err
	}
	err := drpcserver.New(mux).Serve(ctx, ln)
	if ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, net.ErrClosed)) {
		return nil
	}
	return err
}

func (drpcRival) Dial(_ context.Context, addr string) (Caller, error) {
	pool := drpcpool.New[string, drpcpool.Conn](drpcpool.Options{Capacity: maxConns})
	conn := pool.Get(context.Background(), addr, func(ctx context.Context, addr string) (drpcpool.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		return drpcconn.New(c), nil
	})
	return &drpcCaller{pool: pool, client: echopb.NewDRPCEchoClient(conn)}, nil
}

type drpcCaller struct {
	pool   *drpcpool.Pool[string, drpcpool.Conn]
	client echopb.DRPCEchoClient
}

func (c *drpcCaller) Call(ctx context.Context, m *echopb.Msg) (*echopb.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.client.Echo(ctx, m)
}

func (c *drpcCaller) Close() error { return c.pool.Close() }

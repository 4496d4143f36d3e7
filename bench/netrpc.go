package main

import (
	"context"
	"errors"
	"net"
	"net/rpc"

	"github.com/hull-go/hull/bench/echopb"
)

// netrpcRival is net/rpc of the standard library with its gob encoding.
type netrpcRival struct{}

func (netrpcRival) Info() Info {
	return Info{
		Name:   "netrpc",
		Module: "std",
		Setup:  "defaults: gob, one connection; has no deadlines, so sets none",
	}
}

func (netrpcRival) Serve(ctx context.Context, ln net.Listener) error {
	srv := rpc.NewServer()
	if err := srv.RegisterName("Echo", netrpcEcho{}); err != nil {
		return err
	}
	return acceptLoop(ctx, ln, func(c net.Conn) { srv.ServeConn(c) })
}

func (netrpcRival) Dial(_ context.Context, addr string) (Caller, error) {
	c, err := rpc.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &netrpcCaller{c}, nil
}

// acceptLoop serves each connection of ln in a goroutine until ctx ends. The
// clients end the connections.
func acceptLoop(ctx context.Context, ln net.Listener, serve func(net.Conn)) error {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	for {
		c, err := ln.Accept()
		switch {
		case err == nil:
			go serve(c)
		case errors.Is(err, net.ErrClosed) && ctx.Err() != nil:
			return nil
		default:
			return err
		}
	}
}

// netrpcEcho has the method shape that net/rpc looks for.
type netrpcEcho struct{}

// Echo moves the fields of in to out: net/rpc allocates both, and gob sends
// exported fields only.
func (netrpcEcho) Echo(in, out *echopb.Msg) error { //nolint:unparam // net/rpc wants this shape
	out.Id, out.Text, out.N, out.Ok, out.Data = in.Id, in.Text, in.N, in.Ok, in.Data
	return nil
}

type netrpcCaller struct{ c *rpc.Client }

func (c *netrpcCaller) Call(_ context.Context, m *echopb.Msg) (*echopb.Msg, error) {
	out := new(echopb.Msg)
	if err := c.c.Call("Echo.Echo", m, out); err != nil {
		return nil, err
	}
	return out, nil
}

func (c *netrpcCaller) Close() error { return c.c.Close() }

package main

import (
	"context"
	"errors"
	"net"

	"github.com/containerd/ttrpc"

	"github.com/hull-go/hull/bench/echopb"
)

// ttrpcRival is containerd's ttrpc.
type ttrpcRival struct{}

func (ttrpcRival) Info() Info {
	return Info{
		Name:   "ttrpc",
		Module: "github.com/containerd/ttrpc",
		Setup:  "defaults: one connection; deadline by context",
	}
}

func (ttrpcRival) Serve(ctx context.Context, ln net.Listener) error {
	srv, err := ttrpc.NewServer()
	if err != nil {
		return err
	}
	echopb.RegisterTTRPCEchoService(srv, echo{})
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	// The context is that of every handler; Serve itself ends by Close.
	err = srv.Serve(context.WithoutCancel(ctx), ln)
	if errors.Is(err, ttrpc.ErrServerClosed) {
		return nil
	}
	return err
}

func (ttrpcRival) Dial(ctx context.Context, addr string) (Caller, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := ttrpc.NewClient(conn)
	return &ttrpcCaller{c: c, client: echopb.NewTTRPCEchoClient(c)}, nil
}

type ttrpcCaller struct {
	c      *ttrpc.Client
	client echopb.TTRPCEchoService
}

func (c *ttrpcCaller) Call(ctx context.Context, m *echopb.Msg) (*echopb.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.client.Echo(ctx, m)
}

func (c *ttrpcCaller) Close() error { return c.c.Close() }

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
	"google.golang.org/protobuf/proto"

	"github.com/hull-go/hull/bench/echopb"
)

// fasthttpRival is fasthttp with a protobuf body: HTTP/1.1, one call at a time
// on a connection, objects pooled.
type fasthttpRival struct{}

func (fasthttpRival) Info() Info {
	return Info{
		Name:   "fasthttp",
		Module: "github.com/valyala/fasthttp",
		Setup:  "HostClient with a connection per call in flight, header extras off, pooled requests and buffers; deadline by DoDeadline",
	}
}

func (fasthttpRival) Serve(ctx context.Context, ln net.Listener) error {
	srv := &fasthttp.Server{
		Handler:                       new(fasthttpHandler).echo,
		NoDefaultServerHeader:         true,
		NoDefaultDate:                 true,
		DisableHeaderNamesNormalizing: true,
		CloseOnShutdown:               true,
	}
	stop := context.AfterFunc(ctx, func() {
		// The clients have gone; one that has not is cut off with the process.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := srv.ShutdownWithContext(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			ln.Close()
		}
	})
	defer stop()
	return srv.Serve(ln)
}

func (fasthttpRival) Dial(_ context.Context, addr string) (Caller, error) {
	c := &fasthttp.HostClient{
		Addr:                          addr,
		MaxConns:                      maxConns,
		NoDefaultUserAgentHeader:      true,
		DisableHeaderNamesNormalizing: true,
		DisablePathNormalizing:        true,
	}
	return &fasthttpCaller{url: "http://" + addr + "/echo", client: c, close: c.CloseIdleConnections}, nil
}

// fasthttpPipeRival is the client of fasthttp that its documentation
// recommends for RPC: many requests on their way on each connection, answers
// in order, so that one slow answer holds up all behind it.
type fasthttpPipeRival struct{ fasthttpRival }

func (fasthttpPipeRival) Info() Info {
	return Info{
		Name:   "fasthttp-pipe",
		Module: "github.com/valyala/fasthttp",
		Setup:  "PipelineClient with 2 connections (answers in order), else as fasthttp; deadline by DoDeadline",
	}
}

func (fasthttpPipeRival) Dial(_ context.Context, addr string) (Caller, error) {
	c := &fasthttp.PipelineClient{
		Addr:                          addr,
		MaxConns:                      2,
		MaxPendingRequests:            maxConns,
		NoDefaultUserAgentHeader:      true,
		DisableHeaderNamesNormalizing: true,
		DisablePathNormalizing:        true,
		// The client has no Close; its connections end when they are idle.
		MaxIdleConnDuration: time.Second,
	}
	return &fasthttpCaller{url: "http://" + addr + "/echo", client: c, close: func() {}}, nil
}

// bufPool keeps buffers for marshalling, as *[]byte.
type bufPool struct{ pool sync.Pool }

func (p *bufPool) get() *[]byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return b
	}
	return new([]byte)
}

func (p *bufPool) put(b *[]byte) { p.pool.Put(b) }

// marshal encodes m into b in place of what b held.
func marshal(b *[]byte, m *echopb.Msg) error {
	out, err := proto.MarshalOptions{}.MarshalAppend((*b)[:0], m)
	*b = out
	return err
}

type fasthttpHandler struct{ bufs bufPool }

func (h *fasthttpHandler) echo(ctx *fasthttp.RequestCtx) {
	var m echopb.Msg
	if err := proto.Unmarshal(ctx.PostBody(), &m); err != nil {
		ctx.Error(err.Error(), fasthttp.StatusBadRequest)
		return
	}
	buf := h.bufs.get()
	defer h.bufs.put(buf)
	if err := marshal(buf, &m); err != nil {
		ctx.Error(err.Error(), fasthttp.StatusInternalServerError)
		return
	}
	ctx.SetContentType("application/protobuf")
	ctx.Response.SetBody(*buf)
}

// fasthttpCaller works with either client.
type fasthttpCaller struct {
	url    string
	bufs   bufPool
	client interface {
		DoDeadline(req *fasthttp.Request, resp *fasthttp.Response, deadline time.Time) error
	}
	close func()
}

func (c *fasthttpCaller) Call(_ context.Context, m *echopb.Msg) (*echopb.Msg, error) {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	buf := c.bufs.get()
	defer c.bufs.put(buf)
	if err := marshal(buf, m); err != nil {
		return nil, err
	}
	req.SetRequestURI(c.url)
	req.Header.SetMethod(fasthttp.MethodPost)
	req.Header.SetContentType("application/protobuf")
	req.SetBody(*buf)
	if err := c.client.DoDeadline(req, resp, time.Now().Add(callTimeout)); err != nil {
		return nil, err
	}
	if code := resp.StatusCode(); code != fasthttp.StatusOK {
		return nil, fmt.Errorf("http status %d: %s", code, resp.Body())
	}
	out := new(echopb.Msg)
	return out, proto.Unmarshal(resp.Body(), out)
}

func (c *fasthttpCaller) Close() error {
	c.close()
	return nil
}

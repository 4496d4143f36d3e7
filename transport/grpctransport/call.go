package grpctransport

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// begin makes the context of a call.
func (c *conn) begin(parent context.Context, req *transport.Request, at *attempt) (context.Context, context.CancelFunc, *status.Error) {
	if err := parent.Err(); err != nil {
		return nil, nil, gaveUp(err)
	}
	at.start = policy.Now()
	if req.Deadline != 0 && at.start >= req.Deadline {
		return nil, nil, late()
	}
	md, err := c.outgoing(req)
	if err != nil {
		return nil, nil, err
	}
	ctx := context.WithValue(metadata.NewOutgoingContext(parent, md), attemptKey{}, at)
	if req.Deadline == 0 {
		ctx, cancel := context.WithCancel(ctx)
		return ctx, cancel, nil
	}
	ctx, cancel := context.WithDeadline(ctx, req.Deadline.Clock())
	return ctx, cancel, nil
}

// Call implements transport.Conn.
func (c *conn) Call(parent context.Context, req *transport.Request, rep *transport.Reply) *status.Error {
	at := new(attempt)
	ctx, cancel, e := c.begin(parent, req, at)
	if e != nil {
		return e
	}
	defer cancel()
	msg, e := c.encode(req.Codec, req.Message, req.MaxRequest)
	if e != nil {
		return e
	}
	if e := c.enter(); e != nil {
		return e
	}
	defer c.leave()
	wc := &wireCodec{Codec: req.Codec}
	var header, trailer metadata.MD
	opts := append(c.callOptions(req, wc), grpc.Header(&header), grpc.Trailer(&trailer))
	err := c.cc.Invoke(ctx, "/"+req.Method, msg, rep.Message, opts...)
	rep.Header, rep.Trailer, rep.Load = incoming(header), incoming(trailer), load(header, trailer)
	if err != nil {
		return c.failure(parent, ctx, at, wc, err, trailer)
	}
	return nil
}

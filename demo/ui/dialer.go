package ui

import (
	"context"

	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// checked is a reply that knows whether it is whole.
type checked interface{ Check() error }

// checkingDialer looks at every answer as it arrives, attempt by attempt, so that a wrong one is as good as none: it may be
// asked for elsewhere, and it counts against its node.
type checkingDialer struct{ transport.Dialer }

// Dial implements transport.Dialer.
func (d checkingDialer) Dial(ctx context.Context, addr string) (transport.Conn, *status.Error) {
	c, err := d.Dialer.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	return checkingConn{c}, nil
}

type checkingConn struct{ transport.Conn }

// Call implements transport.Conn.
func (c checkingConn) Call(ctx context.Context, req *transport.Request, rep *transport.Reply) *status.Error {
	if err := c.Conn.Call(ctx, req, rep); err != nil {
		if err.Kind == status.Panicked {
			// A panic may be the request's fault, and then another node would only panic as well. No request of the board
			// does that: what panics is the node.
			return &status.Error{Code: status.Unavailable, Message: err.Message, Fate: err.Fate}
		}
		return err
	}
	if r, ok := rep.Message.(checked); ok {
		if err := r.Check(); err != nil {
			return &status.Error{Code: status.DataLoss, Kind: status.Protocol, Cause: err}
		}
	}
	return nil
}

package muxtransport

import (
	"context"

	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

type serverStream struct{}

func (*serverStream) abort(*status.Error) {}
func (*serverStream) grow(int64) error    { return nil }

type clientStream struct{}

func (*clientStream) ended(*status.Error, transport.Metadata) {}
func (*clientStream) grow(int64) error                        { return nil }

func (c *clientConn) streamFrame(f frame) error                 { return errMalformed }
func (c *clientConn) streamFrameLocked(ca *call, f frame) error { c.mu.Unlock(); return nil }
func (c *serverConn) streamFrame(f frame) error                 { return errMalformed }
func (c *serverConn) open(f frame) error                        { return errMalformed }
func (c *serverConn) streamPart(ca *serverCall, f frame) error  { c.mu.Unlock(); return nil }
func (l *link) grow(n int64) error                              { return nil }
func (c *clientConn) Open(ctx context.Context, req *transport.Request) (transport.ClientStream, *status.Error) {
	return nil, nil
}

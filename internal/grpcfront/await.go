package grpcfront

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/hull-go/hull/internal/foreign"
	"github.com/hull-go/hull/internal/oneport"
)

// grpc-go takes an answer over and keeps it until the peer has taken it, for which it knows no bound: the handler has returned, and the deadline has gone
// with it. So the connection, which sees how much the peer lets through, is told of large ones.

const (
	// largeAnswer is the size from which on an answer is worth to be awaited, whatever room there is.
	largeAnswer = 4 << 10
	// What a stream sends may wait this many times longer than a unary call's answer: who reads slowly what was asked for in pieces does what flow
	// control is there for.
	answerPatience, streamPatience = 1, 30
)

// authInfo carries a connection to the calls on it.
type authInfo struct {
	credentials.AuthInfo
	conn *oneport.Conn
}

// GetCommonAuthInfo is what grpc-go asks a connection's security by.
func (a authInfo) GetCommonAuthInfo() credentials.CommonAuthInfo {
	if i, ok := a.AuthInfo.(interface {
		GetCommonAuthInfo() credentials.CommonAuthInfo
	}); ok {
		return i.GetCommonAuthInfo()
	}
	return credentials.CommonAuthInfo{}
}

// await bounds how long the peer of a call may take nothing of what is sent to it; patience 0 = not any more.
func (s *Server) await(ctx context.Context, patience int) {
	if c := connOf(ctx); c != nil {
		c.Await(s.streamID(grpc.ServerTransportStreamFromContext(ctx)), patience)
	}
}

// connOf returns the connection of a call; nil if it is none of a port's.
func connOf(ctx context.Context) *oneport.Conn {
	if p, _ := peer.FromContext(ctx); p != nil {
		if a, ok := p.AuthInfo.(authInfo); ok {
			return a.conn
		}
	}
	return nil
}

// streamID returns a stream's number, 0 if it cannot be had: then the connection awaits all of its streams.
func streamID(s grpc.ServerTransportStream) uint32 { return foreign.Number(s, "id") }

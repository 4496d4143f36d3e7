package grpcfront

import (
	"context"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/hull-go/hull/internal/oneport"
)

// established are the credentials of connections on which TLS, if there is any, was set up before grpc-go got them.
type established struct{}

var errServerOnly = errors.New("these credentials are for servers")

// ClientHandshake implements credentials.TransportCredentials.
func (established) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errServerOnly
}

// ServerHandshake implements credentials.TransportCredentials.
func (established) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, _ := c.(*oneport.Conn)
	if state := oneport.TLSState(c); state != nil {
		return c, authInfo{credentials.TLSInfo{State: *state, CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, conn}, nil
	}
	c, info, err := insecure.NewCredentials().ServerHandshake(c)
	return c, authInfo{info, conn}, err
}

// Info implements credentials.TransportCredentials.
func (established) Info() credentials.ProtocolInfo { return credentials.ProtocolInfo{} }

// Clone implements credentials.TransportCredentials.
func (established) Clone() credentials.TransportCredentials { return established{} }

// OverrideServerName implements credentials.TransportCredentials.
func (established) OverrideServerName(string) error { return nil }

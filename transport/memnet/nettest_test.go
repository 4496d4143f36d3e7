package memnet_test

import (
	"net"
	"testing"

	"golang.org/x/net/nettest"

	"github.com/hull-go/hull/transport/memnet"
)

// TestConn runs the official suite for net.Conn, in real time.
func TestConn(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		n := memnet.New(memnet.Options{})
		l, err := n.Host("b").Listen(":80")
		if err != nil {
			return nil, nil, nil, err
		}
		c1, err = n.Host("a").Dial(t.Context(), "b:80")
		if err != nil {
			return nil, nil, nil, err
		}
		c2, err = l.Accept()
		return c1, c2, func() { _ = n.Close() }, err
	})
}

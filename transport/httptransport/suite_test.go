package httptransport_test

import (
	"net"
	"testing"

	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/httptransport"
	"github.com/hull-go/hull/transport/memnet"
	"github.com/hull-go/hull/transport/transporttest"
)

func harness(h2c bool) transporttest.Harness {
	return transporttest.Harness{
		NewServer: func(h transport.Handler, l transporttest.Limits) (transport.Server, error) {
			return newPeerServer(h, h2c, l.MaxCalls), nil
		},
		NewDialer: func(dial transporttest.DialFunc, l transporttest.Limits) (transport.Dialer, error) {
			return httptransport.NewDialer(httptransport.Options{Dial: dial, H2C: h2c, MaxMessage: l.MaxMessage, MaxRequest: l.MaxMessage,
				MaxHeader: l.MaxHeader, MaxConns: l.MaxCalls})
		},
		NoStreams: true,
		Unordered: true,
		CallsWait: true,
		NoGoAway:  true,
		Replaces:  true,
		Widens:    h2c, // net/http does, whatever it is told, if it happens to ask for a connection while the first is full
	}
}

func TestTCP(t *testing.T)   { transporttest.Run(t, harness(false)) }
func TestHTTP2(t *testing.T) { transporttest.Run(t, harness(true)) }

func TestVirtual(t *testing.T) {
	h := harness(false)
	h.Virtual = true
	h.Listen = func(t *testing.T) (net.Listener, transporttest.DialFunc) {
		n := memnet.New(memnet.Options{})
		ln, err := n.Host("server").Listen(":80")
		if err != nil {
			t.Fatal(err)
		}
		return ln, n.Host("client").Dial
	}
	transporttest.Run(t, h)
}

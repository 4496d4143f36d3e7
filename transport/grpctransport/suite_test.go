package grpctransport_test

import (
	"net"
	"testing"

	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/grpctransport"
	"github.com/hull-go/hull/transport/memnet"
	"github.com/hull-go/hull/transport/transporttest"
)

func options(l transporttest.Limits) grpctransport.Options {
	return grpctransport.Options{MaxMessage: l.MaxMessage, MaxRequest: l.MaxMessage, MaxHeader: l.MaxHeader}
}

func harness() transporttest.Harness {
	return transporttest.Harness{
		NewServer: func(h transport.Handler, l transporttest.Limits) (transport.Server, error) {
			return newPeerServer(h, l), nil
		},
		NewDialer: func(dial transporttest.DialFunc, l transporttest.Limits) (transport.Dialer, error) {
			o := options(l)
			o.Dial = dial
			d, err := grpctransport.NewDialer(o)
			return namedDialer{d}, err
		},
		Unordered: true,
		CallsWait: true,
	}
}

func TestTCP(t *testing.T) { transporttest.Run(t, harness()) }

func TestVirtual(t *testing.T) {
	h := harness()
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

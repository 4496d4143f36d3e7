package memnet_test

import (
	"net"
	"testing"

	"github.com/hull-go/hull/transport/memnet"
)

func BenchmarkPingPong(b *testing.B) {
	n := memnet.New(memnet.Options{})
	defer n.Close()
	l, err := n.Host("b").Listen(":80")
	if err != nil {
		b.Fatal(err)
	}
	c, err := n.Host("a").Dial(b.Context(), "b:80")
	if err != nil {
		b.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	bounce := func(c net.Conn, buf []byte) bool {
		if _, err := c.Read(buf); err != nil {
			return false
		}
		_, err := c.Write(buf)
		return err == nil
	}
	go func() {
		for buf := make([]byte, 100); bounce(s, buf); {
		}
	}()
	b.ReportAllocs()
	buf := make([]byte, 100)
	if _, err := c.Write(buf); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !bounce(c, buf) {
			b.Fatal("lost")
		}
	}
}

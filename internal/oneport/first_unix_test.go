//go:build unix

package oneport_test

import (
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/hull-go/hull/internal/oneport"
)

// TestNativeGetsTheSocket: the native protocol reaches the descriptor of a plain connection, which is not inside of another: it parks and polls it.
func TestNativeGetsTheSocket(t *testing.T) {
	addr, _, got := start(t, oneport.Options{})
	c := dial(t, addr)
	if _, err := io.WriteString(c, "\x9eHULL"); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	a := <-got
	if _, ok := a.conn.(syscall.Conn); !ok {
		t.Errorf("%T has no descriptor", a.conn)
	}
	if _, ok := a.conn.(interface{ NetConn() net.Conn }); ok {
		t.Errorf("%T is around another connection", a.conn)
	}
}

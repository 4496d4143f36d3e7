//go:build !unix

package oneport

import "net"

// first returns the first byte that the peer sends, and a connection that begins with it.
func first(c net.Conn) (b byte, c2 net.Conn, err error) { return readFirst(c) }

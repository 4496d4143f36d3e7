//go:build unix

package oneport

import (
	"errors"
	"io"
	"net"
	"syscall"
)

// first returns the first byte that the peer sends. It leaves the byte where it is if it can, so that the protocol gets the
// connection itself; otherwise c2 is a connection that begins with it.
func first(c net.Conn) (b byte, c2 net.Conn, err error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return readFirst(c)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, nil, err
	}
	var buf [1]byte
	n, errno := 0, error(nil)
	err = raw.Read(func(fd uintptr) bool {
		for {
			n, _, errno = syscall.Recvfrom(int(fd), buf[:], syscall.MSG_PEEK)
			if !errors.Is(errno, syscall.EINTR) {
				break
			}
		}
		return !errors.Is(errno, syscall.EAGAIN)
	})
	switch {
	case err != nil:
		return 0, nil, err
	case errno != nil:
		return 0, nil, errno
	case n == 0:
		return 0, nil, io.EOF
	}
	return buf[0], c, nil
}

package hull

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// unixScheme begins an address that is the path of a Unix socket.
const unixScheme = "unix://"

// checkAddr returns what is wrong with an address to listen on or to publish.
func checkAddr(what, addr string) error {
	if path, ok := strings.CutPrefix(addr, unixScheme); ok {
		if !filepath.IsAbs(path) {
			return fmt.Errorf("%s %q: a Unix socket is named by its whole path, unix:///run/greeter.sock for instance", what, addr)
		}
		return nil
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return fmt.Errorf("%s %q is neither host:port nor unix:///path: %w", what, addr, err)
	}
	return nil
}

// listenOn listens on an address.
func listenOn(addr string) (net.Listener, error) {
	path, ok := strings.CutPrefix(addr, unixScheme)
	if !ok {
		return new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
	}
	ln, err := new(net.ListenConfig).Listen(context.Background(), "unix", path)
	if errors.Is(err, syscall.EADDRINUSE) && abandoned(path) {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("removing the socket that a server which is gone has left: %w", err)
		}
		return new(net.ListenConfig).Listen(context.Background(), "unix", path)
	}
	return ln, err
}

// abandoned reports whether path is a socket that nobody listens on: its server was killed.
func abandoned(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&fs.ModeSocket == 0 {
		return false
	}
	c, err := (&net.Dialer{Timeout: time.Second}).DialContext(context.Background(), "unix", path)
	if err == nil {
		_ = c.Close()
		return false
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// namedAddr is a listener's own address as discovery has it.
func namedAddr(a net.Addr) string {
	if u, ok := a.(*net.UnixAddr); ok {
		return unixScheme + u.Name
	}
	return a.String()
}

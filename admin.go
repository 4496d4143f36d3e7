package hull

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// adminOptions are what WithAdmin sets.
type adminOptions struct {
	addr    string // "" = none
	clients []*Client
}

// WithAdmin opens a page for people and tools on a listener of its own, under /hull/: what discovery, nodes, breakers, limits, budgets, queues and
// connections are like, the document in force with where each value comes from, the last failures and slowest calls. "hull top", "hull stats",
// "hull explain" and "hull policy" read it. addr is host:port on the loopback interface, or unix:///path, a socket that only this user may open; port 0
// chooses one, which is logged. A server shows the clients that are given, too; they are the ones that its handlers call with.
//
// It is off without the option: a port that nobody asked for is one more thing to guard, two programs on a machine could not have the same one, and
// whoever may look there may also change policies (with POST). Addresses that others can reach are refused: put a proxy that knows who may look in
// front, or run "hull top" where the program runs.
func WithAdmin(addr string, clients ...*Client) Option {
	check := func(a *adminOptions) error {
		if err := checkAddr("WithAdmin: the address", addr); err != nil {
			return err
		}
		if host, _, err := net.SplitHostPort(addr); err == nil && !strings.HasPrefix(addr, unixScheme) && !strings.EqualFold(host, "localhost") {
			if ip, err := netip.ParseAddr(host); err != nil || !ip.Unmap().IsLoopback() {
				return fmt.Errorf("WithAdmin: others could reach %s and change policies: name a loopback address, 127.0.0.1:%s for instance", addr,
					addr[strings.LastIndexByte(addr, ':')+1:])
			}
		}
		for _, c := range clients {
			if c == nil {
				return errors.New("WithAdmin: a client is nil")
			}
		}
		*a = adminOptions{addr, clients}
		return nil
	}
	return bothOption{func(o *clientOptions) error { return check(&o.admin) }, func(o *serverOptions) error { return check(&o.admin) }}
}

// adminPage is a running one.
type adminPage struct {
	ln   net.Listener
	http *http.Server
	wg   sync.WaitGroup
}

// openAdmin opens the page that the options ask for; nil if they ask for none.
func openAdmin(o adminOptions, s *Server, c *Client, log *slog.Logger) (*adminPage, error) {
	if o.addr == "" {
		return nil, nil //nolint:nilnil // nothing is asked for
	}
	ln, err := listenOn(o.addr)
	if err != nil {
		return nil, fmt.Errorf("the admin page cannot listen on %s: %w", o.addr, err)
	}
	if path, ok := strings.CutPrefix(o.addr, unixScheme); ok {
		if err := os.Chmod(path, 0o600); err != nil {
			return nil, errors.Join(fmt.Errorf("the admin page's socket cannot be kept from others: %w", err), ln.Close())
		}
	}
	clients := o.clients
	if c != nil {
		clients = append([]*Client{c}, clients...)
	}
	p := &adminPage{ln: ln}
	p.http = &http.Server{Handler: newAdminHandler(s, clients), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: idleTimeout, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	p.wg.Go(func() { _ = p.http.Serve(ln) }) // ends with close
	log.Info("admin page", "address", p.addr())
	return p, nil
}

// addr is where the page is, in the form that tools take.
func (p *adminPage) addr() string {
	if p == nil {
		return ""
	}
	return namedAddr(p.ln.Addr())
}

// close ends the page and waits for its goroutines.
func (p *adminPage) close() {
	if p == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if p.http.Shutdown(ctx) != nil {
		_ = p.http.Close()
	}
	p.wg.Wait()
}

// AdminAddr is where the client's admin page is, see WithAdmin; empty without one.
func (c *Client) AdminAddr() string { return c.admin.addr() }

// AdminAddr is where the server's admin page is while the server runs, see WithAdmin; empty without one.
func (s *Server) AdminAddr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.page.addr()
}

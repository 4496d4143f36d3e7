package muxtransport

import (
	"net"
	"syscall"
)

// descriptor returns what nc's file descriptor is reached by, nil if it has none. What lies between, such as TLS, must keep nothing back
// when its Read has had to wait.
func descriptor(nc net.Conn) syscall.Conn {
	for nc != nil {
		if sc, ok := nc.(syscall.Conn); ok {
			return sc
		}
		w, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		nc = w.NetConn()
	}
	return nil
}

// rest ends the reader's part in an idle connection: it waits in the parking lot, or else with a goroutine whose stack has not grown.
// Whoever calls it has the reader's role, and gives it away.
func (c *serverConn) rest() {
	c.answers = nil
	c.mu.Lock()
	idle := c.cause == nil && !c.busy() && c.first == nil && c.holding.Load() == 0
	for _, ca := range c.table {
		idle = idle && ca == nil
	}
	if idle {
		c.table = nil
	}
	c.mu.Unlock()
	if idle {
		c.rd = nil // not to be touched after this, if it goes well
		if c.s.lot.park(c) {
			return
		}
		c.rd = newReader(&c.link)
	} else {
		c.fat.Store(true) // so that it is tried again
	}
	go c.read()
}

// unpark has c read again.
func (c *serverConn) unpark() {
	c.rd = newReader(&c.link)
	go c.read()
}

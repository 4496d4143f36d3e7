package muxtransport

import "github.com/hull-go/hull/transport"

// LoneAtOnce has the readers of d's connections step aside whenever no call is under way.
func LoneAtOnce(d *Dialer) { d.loneAfter = 0 }

// Vacant reports whether nobody reads c.
func Vacant(c transport.Conn) bool {
	cc := c.(*clientConn)
	cc.mu.Lock()
	defer cc.mu.Unlock()
	return cc.vacant
}

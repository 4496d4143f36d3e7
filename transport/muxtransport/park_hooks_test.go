//go:build linux

package muxtransport

// Settle does to s's connections without calls what a second of silence does.
func Settle(s *Server) {
	for _, c := range s.all() {
		c.mu.Lock()
		if !c.busy() && c.cause == nil {
			c.settle()
		}
		c.mu.Unlock()
	}
}

// Parked returns how many connections of s wait without a goroutine, and whether what they wait in is open.
func Parked(s *Server) (n int, open bool) {
	l := &s.lot
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.spots {
		if p.parked {
			n++
		}
	}
	return n, l.epoll != nil
}

package muxtransport

import (
	"errors"
	"os"
	"sync"
	"syscall"
)

// lot is where a server's idle connections wait without a goroutine each, whose stack would be most of what they cost: the
// kernel tells one goroutine for all which of them have something to read. It lives from the first connection that is parked to
// the end of the last one that ever was. The zero value is ready.
type lot struct {
	mu    sync.Mutex
	epoll *os.File // nil while there are no spots in use
	raw   syscall.RawConn
	ended chan struct{} // closed when the goroutine of epoll has ended
	spots []spot
	free  []uint32
}

// spot is a connection's place; what the kernel says of an earlier user of it is told apart by the generation.
type spot struct {
	c      *serverConn
	gen    uint32
	parked bool
}

// parkedEvents is what a parked connection waits for, once.
const parkedEvents = syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT

// park has c wait for its next bytes here. Whoever calls it has the reader's role and, if it returns true, gave it away.
func (l *lot) park(c *serverConn) bool {
	sc := descriptor(c.nc)
	if sc == nil {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.epoll == nil && l.open() != nil {
		return false
	}
	op, fresh := syscall.EPOLL_CTL_MOD, c.spot == 0
	if fresh {
		op = syscall.EPOLL_CTL_ADD
		l.enter(c)
	}
	ev := syscall.EpollEvent{Events: parkedEvents, Fd: int32(c.spot - 1), Pad: int32(l.spots[c.spot-1].gen)}
	var ctl, outer error
	outer = l.raw.Control(func(epoll uintptr) {
		ctl = raw.Control(func(fd uintptr) { err = syscall.EpollCtl(int(epoll), op, int(fd), &ev) })
	})
	if errors.Join(err, ctl, outer) != nil {
		if fresh {
			l.leave(c)
		}
		return false
	}
	l.spots[c.spot-1].parked = true
	return true
}

// open makes what connections are parked in. mu is held.
func (l *lot) open() error {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // so that the runtime waits for it as for a socket
		return errors.Join(err, syscall.Close(fd))
	}
	f := os.NewFile(uintptr(fd), "epoll")
	raw, err := f.SyscallConn()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.epoll, l.raw, l.ended = f, raw, make(chan struct{})
	go l.run(raw, l.ended)
	return nil
}

// enter gives c a spot. mu is held.
func (l *lot) enter(c *serverConn) {
	if n := len(l.free); n > 0 {
		c.spot = l.free[n-1]
		l.free = l.free[:n-1]
	} else {
		l.spots = append(l.spots, spot{})
		c.spot = uint32(len(l.spots))
	}
	l.spots[c.spot-1].c = c
}

// leave takes c's spot back. mu is held. It returns what to close and what to wait for then, if c was the last.
func (l *lot) leave(c *serverConn) (*os.File, chan struct{}) {
	if c.spot == 0 {
		return nil, nil
	}
	s := &l.spots[c.spot-1]
	s.c, s.parked = nil, false
	s.gen++
	l.free = append(l.free, c.spot)
	c.spot = 0
	if len(l.free) < len(l.spots) {
		return nil, nil
	}
	f, ended := l.epoll, l.ended
	l.epoll, l.raw, l.ended = nil, nil, nil
	l.spots, l.free = nil, nil
	return f, ended
}

// remove forgets c, which is closed.
func (l *lot) remove(c *serverConn) {
	l.mu.Lock()
	f, ended := l.leave(c)
	l.mu.Unlock()
	if f != nil {
		f.Close()
		<-ended
	}
}

// run gives connections that have something to read their readers back, until epoll is closed.
func (l *lot) run(raw syscall.RawConn, ended chan struct{}) {
	defer close(ended)
	var events [64]syscall.EpollEvent
	for {
		n := 0
		var werr error
		err := raw.Read(func(epoll uintptr) bool {
			n, werr = syscall.EpollWait(int(epoll), events[:], 0)
			return n > 0 || werr != nil && !errors.Is(werr, syscall.EINTR)
		})
		if err != nil || werr != nil {
			return
		}
		for _, ev := range events[:n] {
			l.mu.Lock()
			var c *serverConn
			if i := int(ev.Fd); i < len(l.spots) && l.spots[i].gen == uint32(ev.Pad) {
				c, l.spots[i].parked = l.spots[i].c, false
			}
			l.mu.Unlock()
			if c != nil {
				c.unpark()
			}
		}
	}
}

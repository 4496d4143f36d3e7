package hull

import (
	"fmt"
	"net"
	"strconv"
	"time"
)

// Systemd tells systemd of the server's phases: that it is ready, that it stops, and a line of status. socket is the environment's NOTIFY_SOCKET; with ""
// nobody is told. Of several servers in a process give it to the one that is ready last. A systemd whose queue is full holds up the phases ready and leaving for 5 s
// at most.
func Systemd(socket string) ServerOption {
	return serverOption(func(o *serverOptions) error {
		if socket == "" {
			return nil
		}
		o.phases = append(o.phases, func(c PhaseChange) {
			text := "STATUS=" + c.Phase.String()
			if c.Why != "" {
				text += ": " + c.Why
			}
			most := statusMost
			switch c.Phase {
			case Ready:
				text, most = "READY=1\n"+text, stateMost
			case Leaving:
				text, most = "STOPPING=1\n"+text, stateMost
			}
			notify(socket, text, most)
		})
		return nil
	})
}

const (
	// statusMost is how long a status waits for room in the queue of a systemd that is busy: to lose one is no failure of the server.
	statusMost = 100 * time.Millisecond
	// stateMost is the same of what is said once: systemd ends a unit of which it never hears that it is ready.
	stateMost = 5 * time.Second
)

// notify sends a datagram to a Unix socket, for which there is room in its queue within that time. Nobody has to listen.
func notify(socket, text string, most time.Duration) {
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.SetWriteDeadline(time.Now().Add(most))
	_, _ = c.Write([]byte(text))
}

// SystemdWatchdog tells systemd twice in each WatchdogSec of a unit that the server lives: that none of the locks which calls need is held for ever. Without it
// systemd would kill a server of such a unit. Of several servers in a process each that lives satisfies systemd, so that one of them being stuck is not noticed.
// socket and usec are the environment's NOTIFY_SOCKET and WATCHDOG_USEC; if one is "" nobody is told.
func SystemdWatchdog(socket, usec string) ServerOption {
	return serverOption(func(o *serverOptions) error {
		if socket == "" || usec == "" {
			return nil
		}
		n, err := strconv.ParseInt(usec, 10, 64)
		if err != nil || n < 2 || n > maxWatchdog {
			return fmt.Errorf("SystemdWatchdog: the time is %.40q: want what systemd says in WATCHDOG_USEC, a number of microseconds", usec)
		}
		o.watchdog = watchdog{socket, time.Duration(n) * time.Microsecond / 2}
		return nil
	})
}

// maxWatchdog is a year, in microseconds.
const maxWatchdog = 365 * 24 * 3600 * 1e6

// watchdog is whom to tell, and how often; the zero value is nobody.
type watchdog struct {
	socket string
	every  time.Duration
}

// watch tells the watchdog until stop is called. If the server is stuck, stop does not wait for that to end.
func (s *Server) watch() (stop func()) {
	w := s.opt.watchdog
	if w.socket == "" {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(w.every)
		defer t.Stop()
		for {
			_, _ = s.Phase(), s.Snapshot() // take the locks
			notify(w.socket, "WATCHDOG=1", statusMost)
			select {
			case <-t.C:
			case <-quit:
				return
			}
		}
	}()
	return func() {
		close(quit)
		select {
		case <-done:
		case <-time.After(closeGrace):
		}
	}
}

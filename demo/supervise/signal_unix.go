//go:build unix

package supervise

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

// freeze stops a process and waits until it has stopped: the signal is sent at once, but its threads may run on for a
// moment.
func freeze(p *os.Process) error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for range 5000 { // on a busy machine each thread has to get a CPU first
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid))
		if err != nil {
			// Not Linux. There is no other way to look that would not take the process's end from those who wait for it.
			time.Sleep(20 * time.Millisecond)
			return nil //nolint:nilerr // the signal has been sent
		}
		// The state follows the name, which is in brackets and may hold any character.
		if i := strings.LastIndex(string(b), ") "); i >= 0 && strings.HasPrefix(string(b[i+2:]), "T") {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return errors.New("it does not stop")
}

func thaw(p *os.Process) error { return p.Signal(syscall.SIGCONT) }

// alive reports whether a process with that id exists.
func alive(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	err = p.Signal(syscall.Signal(0))
	return err == nil || errors.Is(err, os.ErrPermission) // another user's
}

//go:build !unix

package supervise

import (
	"errors"
	"os"
	"syscall"
)

var errNoFreeze = errors.New("this operating system cannot freeze a process: choose another fault")

func attributes() *syscall.SysProcAttr { return nil }
func freeze(*os.Process) error         { return errNoFreeze }
func thaw(*os.Process) error           { return nil }

// alive reports whether a process with that id exists.
func alive(pid int) bool {
	_, err := os.FindProcess(pid)
	return err == nil
}

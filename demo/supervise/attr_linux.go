package supervise

import "syscall"

// attributes tie a child to its parent: killed with it, also when frozen; and in a process group of its own, so that Ctrl-C
// on the terminal reaches the parent alone, which ends its children in order.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

package engine

import "syscall"

// attributes make a server die with the test, however that ends, and keep the terminal's interrupts from it.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

//go:build unix && !linux

package supervise

import "syscall"

// attributes put a child into a process group of its own, so that Ctrl-C on the terminal reaches the parent alone, and so
// that the kernel wakes and hangs up a frozen child whose parent is gone.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

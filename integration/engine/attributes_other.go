//go:build unix && !linux

package engine

import "syscall"

// attributes keep the terminal's interrupts from a server. It outlives a test that is killed.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

//go:build unix

package oneport

import "syscall"

// descriptors is how many descriptors this process may have open.
func descriptors() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || l.Cur < 64 {
		return 1024
	}
	return int(min(uint64(l.Cur), 1<<20)) //nolint:unconvert // signed on some systems
}

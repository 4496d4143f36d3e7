//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package fileregistry

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// openFlags keeps an open from hanging should a file turn into a FIFO between the look and the open.
const openFlags = syscall.O_NONBLOCK

// tryLock takes the exclusive lock of f's inode for as long as f is open.
func tryLock(f *os.File) error {
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}

// isFree reports whether nobody holds the lock of the inode that fd has open.
func isFree(fd uintptr) (bool, error) {
	for {
		err := unix.Flock(int(fd), unix.LOCK_SH|unix.LOCK_NB)
		switch {
		case err == nil:
			return true, unix.Flock(int(fd), unix.LOCK_UN)
		case errors.Is(err, unix.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, unix.EINTR):
			return false, err
		}
	}
}

// owner returns the user a file belongs to.
func owner(fi os.FileInfo) (uid int, known bool) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}

// diskFull are the errors that mean there is no room.
var diskFull = [...]error{unix.ENOSPC, unix.EDQUOT}

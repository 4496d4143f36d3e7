package fileregistry

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

const openFlags = 0

// farOffset is the high half of the offset of the one byte that is locked. Locks are mandatory here, so it lies far
// behind what the file holds, which everybody may read.
const farOffset = 1 << 30

func tryLock(f *os.File) error {
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY,
		0, 1, 0, &windows.Overlapped{OffsetHigh: farOffset})
}

func isFree(fd uintptr) (bool, error) {
	err := windows.LockFileEx(windows.Handle(fd), windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0,
		&windows.Overlapped{OffsetHigh: farOffset})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, windows.UnlockFileEx(windows.Handle(fd), 0, 1, 0, &windows.Overlapped{OffsetHigh: farOffset})
}

// owner is not asked here: the cache directory's access list keeps other users out.
func owner(os.FileInfo) (uid int, known bool) { return 0, false }

var diskFull = [...]error{windows.ERROR_DISK_FULL, windows.ERROR_HANDLE_DISK_FULL}

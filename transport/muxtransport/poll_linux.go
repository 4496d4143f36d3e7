package muxtransport

import "golang.org/x/sys/unix"

const canPoll = true

// readable returns how many bytes could be read at once.
func readable(fd uintptr) (int, error) { return unix.IoctlGetInt(int(fd), unix.TIOCINQ) }

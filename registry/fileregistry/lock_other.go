//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

package fileregistry

import (
	"errors"
	"os"
)

const openFlags = 0

var errNoLocks = errors.New("this system has no file locks: choose another registry")

func tryLock(*os.File) error { return errNoLocks }

func isFree(uintptr) (bool, error) { return false, errNoLocks }

func owner(os.FileInfo) (uid int, known bool) { return 0, false }

var diskFull = [...]error{}

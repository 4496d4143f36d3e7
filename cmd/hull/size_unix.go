//go:build unix

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// sizeOf returns a terminal's columns and lines; 0 = not known.
func sizeOf(f *os.File) (columns, lines int) {
	w, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return int(w.Col), int(w.Row)
}

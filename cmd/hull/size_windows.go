package main

import (
	"os"

	"golang.org/x/sys/windows"
)

// sizeOf returns a terminal's columns and lines; 0 = not known.
func sizeOf(f *os.File) (columns, lines int) {
	var b windows.ConsoleScreenBufferInfo
	if windows.GetConsoleScreenBufferInfo(windows.Handle(f.Fd()), &b) != nil {
		return 0, 0
	}
	return int(b.Window.Right-b.Window.Left) + 1, int(b.Window.Bottom-b.Window.Top) + 1
}

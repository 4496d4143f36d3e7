//go:build !linux

package muxtransport

const canPoll = false

func readable(uintptr) (int, error) { return 0, nil }

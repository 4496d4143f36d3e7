//go:build unix && !linux

package fileregistry_test

import "errors"

func mountSmall(string) error { return errors.New("only known for Linux") }

func unmount(string) error { return nil }

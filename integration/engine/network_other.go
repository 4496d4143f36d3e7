//go:build unix && !linux

package engine

import (
	"os/exec"
	"testing"
)

// Network exists on Linux only.
type Network struct{ Host string }

// NewNetwork skips the test.
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	t.Skip("only Linux has network namespaces")
	return nil
}

// Cut does nothing.
func (n *Network) Cut() {}

// Mend does nothing.
func (n *Network) Mend() {}

// In returns the command.
func (n *Network) In(cmd *exec.Cmd) *exec.Cmd { return cmd }

// Mute does nothing.
func (n *Network) Mute() {}

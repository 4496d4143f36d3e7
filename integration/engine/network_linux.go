package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// Network is a machine of its own as far as the network can tell: a namespace with one cable to this machine. A server in it is cut
// off as by a switch that lost its memory: packets leave, and arrive nowhere, and no kernel says so to anyone. It ends with the
// test, whatever becomes of that: a namespace lives as long as its last process.
type Network struct {
	// Host is the address inside.
	Host string

	t       testing.TB
	gateway string // this machine's end of the cable
	cable   string
	holder  *Process
}

// nowhere is the hardware address of nobody.
const nowhere = "02:00:00:00:de:ad"

// NewNetwork returns a network. Whoever may not make one has the test skipped.
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	id := rand.Uint32()
	// Of the networks 198.18.0.0/15, which are there for tests, one of two hosts.
	subnet := id >> 17 << 2
	address := func(host uint32) string {
		a := 198<<24 | 18<<16 | subnet | host
		return fmt.Sprintf("%d.%d.%d.%d", a>>24, a>>16&255, a>>8&255, a&255)
	}
	n := &Network{t: t, Host: address(2), gateway: address(1), cable: fmt.Sprintf("hull%08x", id)}
	in := func() *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), "sleep", "infinity")
		cmd.SysProcAttr = attributes()
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
		return cmd
	}
	try := in()
	try.Args[1] = "0"
	if err := try.Run(); err != nil {
		t.Skipf("this user, or this machine, makes no network namespaces: %v", err)
	}
	n.holder = New(t, in)
	n.holder.start(func(string) {})
	n.ip("link", "add", n.cable, "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(n.pid()))
	n.ip("address", "add", n.gateway+"/30", "dev", n.cable)
	n.ip("link", "set", n.cable, "up")
	n.inside("address", "add", n.Host+"/30", "dev", "eth0")
	n.inside("link", "set", "eth0", "up")
	n.inside("link", "set", "lo", "up")
	return n
}

// Cut lets nothing pass, in either direction.
func (n *Network) Cut() {
	n.ip("neighbour", "replace", n.Host, "lladdr", nowhere, "nud", "permanent", "dev", n.cable)
	n.inside("neighbour", "replace", n.gateway, "lladdr", nowhere, "nud", "permanent", "dev", "eth0")
}

// Mute lets what comes pass, and nothing that goes: answers are lost. Mend does not undo it; the end of the test does.
func (n *Network) Mute() {
	n.inside("neighbour", "replace", n.gateway, "lladdr", nowhere, "nud", "permanent", "dev", "eth0")
}

// Mend undoes Cut.
func (n *Network) Mend() {
	n.inside("neighbour", "del", n.gateway, "dev", "eth0")
	n.ip("neighbour", "del", n.Host, "dev", n.cable)
}

// In returns the command that runs inside.
func (n *Network) In(cmd *exec.Cmd) *exec.Cmd {
	c := exec.CommandContext(context.Background(), "nsenter", append([]string{fmt.Sprintf("--net=/proc/%d/ns/net", n.pid()), "--", cmd.Path}, cmd.Args[1:]...)...) // who starts it ends it
	c.Env, c.Dir = cmd.Env, cmd.Dir
	return c
}

func (n *Network) pid() int {
	n.holder.mu.Lock()
	defer n.holder.mu.Unlock()
	return n.holder.cmd.Process.Pid
}

func (n *Network) ip(args ...string) { n.run(exec.CommandContext(n.t.Context(), "ip", args...)) }

func (n *Network) inside(args ...string) {
	n.run(n.In(exec.CommandContext(n.t.Context(), "ip", args...)))
}

func (n *Network) run(cmd *exec.Cmd) {
	n.t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		n.t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
}

package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Driver is what an engine (a directory, etcd, DNS …) must do; the Registry does the rest: caching, sharing,
// validation, back-off, self-preservation, the disk snapshot. A Driver is safe for concurrent use. One that holds
// resources is an io.Closer; the Registry closes it.
type Driver interface {
	// List returns the names of the services that have at least one node, in any order. A driver that cannot know
	// them (DNS) returns those it does know.
	List(ctx context.Context) ([]string, error)
	// Watch calls emit with everything it knows about a service: at once, also when that is nothing, and again after
	// each change. It returns ctx's error when ctx ends, and an error as soon as it can no longer vouch for what it
	// emitted last, which includes an engine that has gone silent; the Registry keeps the last good set, backs off
	// and watches again. Calls of emit are sequential and none comes after Watch has returned. Watch does not return
	// nil.
	Watch(ctx context.Context, service string, emit func(Update)) error
}

// SelfChecking is a Driver whose watches cannot miss a change for good: they read everything again by themselves, or the
// engine promises to tell. The Registry does not begin them anew every Options.Relist.
type SelfChecking interface {
	// ChecksItself does nothing.
	ChecksItself()
}

// Fixed is a Driver whose nodes never change, so that nobody waits for it to say that one has left.
type Fixed interface {
	// IsFixed does nothing.
	IsFixed()
}

// SameMachine is a Driver that knows nodes of this machine only, written by nobody whom its user does not trust. Only from and to such a
// driver nodes may have the address of a Unix socket: an entry of a shared engine could point at any socket of this machine.
type SameMachine interface {
	// IsSameMachine does nothing.
	IsSameMachine()
}

// mayName returns what is wrong with a driver's node having its address, which is valid.
func mayName(d Driver, n *Node) error {
	if _, ok := d.(SameMachine); !ok && strings.HasPrefix(n.Address, unixScheme) {
		return fmt.Errorf("address %.60q: this registry is not one of this machine alone, and whoever is elsewhere cannot reach a Unix socket here", n.Address)
	}
	return nil
}

// Update is a full snapshot of one service as an engine sees it.
type Update struct {
	// Nodes are all nodes the engine lists. They belong to the Registry from now on, and nobody changes them; a
	// driver may hand out the same *Node again and again. Order and duplicates do not matter: of two with one ID the
	// last counts. The Registry drops what does not validate.
	Nodes []*Node
	// Left are nodes missing from Nodes that are known to have left, since the last update of this watch. Whatever
	// else is missing has merely vanished, which the Registry may disbelieve.
	Left []Departure
	// Refused are entries that are there but are no nodes of the service. They disturb nothing else; the Registry
	// reports each once, so a driver does not log them.
	Refused []Refusal
}

// Refusal is an entry of an engine that cannot be used, and why.
type Refusal struct {
	// Entry is the node's ID as far as it is known, or the entry's key.
	Entry string
	Err   error
}

// Departure is the proof that a node is gone: it deregistered, or its end was seen. An expired lease is no proof.
type Departure struct {
	ID string
	// Why is a few words for people: "deregistered", "its process died".
	Why string
}

// Announcer is a Driver that can register nodes.
type Announcer interface {
	// Announce makes n known until it is closed or has not been renewed for ttl. It replaces what the same ID left
	// behind, but not a node that lives: that is ErrTaken, if the engine can tell. n belongs to the driver and is not
	// changed by anyone.
	Announce(ctx context.Context, n *Node, ttl time.Duration) (Lease, error)
}

// Deregisterer is a Driver that can take an entry away that is not its own: one planted by hand, or left behind.
type Deregisterer interface {
	// Deregister removes a node's entry, valid or not; those who watch see a Departure. A node whose process lives
	// announces itself again; an engine that can tell says ErrAlive instead. ErrUnknown means that there is no such
	// entry.
	Deregister(ctx context.Context, service, id string) error
}

// Lease keeps one announced node alive. The Registry calls one method at a time and ends with Close, except after an
// error that wraps ErrLost. A driver with one keepalive per process keeps it behind its leases: renewing ten
// of them within an interval costs one request.
type Lease interface {
	// Renew says that the node is still there. ErrLost means that the engine has forgotten it and the lease has
	// ended: the Registry announces it again. After any other error it renews again soon.
	Renew(ctx context.Context) error
	// Update replaces what is known about the node; ID and service stay. Errors are as for Renew.
	Update(ctx context.Context, n *Node) error
	// Close deregisters the node, on purpose: those who watch see a Departure. After an error the lease goes on: it
	// may be closed again, or renewed.
	Close(ctx context.Context) error
}

// LossNotifier is a Lease that notices by itself that it is lost, sooner than the next Renew would.
type LossNotifier interface {
	// Lost is closed when the lease should be renewed now. It is asked for after each request: a lease that has been
	// mended returns a new channel.
	Lost() <-chan struct{}
}

// Errors of this package and its drivers; match them with errors.Is.
var (
	// ErrLost says that the engine no longer knows a lease.
	ErrLost = errors.New("the registration is lost")
	// ErrTaken says that a node with this ID lives elsewhere.
	ErrTaken = errors.New("the node id is taken by a living node: give every process its own")
	// ErrReadOnly says that the driver cannot register nodes.
	ErrReadOnly = errors.New("this kind of registry cannot register nodes")
	// ErrUnknown says that there is no such entry.
	ErrUnknown = errors.New("no such node is registered")
	// ErrAlive says that an entry is held by a living process.
	ErrAlive = errors.New("the node's process lives and holds its entry: end it, or have it withdraw")
	// ErrClosed says that the Registry, or the registration, has been closed.
	ErrClosed = errors.New("closed")
)

package consulregistry

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/hull-go/hull/registry"
)

const (
	minTTL, maxTTL = time.Second, 24 * time.Hour
	// forgetAfter is how long the agent keeps a service whose TTL is over, graveTTL one that has left on purpose;
	// Consul takes no less than a minute.
	forgetAfter, graveTTL = 10 * time.Minute, time.Minute
)

// lease is one announced node.
type lease struct {
	d       *Driver
	agent   string
	service string
	sid     string
	ttl     time.Duration
	unguard context.CancelFunc

	mu        sync.Mutex
	entry     *service
	gone      bool
	suspicion bool // the entry may be another's: look at it
	lost      chan struct{}
	told      bool // lost is closed
}

// Announce registers the node with the agent.
func (d *Driver) Announce(ctx context.Context, n *registry.Node, ttl time.Duration) (registry.Lease, error) {
	if ttl < minTTL || ttl > maxTTL {
		return nil, fmt.Errorf("consulregistry: a TTL of %v: choose one from %v to %v", ttl, minTTL, maxTTL)
	}
	entry, err := d.encode(n)
	if err != nil {
		return nil, fmt.Errorf("consulregistry: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	l := &lease{d: d, agent: d.current(), service: n.Service, sid: entry.ID, ttl: ttl, lost: make(chan struct{})}
	there, err := d.vacant(ctx, l.agent, n, entry)
	if err != nil {
		return nil, d.explain(l.agent, err)
	}
	if there {
		l.entry, err = entry, l.pass(ctx)
	} else {
		err = l.register(ctx, entry)
	}
	if err != nil {
		return nil, d.explain(l.agent, err)
	}
	guarded, unguard := context.WithCancel(d.ctx)
	l.unguard = unguard
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		unguard()
		return nil, registry.ErrClosed
	}
	if len(d.held) < maxGuards {
		d.spawn(func() { l.guard(guarded) })
	}
	d.held[l.sid] = l
	return l, nil
}

// vacant returns ErrTaken if another process keeps a node of this ID alive, with this agent or another. Consul cannot
// compare and set: of two who ask at the same moment both may be told that it is vacant. there: the agent has this very
// entry, and it is alive. That is the work of a request whose answer came too late, and to send it once more would keep an
// agent busy that is so already: of a thousand programs that began at once, few ever had an answer in time.
func (d *Driver) vacant(ctx context.Context, agent string, n *registry.Node, entry *service) (there bool, err error) {
	taken := fmt.Errorf("consulregistry: %s of %s: %w", n.ID, n.Service, registry.ErrTaken)
	sid := entry.ID
	d.mu.Lock()
	held := d.held[sid] != nil
	d.mu.Unlock()
	if held {
		return false, taken
	}
	local, alive, err := d.local(ctx, agent, sid)
	if err != nil {
		return false, err
	}
	if local != nil && alive && entry.same(local) {
		return true, nil
	}
	owners := map[string]bool{d.owner: true}
	if local != nil {
		owner := local.Meta[ownerKey]
		if alive && owner != d.owner && d.isNode(n, local) {
			return false, taken
		}
		owners[owner] = true // what the servers have of it may be older
	}
	q := d.query()
	q.Set("filter", `Service.ID == "`+sid+`"`)
	entries, _, err := d.health(ctx, agent, n.Service, q, 0)
	if err != nil {
		return false, err
	}
	for i := range entries {
		s := &entries[i].Service
		if s.ID == sid && !owners[s.Meta[ownerKey]] && entries[i].alive() && d.isNode(n, s) {
			return false, taken
		}
	}
	return false, nil
}

// isNode reports whether an entry is a node, and not garbage or one that has left.
func (d *Driver) isNode(n *registry.Node, s *service) bool {
	record, err := join(s.Meta)
	if err == nil {
		_, err = registry.DecodeNode(n.Service, n.ID, record)
	}
	return err == nil && s.Meta[leftKey] == "" && s.Meta[ownerKey] != ""
}

// register puts the node's entry in the place of what the agent has of its ID.
func (l *lease) register(ctx context.Context, entry *service) error {
	entry.Check = &check{CheckID: l.checkID(), Name: "hull: the node renews itself", TTL: l.ttl.String(), Status: "passing",
		DeregisterCriticalServiceAfter: forgetAfter.String()}
	if err := l.d.put(ctx, l.agent, "/v1/agent/service/register", url.Values{"replace-existing-checks": {"true"}}, entry); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entry = entry
	return nil
}

func (l *lease) checkID() string { return "hull:" + l.sid }

// pass tells the agent that the node is there.
func (l *lease) pass(ctx context.Context) error {
	return l.d.put(ctx, l.agent, "/v1/agent/check/pass/"+l.checkID(), nil, nil)
}

// leave puts word why a node left in its place, for a while.
func (d *Driver) leave(ctx context.Context, agent string, entry *service, name, why string) error {
	return d.put(ctx, agent, "/v1/agent/service/register", url.Values{"replace-existing-checks": {"true"}}, &service{
		ID: entry.ID, Name: d.serviceName(name), Tags: entry.Tags, Address: entry.Address, Port: entry.Port,
		Meta: map[string]string{idKey: entry.Meta[idKey], ownerKey: entry.Meta[ownerKey], leftKey: why},
		Check: &check{CheckID: "left:" + entry.ID, Name: "hull: the node has left", TTL: "24h", Status: "critical",
			DeregisterCriticalServiceAfter: graveTTL.String()},
	})
}

// Lost is closed when the entry is not what it should be, or the agent has been gone.
func (l *lease) Lost() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// rouse asks for a renewal.
func (l *lease) rouse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.told {
		l.told = true
		close(l.lost)
	}
}

// suspect asks for a renewal that looks whose the entry is.
func (l *lease) suspect() {
	l.mu.Lock()
	l.suspicion = true
	l.mu.Unlock()
	l.rouse()
}

// over notes that the agent does not have the node any more.
func (l *lease) over() {
	l.mu.Lock()
	l.gone = true
	l.mu.Unlock()
	l.unguard()
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.d.held[l.sid] == l {
		delete(l.d.held, l.sid)
	}
}

// Renew tells the agent that the node is there.
func (l *lease) Renew(ctx context.Context) error {
	l.mu.Lock()
	gone, suspicion := l.gone, l.suspicion
	l.mu.Unlock()
	if gone {
		return registry.ErrLost
	}
	if l.d.current() != l.agent { // that one did not answer
		l.over()
		return registry.ErrLost
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if suspicion {
		entry, _, err := l.d.local(ctx, l.agent, l.sid)
		if err != nil {
			return l.d.explain(l.agent, err)
		}
		if entry == nil || entry.Meta[ownerKey] != l.d.owner || entry.Meta[leftKey] != "" {
			l.over()
			return registry.ErrLost
		}
	}
	err := l.pass(ctx)
	if isStatus(err, http.StatusNotFound) {
		l.over()
		return registry.ErrLost
	}
	if err != nil {
		return l.d.explain(l.agent, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.suspicion = false
	if l.told {
		l.told, l.lost = false, make(chan struct{})
	}
	return nil
}

// Update replaces the node's record.
func (l *lease) Update(ctx context.Context, n *registry.Node) error {
	entry, err := l.d.encode(n)
	if err != nil {
		return fmt.Errorf("consulregistry: %w", err)
	}
	if err := l.Renew(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return l.d.explain(l.agent, l.register(ctx, entry))
}

// Close deregisters the node, and leaves word that this was on purpose.
func (l *lease) Close(ctx context.Context) error {
	l.mu.Lock()
	gone, entry := l.gone, l.entry
	l.mu.Unlock()
	if gone {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	local, _, err := l.d.local(ctx, l.agent, l.sid)
	if err == nil && local != nil && local.Meta[ownerKey] == l.d.owner && local.Meta[leftKey] == "" {
		err = l.d.leave(ctx, l.agent, entry, l.service, deregistered)
	}
	if err != nil {
		return l.d.explain(l.agent, err)
	}
	l.over()
	return nil
}

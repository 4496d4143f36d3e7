package hull

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/spec"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport/pool"
)

// service is what a client knows about one service: what discovery says, and the picker that all its calls share.
type service struct {
	c        *Client
	name     string
	registry *registry.Registry // where its nodes are found
	conn     *Conn
	picker   *balance.Picker
	budget   *budget
	err      error // why the service cannot be called at all

	view atomic.Pointer[registry.View]
	seen atomic.Pointer[registry.Service] // the snapshot that the picker works with

	linking sync.Mutex // no other is taken before it but mu

	used    atomic.Bool // since the client looked for services that are not
	resting atomic.Bool // the view is closed, see Client.makeRoom

	mu     sync.Mutex
	closed bool
	flags  atomic.Pointer[map[string]registry.Method] // what discovery says of methods
}

func newService(c *Client, name string) *service {
	s := &service{c: c, name: name}
	s.conn = newConn(s, nil)
	if s.err = registry.ValidName("service", name); s.err == nil {
		s.picker, s.err = c.book.Picker(name)
	}
	if s.err == nil {
		s.picker.Knock(func(n *balance.Node) bool { return s.node(n, n.Info()).Ask() })
		s.budget, s.err = newBudget(c.book, name)
	}
	return s
}

// budget is a service's retry budget as the document in force has it.
type budget struct {
	book *spec.Book
	name string
	now  atomic.Pointer[currentBudget]
}

type currentBudget struct {
	*retry.Budget
	gen uint64
}

func newBudget(book *spec.Book, name string) (*budget, error) {
	b := &budget{book: book, name: name}
	return b, b.renew(book.Generation())
}

func (b *budget) renew(gen uint64) error {
	r, err := b.book.Budget(b.name)
	if err == nil {
		b.now.Store(&currentBudget{r, gen})
	}
	return err
}

// current asks again when the document has changed. A budget that cannot be made was not applied, so the old one is right.
func (b *budget) current() *retry.Budget {
	if gen := b.book.Generation(); gen != b.now.Load().gen {
		_ = b.renew(gen)
	}
	return b.now.Load().Budget
}

// Snapshot reads the budget.
func (b *budget) Snapshot(now policy.Time) retry.BudgetSnapshot { return b.current().Snapshot(now) }

func (s *service) close() *registry.View {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.resting.Store(true) // so that the next call comes to open, and is told
	return s.view.Load()
}

// known reports whether the picker knows what discovery knows, and calls have only to be made: discover would do nothing.
func (s *service) known() bool {
	v := s.view.Load()
	if v == nil || s.resting.Load() || !s.used.Load() {
		return false
	}
	snap := v.Snapshot()
	return snap == s.seen.Load() && len(snap.Nodes) > 0
}

// discover sees to it that the picker knows what discovery knows. The first call of a service waits for an answer, a patient caller for a node
// until deadline. now is set anew if that takes its time.
func (s *service) discover(ctx context.Context, now *policy.Time, deadline policy.Time, patient bool) *status.Error {
	if !s.used.Load() { // a look spares other cores the write
		s.used.Store(true)
	}
	v := s.view.Load()
	if v == nil || s.resting.Load() {
		var err *status.Error
		if v, err = s.open(); err != nil {
			return err
		}
	}
	snap := v.Snapshot()
	if len(snap.Nodes) == 0 {
		if *now >= deadline {
			return &status.Error{Code: status.DeadlineExceeded, Kind: status.Timeout, Fate: status.NotSent,
				Message: "the deadline had passed before the call began"}
		}
		var err *status.Error
		if !patient {
			deadline = policy.Earliest(deadline, (*now).Add(firstWait))
		}
		if snap, err = s.await(ctx, v, deadline, patient); err != nil {
			return err
		}
		*now = policy.Now()
	}
	if snap != s.seen.Load() {
		s.update(*now, snap)
	}
	return nil
}

// firstWait is how long calls of a service that has not been seen yet wait for its first node: programs that start together
// need not start in order.
const firstWait = time.Second

// await returns nodes of a service that has none. One that had some before is not waited for unless its caller is patient: callers have
// fallbacks.
func (s *service) await(ctx context.Context, v *registry.View, until policy.Time, patient bool) (snap *registry.Service, e *status.Error) {
	var err error
	wait, cancel := context.WithDeadline(ctx, until.Clock())
	defer cancel()
	if s.seen.Load() != nil && !patient {
		snap, err = s.registry.Lookup(wait, s.name)
	} else {
		snap, err = v.Wait(wait)
	}
	if err != nil {
		return nil, s.unknown(ctx, err)
	}
	return snap, nil
}

func (s *service) open() (*registry.View, *status.Error) {
	s.c.wake(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, &status.Error{Code: status.InvalidArgument, Kind: status.NoNode, Fate: status.NotSent, Cause: s.err}
	}
	if s.closed {
		return nil, &status.Error{Code: status.Canceled, Kind: status.Refused, Fate: status.NotSent, Message: "the client is closed"}
	}
	if v := s.view.Load(); v != nil && !s.resting.Load() {
		return v, nil
	}
	v := s.registry.Open(s.name)
	v.Probe(s.probe)
	s.seen.Store(nil) // another view counts its revisions anew
	s.view.Store(v)
	s.resting.Store(false)
	return v, nil
}

// unknown says why there is no node. A caller who gave up is told that, not that the service is missing.
func (s *service) unknown(ctx context.Context, err error) *status.Error {
	if ctx.Err() == context.Canceled {
		return &status.Error{Code: status.Canceled, Kind: status.Cancelled, Fate: status.NotSent, Cause: context.Cause(ctx)}
	}
	if _, _, bad := net.SplitHostPort(s.name); bad == nil && !strings.Contains(s.name, targetSign) {
		err = fmt.Errorf("services have names, and the server at an address is hull://%[1]s, grpc://%[1]s or http://%[1]s: %[2]w", s.name, err)
		return &status.Error{Code: status.Unavailable, Kind: status.NoNode, Fate: status.NotSent, Cause: err}
	}
	if e, ok := errors.AsType[*status.Error](err); ok {
		return e
	}
	return &status.Error{Code: status.Unavailable, Kind: status.NoNode, Fate: status.NotSent, Cause: err}
}

// update gives the picker a new set of nodes.
func (s *service) update(now policy.Time, snap *registry.Service) {
	if old := s.replace(now, snap); old != nil {
		s.c.forget(old, snap)
	}
}

// replace returns the set that was there before, or nil if there is nothing to forget.
func (s *service) replace(now policy.Time, snap *registry.Service) (old *registry.Service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old = s.seen.Load()
	if old != nil && old.Revision >= snap.Revision {
		return nil
	}
	flags := map[string]registry.Method{}
	news := false
	for _, n := range snap.Nodes {
		news = news || old == nil || old.Node(n.ID) == nil
		for _, m := range n.Methods {
			f, ok := flags[m.Name]
			if !ok {
				f = m
			}
			// Two versions may disagree; then the careful one is right.
			f.Idempotent, f.SideEffectFree = f.Idempotent && m.Idempotent, f.SideEffectFree && m.SideEffectFree
			f.Keyed = f.Keyed && m.Keyed
			flags[m.Name] = f
		}
	}
	s.flags.Store(&flags)
	s.picker.Update(now, snap)
	s.seen.Store(snap)
	s.linked(now, nil)
	if news && old != nil {
		s.c.book.Nudge(now, s.name)
	}
	return old
}

// linked tells the picker what the pool knows of a node, or with nil of all nodes: calls need not find out one by one what connections have shown. It
// reports whether the service has the node.
func (s *service) linked(now policy.Time, which *pool.Node) (found bool) {
	if s.picker == nil {
		return false
	}
	s.linking.Lock() // what is told last is what was read last
	defer s.linking.Unlock()
	for _, n := range s.picker.Nodes() {
		info := n.Info()
		if which != nil && info.Address != which.Addr() {
			continue
		}
		link := s.c.pool.Known(info.Address, s.c.via(info)...)
		if link == nil || which != nil && link != which {
			continue
		}
		found = true
		switch err := link.Down(); {
		case err != nil && err.Kind == status.Dial:
			n.Down(now, policy.Source{})
		case err != nil:
			n.Unlinked()
		case link.Up():
			n.Up(now)
		}
	}
	return found
}

// reached is the pool's side of a node, as it was described then.
type reached struct {
	info *registry.Node
	at   *pool.Node
}

// node returns the pool's side of a node that was picked, of which info is known. It is kept with the node, but another service may have had a node at the
// same address, and had it forgotten.
func (s *service) node(n *balance.Node, info *registry.Node) *pool.Node {
	if r, ok := n.Handle().(*reached); ok && r.info == info && !r.at.Forgotten() {
		return r.at
	}
	at := s.c.reach(info)
	n.SetHandle(&reached{info, at})
	return at
}

// report tells discovery what calls experience, where it matters: that a node cannot be reached, or that it is certain who
// answered.
func (s *service) report(n *registry.Node, found registry.Sighting) {
	if found != registry.Unsure {
		s.view.Load().Report(n.ID, found == registry.Lives)
	}
}

// clientMethod is one method as a Conn calls it.
type clientMethod struct {
	*spec.Method
	name   string
	budget *retry.Budget // of the service, as the same document has it
	used   atomic.Bool   // since there were too many
	said   atomic.Pointer[published]
}

// published is what the nodes and the document say together of what callers may do with a method.
type published struct {
	by                                *map[string]registry.Method // what the nodes say of all of them
	idempotent, sideEffectFree, keyed bool
}

// published returns what holds now.
func (m *clientMethod) published(s *service) *published {
	by := s.flags.Load()
	if p := m.said.Load(); p != nil && p.by == by {
		return p
	}
	return m.publish(by)
}

// publish notes what the nodes say.
func (m *clientMethod) publish(by *map[string]registry.Method) *published {
	var said registry.Method
	if by != nil {
		said = (*by)[m.name]
	}
	if m.Idempotent != nil {
		said.Idempotent = *m.Idempotent
	}
	if m.SideEffectFree != nil {
		said.SideEffectFree = *m.SideEffectFree
	}
	p := &published{by: by, idempotent: said.Idempotent || said.SideEffectFree, sideEffectFree: said.SideEffectFree, keyed: said.Keyed}
	m.said.Store(p)
	return p
}

package hull

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/spec"
)

// Try puts another specification in force on probation, and returns when it stays, or does not: it counts how calls end under the one in force for
// p.Before, applies the new one, and takes it back when calls fail more than twice as often (see spec.Probation). The error is then
// spec.ErrTakenBack with what was seen. One that is invalid changes nothing. When ctx ends before that is known, the one from before is in force.
//
// It fits spec.Watch: spec.Watch(ctx, path, func(s *spec.Spec) error { return client.Try(ctx, s, spec.Probation{}) }, …). A client that has
// called nothing yet takes the document as Apply does.
func (c *Client) Try(ctx context.Context, s *spec.Spec, p spec.Probation) error {
	g := group{clients: []*Client{c}}
	return g.try(ctx, s, p, "the program, with Client.Try")
}

// group is everything in a program that is given one document.
type group struct {
	server  *Server // nil = none
	clients []*Client

	changing sync.Mutex // or two documents could each come to hold for some
}

// check says why a document cannot be put in force everywhere.
func (g *group) check(s *spec.Spec) error {
	for _, c := range g.clients {
		if err := c.book.Check(s); err != nil {
			return err
		}
	}
	if g.server != nil {
		return g.server.check(s)
	}
	return nil
}

// apply puts a document in force everywhere, or nowhere.
func (g *group) apply(s *spec.Spec, who string) error {
	g.changing.Lock()
	defer g.changing.Unlock()
	if err := g.check(s); err != nil {
		return err
	}
	former := g.inForce()
	for i, c := range g.clients {
		if err := c.apply(s, who); err != nil {
			return errors.Join(err, g.restore(former, i, false, who))
		}
	}
	if g.server != nil {
		if err := g.server.apply(s, who); err != nil {
			return errors.Join(err, g.restore(former, len(g.clients), false, who))
		}
	}
	return nil
}

// documents are what is in force at the members of a group.
type documents struct {
	clients []*spec.Spec
	origins []originJSON
	server  *spec.Spec
	applied *spec.Spec // to the server, nil = it has what it began with
	origin  originJSON // of the server's
}

// are reports whether nobody has put another document in force between the two.
func (d documents) are(noted documents) bool {
	return slices.Equal(d.clients, noted.clients) && d.applied == noted.applied
}

func (g *group) inForce() (d documents) {
	for _, c := range g.clients {
		d.clients, d.origins = append(d.clients, c.Spec()), append(d.origins, c.docOrigin())
	}
	if g.server != nil {
		d.server, d.applied, d.origin = g.server.Spec(), g.server.doc.Load(), g.server.docOrigin()
	}
	return d
}

// restore puts former documents in force again, at so many clients and perhaps the server.
func (g *group) restore(d documents, clients int, server bool, who string) error {
	var errs []error
	for i, c := range g.clients[:clients] {
		errs = append(errs, c.apply(d.clients[i], d.origins[i].Who+", again after "+who))
	}
	if server && g.server != nil {
		errs = append(errs, g.server.apply(d.server, d.origin.Who+", again after "+who))
	}
	return errors.Join(errs...)
}

// same reports whether what is in force everywhere says the same as a document.
func (g *group) same(s *spec.Spec) bool {
	d := g.inForce()
	for _, have := range d.clients {
		if !reflect.DeepEqual(have, s) {
			return false
		}
	}
	return d.server == nil || reflect.DeepEqual(d.server, s)
}

// has reports whether a document is in force at every member still.
func (g *group) has(s *spec.Spec) bool {
	for _, c := range g.clients {
		if c.Spec() != s {
			return false
		}
	}
	return g.server == nil || g.server.Spec() == s
}

// errOvertaken is why a probation ends that somebody else has ended.
var errOvertaken = fmt.Errorf("another document was put in force meanwhile, which stays: %w", spec.ErrTakenBack)

// looks is how often a document on probation is judged.
const looks = 100

// try puts a document in force on probation.
func (g *group) try(ctx context.Context, s *spec.Spec, p spec.Probation, who string) error {
	p, err := p.Complete()
	if err != nil {
		return err
	}
	if s == nil {
		s = new(spec.Spec)
	}
	if err := g.check(s); err != nil {
		return err
	}
	if g.same(s) {
		return nil
	}
	noted := g.inForce()
	counts := g.count()
	defer func() { counts.stop() }()
	if g.called() {
		if err := wait(ctx, p.Before); err != nil {
			return fmt.Errorf("the document is not applied: %w", err)
		}
	}
	before, former := counts.read(), g.inForce()
	if !former.are(noted) { // what was counted says nothing of them, and who put them in force knows better
		return errOvertaken
	}
	if err := g.apply(s, who); err != nil || before.Calls == 0 {
		return err
	}
	counts.stop()
	counts = g.count() // of pipelines that are made from now on
	for range looks {
		err := wait(ctx, p.For/looks)
		if !g.has(s) {
			return errOvertaken
		}
		if err == nil {
			err = p.Judge(before, counts.read())
		} else {
			err = fmt.Errorf("its probation was broken off: %w: %w", err, spec.ErrTakenBack)
		}
		if err != nil {
			for _, c := range g.clients {
				c.log.Warn("policies taken back", "error", err)
			}
			return errors.Join(err, g.restore(former, len(g.clients), true, who))
		}
	}
	return nil
}

// wait waits, or says why ctx ended first.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// called reports whether there is anything to compare with.
func (g *group) called() bool {
	if g.server != nil && g.server.calls.Load() > 0 {
		return true
	}
	for _, c := range g.clients {
		c.mu.Lock()
		n := len(c.services)
		c.mu.Unlock()
		if n > 0 {
			return true
		}
	}
	return false
}

// counts are how many calls ended since they were begun.
type counts struct {
	g       *group
	tallies []*tally
	served  spec.Tally
	once    sync.Once
}

func (g *group) count() *counts {
	c := &counts{g: g}
	for _, cl := range g.clients {
		c.tallies = append(c.tallies, cl.tallies.begin(&cl.recorder))
		cl.book.Renew()
	}
	if g.server != nil {
		c.served = g.server.tally()
	}
	return c
}

func (c *counts) read() (t spec.Tally) {
	for _, own := range c.tallies {
		t.Calls, t.Failures = t.Calls+own.calls.Load(), t.Failures+own.failures.Load()
	}
	if s := c.g.server; s != nil {
		now := s.tally()
		t.Calls, t.Failures = t.Calls+now.Calls-c.served.Calls, t.Failures+now.Failures-c.served.Failures
	}
	return t
}

// stop ends it. Calls that go on are not counted.
func (c *counts) stop() {
	c.once.Do(func() {
		for i, cl := range c.g.clients {
			cl.tallies.end(c.tallies[i])
			cl.book.Renew()
		}
	})
}

// tally counts a client's calls while a document is on probation. At other times nobody does, and calls pay nothing for it.
type tally struct {
	next            policy.Observer
	under           *tally // what counted when it began, and counts on; nil = nothing
	over            atomic.Bool
	calls, failures atomic.Int64
}

// Call implements policy.Observer.
func (t *tally) Call(now policy.Time, c *policy.Call, s *policy.Story) {
	t.next.Call(now, c, s)
	switch s.Class {
	case policy.ClassCancelled: // says nothing
		return
	case policy.ClassOK, policy.ClassCaller, policy.ClassAborted:
	default:
		t.failures.Add(1)
	}
	t.calls.Add(1)
}

// tallies are those of a client that count: the last to begin, which tells the one before. They end in any order.
type tallies struct{ now atomic.Pointer[tally] }

func (t *tallies) begin(next policy.Observer) *tally {
	for {
		own, other := &tally{next: next}, t.now.Load()
		if other != nil {
			own.next, own.under = other, other
		}
		if t.now.CompareAndSwap(other, own) {
			return own
		}
	}
}

// end takes away what is over, down to one that counts.
func (t *tallies) end(own *tally) {
	own.over.Store(true)
	for now := t.now.Load(); now != nil && now.over.Load(); now = t.now.Load() {
		t.now.CompareAndSwap(now, now.under)
	}
}

// observer is told of a client's calls.
func (c *Client) observer() policy.Observer {
	if t := c.tallies.now.Load(); t != nil {
		return t
	}
	return &c.recorder
}

// tally is how many calls have come, and how many of them were refused or failed; an answer such as NotFound is no failure.
func (s *Server) tally() spec.Tally {
	refused := s.desk.Refusals()
	return spec.Tally{Calls: s.calls.Load() + refused, Failures: s.faults.Load() + refused}
}

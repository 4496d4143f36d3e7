package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// patience is how long an engine has to answer before what the disk remembers is shown.
	patience = 250 * time.Millisecond
	// maxNodes bounds one service, maxReports the complaints kept about its bad entries.
	maxNodes   = 100_000
	maxReports = 64
)

// watch follows one service: one call of Driver.Watch at a time, one goroutine, any number of views.
type watch struct {
	r      *Registry
	name   string
	ctx    context.Context
	cancel context.CancelFunc
	began  time.Time
	snap   atomic.Pointer[Service]
	// doubtful is set while a healthy report can matter.
	doubtful atomic.Bool

	// views and idleSince are guarded by r.mu.
	views     int
	idleSince time.Time

	mu        sync.Mutex
	b         Belief
	failedFor time.Time // when the engine began to fail; zero = it answers
	err       error     // with what
	fromDisk  []*Node   // remembered, not shown yet
	savedAt   time.Time
	unsaved   bool
	probes    map[*View]Probe
	reported  map[string]struct{} // bad entries already complained about
}

func newWatch(r *Registry, name string) *watch {
	w := &watch{r: r, name: name, began: time.Now()}
	w.ctx, w.cancel = context.WithCancel(r.ctx)
	w.b = newBelief(r.opt)
	w.snap.Store(&Service{Name: name, next: make(chan struct{})})
	return w
}

// deadWatch is for a service that cannot be watched.
func deadWatch(name string, err error) *watch {
	w := &watch{name: name}
	w.snap.Store(&Service{Name: name, Revision: 1, Stale: true, Why: err.Error(), err: err, next: make(chan struct{})})
	return w
}

// run keeps a watch going until ctx ends.
func (w *watch) run() {
	defer w.cancel()
	if w.r.disk != nil {
		w.remember()
	}
	failures := 0
	for w.ctx.Err() == nil {
		err := w.follow(func() { failures = 0 })
		if w.ctx.Err() != nil {
			return
		}
		if errors.Is(err, errRelist) {
			continue
		}
		if err == nil {
			err = errors.New("the driver ended its watch without saying why")
		}
		w.fail(err)
		if !sleep(w.ctx, w.r.backoff(failures)) {
			return
		}
		failures++
	}
}

// errRelist ends a watch that has lasted long enough.
var errRelist = errors.New("it is time to list anew")

// follow is one watch of the driver's. heard is called with each answer.
func (w *watch) follow(heard func()) error {
	ctx, cancel := context.WithCancelCause(w.ctx)
	defer cancel(nil)
	if d := w.r.relist(); d > 0 {
		timer := time.AfterFunc(d, func() { cancel(errRelist) })
		defer timer.Stop()
	}
	err := w.r.driver.Watch(ctx, w.name, func(up Update) {
		heard()
		w.emit(up)
	})
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// emit takes an answer of the engine.
func (w *watch) emit(up Update) {
	for _, bad := range up.Refused {
		w.complain(bad.Entry, bad.Err)
	}
	up = w.clean(up)
	now := time.Now()
	w.mu.Lock()
	doubted := w.b.absent
	changed := w.b.Update(now, up)
	recovered := w.err != nil
	since, twice := w.failedFor, w.b.twice
	w.err, w.failedFor, w.fromDisk = nil, time.Time{}, nil
	if changed {
		w.unsaved = true
	}
	why := ""
	if w.b.absent > doubted {
		why = w.b.why
	}
	w.publish(changed || recovered)
	w.mu.Unlock()
	w.r.touch(w)
	for _, id := range twice {
		w.complain(id, errTwice)
	}
	if recovered {
		w.r.opt.Logger.Info("registry: the engine answers again", "service", w.name, "after", now.Sub(since))
	}
	if why != "" {
		w.r.opt.Logger.Warn("registry: disbelieved", "service", w.name, "why", why)
	}
}

// fail notes that the engine does not answer.
func (w *watch) fail(err error) {
	w.mu.Lock()
	first := w.err == nil
	w.err = err
	if first {
		w.failedFor = time.Now()
	}
	adopted := w.b.adopt(w.fromDisk)
	w.fromDisk = nil
	w.publish(first || adopted)
	w.mu.Unlock()
	if first {
		w.r.opt.Logger.Warn("registry: the engine does not answer, going on with the last good set", "service", w.name, "error", err)
	}
}

// publish makes what is believed now the snapshot; w.mu is held.
func (w *watch) publish(changed bool) {
	w.doubtful.Store(w.b.absent > 0 || w.b.failing > 0)
	if !changed {
		return
	}
	old := w.snap.Load()
	s := &Service{Name: w.name, Revision: old.Revision + 1, Nodes: w.b.Nodes(), Disbelieved: w.b.absent,
		Why: w.b.why, Since: w.b.since, next: make(chan struct{})}
	switch {
	case w.err != nil:
		s.Stale, s.Since, s.err = true, w.failedFor, w.err
		s.Why = fmt.Sprintf("the registry does not answer: %v", w.err)
	case w.b.disk:
		s.Stale, s.Since, s.Why = true, w.began, "the registry has not answered yet; these nodes are from the last run"
	}
	w.snap.Store(s)
	close(old.next)
}

// report is Registry.Report for this service.
func (w *watch) report(id string, healthy bool) {
	if w.r == nil || healthy && !w.doubtful.Load() {
		return
	}
	w.mu.Lock()
	changed := w.b.Report(time.Now(), id, healthy)
	w.publish(changed)
	w.mu.Unlock()
	if changed { // a good word only puts off what is due
		w.r.touch(w)
	}
}

var errTwice = errors.New("the ID is there twice, and the entries differ: the last one counts")

// clean drops what does not validate, belongs to another service, points at this program or is too much, and says so once per
// entry.
func (w *watch) clean(up Update) Update {
	nodes := up.Nodes
	if len(nodes) > maxNodes {
		w.complain("", fmt.Errorf("%d nodes: what is beyond the first %d is ignored", len(nodes), maxNodes))
		nodes = nodes[:maxNodes]
	}
	own := w.r.ownNodes()
	good, copied := nodes, false
	for i, n := range nodes {
		err := w.check(n)
		if err == nil && own != nil {
			if err = own.check(n); err != nil { // certainly not there, however long it has been believed
				up.Left = append(slices.Clip(up.Left), Departure{ID: n.ID, Why: "its address is another's"})
			}
		}
		switch {
		case err == nil && copied:
			good = append(good, n)
		case err != nil:
			if !copied {
				good, copied = slices.Clone(nodes[:i]), true
			}
			id := ""
			if n != nil {
				id = n.ID
			}
			w.complain(id, err)
		}
	}
	up.Nodes = good
	return up
}

// ownNodes are the nodes that this program has registered and that answer at their addresses themselves, by address.
type ownNodes map[string][]*Node

// ownNodes returns this program's own; nil = none.
func (r *Registry) ownNodes() ownNodes {
	r.mu.Lock()
	regs := slices.Collect(maps.Keys(r.registrations))
	r.mu.Unlock()
	var own ownNodes
	for _, g := range regs {
		if n := g.Node(); n.Identifies {
			if own == nil {
				own = ownNodes{}
			}
			own[n.Address] = append(own[n.Address], n)
		}
	}
	return own
}

// check refuses an entry that would have the program call itself in another's name.
func (o ownNodes) check(n *Node) error {
	here := o[n.Address]
	for _, m := range here {
		if m.ID == n.ID && m.Service == n.Service {
			return nil
		}
	}
	if len(here) == 0 {
		return nil
	}
	first := slices.MinFunc(here, func(a, b *Node) int { return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.ID, b.ID)) })
	return fmt.Errorf("address %s is this program's own, which is %s of %q", n.Address, first.ID, first.Service)
}

func (w *watch) check(n *Node) error {
	if n == nil {
		return errors.New("no node")
	}
	if n.Service != w.name {
		return fmt.Errorf("it belongs to service %.40q", n.Service)
	}
	if n.Absent {
		return errors.New("a driver set Absent")
	}
	if err := n.Validate(); err != nil {
		return err
	}
	return mayName(w.r.driver, n)
}

// complain logs what is wrong with an entry, or with the whole service, once.
func (w *watch) complain(id string, err error) {
	key := id + "\x00" + err.Error()
	w.mu.Lock()
	_, done := w.reported[key]
	if done = done || len(w.reported) >= maxReports; !done {
		if w.reported == nil {
			w.reported = map[string]struct{}{}
		}
		w.reported[key] = struct{}{}
	}
	w.mu.Unlock()
	if !done {
		w.r.opt.Logger.Warn("registry: ignored", "service", w.name, "id", fmt.Sprintf("%.40q", id), "error", err)
	}
}

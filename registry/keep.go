package registry

import (
	"context"
	"time"
)

const (
	probeEvery   = 10 * time.Second
	probeTimeout = 2 * time.Second
	// probeTogether is how long those whose turn comes first wait for others.
	probeTogether = time.Second
	maxProbes     = 8
	// silence is how long an absent node that can be asked who it is may say nothing.
	silence = 30 * time.Second
)

// Sighting is what a probe of an absent node has found.
type Sighting int

// What a probe finds.
const (
	// Unsure: nothing was heard, or somebody who does not say who they are. The zero value.
	Unsure Sighting = iota
	// Lives: that very instance answered.
	Lives
	// Gone: nobody can be reached at the node's address, or another instance lives there now.
	Gone
)

// Probe looks at an absent node that has not been heard of for a while. Its context ends after 2 s.
type Probe func(ctx context.Context, n *Node) Sighting

// touch asks the housekeeper to look at a service.
func (r *Registry) touch(w *watch) {
	r.dirtyMu.Lock()
	r.dirty[w] = struct{}{}
	r.dirtyMu.Unlock()
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// keepHouse is the one goroutine for all that falls due: absent nodes, idle services, the disk. It looks only at
// services that were touched or are due.
func (r *Registry) keepHouse() {
	const never = 24 * time.Hour
	timer := time.NewTimer(never)
	defer timer.Stop()
	due := map[*watch]time.Time{}
	for {
		select {
		case <-r.ctx.Done():
			r.flush(due)
			return
		case <-r.kick:
		case <-timer.C:
		}
		now := time.Now()
		r.dirtyMu.Lock()
		for w := range r.dirty {
			due[w] = now
			delete(r.dirty, w)
		}
		r.dirtyMu.Unlock()
		next := now.Add(never)
		for w, t := range due {
			if !t.After(now) {
				if t = w.tend(now); t.IsZero() {
					delete(due, w)
					continue
				}
				due[w] = t
			}
			if t.Before(next) {
				next = t
			}
		}
		timer.Reset(max(next.Sub(now), time.Millisecond))
	}
}

// flush writes what is not on the disk yet.
func (r *Registry) flush(due map[*watch]time.Time) {
	r.dirtyMu.Lock()
	defer r.dirtyMu.Unlock()
	for w := range r.dirty {
		due[w] = time.Time{}
	}
	for w := range due {
		w.save(time.Now(), true)
	}
}

// tend does what is due for one service and returns when to come back; zero = not before it is touched.
func (w *watch) tend(now time.Time) time.Time {
	var next time.Time
	at := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	w.r.mu.Lock()
	if w.views == 0 && w.r.services[w.name] == w && !w.r.closed {
		if end := w.idleSince.Add(w.r.opt.Linger); end.After(now) {
			at(end)
		} else {
			w.r.drop(w)
		}
	}
	w.r.mu.Unlock()
	if w.ctx.Err() != nil {
		w.save(now, true)
		return time.Time{}
	}

	w.mu.Lock()
	changed := w.b.Expire(now)
	if w.fromDisk != nil {
		if end := w.began.Add(patience); end.After(now) {
			at(end)
		} else {
			changed = w.b.adopt(w.fromDisk) || changed
			w.fromDisk = nil
		}
	}
	at(w.b.Deadline())
	w.publish(changed)
	at(w.probeDue(now))
	w.mu.Unlock()
	at(w.save(now, false))
	return next
}

// probeDue starts the probes of absent nodes whose turn it is, each when nothing has been heard of it for probeEvery, and returns when the next one's is; w.mu is held.
func (w *watch) probeDue(now time.Time) time.Time {
	probe := w.prober()
	if probe == nil || w.b.absent == 0 {
		return time.Time{}
	}
	var nodes []*Node
	next := now.Add(probeEvery)
	for _, e := range w.b.entries {
		if e.absent.IsZero() {
			continue
		}
		due := e.vouched
		if e.probed.After(due) {
			due = e.probed
		}
		if due = due.Add(probeEvery); !due.After(now) {
			e.probed = now
			nodes = append(nodes, e.node)
		} else if due.Before(next) {
			next = due
		}
	}
	if len(nodes) > 0 {
		w.r.wg.Go(func() { w.look(probe, nodes) })
	}
	if soonest := now.Add(probeTogether); next.Before(soonest) {
		return soonest
	}
	return next
}

// prober returns who can look at absent nodes, or nil; w.mu is held.
func (w *watch) prober() Probe {
	for _, p := range w.probes {
		return p
	}
	return w.r.opt.Probe
}

// setProbe adds a view's probe, or takes it away.
func (w *watch) setProbe(v *View, p Probe) {
	w.mu.Lock()
	if p == nil {
		delete(w.probes, v)
	} else {
		if w.probes == nil {
			w.probes = map[*View]Probe{}
		}
		w.probes[v] = p
	}
	w.b.probing = w.prober() != nil
	w.mu.Unlock()
	w.r.touch(w)
}

func (w *watch) look(probe Probe, nodes []*Node) {
	slots := make(chan struct{}, maxProbes)
	for _, n := range nodes {
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(w.ctx, probeTimeout)
			defer cancel()
			if found := probe(ctx, n); found != Unsure && w.ctx.Err() == nil {
				w.report(n.ID, found == Lives)
			}
		}()
	}
	for range maxProbes {
		slots <- struct{}{}
	}
}

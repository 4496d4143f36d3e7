package consulregistry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/hull-go/hull/registry"
)

const (
	// pollWait is how long a blocking query waits for a change; busyWait if there are more than maxPolls.
	pollWait, busyWait = time.Minute, time.Second
	// probeEvery and probeTimeout find an agent that is silent.
	probeEvery, probeTimeout = 3 * time.Second, 3 * time.Second
	// patience is how long an agent may be gone before watches fail.
	patience = 2 * time.Second
	// perEntry is how long a watch rests after a change for each entry that it was sent, and maxPause how long at most:
	// Consul sends all entries of a service when one changes, and a burst should not be sent node by node.
	perEntry, maxPause = 500 * time.Microsecond, time.Second
)

// watching is one call of Watch.
type watching struct{ cancel context.CancelCauseFunc }

// known is what a roster was told of an entry.
type known struct{ owner, record, err string }

// Watch follows a service.
func (d *Driver) Watch(ctx context.Context, service string, emit func(registry.Update)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &watching{cancel: cancel}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return registry.ErrClosed
	}
	d.watches[w] = struct{}{}
	if !d.probing {
		d.probing = d.spawn(d.probe)
	}
	d.mu.Unlock()
	err := d.watch(inner, service, emit)
	d.mu.Lock()
	delete(d.watches, w)
	d.mu.Unlock()
	switch cause := context.Cause(inner); {
	case ctx.Err() != nil:
		return ctx.Err()
	case cause != nil:
		return cause
	}
	return err
}

func (d *Driver) watch(ctx context.Context, service string, emit func(registry.Update)) error {
	r, told := registry.NewRoster(service), map[string]known{}
	var index uint64
	var broken time.Time
	first := true
	for {
		agent := d.current()
		entries, next, err := d.poll(ctx, agent, service, index)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			var answer *statusError
			if broken.IsZero() {
				broken = time.Now()
			}
			if first || errors.As(err, &answer) || errors.Is(err, errFiltered) || time.Since(broken) >= patience {
				return d.explain(agent, err)
			}
			index = 0
			if !sleep(ctx, jitter(300*time.Millisecond)) {
				return context.Cause(ctx)
			}
			continue
		}
		broken, first = time.Time{}, false
		if next < index { // another history
			next = 0
		}
		again := next == index && index > 0
		index = next
		if !again {
			d.take(r, told, service, entries)
		}
		pause := jitter(200 * time.Millisecond) // a change that is none to us is no reason to hurry
		if r.Changed() {
			emit(r.Update())
			pause = min(time.Duration(len(entries))*perEntry, maxPause)
		}
		if !again && !sleep(ctx, pause) {
			return context.Cause(ctx)
		}
	}
}

// poll asks for a service's entries once they have changed after an index; 0 = at once.
func (d *Driver) poll(ctx context.Context, agent, service string, index uint64) ([]health, uint64, error) {
	q, limit := d.query(), requestTimeout
	if index > 0 {
		d.mu.Lock()
		wait := pollWait
		if len(d.watches) > maxPolls {
			wait = busyWait
		}
		d.mu.Unlock()
		q.Set("index", strconv.FormatUint(index, 10))
		q.Set("wait", strconv.Itoa(int(wait/time.Second))+"s")
		limit += wait + wait/16
	}
	select {
	case d.polls <- struct{}{}:
		defer func() { <-d.polls }()
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return d.health(ctx, agent, service, q, index)
}

// take brings a roster to what the entries say.
func (d *Driver) take(r *registry.Roster, told map[string]known, service string, entries []health) {
	now, left := map[string]known{}, map[string]known{}
	for i := range entries {
		h := &entries[i]
		if why := h.Service.Meta[leftKey]; why != "" {
			left[h.Service.Meta[idKey]] = known{owner: h.Service.Meta[ownerKey], record: why}
			continue
		}
		if !h.alive() {
			continue
		}
		id, record, err := d.entry(service, h)
		k := known{owner: h.Service.Meta[ownerKey], record: string(record)}
		if err != nil {
			k.err = err.Error()
		}
		now[id] = k
	}
	for id, k := range told {
		if _, there := now[id]; there {
			continue
		}
		delete(told, id)
		if l, ok := left[id]; ok && l.owner == k.owner && k.err == "" {
			r.Leave(id, why(l.record))
		} else {
			r.Remove(id)
		}
	}
	for id, k := range now {
		if was, ok := told[id]; ok && was == k {
			continue
		}
		if len(told) > 2*maxTold {
			return
		}
		told[id] = k
		if k.err != "" {
			r.Remove(id)
			r.Refuse(id, errors.New(k.err))
		} else {
			r.Put(id, []byte(k.record))
		}
	}
}

// maxTold bounds what is remembered of a service's entries; the Registry takes no more.
const maxTold = 100_000

// why reads the reason of a node that left.
func why(text string) string {
	if text == byHand {
		return byHand
	}
	return deregistered
}

// probe asks again and again whether the agent and a server are there, as long as there are watches. A query that waits
// does not tell.
func (d *Driver) probe() {
	misses := 0
	for {
		if !sleep(d.ctx, probeEvery/2+jitter(probeEvery)) {
			return
		}
		d.mu.Lock()
		if len(d.watches) == 0 {
			d.probing = false
			d.mu.Unlock()
			return
		}
		d.mu.Unlock()
		agent := d.current()
		ctx, cancel := context.WithTimeout(d.ctx, probeTimeout)
		var leader string
		asked := time.Now().UnixNano()
		_, err := d.get(ctx, agent, "/v1/status/leader", nil, &leader)
		cancel()
		busy := errors.Is(err, context.DeadlineExceeded) && d.heard.Load() > asked // it answers others: to begin anew would make that worse
		if err == nil || busy || d.ctx.Err() != nil {
			misses = 0
			continue
		}
		misses++
		if !errors.Is(err, context.DeadlineExceeded) && misses < 2 { // refused: watches find out by themselves
			continue
		}
		d.leaveAgent(agent)
		d.client.CloseIdleConnections()
		d.mu.Lock()
		for w := range d.watches {
			w.cancel(fmt.Errorf("%w at %s: %w", errSilent, agent, err))
		}
		for _, l := range d.held {
			l.rouse()
		}
		d.mu.Unlock()
	}
}

// guard looks after a node's own entry, and asks for a renewal when it changes or is gone.
func (l *lease) guard(ctx context.Context) {
	hash := ""
	for ctx.Err() == nil {
		var s service
		q := url.Values{}
		if hash != "" {
			q = url.Values{"hash": {hash}, "wait": {pollWait.String()}}
		}
		limit, cancel := context.WithTimeout(ctx, requestTimeout+pollWait+pollWait/16)
		_, err := l.d.get(limit, l.agent, "/v1/agent/service/"+l.sid, q, &s)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && s.Meta[ownerKey] == l.d.owner && s.Meta[leftKey] == "":
			hash = s.ContentHash
			continue
		case err == nil, isStatus(err, http.StatusNotFound):
			l.suspect()
		default:
			hash = ""
			l.rouse()
		}
		if !sleep(ctx, time.Second+jitter(time.Second)) {
			return
		}
	}
}

func jitter(bound time.Duration) time.Duration { return time.Duration(rand.Int64N(int64(bound))) }

// sleep waits, and reports whether ctx has not ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

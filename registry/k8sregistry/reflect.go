package k8sregistry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"time"
)

const (
	// watchMin is how long a watch is asked to last at least; at most twice as long.
	watchMin = 5 * time.Minute
	// watchSlack is how much earlier its end may come and still be the one that was asked for, and watchGrace how much later.
	watchSlack, watchGrace = time.Second, 30 * time.Second
	// patience is how long an API server may be gone before watches fail.
	patience = 2 * time.Second
	// pauseMin and pauseMax bound the pause before a list that follows the end of a watch.
	pauseMin, pauseMax = 100 * time.Millisecond, 5 * time.Second
	// steady is how long a watch has to last to count as none that failed.
	steady = 30 * time.Second
)

// sink takes what a resource is, and what becomes of it.
type sink struct {
	// replace takes all objects, apply a change to one: ADDED, MODIFIED or DELETED.
	replace func(all []json.RawMessage)
	apply   func(kind string, raw json.RawMessage)
}

// reflect lists a resource and watches it from there, again and again. It returns when the API server has been out of reach for
// longer than patience, or the first list has failed.
func (d *Driver) reflect(ctx context.Context, r resource, s sink) error {
	var broken time.Time // since when there is neither a watch nor a list; zero = there is
	first, failures := true, 0
	for {
		version, err := d.relist(ctx, r, s, broken)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			first, broken = false, time.Time{}
			began := time.Now()
			if err = d.watchFrom(ctx, r, version, s); ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if failures++; time.Since(began) >= steady {
				failures = 1
			}
			if !sleep(ctx, jitter(min(pauseMin<<min(failures-1, 10), pauseMax))) {
				return context.Cause(ctx)
			}
			if !errors.Is(err, errGone) {
				broken = time.Now()
			}
		case first || !broken.IsZero() && time.Since(broken) >= patience:
			return err
		default:
			if broken.IsZero() {
				broken = time.Now()
			}
			if !sleep(ctx, jitter(300*time.Millisecond)) {
				return context.Cause(ctx)
			}
		}
	}
}

// relist hands over all objects and returns their version. It waits no longer than patience if nothing has worked for a while.
func (d *Driver) relist(ctx context.Context, r resource, s sink, broken time.Time) (string, error) {
	if !broken.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, max(time.Until(broken.Add(patience)), patience/4), errSilent)
		defer cancel()
	}
	var all []json.RawMessage
	version, err := d.list(ctx, r, func(raw []byte) { all = append(all, raw) })
	if err == nil {
		s.replace(all)
	}
	return version, err
}

// watchFrom watches from a version on, by one request after another. It returns why it has to be listed anew.
func (d *Driver) watchFrom(ctx context.Context, r resource, version string, s sink) error {
	for {
		lasts := watchMin + jitter(watchMin)
		began := time.Now()
		err := d.watchOnce(ctx, r, &version, lasts, s)
		if !errors.Is(err, io.EOF) || time.Since(began) < lasts-watchSlack {
			return err
		}
	}
}

// watchOnce watches for a while, and keeps version up to date.
func (d *Driver) watchOnce(ctx context.Context, r resource, version *string, lasts time.Duration, s sink) error {
	ctx, cancel := context.WithTimeoutCause(ctx, lasts+watchGrace, errSilent)
	defer cancel()
	q := r.query()
	q.Set("watch", "1")
	q.Set("allowWatchBookmarks", "true")
	q.Set("resourceVersion", *version)
	q.Set("timeoutSeconds", strconv.Itoa(int(lasts/time.Second)))
	res, err := d.get(ctx, r.path, q, requestTimeout)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	messages := newEvents(res.Body)
	for {
		ev, err := messages.next()
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
		var o struct {
			Metadata meta `json:"metadata"`
		}
		if err := json.Unmarshal(ev.Object, &o); err != nil || o.Metadata.ResourceVersion == "" {
			return fmt.Errorf("a message that is none of Kubernetes': %.40q", ev.Type)
		}
		*version = o.Metadata.ResourceVersion
		switch ev.Type {
		case "ADDED", "MODIFIED", "DELETED":
			s.apply(ev.Type, ev.Object)
		}
	}
}

// jitter returns a random time below a bound.
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

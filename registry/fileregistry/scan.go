package fileregistry

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/hull-go/hull/registry"
)

const (
	maxEntries = 100_000 // names looked at
	maxKept    = 10_000  // files kept open
	maxBad     = 4096    // bad files remembered, so that they are not read again
	maxReports = 64      // bad files reported

	// listEvery bounds how long a change can be missed should both the notification and the directory's time fail.
	listEvery = 2 * time.Second
	// sweepEvery is how often files of services nobody watches are looked at, to clear dead ones away.
	sweepEvery = 5 * time.Minute
	// straggler is how old a temporary file must be to be swept.
	straggler = time.Minute
	// stall is a pause of the scanner that means this process itself was stopped.
	stall = time.Second
	// spacing is the least time between two looks that notifications ask for.
	spacing = 5 * time.Millisecond
	// soon is the pause before a second look at a node that is just deregistering.
	soon = 3 * time.Millisecond
)

// scanner is the one goroutine that looks at the directory for all watches and leases of a driver.
type scanner struct {
	d      *Driver
	events *fsnotify.Watcher // nil = polling alone

	dir      *directory
	changed  time.Time // the directory's own time at the last listing
	again    bool      // list again at the next look
	listed   time.Time
	cost     time.Duration // of the last listing
	swept    time.Time
	last     time.Time         // the last look
	beats    time.Time         // the last look at heartbeats
	services map[string]string // watched: prefix → service
	entries  map[string]*entry
	bad      map[string]os.FileInfo
	reports  int
	dirty    map[string]bool // services whose set has changed
	left     map[string][]registry.Departure
}

func newScanner(d *Driver) *scanner {
	return &scanner{d: d, services: map[string]string{}, entries: map[string]*entry{}, bad: map[string]os.FileInfo{},
		dirty: map[string]bool{}, left: map[string][]registry.Departure{}}
}

// run looks until nothing is watched or held any more.
func (s *scanner) run() {
	defer s.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var events <-chan fsnotify.Event
	var errs <-chan error
	for {
		select {
		case <-timer.C:
		case <-s.d.wake:
		case e := <-events:
			if !s.matters(e) {
				continue
			}
			s.again = true
			// Many events come at once; one look serves them all.
			if wait := spacing - time.Since(s.last); wait > 0 {
				timer.Reset(wait)
				continue
			}
		case err := <-errs:
			s.d.opt.Logger.Debug("fileregistry: notifications may have been lost, looking at everything", "error", err)
			s.again = true
		}
		next, ok := s.look(time.Now())
		if !ok {
			return
		}
		if s.events != nil {
			events, errs = s.events.Events, s.events.Errors
		} else {
			events, errs = nil, nil
		}
		timer.Reset(next)
	}
}

// matters reports whether a notification is more than a heartbeat or somebody else's business.
func (s *scanner) matters(e fsnotify.Event) bool {
	if !e.Has(fsnotify.Create) && !e.Has(fsnotify.Remove) && !e.Has(fsnotify.Rename) {
		return false
	}
	_, node := isNodeFile(filepath.Base(e.Name))
	return node || e.Name == s.dir.path
}

func (s *scanner) close() {
	for _, e := range s.entries {
		_ = e.file.Close()
	}
	s.unsubscribe()
}

// unsubscribe ends the notifications and waits for the goroutine behind them, which closes the channel at its end.
func (s *scanner) unsubscribe() {
	if s.events == nil {
		return
	}
	_ = s.events.Close()
	for range s.events.Events { // drained until it is closed
	}
	s.events = nil
}

// look brings everything up to date and returns when to look again, and false when there is nothing left to do.
func (s *scanner) look(now time.Time) (next time.Duration, ok bool) {
	poll := s.d.opt.Poll
	if gap := now.Sub(s.last); !s.last.IsZero() && gap > poll*10+stall {
		for _, e := range s.entries {
			e.beat = e.beat.Add(gap)
		}
	}
	s.last = now
	leases, fresh, ok := s.demand()
	if !ok {
		return 0, false
	}
	dir, err := s.d.directory()
	if err == nil {
		err = s.follow(dir, fresh, now)
	}
	if err != nil {
		s.fail(err)
		return 10 * poll, true
	}
	for _, l := range leases {
		l.look()
	}
	next = poll
	if s.probe() {
		next = min(next, soon)
	}
	if now.Sub(s.beats) >= 10*poll {
		s.beats = now
		s.heartbeats(now)
	}
	s.publish()
	if len(s.services) == 0 {
		next = 10 * poll
	}
	return next, true
}

// demand takes up what is wanted now; fresh says that a service is new.
func (s *scanner) demand() (leases []*lease, fresh, ok bool) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	if s.d.closed || len(s.d.subs)+len(s.d.leases) == 0 {
		s.d.scanning = false
		return nil, false, false
	}
	wanted := make(map[string]string, len(s.services))
	for sub := range s.d.subs {
		p := prefix(sub.service)
		wanted[p] = sub.service
		if _, known := s.services[p]; !known {
			fresh = true
		}
		if !sub.ready {
			s.dirty[sub.service] = true
		}
	}
	for name, e := range s.entries {
		if p, _ := isNodeFile(name); wanted[p] == "" {
			_ = e.file.Close()
			delete(s.entries, name)
		}
	}
	s.services = wanted
	return slices.Collect(maps.Keys(s.d.leases)), fresh, true
}

// follow lists the directory if it may have changed.
func (s *scanner) follow(dir *directory, fresh bool, now time.Time) error {
	if dir != s.dir {
		s.dir, fresh = dir, true
		s.subscribe()
	}
	changed, err := dir.modified()
	if err != nil {
		return explain(dir.path, err)
	}
	moved := !changed.Equal(s.changed)
	if !fresh && !moved && !s.again && now.Sub(s.listed) < listEvery {
		return nil
	}
	// A directory full of junk must not keep a core busy.
	if !fresh && now.Sub(s.listed) < 10*s.cost {
		s.again = true
		return nil
	}
	// Two changes within one tick of the file system's clock look like one, so look once more after each.
	s.changed, s.again, s.listed = changed, moved, now
	err = s.list(now)
	s.cost = time.Since(now)
	return err
}

// subscribe asks for notifications, where they cost one descriptor and not one per file.
func (s *scanner) subscribe() {
	s.unsubscribe()
	if s.d.pollOnly || runtime.GOOS != "linux" && runtime.GOOS != "windows" {
		return
	}
	w, err := fsnotify.NewBufferedWatcher(64)
	if err == nil {
		if err = w.Add(s.dir.path); err != nil {
			_ = w.Close()
		}
	}
	if err != nil {
		s.d.opt.Logger.Debug("fileregistry: no notifications, polling alone", "dir", s.dir.path, "error", err)
		return
	}
	s.events = w
}

// list takes up what is in the directory.
func (s *scanner) list(now time.Time) error {
	sweep := now.Sub(s.swept) >= sweepEvery
	if sweep {
		s.swept = now
	}
	seen := make(map[string]bool, len(s.entries))
	var names, others []string
	more, err := s.dir.names(maxEntries, func(name string) {
		p, ok := isNodeFile(name)
		if ok && s.services[p] != "" {
			names = append(names, name)
			seen[name] = true
		} else if sweep {
			others = append(others, name)
		}
	})
	if err != nil {
		return explain(s.dir.path, err)
	}
	if more {
		s.report(s.dir.path, fmt.Errorf("more than %d files: the rest is ignored", maxEntries))
	}
	for _, name := range names {
		s.take(name)
	}
	for name, e := range s.entries {
		e.unlinked = e.unlinked || !seen[name]
	}
	for name := range s.bad {
		if !seen[name] {
			delete(s.bad, name)
		}
	}
	for _, name := range others {
		s.sweep(name, now)
	}
	return nil
}

// take takes up one name of a watched service.
func (s *scanner) take(name string) {
	old := s.entries[name]
	fi, err := s.dir.root.Lstat(name)
	if err != nil {
		return // gone again: the next listing tells
	}
	if old != nil && os.SameFile(fi, old.info) {
		old.unlinked = false
		return
	}
	if b := s.bad[name]; b != nil && os.SameFile(b, fi) && b.ModTime().Equal(fi.ModTime()) && b.Size() == fi.Size() {
		return
	}
	if old == nil && len(s.entries) >= maxKept {
		s.report(name, fmt.Errorf("more than %d nodes: the rest is ignored", maxKept))
		return
	}
	e, err := s.d.read(s.dir, name)
	if errors.Is(err, os.ErrNotExist) {
		s.again = true
		return
	}
	if err != nil {
		s.reject(name, fi, err)
		if old != nil { // something that is no node is in its place
			s.forget(old)
		}
		return
	}
	if old != nil {
		_ = old.file.Close()
		if e.node.Equal(old.node) {
			e.node = old.node
		}
	}
	s.entries[name] = e
	s.dirty[e.node.Service] = true
}

// reject remembers a bad file and reports it once.
func (s *scanner) reject(name string, fi os.FileInfo, err error) {
	if len(s.bad) >= maxBad {
		clear(s.bad)
	}
	s.bad[name] = fi
	s.report(name, err)
}

func (s *scanner) report(name string, err error) {
	if s.reports++; s.reports <= maxReports {
		s.d.opt.Logger.Warn("fileregistry: skipped", "file", fmt.Sprintf("%.100q", name), "error", err)
	}
}

// sweep clears a dead file of a service nobody watches, or a forgotten temporary one, away.
func (s *scanner) sweep(name string, now time.Time) {
	if _, ok := isNodeFile(name); ok {
		if e, err := s.d.read(s.dir, name); err == nil {
			e.alive(s.dir)
			_ = e.file.Close()
		}
		return
	}
	if name[0] != '.' || len(name) < len(tempSuffix) || name[len(name)-len(tempSuffix):] != tempSuffix {
		return
	}
	f, fi, err := s.dir.open(name)
	if err != nil {
		return
	}
	defer f.Close()
	if uid, known := owner(fi); known && uid != os.Geteuid() {
		return
	}
	// Its age is by two clocks, but the worst that comes of it is that somebody's registration has to be tried again.
	if free, err := isFree(f.Fd()); err == nil && free && now.Sub(fi.ModTime()) > straggler {
		_ = s.dir.root.Remove(name)
	}
}

// publish hands the changed sets to those who watch.
func (s *scanner) publish() {
	if len(s.dirty) == 0 {
		return
	}
	sets := make(map[string][]*registry.Node, len(s.dirty))
	for _, e := range s.entries {
		if s.dirty[e.node.Service] && !e.hung {
			sets[e.node.Service] = append(sets[e.node.Service], e.node)
		}
	}
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	for sub := range s.d.subs {
		if s.dirty[sub.service] {
			sub.ready, sub.nodes = true, slices.Clone(sets[sub.service])
			sub.left = append(sub.left, s.left[sub.service]...)
			sub.notify()
		}
	}
	clear(s.dirty)
	clear(s.left)
}

// fail ends every watch: the Registry keeps what it has and comes back.
func (s *scanner) fail(err error) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	for sub := range s.d.subs {
		sub.err = err
		sub.notify()
	}
}

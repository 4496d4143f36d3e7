package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

const (
	// believed is how long what is on disk counts.
	believed = 24 * time.Hour
	// saveEvery spaces the writes of one service; resaveEvery renews the date of a set that does not change.
	saveEvery   = time.Second
	resaveEvery = time.Hour
	maxSnapshot = 32 << 20 // bytes of one file
	maxFiles    = 4096
)

// disk keeps the last good set of each service in one file.
type disk struct{ root *os.Root }

// snapshotFile is what such a file holds.
type snapshotFile struct {
	Service string    `json:"service"`
	Saved   time.Time `json:"saved"`
	Nodes   []*Node   `json:"nodes"`
}

func openDisk(dir string) (*disk, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &disk{root: root}, nil
}

func fileName(service string) string { return EscapeName(service) + ".nodes" }

func (d *disk) load(service string, now time.Time) ([]*Node, error) {
	name := fileName(service)
	if fi, err := d.root.Lstat(name); err != nil || !fi.Mode().IsRegular() || fi.Size() > maxSnapshot {
		if err == nil {
			err = errors.New("not a regular file of a reasonable size")
		}
		return nil, err
	}
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSnapshot+1))
	if err != nil {
		return nil, err
	}
	return decodeSnapshot(data, service, now)
}

// decodeSnapshot reads a snapshot file; entries that do not validate are left out.
func decodeSnapshot(data []byte, service string, now time.Time) ([]*Node, error) {
	if len(data) > maxSnapshot {
		return nil, errors.New("too large")
	}
	var s snapshotFile
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, err
	}
	if s.Service != service {
		return nil, fmt.Errorf("it is about service %.40q", s.Service)
	}
	if age := now.Sub(s.Saved); age > believed || age < -believed {
		return nil, fmt.Errorf("it is from %s: too old to be believed", s.Saved.Format(time.RFC3339))
	}
	var nodes []*Node
	for _, n := range s.Nodes {
		if n != nil && n.Service == service && n.Validate() == nil && len(nodes) < maxNodes {
			nodes = append(nodes, n)
		}
	}
	return nodes, nil
}

// store replaces the service's file as a whole, or leaves the old one.
func (d *disk) store(service string, nodes []*Node, now time.Time) error {
	data, err := json.Marshal(snapshotFile{Service: service, Saved: now.Round(0), Nodes: nodes})
	if err != nil {
		return err
	}
	if len(data) > maxSnapshot {
		return fmt.Errorf("the set of nodes has %d bytes, more than %d", len(data), maxSnapshot)
	}
	name := fileName(service)
	if _, err := d.root.Lstat(name); err != nil && d.full() {
		return fmt.Errorf("%s holds %d snapshots already", d.root.Name(), maxFiles)
	}
	temp := fmt.Sprintf("%s.%d.tmp", name, os.Getpid())
	err = d.root.WriteFile(temp, data, 0o600)
	if err == nil {
		err = d.root.Rename(temp, name)
	}
	if err != nil {
		_ = d.root.Remove(temp)
	}
	return err
}

func (d *disk) full() bool {
	f, err := os.Open(filepath.Clean(d.root.Name()))
	if err != nil {
		return false
	}
	defer f.Close()
	list, _ := f.Readdirnames(maxFiles)
	return len(list) >= maxFiles
}

// remember reads the service's file; it is shown only if the engine does not answer soon.
func (w *watch) remember() {
	nodes, err := w.r.disk.load(w.name, time.Now())
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			w.r.opt.Logger.Warn("registry: snapshot ignored", "service", w.name, "error", err)
		}
		return
	}
	w.mu.Lock()
	w.fromDisk = nodes
	w.mu.Unlock()
	w.r.touch(w)
}

// save writes the set to disk if it has changed or its date is old, and returns when to do so; zero = no need.
func (w *watch) save(now time.Time, last bool) time.Time {
	if w.r.disk == nil {
		return time.Time{}
	}
	w.mu.Lock()
	if !w.b.answered || w.err != nil || len(w.b.entries) == w.b.absent && w.b.absent > 0 {
		w.mu.Unlock()
		return time.Time{}
	}
	due := w.savedAt.Add(resaveEvery)
	if w.unsaved {
		due = w.savedAt.Add(saveEvery)
	}
	if due.After(now) && !(last && w.unsaved) {
		w.mu.Unlock()
		return due
	}
	w.savedAt, w.unsaved = now, false
	nodes := make([]*Node, 0, len(w.b.entries))
	for _, e := range w.b.entries {
		nodes = append(nodes, e.node)
	}
	w.mu.Unlock()
	if err := w.r.disk.store(w.name, nodes, now); err != nil {
		w.complain("", fmt.Errorf("the snapshot cannot be written: %w", err))
	}
	return now.Add(resaveEvery)
}

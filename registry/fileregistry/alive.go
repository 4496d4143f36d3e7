package fileregistry

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/hull-go/hull/registry"
)

// entry is the file of one node, kept open.
type entry struct {
	name string
	file *os.File
	fd   uintptr
	info os.FileInfo
	node *registry.Node
	ttl  time.Duration

	mtime time.Time // by the file system's clock, compared for equality only
	beat  time.Time // when mtime was last seen to change, by this process's monotonic clock
	hung  bool
	// unlinked: its name is gone or leads elsewhere, and yet its lock was held.
	unlinked bool
}

// read opens and reads a node's file.
func (d *Driver) read(dir *directory, name string) (*entry, error) {
	f, fi, err := dir.open(name)
	if err != nil {
		return nil, err
	}
	e := &entry{name: name, file: f, fd: f.Fd(), info: fi, mtime: fi.ModTime(), beat: time.Now()}
	err = d.fill(e)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return e, nil
}

func (d *Driver) fill(e *entry) error {
	if uid, known := owner(e.info); known && !d.opt.Shared && uid != os.Geteuid() {
		return fmt.Errorf("it belongs to user %d", uid)
	}
	if e.info.Size() > maxFile {
		return fmt.Errorf("%d bytes: at most %d are read", e.info.Size(), maxFile)
	}
	data, err := io.ReadAll(io.LimitReader(e.file, maxFile+1))
	if err != nil {
		return err
	}
	r, err := decode(e.name, data)
	if err != nil {
		return err
	}
	e.node, e.ttl = r.Node, r.ttl
	return nil
}

// alive reports whether the node's process lives; if not, and the name still leads to this file, it is removed.
func (e *entry) alive(dir *directory) bool {
	if free, err := isFree(e.fd); err != nil || !free {
		return true
	}
	if same, _ := dir.is(e.name, e.info); same {
		_ = dir.root.Remove(e.name)
	}
	return false
}

// probe asks of every node whether its process lives. It returns true if one is just going.
func (s *scanner) probe() (going bool) {
	for name, e := range s.entries {
		free, err := isFree(e.fd)
		if err != nil || !free {
			// Held, though its name is gone: it is deregistering, or somebody else took its file away.
			going = going || e.unlinked && time.Since(s.listed) < 10*soon
			continue
		}
		same, exists := s.dir.is(name, e.info)
		if exists && !same {
			s.again, going = true, true // updated or restarted: the listing takes the new file up
			continue
		}
		if !exists && !s.dir.current() {
			going = true // the directory itself was replaced just now: its node may have moved to the new one
			continue
		}
		why := "it deregistered, or its process died and somebody else cleared its file away"
		if same {
			why = "its process died"
			if err := s.dir.root.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
				s.reject(name, e.info, fmt.Errorf("its process died, and the file cannot be removed: %w", err))
			}
		}
		s.left[e.node.Service] = append(s.left[e.node.Service], registry.Departure{ID: e.node.ID, Why: why})
		s.forget(e)
	}
	return going
}

func (s *scanner) forget(e *entry) {
	_ = e.file.Close()
	delete(s.entries, e.name)
	s.dirty[e.node.Service] = true
}

// heartbeats finds the nodes that hang.
func (s *scanner) heartbeats(now time.Time) {
	for _, e := range s.entries {
		fi, err := e.file.Stat()
		if err != nil {
			continue
		}
		if t := fi.ModTime(); !t.Equal(e.mtime) {
			e.mtime, e.beat = t, now
		}
		if hung := now.Sub(e.beat) > e.ttl; hung != e.hung {
			e.hung = hung
			s.dirty[e.node.Service] = true
		}
	}
}

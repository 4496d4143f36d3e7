package fileregistry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/hull-go/hull/registry"
)

// Announce writes the node's file and holds its lock until the lease ends or the process does.
func (d *Driver) Announce(ctx context.Context, n *registry.Node, ttl time.Duration) (registry.Lease, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if ttl < minTTL || ttl > maxTTL {
		return nil, fmt.Errorf("fileregistry: a TTL of %v: choose one from %v to %v", ttl, minTTL, maxTTL)
	}
	dir, err := d.directory()
	if err != nil {
		return nil, err
	}
	name := fileName(n.Service, n.ID)
	if err := taken(dir, name); err != nil {
		return nil, err
	}
	l := &lease{d: d, name: name, ttl: ttl, lost: make(chan struct{}), dir: dir, node: n}
	if l.file, l.info, err = d.write(dir, name, n, ttl); err != nil {
		return nil, err
	}
	if err := d.hold(l); err != nil {
		l.end(true)
		return nil, err
	}
	return l, nil
}

// Deregister removes a node's file if its process is dead; the file of a living one is ErrAlive.
func (d *Driver) Deregister(ctx context.Context, service, id string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	dir, err := d.directory()
	if err != nil {
		return err
	}
	name := fileName(service, id)
	if taken(dir, name) != nil {
		return registry.ErrAlive
	}
	if err := dir.root.Remove(name); errors.Is(err, os.ErrNotExist) {
		return registry.ErrUnknown
	} else if err != nil {
		return explain(d.dir, err)
	}
	d.rouse()
	return nil
}

// taken returns ErrTaken if a living process holds the file of that name.
func taken(dir *directory, name string) error {
	f, _, err := dir.open(name)
	if err != nil {
		return nil //nolint:nilerror // there is none, or it is no node's file and is replaced
	}
	defer f.Close()
	if free, err := isFree(f.Fd()); err == nil && !free {
		return fmt.Errorf("fileregistry: %s: %w", name, registry.ErrTaken)
	}
	return nil
}

// write puts a new file in the place of name. It is complete and locked before it gets that name, so whoever finds it
// finds a living node, and it is the very inode they open.
func (d *Driver) write(dir *directory, name string, n *registry.Node, ttl time.Duration) (*os.File, os.FileInfo, error) {
	data, err := encode(n, ttl)
	if err != nil {
		return nil, nil, fmt.Errorf("fileregistry: %w", err)
	}
	mode := os.FileMode(0o600)
	if d.opt.Shared {
		mode = 0o644
	}
	temp := "." + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatUint(d.temp.Add(1), 10) + "-" + d.token + tempSuffix
	f, err := dir.root.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return nil, nil, explain(dir.path, err)
	}
	if d.opt.Shared {
		err = f.Chmod(mode) // past the umask
	}
	if err == nil {
		if err = tryLock(f); err != nil {
			err = fmt.Errorf("its file system cannot lock files: choose another directory: %w", err)
		}
	}
	if err == nil {
		_, err = f.Write(data)
	}
	var info os.FileInfo
	if err == nil {
		info, err = f.Stat()
	}
	if err == nil {
		err = dir.root.Rename(temp, name)
	}
	if err != nil {
		_ = f.Close()
		_ = dir.root.Remove(temp)
		return nil, nil, explain(dir.path, err)
	}
	return f, info, nil
}

// lease is one node's file.
type lease struct {
	d    *Driver
	name string
	ttl  time.Duration

	mu   sync.Mutex
	node *registry.Node
	dir  *directory
	file *os.File // keeps the lock; nil once the lease has ended
	info os.FileInfo
	lost chan struct{} // closed when the file is not where it belongs; a new one once it is again
	told bool          // lost is closed
}

// Lost is closed when the file is gone or is another's: a renewal puts it back.
func (l *lease) Lost() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// Renew is the heartbeat: it sets the file's time. That takes no room, so it works on a full disk. A file that is no
// longer where it belongs is written anew.
func (l *lease) Renew(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return registry.ErrLost
	}
	if !l.inPlace() {
		return l.mend(l.node)
	}
	now := time.Now()
	if err := l.dir.root.Chtimes(l.name, now, now); err != nil && !errors.Is(err, os.ErrNotExist) {
		return explain(l.dir.path, err)
	}
	return nil
}

// Update replaces the file by a new one. If that fails the old one stays.
func (l *lease) Update(ctx context.Context, n *registry.Node) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.file == nil:
		return registry.ErrLost
	case !l.inPlace():
		return l.mend(n)
	}
	return l.replace(l.dir, n)
}

// Close removes the file, then gives the lock up.
func (l *lease) Close(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.end(true)
	}
	return nil
}

// inPlace reports whether the file is where it belongs; l.mu is held.
func (l *lease) inPlace() bool {
	same, _ := l.dir.is(l.name, l.info)
	return same && l.dir.current()
}

// mend writes the file anew after somebody took it away, or its directory. A living node in its place ends the lease.
func (l *lease) mend(n *registry.Node) error {
	dir, err := l.d.directory()
	if err != nil {
		return err
	}
	if taken(dir, l.name) != nil {
		l.end(false)
		return fmt.Errorf("fileregistry: the file %s is another's: %w", l.name, registry.ErrLost)
	}
	if err := l.replace(dir, n); err != nil {
		return err
	}
	if l.told {
		l.lost, l.told = make(chan struct{}), false
	}
	return nil
}

// replace puts a new file in the place of the old one, whose lock it keeps until then, so that nobody takes the node
// for dead.
func (l *lease) replace(dir *directory, n *registry.Node) error {
	file, info, err := l.d.write(dir, l.name, n, l.ttl)
	if err != nil {
		return err
	}
	_ = l.file.Close()
	l.dir, l.file, l.info, l.node = dir, file, info, n
	return nil
}

// end gives the lock up, and removes the file first if asked to; l.mu is held.
func (l *lease) end(remove bool) {
	if remove {
		if same, _ := l.dir.is(l.name, l.info); same {
			_ = l.dir.root.Remove(l.name)
		}
	}
	_ = l.file.Close()
	l.file = nil
	l.d.letGo(l)
}

// look closes lost if the file is not where it belongs. The scanner calls it.
func (l *lease) look() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil && !l.told && !l.inPlace() {
		l.told = true
		close(l.lost)
	}
}

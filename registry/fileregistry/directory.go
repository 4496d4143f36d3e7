package fileregistry

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hull-go/hull/registry"
)

// DefaultDir is the directory of the current user on the current machine: "hull/nodes-<machine>" in os.UserCacheDir,
// or "hull-<user>/nodes-<machine>" in os.TempDir for a user without a home. The machine is in it because homes are
// shared between machines. It looks at the environment only through these two functions of os, and unlike
// XDG_RUNTIME_DIR it is the same in a login, in a cron job and in a service.
func DefaultDir() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "local"
	}
	nodes := "nodes-" + registry.EscapeName(host)
	if dir, err := os.UserCacheDir(); err == nil && filepath.IsAbs(dir) {
		return filepath.Join(dir, "hull", nodes)
	}
	return filepath.Join(os.TempDir(), "hull-"+strconv.Itoa(os.Getuid()), nodes)
}

// directory is the directory as it was opened; it may have been deleted and made anew since.
type directory struct {
	path string
	root *os.Root
	info os.FileInfo
}

// openDirectory opens path and makes it first if need be.
func openDirectory(path string, shared bool) (*directory, error) {
	mode := os.FileMode(0o700)
	if shared {
		mode = 0o777 | os.ModeSticky
	}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, explain(path, err)
		}
		switch err := os.Mkdir(path, mode); {
		case err == nil && shared:
			err = os.Chmod(path, mode) // past the umask
			if err != nil {
				return nil, explain(path, err)
			}
		case err != nil && !errors.Is(err, os.ErrExist):
			return nil, explain(path, err)
		}
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, explain(path, err)
	}
	info, err := root.Stat(".")
	if err == nil {
		err = trusted(path, info, shared)
	}
	if err != nil {
		_ = root.Close()
		return nil, err
	}
	return &directory{path: path, root: root, info: info}, nil
}

// trusted returns an error if others can put files into a directory that is meant for one user.
func trusted(path string, info os.FileInfo, shared bool) error {
	uid, known := owner(info)
	if !known || shared {
		return nil
	}
	if uid != os.Geteuid() {
		return fmt.Errorf("registry directory %s belongs to user %d: give every user one of their own, or open it as shared", path, uid)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("registry directory %s can be written by others: chmod 700 it, or open it as shared", path)
	}
	return nil
}

// current reports whether path still leads to this directory.
func (d *directory) current() bool {
	fi, err := os.Stat(d.path)
	return err == nil && os.SameFile(fi, d.info)
}

// modified returns when an entry was last added or removed, by the file system's clock.
func (d *directory) modified() (time.Time, error) {
	fi, err := d.root.Stat(".")
	if err != nil {
		return time.Time{}, err
	}
	return fi.ModTime(), nil
}

// names calls f with the name of each entry, up to limit of them, and reports whether there are more.
func (d *directory) names(limit int, f func(string)) (more bool, err error) {
	dir, err := d.root.Open(".")
	if err != nil {
		return false, err
	}
	defer dir.Close()
	for seen := 0; ; {
		batch, err := dir.Readdirnames(1024)
		for _, name := range batch {
			f(name)
		}
		if seen += len(batch); seen >= limit {
			return true, nil
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
}

var errNotRegular = errors.New("not a regular file")

// open opens an entry for reading if it is a regular file, without following a link and without hanging.
func (d *directory) open(name string) (*os.File, os.FileInfo, error) {
	before, err := d.root.Lstat(name)
	if err != nil {
		return nil, nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, before, errNotRegular
	}
	f, err := d.root.OpenFile(name, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, before, err
	}
	fi, err := f.Stat()
	if err == nil && !os.SameFile(before, fi) {
		err = os.ErrNotExist // replaced in between: the next look finds the new one
	}
	if err != nil {
		_ = f.Close()
		return nil, before, err
	}
	return f, fi, nil
}

// is reports whether the entry is the file that info is of.
func (d *directory) is(name string, info os.FileInfo) (same, exists bool) {
	fi, err := d.root.Lstat(name)
	if err != nil {
		return false, !errors.Is(err, os.ErrNotExist)
	}
	return os.SameFile(fi, info), true
}

// explain makes an error of the file system say what to do.
func explain(path string, err error) error {
	for _, full := range diskFull {
		if errors.Is(err, full) {
			return fmt.Errorf("registry directory %s is on a full disk: make room, or choose another: %w", path, err)
		}
	}
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("registry directory %s is not writable: choose another: %w", path, err)
	}
	return fmt.Errorf("registry directory %s: %w", path, err)
}

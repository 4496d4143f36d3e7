package supervise

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const dirPrefix = "hull-demo-"

// MakeDir makes a directory for one run of the demo below parent (empty = the system's temporary directory), and removes
// those that earlier runs left behind because they were killed. remove removes it.
func MakeDir(parent string) (dir string, remove func(), err error) {
	if parent == "" {
		parent = os.TempDir()
	}
	sweep(parent)
	dir, err = os.MkdirTemp(parent, fmt.Sprintf("%s%d-", dirPrefix, os.Getpid()))
	if err != nil {
		return "", nil, fmt.Errorf("making a directory for the demo's data: %w", err)
	}
	return dir, func() { os.RemoveAll(dir) }, nil
}

// sweep removes the directories of processes that are gone. A process id that is in use again keeps its directory until
// the next time.
func sweep(parent string) {
	found, err := filepath.Glob(filepath.Join(parent, dirPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range found {
		id, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), dirPrefix), "-")
		if pid, err := strconv.Atoi(id); err == nil && pid > 0 && !alive(pid) {
			os.RemoveAll(dir)
		}
	}
}

package fileregistry

import "github.com/hull-go/hull/registry"

// PollOnly makes the driver do without notifications.
func (d *Driver) PollOnly() { d.pollOnly = true }

// Crash drops the lock of every lease and leaves the files, as the end of the process would.
func (d *Driver) Crash() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for l := range d.leases {
		l.mu.Lock()
		_ = l.file.Close()
		l.file = nil
		l.mu.Unlock()
		delete(d.leases, l)
	}
}

var _ registry.LossNotifier = (*lease)(nil)

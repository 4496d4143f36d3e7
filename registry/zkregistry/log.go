package zkregistry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/hull-go/hull/registry"
)

// Why a node left, as the log says. Others are read as deregistered.
const (
	deregistered = "deregistered"
	byHand       = "deregistered by hand"
)

const (
	logFormat = 1
	// maxLog is how many departures a service's data hold: those that a watcher may be late for.
	maxLog = 256
	// removeTries is how often a departure is written while others write theirs; then the node leaves without a word.
	removeTries = 8
)

// departures is the log of a service.
type departures struct {
	Hull int     `json:"hull"`
	Left []entry `json:"left"` // the oldest first
}

// entry says that a znode was deleted on purpose.
type entry struct {
	ID      string `json:"id"`
	Created int64  `json:"created"` // the transaction that made the znode
	Why     string `json:"why"`
}

// decodeLog reads a service's data; what is none of ours is as good as nothing.
func decodeLog(b []byte) []entry {
	var d departures
	if json.Unmarshal(b, &d) != nil || d.Hull != logFormat {
		return nil
	}
	for i, e := range d.Left {
		if registry.ValidName("node id", e.ID) != nil {
			return nil
		}
		if e.Why != byHand {
			d.Left[i].Why = deregistered
		}
	}
	return d.Left
}

// encodeLog appends a departure to a log.
func encodeLog(old []entry, e entry) ([]byte, error) {
	left := append(old, e)
	return json.Marshal(departures{Hull: logFormat, Left: left[max(0, len(left)-maxLog):]})
}

// remove deletes a node's znode and writes down why, in one transaction. created is the znode's own; 0 = any. It
// reports whether there was one.
func (d *Driver) remove(ctx context.Context, l *link, service, id, why string, created int64) (bool, error) {
	path, parent := d.nodePath(service, id), d.servicePath(service)
	for try := 1; ; try++ {
		log, err := read(ctx, l, func(c *zk.Conn) (data, error) {
			b, stat, err := c.Get(parent)
			return data{b, stat}, err
		})
		if errors.Is(err, zk.ErrNoNode) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		node, err := read(ctx, l, func(c *zk.Conn) (*zk.Stat, error) {
			exists, stat, err := c.Exists(path)
			if !exists {
				stat = nil
			}
			return stat, err
		})
		if err != nil {
			return false, err
		}
		if node == nil || created != 0 && node.Czxid != created {
			return false, nil
		}
		text, err := encodeLog(decodeLog(log.value), entry{ID: id, Created: node.Czxid, Why: why})
		if err != nil {
			return false, err
		}
		_, err = ask(ctx, l, func(c *zk.Conn) (struct{}, error) {
			if try > removeTries {
				return struct{}{}, c.Delete(path, node.Version)
			}
			_, err := c.Multi(&zk.SetDataRequest{Path: parent, Data: text, Version: log.stat.Version},
				&zk.DeleteRequest{Path: path, Version: node.Version})
			return struct{}{}, err
		})
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, zk.ErrNotEmpty):
			return false, fmt.Errorf("there are znodes below %s: remove them first", path)
		case !errors.Is(err, zk.ErrBadVersion) && !errors.Is(err, zk.ErrNoNode):
			return false, err
		}
		select { // others were faster
		case <-time.After(time.Duration(rand.Int64N(int64(time.Duration(try) * 5 * time.Millisecond)))):
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

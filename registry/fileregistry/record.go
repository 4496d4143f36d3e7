package fileregistry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hull-go/hull/registry"
)

const (
	format     = 1
	suffix     = ".node"
	tempSuffix = ".tmp"
	// maxFile bounds what is read of one file, in bytes.
	maxFile        = 1 << 20
	minTTL, maxTTL = 10 * time.Millisecond, 24 * time.Hour
)

// record is what a file holds.
type record struct {
	// Hull is the version of the format.
	Hull int `json:"hull"`
	// TTL is how long the file may go without a heartbeat, as time.Duration writes it.
	TTL  string         `json:"ttl"`
	Node *registry.Node `json:"node"`

	ttl time.Duration
}

func encode(n *registry.Node, ttl time.Duration) ([]byte, error) {
	data, err := json.Marshal(record{Hull: format, TTL: ttl.String(), Node: n})
	if err == nil && len(data) >= maxFile {
		err = fmt.Errorf("the node says too much about itself: %d bytes of at most %d", len(data), maxFile)
	}
	return append(data, '\n'), err
}

// decode reads the file of that name. What it returns is valid.
func decode(name string, data []byte) (*record, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("more than %d bytes", maxFile)
	}
	var r record
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&r); err != nil {
		return nil, fmt.Errorf("not a node: %w", err)
	}
	if dec.More() {
		return nil, errors.New("more than one JSON value")
	}
	if r.Hull != format {
		return nil, fmt.Errorf("format %d: only %d is known", r.Hull, format)
	}
	if r.Node == nil {
		return nil, errors.New("no node in it")
	}
	if err := r.Node.Validate(); err != nil {
		return nil, err
	}
	var err error
	if r.ttl, err = time.ParseDuration(r.TTL); err != nil || r.ttl < minTTL || r.ttl > maxTTL {
		return nil, fmt.Errorf("ttl %.20q: a duration from %v to %v", r.TTL, minTTL, maxTTL)
	}
	if want := fileName(r.Node.Service, r.Node.ID); want != name {
		return nil, fmt.Errorf("it holds another node: that one's name is %s", want)
	}
	return &r, nil
}

// fileName is the file of a node: its service and ID, escaped, around an @.
func fileName(service, id string) string { return prefix(service) + registry.EscapeName(id) + suffix }

// prefix is what the names of all files of a service begin with.
func prefix(service string) string { return registry.EscapeName(service) + "@" }

// isNodeFile reports whether a name can be that of a node, and returns the service's prefix.
func isNodeFile(name string) (prefix string, ok bool) {
	i := strings.IndexByte(name, '@')
	if i <= 0 || !strings.HasSuffix(name, suffix) || name[0] == '.' {
		return "", false
	}
	return name[:i+1], true
}

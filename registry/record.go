package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

const (
	recordFormat = 1
	// MaxRecord is how long a node's record may be, in bytes.
	MaxRecord = 1 << 20
)

// record is how engines keep a node.
type record struct {
	// Hull is the version of the format.
	Hull int   `json:"hull"`
	Node *Node `json:"node"`
}

// EncodeNode returns a node's record: the JSON that drivers keep as the value of its entry.
func EncodeNode(n *Node) ([]byte, error) {
	data, err := json.Marshal(record{Hull: recordFormat, Node: n})
	if err == nil && len(data) > MaxRecord {
		err = fmt.Errorf("the node says too much about itself: %d bytes of at most %d", len(data), MaxRecord)
	}
	return data, err
}

// DecodeNode reads the record of a node whose entry is that of a service and an ID. What it returns is valid, and is
// that node. Fields it does not know are left out, so that newer programs may write more.
func DecodeNode(service, id string, data []byte) (*Node, error) {
	if len(data) > MaxRecord {
		return nil, fmt.Errorf("%d bytes of at most %d", len(data), MaxRecord)
	}
	var r record
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&r); err != nil {
		return nil, fmt.Errorf("not a node: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("not a node: something follows the JSON value")
	}
	if r.Hull != recordFormat {
		return nil, fmt.Errorf("format %d: only %d is known", r.Hull, recordFormat)
	}
	if r.Node == nil {
		return nil, errors.New("no node in it")
	}
	if r.Node.Service != service || r.Node.ID != id {
		return nil, fmt.Errorf("it holds another node: %.40q of %.40q", r.Node.ID, r.Node.Service)
	}
	if err := r.Node.Validate(); err != nil {
		return nil, err
	}
	return r.Node, nil
}

package consulregistry

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/hull-go/hull/registry"
)

// The keys of meta data.
const (
	idKey    = "hull-id"
	ownerKey = "hull-owner"
	leftKey  = "hull-left"
	// pieceKey is followed by two digits.
	pieceKey = "hull-"
	// tagPrefix is followed by the service's name.
	tagPrefix = "hull:"
)

// What Consul takes: 64 keys with values of at most 512 bytes.
const maxPieces, maxPiece = 60, 512

// Why a node left, as its meta data say. Others are read as deregistered.
const (
	deregistered = "deregistered"
	byHand       = "deregistered by hand"
)

func (d *Driver) serviceName(service string) string {
	return d.opt.Prefix + registry.EscapeName(service)
}

// serviceID is what Consul calls a node; it is unique within an agent.
func (d *Driver) serviceID(service, id string) string {
	return d.serviceName(service) + ":" + registry.EscapeName(id)
}

// encode makes a service of a node.
func (d *Driver) encode(n *registry.Node) (*service, error) {
	record, err := registry.EncodeNode(n)
	if err != nil {
		return nil, err
	}
	pieces := split(string(record))
	if len(pieces) > maxPieces {
		var b bytes.Buffer
		w, err := flate.NewWriter(&b, flate.BestCompression)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(record); err != nil {
			return nil, err
		}
		if err := w.Close(); err != nil {
			return nil, err
		}
		pieces = split(base64.RawStdEncoding.EncodeToString(b.Bytes()))
	}
	if len(pieces) > maxPieces {
		return nil, fmt.Errorf("the node says too much about itself: compressed it has more than the %d bytes that Consul takes", maxPieces*maxPiece)
	}
	host, port, err := net.SplitHostPort(n.Address)
	if err != nil {
		return nil, err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	s := &service{ID: d.serviceID(n.Service, n.ID), Name: d.serviceName(n.Service), Tags: []string{tagPrefix + n.Service},
		Address: host, Port: number, Meta: map[string]string{idKey: n.ID, ownerKey: d.owner},
		Weights: &weights{Passing: min(n.EffectiveWeight(), 65_535), Warning: 1}}
	for i, p := range pieces {
		s.Meta[fmt.Sprintf("%s%02d", pieceKey, i)] = p
	}
	return s, nil
}

// split cuts a text into pieces that Consul takes, between its letters.
func split(text string) []string {
	var pieces []string
	for len(text) > maxPiece {
		n := maxPiece
		for n > 0 && !utf8.RuneStart(text[n]) {
			n--
		}
		if n == 0 { // it is no text
			n = maxPiece
		}
		pieces, text = append(pieces, text[:n]), text[n:]
	}
	return append(pieces, text)
}

// join undoes split and compression.
func join(meta map[string]string) ([]byte, error) {
	var b strings.Builder
	for i := range maxPieces {
		piece, ok := meta[fmt.Sprintf("%s%02d", pieceKey, i)]
		if !ok {
			break
		}
		b.WriteString(piece)
	}
	text := b.String()
	if text == "" || text[0] == '{' {
		return []byte(text), nil
	}
	compressed, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("neither JSON nor base64")
	}
	record, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(compressed)), registry.MaxRecord+1))
	if err != nil {
		return nil, errors.New("not compressed as it should be")
	}
	return record, nil
}

// entry returns the name of an entry in complaints, and what may be read of it.
func (d *Driver) entry(service string, h *health) (id string, record []byte, err error) {
	id, ours := h.Service.Meta[idKey]
	if !ours {
		return d.foreign(service, h)
	}
	if registry.ValidName("node id", id) != nil || d.serviceID(service, id) != h.Service.ID {
		return h.Service.ID, nil, errors.New("its hull-id is none that goes with its ID")
	}
	record, err = join(h.Service.Meta)
	return id, record, err
}

// foreign makes the record of a service that others have registered.
func (d *Driver) foreign(service string, h *health) (id string, record []byte, err error) {
	id = h.Service.ID
	if registry.ValidName("node id", id) != nil {
		id = "id:" + registry.EscapeName(id)
	}
	if len(d.opt.Protocols) == 0 {
		return id, nil, errors.New("it was not registered by Hull: say with protocol= what it speaks")
	}
	host := h.Service.Address
	if host == "" {
		host = h.Node.Address
	}
	n := &registry.Node{ID: id, Service: service, Address: net.JoinHostPort(host, strconv.Itoa(h.Service.Port)), Protocols: d.opt.Protocols,
		Version: h.Service.Meta["version"], Region: h.Node.Datacenter}
	if w := h.Service.Weights; w != nil && w.Passing > 1 { // 1 is what it has if nobody says
		n.Weight = w.Passing
	}
	record, err = registry.EncodeNode(n)
	return id, record, err
}

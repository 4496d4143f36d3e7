package etcdregistry

import (
	"strings"

	"github.com/hull-go/hull/registry"
)

// The kinds of keys.
const (
	kindNode = "nodes"
	kindLeft = "left"
	epochKey = ".epoch"
)

// Why a node left, as the values of its key say. Others are read as deregistered.
const (
	deregistered = "deregistered"
	byHand       = "deregistered by hand"
)

func (d *Driver) serviceKey(service string) string { return d.opt.Prefix + service + "/" }

func (d *Driver) nodeKey(service, id string) string {
	return d.serviceKey(service) + kindNode + "/" + id
}

func (d *Driver) leftKey(service, id string) string {
	return d.serviceKey(service) + kindLeft + "/" + id
}

// parseKey takes a key apart; ok is false for one that is not ours.
func (d *Driver) parseKey(key string) (service, kind, id string, ok bool) {
	rest, ok := strings.CutPrefix(key, d.opt.Prefix)
	if !ok {
		return "", "", "", false
	}
	service, rest, ok = strings.Cut(rest, "/")
	if !ok || registry.ValidName("service", service) != nil {
		return "", "", "", false
	}
	kind, id, ok = strings.Cut(rest, "/")
	if !ok || kind != kindNode && kind != kindLeft || registry.ValidName("node id", id) != nil {
		return "", "", "", false
	}
	return service, kind, id, true
}

// why reads the value of a node that left.
func why(value []byte) string {
	if string(value) == byHand {
		return byHand
	}
	return deregistered
}

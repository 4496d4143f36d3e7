package natsregistry

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/hull-go/hull/registry"
)

const kindNode = "nodes"

// Why a node left, as its delete marker says. Others are read as deregistered.
const (
	deregistered = "deregistered"
	byHand       = "deregistered by hand"
)

func nodeKey(service, id string) string { return kindNode + "." + escape(service) + "." + escape(id) }

// parseKey takes a key apart; ok is false for one that is not ours.
func parseKey(key string) (service, id string, ok bool) {
	parts := strings.Split(key, ".")
	if len(parts) != 3 || parts[0] != kindNode {
		return "", "", false
	}
	service, sok := unescape(parts[1])
	id, iok := unescape(parts[2])
	ok = sok && iok && registry.ValidName("service", service) == nil && registry.ValidName("node id", id) == nil
	return service, id, ok
}

// escape makes a name one token of a subject.
func escape(name string) string {
	var b strings.Builder
	for i := range len(name) {
		if c := name[i]; plain(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	return b.String()
}

// unescape undoes escape, and takes nothing else.
func unescape(token string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(token); i++ {
		c := token[i]
		if c == '=' {
			if i+2 >= len(token) {
				return "", false
			}
			n, err := strconv.ParseUint(token[i+1:i+3], 16, 8)
			if err != nil {
				return "", false
			}
			c = byte(n)
			i += 2
		} else if !plain(c) {
			return "", false
		}
		b.WriteByte(c)
	}
	name := b.String()
	return name, escape(name) == token
}

func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// why reads the value of a delete marker.
func why(value []byte) string {
	if string(value) == byHand {
		return byHand
	}
	return deregistered
}

package hull

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"reflect"
	"strings"

	"github.com/hull-go/hull/idempotency"
	"github.com/hull-go/hull/policy"
)

// MaxServices and MaxMethods are the bounds that tests go beyond.
const (
	MaxServices = maxServices
	MaxMethods  = maxMethods
	RestAtOnce  = restAtOnce
)

// Rests reports whether the Conn's service was put to rest.
func (c *Conn) Rests() bool { return c.s.resting.Load() }

// Connected returns how many nodes the client has connections to.
func (c *Client) Connected() (up int) {
	for _, n := range c.pool.Snapshot() {
		if len(n.Conns) > 0 {
			up++
		}
	}
	return up
}

// Services returns how many services a client watches.
func (c *Client) Services() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.services)
}

// KeptMethods returns how many methods a Conn keeps at hand.
func (c *Conn) KeptMethods() int {
	if t := c.methods.Load(); t != nil {
		return len(t.byName)
	}
	return 0
}

// Leftover returns what a call that is kept for the next one still has of the last, apart from what every call sets; nil = nothing.
func (c *Client) Leftover() any {
	kept, _ := c.calls.Get().(*unaryCall)
	if kept == nil {
		return nil
	}
	u := *kept
	c.calls.Put(kept)
	if u.own != nil && reflect.ValueOf(*u.own).IsZero() {
		u.own = nil
	}
	call := *u.call
	call.Service, call.Method, call.Deadline, call.Idempotent, call.SideEffectFree = "", "", 0, false, false
	u.plain, u.now, u.codec, u.call, u.lane = false, 0, nil, nil, policy.Lane{} // a Lane is begun anew by each call
	u.rep.Scratch, u.scratch = nil, nil                                         // which the transport answers for
	u.req.Method, u.req.Codec, u.req.Deadline, u.req.PathAttempt, u.req.WantLoad = "", nil, 0, 0, false
	if reflect.ValueOf(u).IsZero() && call == (policy.Call{}) {
		return nil
	}
	return u
}

// KeysShown returns what the admin page shows of a window of keys, as text and as JSON.
func KeysShown(k idempotency.Snapshot, o idempotency.Options) (string, []byte) {
	var text strings.Builder
	s := serverState{Keys: viewKeys(k, o)}
	s.writeText(&text, "")
	b, err := json.Marshal(s.Keys)
	if err != nil {
		panic(err)
	}
	return text.String(), b
}

// PortShown returns what the admin page shows of what a port has seen, as text and as JSON.
func PortShown(p PortSnapshot) (string, []byte) {
	var text strings.Builder
	portJSON(p).writeText(&text)
	b, err := json.Marshal(portJSON(p))
	if err != nil {
		panic(err)
	}
	return text.String(), b
}

// DiscoveryWords is how the admin page says how discovery stands.
var DiscoveryWords = discoveryWords

// Place returns what a served call says of its place in the call tree.
func Place(ctx context.Context) (attempt int, c policy.Criticality) {
	in := above(ctx)
	return int(in.pathAttempt), in.criticality
}

// Knows reports whether whoever is at the other end of a connection is trusted.
func (t Trust) Knows(addr net.Addr, state *tls.ConnectionState) bool { return t.knows(addr, state) }

// AdminHandler is what an admin page serves.
func AdminHandler(s *Server, clients ...*Client) http.Handler { return newAdminHandler(s, clients) }

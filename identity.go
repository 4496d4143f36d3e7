package hull

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// headerNode says in a request which instance it is meant for, and in the answer which one it came from. It is sent where
// discovery is in doubt, because it is silent or has lost the node: the address may be another service's by now.
const headerNode = "hull-node"

// identity is headerNode's value; neither name has a slash.
func identity(service, id string) string { return service + "/" + id }

// process is headerNode's value where the very process is meant, and not one that was started under the same name since.
func process(n *registry.Node) string {
	return identity(n.Service, n.ID) + "/" + strconv.FormatInt(n.Started.UnixNano(), 36)
}

// meant refuses a call that is meant for another instance, and returns what the answer's trailer says to whoever asked.
func (s *Server) meant(in *transport.Incoming) (transport.Metadata, *status.Error) {
	want := in.Metadata.Get(headerNode)
	if want == "" {
		return nil, nil
	}
	s.mu.Lock()
	self, own := identity(s.service, s.node.ID), process(&s.node)
	s.mu.Unlock()
	md := transport.Metadata{{Key: headerNode, Value: self}}
	if want == self || want == own {
		return md, nil
	}
	return md, &status.Error{Code: status.Unavailable, Kind: status.Draining, Fate: status.NotSent,
		Message: fmt.Sprintf("the call is meant for %.100q, but %q lives here now", want, self)}
}

// doubts reports whether a node has to be asked who it is, and can be.
func (s *service) doubts(n *registry.Node) bool {
	if !n.Identifies {
		return false
	}
	if n.Absent {
		return true
	}
	snap := s.seen.Load()
	return snap != nil && snap.Stale
}

// addressed returns a copy of a request that says whom it is meant for.
func addressed(req *transport.Request, n *registry.Node) *transport.Request {
	r := *req
	r.Metadata = append(slices.Clip(req.Metadata), transport.Field{Key: headerNode, Value: identity(n.Service, n.ID)})
	return &r
}

// recognise returns what is known of a node from the answer to a request that was addressed to it.
func recognise(n *registry.Node, rep *transport.Reply) registry.Sighting {
	switch rep.Trailer.Get(headerNode) {
	case "":
		return registry.Unsure
	case identity(n.Service, n.ID):
		return registry.Lives
	}
	return registry.Gone
}

// vouched follows an addressed request that ended with e. One that has not left because it was too large may go without the address if the node at the end of the
// connection is known to be the one, and still is when the next request comes, which is Lives: to say whom a request is meant for must not make it fail. If that is not
// known, the error that is returned says that the node could not be reached. Where the next request may take another network connection it is e, and after any other
// end: rather no answer than a stranger's.
func vouched(ctx context.Context, conn transport.Conn, n *registry.Node, deadline policy.Time, e *status.Error) (registry.Sighting, *status.Error) {
	if e == nil || e.Kind != status.TooLarge || e.Fate != status.NotSent {
		return registry.Unsure, e
	}
	switch said := says(conn); said {
	case "":
		if !single(conn) { // what has just been said need not hold for the next request
			return registry.Unsure, e
		}
	case identity(n.Service, n.ID):
		return registry.Lives, e
	default:
		return registry.Gone, elsewhere(e)
	}
	found, err := askWho(ctx, conn, n, deadline)
	switch {
	case found == registry.Lives:
		return found, e
	case err == nil, err.Fate == status.Processed: // somebody else, who may not say who
		return found, elsewhere(e)
	case err.Kind == status.Reset:
		err.Kind = status.Unsent
	}
	err.Fate = status.NotSent // of the request itself
	return found, err
}

// single reports whether a connection is known to be one network connection, so that whoever has answered on it gets the next request too. One over HTTP is any
// number, of which the next may lead to somebody else.
func single(conn transport.Conn) bool {
	c, ok := conn.(interface{ Single() bool })
	return ok && c.Single()
}

// askWho asks whoever is at the end of a connection to a node if it is that node. The error is the question's.
func askWho(ctx context.Context, conn transport.Conn, n *registry.Node, deadline policy.Time) (registry.Sighting, *status.Error) {
	rep := transport.Reply{Message: new(healthpb.HealthCheckResponse)}
	req := transport.Request{Method: "grpc.health.v1.Health/Check", Codec: codec.Proto{}, Message: new(healthpb.HealthCheckRequest),
		Deadline: deadline, PathAttempt: 1}
	err := conn.Call(ctx, addressed(&req, n), &rep) // whatever the answer is, it says whose it is
	return recognise(n, &rep), err
}

// says reports the instance that a connection leads to, as the server said when it began; "" where the protocol or the server does not say.
func says(conn transport.Conn) string {
	if c, ok := conn.(interface{ Instance() string }); ok {
		return c.Instance()
	}
	return ""
}

// strays reports whether a connection that was made to n leads to a node of another service, which has the address by now. Another instance
// of the same service serves as well, and is not turned away while discovery does not know it yet.
func strays(conn transport.Conn, n *registry.Node) bool {
	if !n.Identifies {
		return false
	}
	said := says(conn)
	return said != "" && !(len(said) > len(n.Service) && said[len(n.Service)] == '/' && said[:len(n.Service)] == n.Service)
}

// instance is what the server says of itself when a connection begins.
func (s *Server) instance() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return identity(s.service, s.node.ID)
}

// elsewhere is how a call ends at an address that is another instance's: as if nobody were there.
func elsewhere(cause error) *status.Error {
	return &status.Error{Code: status.Unavailable, Kind: status.Dial, Fate: status.NotSent, Message: "the node has left its address", Cause: cause}
}

// probe is registry.Probe: it looks at a node that discovery has lost and that no call has gone to for a while.
func (s *service) probe(ctx context.Context, n *registry.Node) registry.Sighting {
	deadline := policy.Now().Add(time.Second)
	conn, err := s.c.reach(n).Get(ctx, deadline)
	switch {
	case err != nil && err.Kind == status.Dial:
		return registry.Gone
	case err != nil, !n.Identifies: // it is not called: whoever has the address by now did not ask for it
		return registry.Unsure
	}
	found, _ := askWho(ctx, conn, n, deadline)
	return found
}

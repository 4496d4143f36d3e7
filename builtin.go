package hull

import (
	"context"
	"crypto/tls"
	"maps"
	"net"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"

	"github.com/hull-go/hull/internal/foreign"
	"github.com/hull-go/hull/status"
)

// addBuiltins adds gRPC's health and reflection services, unless the user has added their own. They have no middleware. mu is held.
func (s *Server) addBuiltins() {
	add := func(desc *grpc.ServiceDesc, impl any) {
		if _, ok := s.infos[desc.ServiceName]; ok {
			return
		}
		methods, info := describeService(desc, impl, nil, nil)
		for _, m := range methods {
			if s.methods[m.info.Name] == nil {
				m.builtin = true
				s.methods[m.info.Name] = m
			}
		}
		s.infos[desc.ServiceName] = info
	}
	add(&healthpb.Health_ServiceDesc, &health{s: s})
	if !s.opt.hidden {
		add(&reflectionv1.ServerReflection_ServiceDesc, reflection.NewServerV1(reflection.ServerOptions{Services: s}))
		add(&reflectionv1alpha.ServerReflection_ServiceDesc, reflection.NewServer(reflection.ServerOptions{Services: s}))
	}
}

// foreignMethods describes the methods, in the order of their names, to the protocols that are not Hull's own. The server runs.
func (s *Server) foreignMethods() []foreign.Method {
	list := make([]foreign.Method, 0, len(s.methods))
	for _, name := range slices.Sorted(maps.Keys(s.methods)) {
		m := s.methods[name]
		list = append(list, foreign.Method{Name: m.info.Name, Stream: m.stream != nil, ClientStreams: m.clientStreams, ServerStreams: m.serverStreams,
			Idempotent: m.info.Idempotent, SideEffectFree: m.info.SideEffectFree, Typed: m.typed, Request: m.request, Reply: m.reply,
			RequestProto: m.requestProto, ReplyProto: m.replyProto, Builtin: m.builtin})
	}
	return list
}

// health answers gRPC's health checks: a server serves from Ready until it drains.
type health struct {
	healthpb.UnimplementedHealthServer
	s *Server
}

// now returns the state of a service: "" for the whole server, a name in discovery, or a gRPC service; false if it is none.
func (h *health) now(service string) (healthpb.HealthCheckResponse_ServingStatus, bool) {
	if service != "" && service != h.s.service && !h.s.serves(service) {
		return healthpb.HealthCheckResponse_SERVICE_UNKNOWN, false
	}
	if h.s.Phase() != Ready {
		return healthpb.HealthCheckResponse_NOT_SERVING, true
	}
	return healthpb.HealthCheckResponse_SERVING, true
}

// serves reports whether the server, which runs, has methods of a gRPC service.
func (s *Server) serves(service string) bool {
	if _, ok := s.infos[service]; ok {
		return true
	}
	for name := range s.methods {
		if strings.HasPrefix(name, service) && strings.IndexByte(name, '/') == len(service) {
			return true
		}
	}
	return false
}

// Check implements healthpb.HealthServer.
func (h *health) Check(_ context.Context, req *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	st, ok := h.now(req.GetService())
	if !ok {
		return nil, status.Errorf(status.NotFound, "no service %q here", req.GetService())
	}
	return &healthpb.HealthCheckResponse{Status: st}, nil
}

// List implements healthpb.HealthServer. It answers for the whole server, its name in discovery and, unless methods are hidden, each service that it has.
func (h *health) List(context.Context, *healthpb.HealthListRequest) (*healthpb.HealthListResponse, error) {
	out := &healthpb.HealthListResponse{Statuses: map[string]*healthpb.HealthCheckResponse{}}
	add := func(service string) {
		st, _ := h.now(service)
		out.Statuses[service] = &healthpb.HealthCheckResponse{Status: st}
	}
	add("")
	add(h.s.service)
	for name := range h.s.methods { // not changed once the server runs
		if h.s.opt.hidden {
			break
		}
		add(name[:strings.LastIndexByte(name, '/')])
	}
	return out, nil
}

// Watch implements healthpb.HealthServer. It ends when the server drains, which it would hold up otherwise.
func (h *health) Watch(req *healthpb.HealthCheckRequest, ss grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	last := healthpb.HealthCheckResponse_UNKNOWN
	for {
		phase, _, changed := h.s.life.now()
		st, _ := h.now(req.GetService())
		if st != last {
			if err := ss.Send(&healthpb.HealthCheckResponse{Status: st}); err != nil {
				return err
			}
			last = st
		}
		if phase >= Leaving {
			return status.Errorf(status.Unavailable, "the server is shutting down")
		}
		select {
		case <-changed:
		case <-ss.Context().Done():
			return ss.Context().Err()
		}
	}
}

// peerOf is what grpc's peer.FromContext finds.
func peerOf(addr net.Addr, state *tls.ConnectionState) *peer.Peer {
	p := &peer.Peer{Addr: addr}
	if state != nil {
		p.AuthInfo = credentials.TLSInfo{State: *state, CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}
	}
	return p
}

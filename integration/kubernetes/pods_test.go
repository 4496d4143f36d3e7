package kubernetes_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/k8sregistry"
)

const slicesPath = "/apis/discovery.k8s.io/v1/namespaces/" + namespace + "/endpointslices"

// slice makes an EndpointSlice.
func slice(name, service, family string, portNumber int, endpoints ...any) map[string]any {
	return map[string]any{
		"metadata":    map[string]any{"name": name, "labels": map[string]any{k8sregistry.DefaultLabel: service, "hull.dev/node-id": "pod"}},
		"addressType": family, "endpoints": endpoints, "ports": []any{map[string]any{"name": "hull", "port": portNumber, "appProtocol": "hull.dev/1"}},
	}
}

// pod makes an endpoint; ready, serving and terminating are its conditions.
func pod(name, address string, ready, serving, terminating bool) map[string]any {
	return map[string]any{"addresses": []string{address}, "zone": "z1", "nodeName": "machine",
		"conditions": map[string]any{"ready": ready, "serving": serving, "terminating": terminating},
		"targetRef":  map[string]any{"kind": "Pod", "name": name, "namespace": namespace}}
}

// controller is the driver together with what puts pods into slices, so that the suites for drivers that announce can be run. It
// uses the programs' way to the API server, with permissions that they do not have.
type controller struct {
	*k8sregistry.Driver
	c *cluster
}

// Kubernetes refuses loopback addresses, so pods that listen there have another, which the controller translates.
const loopback, routed = "127.0.0.1", "198.51.100.1"

// opens returns a driver that announces.
func (c *cluster) opens(d registry.Driver) registry.Driver {
	return &controller{Driver: d.(*k8sregistry.Driver), c: c}
}

// Watch implements registry.Driver.
func (k *controller) Watch(ctx context.Context, service string, emit func(registry.Update)) error {
	return k.Driver.Watch(ctx, service, func(up registry.Update) {
		for i, n := range up.Nodes {
			if p, ok := strings.CutPrefix(n.Address, routed+":"); ok {
				up.Nodes[i] = n.Clone()
				up.Nodes[i].Address = loopback + ":" + p
			}
		}
		emit(up)
	})
}

// Announce implements registry.Announcer.
func (k *controller) Announce(ctx context.Context, n *registry.Node, _ time.Duration) (registry.Lease, error) {
	l := &endpoint{k: k, name: n.Service + "-" + n.ID}
	return l, l.put(ctx, n, http.MethodPost, slicesPath)
}

// endpoint is a slice for one pod.
type endpoint struct {
	k    *controller
	name string
}

func (l *endpoint) put(ctx context.Context, n *registry.Node, method, path string) error {
	host, number, err := net.SplitHostPort(n.Address)
	if err != nil {
		return err
	}
	p, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	if host == loopback {
		host = routed
	}
	return l.do(ctx, method, path, slice(l.name, n.Service, "IPv4", p, pod(n.ID, host, !n.Draining, true, n.Draining)))
}

func (l *endpoint) do(ctx context.Context, method, path string, body any) error {
	err := l.k.c.do(ctx, l.k.c.Addr(), method, path, body, nil)
	var answer *statusError
	if errors.As(err, &answer) && answer.code == http.StatusNotFound {
		return registry.ErrLost
	}
	return err
}

// Renew implements registry.Lease.
func (l *endpoint) Renew(ctx context.Context) error {
	return l.do(ctx, http.MethodGet, slicesPath+"/"+l.name, nil)
}

// Update implements registry.Lease.
func (l *endpoint) Update(ctx context.Context, n *registry.Node) error {
	return l.put(ctx, n, http.MethodPatch, slicesPath+"/"+l.name)
}

// Close implements registry.Lease.
func (l *endpoint) Close(ctx context.Context) error {
	return l.do(ctx, http.MethodDelete, slicesPath+"/"+l.name, nil)
}

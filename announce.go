package hull

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"

	"github.com/hull-go/hull/registry"
)

// announcement is how discovery knows of a server: a *registry.Registration, or unannounced.
type announcement interface {
	Node() *registry.Node
	Update(ctx context.Context, change func(*registry.Node)) error
	Close(ctx context.Context) error
}

// announce registers a node. Where discovery is only read, because Kubernetes, DNS or a list says who is there, a server serves without.
func announce(ctx context.Context, reg *registry.Registry, n registry.Node) (announcement, error) {
	r, err := reg.Register(ctx, n)
	switch {
	case errors.Is(err, registry.ErrReadOnly):
		if n.ID == "" {
			n.ID = strings.ToLower(rand.Text()[:16])
		}
		return unannounced{&n}, nil
	case err != nil:
		return nil, err
	}
	return r, nil
}

// unannounced is a server that discovery knows of by other ways.
type unannounced struct{ node *registry.Node }

func (u unannounced) Node() *registry.Node { return u.node }

// Update cannot tell anybody.
func (unannounced) Update(context.Context, func(*registry.Node)) error { return registry.ErrReadOnly }

// Close has nothing to take back.
func (unannounced) Close(context.Context) error { return nil }

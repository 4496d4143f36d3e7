package engine

import (
	"context"
	"errors"
	"net/url"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/registry"
)

const (
	// programRole is the role of Program in Main.
	programRole = "program"
	// service and method are what the suites call.
	service = "greeter"
	method  = "greeter.Greeter/Hello"
)

type greeting struct{ Name string }

// Program is a server of Main, "program", that the suites need: it serves the service greeter as a node of the registry of a
// URL, and lives until it is killed. Its arguments are the URL, the node's ID, the address to listen on, and the TTL.
func Program(open func(*url.URL) (registry.Driver, error)) map[string]func([]string, func(string)) error {
	return map[string]func([]string, func(string)) error{programRole: func(args []string, listening func(string)) error {
		u, err := registry.ParseURL(args[0])
		if err != nil {
			return err
		}
		d, err := open(u)
		if err != nil {
			return err
		}
		ttl, err := time.ParseDuration(args[3])
		if err != nil {
			return err
		}
		r, err := registry.New(d, registry.Options{TTL: ttl, Interval: ttl / 4})
		if err != nil {
			return err
		}
		s, err := newServer(service, r, args[1], args[2], nil)
		if err != nil {
			return err
		}
		ended := make(chan error, 1)
		go func() { ended <- s.Run(context.Background()) }()
		select {
		case <-s.Ready():
			listening(s.Addr())
		case err := <-ended:
			return err
		}
		return errors.Join(<-ended, r.Close())
	}}
}

// newServer returns one that answers the method of the suites, and tells called of each call.
func newServer(name string, r *registry.Registry, id, addr string, called func()) (*hull.Server, error) {
	s, err := hull.NewServer(name, hull.WithRegistry(r), hull.NodeID(id), hull.Addr(addr))
	if err != nil {
		return nil, err
	}
	hull.Handle(s, method, func(_ context.Context, in *greeting) (*greeting, error) {
		if called != nil {
			called()
		}
		return in, nil
	}, hull.Idempotent())
	return s, nil
}

// Package staticregistry is a registry of fixed addresses, for services that no engine knows.
package staticregistry

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/hull-go/hull/registry"
)

// Options say what the addresses serve. The zero value means every service.
type Options struct {
	// Services are the names served at the addresses; none = every name.
	Services []string
	// Protocols are what the addresses speak; none = they do not say, and callers find out.
	Protocols []string
	// Version, Zone and Region are those of every node; empty = not known.
	Version, Zone, Region string
}

// Driver lists the same nodes for ever. It cannot register any.
type Driver struct {
	addresses []string
	opt       Options
}

// New returns a driver for addresses of the form host:port, each of which is a node whose ID is the address. One that speaks something
// else than Options.Protocols is written with it: grpc://host:port, http://host:port, hull://host:port.
func New(addresses []string, o Options) (*Driver, error) {
	if len(addresses) == 0 {
		return nil, fmt.Errorf("staticregistry: no address given: write host:port,host:port")
	}
	d := &Driver{addresses: slices.Clone(addresses), opt: o}
	slices.Sort(d.addresses)
	d.addresses = slices.Compact(d.addresses)
	d.opt.Services = slices.Clone(o.Services)
	slices.Sort(d.opt.Services)
	d.opt.Services = slices.Compact(d.opt.Services)
	for _, s := range d.opt.Services {
		if err := registry.ValidName("service", s); err != nil {
			return nil, fmt.Errorf("staticregistry: %w", err)
		}
	}
	for _, a := range d.addresses {
		if err := d.node("any", a).Validate(); err != nil {
			return nil, fmt.Errorf("staticregistry: %w", err)
		}
	}
	return d, nil
}

// Parameters are the query parameters of a static URL.
func Parameters() []registry.Parameter {
	return []registry.Parameter{
		{Name: "service", Usage: "names served at the addresses, separated by commas; none = every name"},
		{Name: "protocol", Usage: "what the addresses speak, separated by commas: hull/1, grpc, http; none = callers find out"},
		{Name: "version", Usage: "version of every node"},
		{Name: "zone", Usage: "zone of every node"},
		{Name: "region", Usage: "region of every node"},
	}
}

// FromURL returns a driver for static://host:port,host:port?service=name. Several IPv6 addresses need the form without
// slashes, static:[::1]:80,[::2]:80, and so do addresses that say what they speak, static:grpc://host:port,http://host:port.
func FromURL(u *url.URL) (registry.Driver, error) {
	if u.Scheme != "static" || strings.Trim(u.Path, "/") != "" || u.User != nil {
		return nil, fmt.Errorf("staticregistry: write the URL as static://host:port,host:port?service=name")
	}
	q, err := registry.CheckQuery(u, Parameters())
	if err != nil {
		return nil, fmt.Errorf("staticregistry: %w", err)
	}
	return New(split(u.Host+u.Opaque), Options{Services: split(q.Get("service")), Protocols: split(q.Get("protocol")),
		Version: q.Get("version"), Zone: q.Get("zone"), Region: q.Get("region")})
}

// split cuts a list at its commas and leaves empty parts out.
func split(list string) []string {
	return slices.DeleteFunc(strings.Split(list, ","), func(s string) bool { return s == "" })
}

// List returns the names the driver was given; none if it serves every name.
func (d *Driver) List(ctx context.Context) ([]string, error) {
	return slices.Clone(d.opt.Services), ctx.Err()
}

// ChecksItself implements registry.SelfChecking: a list that does not change has no news.
func (d *Driver) ChecksItself() {}

// IsFixed implements registry.Fixed.
func (d *Driver) IsFixed() {}

// IsSameMachine implements registry.SameMachine: the list is the user's own.
func (d *Driver) IsSameMachine() {}

// Watch emits the addresses once and then waits for ctx.
func (d *Driver) Watch(ctx context.Context, service string, emit func(registry.Update)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var up registry.Update
	if len(d.opt.Services) == 0 || slices.Contains(d.opt.Services, service) {
		for _, a := range d.addresses {
			up.Nodes = append(up.Nodes, d.node(service, a))
		}
	}
	emit(up)
	<-ctx.Done()
	return ctx.Err()
}

func (d *Driver) node(service, address string) *registry.Node {
	protocols := slices.Clone(d.opt.Protocols)
	if scheme, rest, ok := strings.Cut(address, "://"); ok {
		address, protocols = rest, []string{scheme}
		if scheme == "hull" {
			protocols[0] = "hull/1"
		}
	}
	return &registry.Node{ID: address, Service: service, Address: address, Version: d.opt.Version,
		Protocols: protocols, Zone: d.opt.Zone, Region: d.opt.Region}
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/internal/nearest"
	"github.com/hull-go/hull/registry"
)

// openRegistry opens the registry that the command's flags name. log is told what is wrong with it; nil = nobody is.
func (p *program) openRegistry(cmd *cobra.Command, log *slog.Logger) (*registry.Registry, error) {
	return p.openRegistryAt(cmd, textOf(cmd, setRegistry), log)
}

// openRegistryAt opens the registry at a URL.
func (p *program) openRegistryAt(cmd *cobra.Command, raw string, log *slog.Logger) (*registry.Registry, error) {
	d, err := openDriver(p.Drivers, raw)
	if err != nil {
		return nil, err
	}
	r, err := registry.New(d, registry.Options{TTL: durationOf(cmd, setTTL), Interval: durationOf(cmd, setInterval), Logger: log})
	if err != nil {
		return nil, usagef("%v", err)
	}
	return r, nil
}

// warnings is a logger for what the user should know beside the answer.
func (p *program) warnings() *slog.Logger {
	return slog.New(slog.NewTextHandler(p.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))
}

// openDriver opens a driver by its URL.
func openDriver(drivers []Driver, raw string) (registry.Driver, error) {
	u, err := registry.ParseURL(raw)
	if err != nil {
		return nil, usagef("%v", err)
	}
	var schemes []string
	for _, d := range drivers {
		if d.Scheme == u.Scheme {
			opened, err := d.Open(u)
			if err != nil {
				if _, ok := errors.AsType[*fs.PathError](err); ok {
					return nil, &registryError{err}
				}
				return nil, usagef("registry %s: %v", registry.Redact(u), err)
			}
			return opened, nil
		}
		schemes = append(schemes, d.Scheme)
	}
	forms := make([]string, 0, len(drivers))
	for _, d := range drivers {
		forms = append(forms, d.Form)
	}
	if u.Scheme == "" {
		return nil, usagef("the registry %q is no URL: write %s", registryName(raw), strings.Join(forms, " or "))
	}
	return nil, usagef("no kind of registry is called %q%s (%s)", u.Scheme, didYouMean(nearest.Find(u.Scheme, schemes)), strings.Join(forms, " or "))
}

// registryName is a registry's URL for messages, without what may be secret.
func registryName(raw string) string {
	u, err := registry.ParseURL(raw)
	if err == nil && u.Scheme != "" {
		return registry.Redact(u)
	}
	if strings.Contains(raw, "@") {
		return "…"
	}
	return raw
}

// lookup returns what discovery knows of a service, within the command's time.
func lookup(ctx context.Context, r *registry.Registry, service string) (*registry.Service, error) {
	if err := registry.ValidName("service", service); err != nil {
		return nil, usagef("%v", err)
	}
	s, err := r.Lookup(ctx, service)
	if err != nil {
		if nf, ok := errors.AsType[*registry.NotFoundError](err); ok {
			return nil, nf // in its own words, which say what to do
		}
		return nil, &registryError{err}
	}
	return s, nil
}

// names returns all services that discovery knows.
func names(ctx context.Context, r *registry.Registry) ([]string, error) {
	list, err := r.List(ctx)
	if err != nil {
		return nil, &registryError{err}
	}
	return list, nil
}

// selectorOf reads the command's selector.
func selectorOf(cmd *cobra.Command) (balance.Selector, error) {
	sel, err := balance.ParseSelector(textOf(cmd, setSelector))
	if err != nil {
		return sel, usagef("%v", err)
	}
	return sel, nil
}

// matching returns the nodes that match.
func matching(nodes []*registry.Node, sel balance.Selector) []*registry.Node {
	return slices.DeleteFunc(slices.Clone(nodes), func(n *registry.Node) bool { return !sel.Match(n) })
}

// chosen returns the nodes that match; none is an error, because a service that is there was asked for.
func chosen(s *registry.Service, sel balance.Selector) ([]*registry.Node, error) {
	nodes := matching(s.Nodes, sel)
	if len(nodes) == 0 {
		return nil, &notFoundError{fmt.Sprintf("none of the %d nodes of service %q matches the selector %s", len(s.Nodes), s.Name, sel)}
	}
	return nodes, nil
}

package ui

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/hull-go/hull/demo/board"
	"github.com/hull-go/hull/demo/load"
	"github.com/hull-go/hull/demo/stats"
	"github.com/hull-go/hull/demo/supervise"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/staticregistry"
)

// Control is what the page needs from whoever runs the nodes.
type Control interface {
	// Nodes returns what is known about every node, always in the same order.
	Nodes(ctx context.Context) ([]supervise.NodeStatus, error)
	// Inject does something to a node, or undoes it, and returns when that is done.
	Inject(ctx context.Context, r supervise.FaultRequest) error
}

// Options configure a Server.
type Options struct {
	// Registry is where the protected side finds the board. Required; it stays the caller's to close.
	Registry *registry.Registry
	// Control runs the nodes. Required. The unprotected side calls the addresses that it names at the start, as a
	// configuration file would.
	Control Control
	// Rate is the load of each side, in calls per second.
	Rate float64
	// Posts mixes in calls that are not idempotent.
	Posts bool
	// Logger is told what happens; nil = nobody is.
	Logger *slog.Logger
}

// Server is the page, its API, and the load behind both.
type Server struct {
	control                Control
	log                    *slog.Logger
	begin                  time.Time
	protected, unprotected *side
	static                 *registry.Registry
	loads                  [2]*load.Generator
	stall                  stats.Stall
}

// New returns a Server whose load does not run yet.
func New(ctx context.Context, o Options) (*Server, error) {
	if o.Registry == nil || o.Control == nil {
		return nil, errors.New("ui: Options.Registry and Options.Control are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	nodes, err := o.Control.Nodes(ctx)
	if err != nil {
		return nil, fmt.Errorf("ui: the nodes are not known: %w", err)
	}
	s := &Server{control: o.Control, log: o.Logger, begin: time.Now()}
	var addrs []string
	names := map[string]string{}
	for _, n := range nodes {
		addrs = append(addrs, n.Address)
		names[n.Address] = n.ID
	}
	driver, err := staticregistry.New(addrs, staticregistry.Options{Services: []string{board.Service}})
	if err != nil {
		return nil, fmt.Errorf("ui: %w", err)
	}
	if s.static, err = registry.New(driver, registry.Options{}); err != nil {
		return nil, fmt.Errorf("ui: %w", err)
	}
	if s.protected, err = newSide(o.Registry, FullProtection(), nil, o.Logger); err != nil {
		return nil, fmt.Errorf("ui: %w", errors.Join(err, s.static.Close()))
	}
	if s.unprotected, err = newSide(s.static, Protection{}, names, o.Logger); err != nil {
		return nil, fmt.Errorf("ui: %w", errors.Join(err, s.protected.client.Close(), s.static.Close()))
	}
	for i, l := range []struct {
		s    *side
		room string
	}{{s.protected, board.LoadProtected}, {s.unprotected, board.LoadUnprotected}} {
		if s.loads[i], err = traffic(l.s, l.room, o.Rate, o.Posts); err != nil {
			return nil, fmt.Errorf("ui: %w", errors.Join(err, s.Close()))
		}
	}
	return s, nil
}

// Run makes the load until ctx ends.
func (s *Server) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, l := range s.loads {
		wg.Go(func() { l.Run(ctx) })
	}
	wg.Go(func() { s.protected.outbox.run(ctx) })
	wg.Go(func() { s.stall.Run(ctx) })
	wg.Go(func() { s.watchRules(ctx) })
	wg.Wait()
}

// Close closes both clients. Run must have returned.
func (s *Server) Close() error {
	return errors.Join(s.protected.client.Close(), s.unprotected.client.Close(), s.static.Close())
}

// SetRate changes the load of both sides.
func (s *Server) SetRate(r float64) error {
	for _, l := range s.loads {
		if err := l.SetRate(r); err != nil {
			return err
		}
	}
	return nil
}

// Handler serves the page and the API. Requests that a page of another site makes in somebody's browser are refused.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.page)
	mux.HandleFunc("POST /{$}", s.form)
	mux.Handle("GET /static/", assets())
	s.api(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, "not_found", fmt.Errorf("nothing is served at %s %s; see docs/demo.md", r.Method, r.URL.Path))
	})
	return guard(mux)
}

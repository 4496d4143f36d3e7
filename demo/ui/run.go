package ui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hull-go/hull/demo/supervise"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/fileregistry"
)

// What the UI's process and its supervisor say to each other, beside supervise.OpStart.
const (
	OpNodes  = "nodes"  // nothing → []supervise.NodeStatus
	OpInject = "inject" // supervise.FaultRequest → nothing
)

// Config is what the UI's process is told at its start.
type Config struct {
	// Registry is the directory in which the nodes announce themselves.
	Registry string `json:"registry"`
	// Rate is the load of each side in calls per second; Posts mixes in calls that are not idempotent.
	Rate  float64 `json:"rate"`
	Posts bool    `json:"posts,omitempty"`
}

// Run is the life of the UI's process: it serves when it is told to over in, and ends when in ends.
func Run(ctx context.Context, in io.Reader, out io.Writer, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := &process{ctx: ctx, log: log, failed: make(chan error, 1)}
	p.link = supervise.NewLink(in, out, p.handle)
	parted := make(chan error, 1)
	go func() { parted <- p.link.Run(ctx) }()
	var err error
	select {
	case err = <-parted:
	case err = <-p.failed:
	}
	cancel()
	p.wg.Wait()
	return errors.Join(err, p.close())
}

type process struct {
	ctx    context.Context
	log    *slog.Logger
	link   *supervise.Link
	failed chan error
	wg     sync.WaitGroup

	mu       sync.Mutex
	server   *Server
	registry *registry.Registry
}

func (p *process) handle(ctx context.Context, op string, arg json.RawMessage) (any, error) {
	if op != supervise.OpStart {
		return nil, fmt.Errorf("the page does not know how to %q", op)
	}
	var r struct {
		supervise.StartRequest
		Config Config `json:"config"`
	}
	if err := json.Unmarshal(arg, &r); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.server != nil {
		return nil, errors.New("the page has been started already")
	}
	return p.start(ctx, r.Addr, r.Config)
}

// start serves the page. p.mu is held.
func (p *process) start(ctx context.Context, addr string, c Config) (*supervise.StartReply, error) {
	driver, err := fileregistry.New(fileregistry.Options{Dir: c.Registry, Logger: p.log})
	if err != nil {
		return nil, err
	}
	if p.registry, err = registry.New(driver, registry.Options{Logger: p.log}); err != nil {
		return nil, errors.Join(err, driver.Close())
	}
	s, err := New(ctx, Options{Registry: p.registry, Control: linkControl{p.link}, Rate: c.Rate, Posts: c.Posts, Logger: p.log})
	if err != nil {
		return nil, err
	}
	p.server = s
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	web := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 32 << 10,
		ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug)}
	p.wg.Go(func() {
		if err := web.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			p.failed <- fmt.Errorf("serving the page: %w", err)
		}
	})
	p.wg.Go(func() {
		<-p.ctx.Done()
		web.Close()
	})
	p.wg.Go(func() { s.Run(p.ctx) })
	return &supervise.StartReply{Addr: l.Addr().String()}, nil
}

func (p *process) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	if p.server != nil {
		errs = append(errs, p.server.Close())
	}
	if p.registry != nil {
		errs = append(errs, p.registry.Close())
	}
	return errors.Join(errs...)
}

// linkControl asks the supervisor.
type linkControl struct{ link *supervise.Link }

// Nodes implements Control.
func (c linkControl) Nodes(ctx context.Context) ([]supervise.NodeStatus, error) {
	var list []supervise.NodeStatus
	err := c.link.Call(ctx, OpNodes, nil, &list)
	return list, err
}

// Inject implements Control.
func (c linkControl) Inject(ctx context.Context, r supervise.FaultRequest) error {
	return c.link.Call(ctx, OpInject, r, nil)
}

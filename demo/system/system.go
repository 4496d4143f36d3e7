// Package system puts the demo together: a directory for its data, the nodes of the board, and the page, each in a process
// of its own, and sees to it that nothing is left of them.
package system

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hull-go/hull/demo/backend"
	"github.com/hull-go/hull/demo/store"
	"github.com/hull-go/hull/demo/supervise"
	"github.com/hull-go/hull/demo/ui"
)

// The roles of child processes: the first argument after Options.Command.
const (
	RoleBackend = "backend"
	RoleUI      = "ui"
)

// Defaults of Options.
const (
	DefaultAddr  = "127.0.0.1:7700"
	DefaultNodes = 3
	DefaultRate  = 100
	DefaultWork  = 8 * time.Millisecond
	// MaxNodes is as many processes as one machine should be asked for.
	MaxNodes = 16
	// tries is how many ports after the default one are tried if that is busy.
	tries = 20
	// keep is how many messages of the load are kept per room.
	keep = 5000
)

// Options configure a System. The zero value is the demo as newcomers see it.
type Options struct {
	// Command starts a child, with its role and name as further arguments. Required.
	Command []string
	// Addr is where the page is served; empty = DefaultAddr, or the next free port.
	Addr string
	// Nodes is how many nodes the board has; 0 = DefaultNodes.
	Nodes int
	// Rate is the load of each side in calls per second; 0 = DefaultRate, negative = none.
	Rate float64
	// Posts mixes in calls that are not idempotent.
	Posts bool
	// KeepAll keeps every message of the load, for an audit.
	KeepAll bool
	// Restart is how long a node that died stays down; 0 = supervise.DefaultRestart.
	Restart time.Duration
	// TempDir is where the demo's directory is made; empty = the system's.
	TempDir string
	// Stderr is what children may write to; nil = nothing.
	Stderr io.Writer
	// Logger is told what happens; nil = nobody is.
	Logger *slog.Logger
}

func (o *Options) check() error {
	if o.Nodes == 0 {
		o.Nodes = DefaultNodes
	}
	switch {
	case o.Rate == 0:
		o.Rate = DefaultRate
	case o.Rate < 0:
		o.Rate = 0
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if len(o.Command) == 0 {
		return errors.New("demo: there is no command to start the demo's processes with")
	}
	if o.Nodes < 1 || o.Nodes > MaxNodes {
		return fmt.Errorf("demo: %d backends: choose 1 to %d", o.Nodes, MaxNodes)
	}
	return nil
}

// System is a running demo.
type System struct {
	// URL is where the page is.
	URL string
	// DB is the message file.
	DB string
	// Fleet are the nodes.
	Fleet *supervise.Fleet

	o        Options
	remove   func()
	launcher *supervise.Launcher
	page     *supervise.Process
}

// Start starts the demo and returns when it serves. If anything fails nothing is left.
func Start(ctx context.Context, o Options) (*System, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	addr, err := freeAddr(ctx, o.Addr)
	if err != nil {
		return nil, err
	}
	s := &System{o: o}
	if err := s.start(ctx, addr); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// start does the work of Start; what it has begun is in s, for Close.
func (s *System) start(ctx context.Context, addr string) error {
	dir, remove, err := supervise.MakeDir(s.o.TempDir)
	if err != nil {
		return err
	}
	s.remove, s.DB = remove, filepath.Join(dir, "messages.db")
	services := filepath.Join(dir, "services")
	if err := os.Mkdir(services, 0o700); err != nil {
		return err
	}
	// Made here, so that the nodes find it whole.
	st, err := store.Open(ctx, s.DB, 0)
	if err != nil {
		return err
	}
	if err := st.Close(); err != nil {
		return err
	}
	if s.launcher, err = supervise.NewLauncher(s.o.Command, s.o.Stderr, s.o.Logger); err != nil {
		return err
	}
	config := backend.Config{DB: s.DB, Registry: services, WorkMillis: int(DefaultWork.Milliseconds()), Keep: keep}
	if s.o.KeepAll {
		config.Keep = 0
	}
	var names []string
	for i := range s.o.Nodes {
		names = append(names, "backend-"+strconv.Itoa(i+1))
	}
	s.Fleet, err = supervise.NewFleet(ctx, supervise.FleetOptions{Launcher: s.launcher, Args: []string{RoleBackend}, Config: config,
		Nodes: names, Restart: s.o.Restart, Logger: s.o.Logger})
	if err != nil {
		return err
	}
	if s.page, err = s.launcher.Start("the page", s.answer, RoleUI); err != nil {
		return err
	}
	var rep supervise.StartReply
	ask, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	if err := s.page.Link.Call(ask, supervise.OpStart, supervise.StartRequest{Addr: addr,
		Config: ui.Config{Registry: services, Rate: s.o.Rate, Posts: s.o.Posts}}, &rep); err != nil {
		return fmt.Errorf("starting the page: %w", err)
	}
	s.URL = "http://" + rep.Addr
	return nil
}

// answer is what the page's process asks for.
func (s *System) answer(ctx context.Context, op string, arg json.RawMessage) (any, error) {
	switch op {
	case ui.OpNodes:
		return s.Fleet.Status(), nil
	case ui.OpInject:
		var r supervise.FaultRequest
		if err := json.Unmarshal(arg, &r); err != nil {
			return nil, err
		}
		return nil, s.Fleet.Inject(ctx, r)
	}
	return nil, fmt.Errorf("the page asks for %q: there is no such thing", op)
}

// Wait waits until ctx ends, which is no error, or the page's process does, which is.
func (s *System) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.page.Done():
		return errors.Join(errors.New("demo: the page's process has ended"), s.page.Err())
	}
}

// Close ends every process and removes the demo's data. Closing twice is not needed and not allowed.
func (s *System) Close() error {
	var errs []error
	if s.page != nil {
		errs = append(errs, s.page.Stop())
	}
	if s.Fleet != nil {
		errs = append(errs, s.Fleet.Close())
	}
	if s.launcher != nil {
		s.launcher.Close()
	}
	if s.remove != nil {
		s.remove()
	}
	return errors.Join(errs...)
}

// freeAddr returns where the page can be served, and says clearly if it cannot, before anything is started.
func freeAddr(ctx context.Context, addr string) (string, error) {
	if addr != "" {
		return addr, tryListen(ctx, addr)
	}
	host, first, err := net.SplitHostPort(DefaultAddr)
	if err != nil {
		return "", err
	}
	port, err := strconv.Atoi(first)
	if err != nil {
		return "", err
	}
	for i := range tries {
		addr := net.JoinHostPort(host, strconv.Itoa(port+i))
		if tryListen(ctx, addr) == nil {
			return addr, nil
		}
	}
	return "", fmt.Errorf("demo: the ports %d to %d are all in use: choose another with --addr, such as --addr 127.0.0.1:0 for any free one", port, port+tries-1)
}

func tryListen(ctx context.Context, addr string) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("demo: the page cannot be served on %s: %w; choose another address with --addr, such as --addr 127.0.0.1:0 for any free port", addr, err)
	}
	return l.Close()
}

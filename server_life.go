package hull

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/hull-go/hull/registry"
)

// Phase is where a server is in its life. Phases follow one another as they stand here, except that Unready and Ready take turns.
type Phase int

// The phases.
const (
	// Idle: Run has not been called.
	Idle Phase = iota
	// Listening: the port is open. Nobody knows of it yet, but who does is served.
	Listening
	// WarmingUp: the function that WarmUp was given runs.
	WarmingUp
	// Registering: discovery is told.
	Registering
	// Ready: callers come.
	Ready
	// Unready: callers are asked to go elsewhere for the time being, because as many handlers as there are places run on after their time, or because
	// the program's own check (WithHealth) says that it is ill.
	Unready
	// Leaving: callers are asked to go elsewhere, and given the time to hear of it. All calls are served.
	Leaving
	// Deregistering: discovery forgets the server.
	Deregistering
	// Draining: new calls are refused, to be made elsewhere; those under way finish.
	Draining
	// Closed: nothing is served any more.
	Closed
)

// String returns the phase in lower case.
func (p Phase) String() string {
	if p < Idle || p > Closed {
		return "invalid"
	}
	return [...]string{"idle", "listening", "warming-up", "registering", "ready", "unready", "leaving", "deregistering", "draining", "closed"}[p]
}

// PhaseChange is the beginning of a phase.
type PhaseChange struct {
	Phase Phase
	// Why says so in words, or is empty.
	Why string
}

// OnPhase has f told of each phase of a server when it begins. It is called by Run's goroutine and must not block.
func OnPhase(f func(PhaseChange)) ServerOption {
	return serverOption(func(o *serverOptions) error {
		if f == nil {
			return errors.New("OnPhase: the function is nil")
		}
		o.phases = append(o.phases, f)
		return nil
	})
}

// WarmUp has f run when the port is open and before anybody is told of it: to fill caches, open connections, or call the server's own methods. It may take so
// long at most, 30 s with 0; if it fails, or takes longer, Run fails.
func WarmUp(f func(context.Context) error, most time.Duration) ServerOption {
	return serverOption(func(o *serverOptions) error {
		if f == nil || most < 0 {
			return fmt.Errorf("WarmUp: a function and a time are needed, or 0 for 30s; the time is %v", most)
		}
		o.warmUp, o.warmUpMost = f, orDefault(most, defaultWarmUp)
		return nil
	})
}

// WithHealth has a server that is Ready ask h.Check now and then whether it should be called. While it is ill it is Unready: discovery shows it as leaving,
// so that callers go elsewhere, /hull/ready says why, and it goes on serving what comes. See registry.Health for what to check.
func WithHealth(h registry.Health) ServerOption {
	return serverOption(func(o *serverOptions) error {
		if err := h.Validate(); err != nil {
			return fmt.Errorf("WithHealth: %w", err)
		}
		o.health = h
		return nil
	})
}

const (
	defaultWarmUp = 30 * time.Second
	// deregisterMost is how long discovery may take to forget a server; the registration then expires by itself.
	deregisterMost = 2 * time.Second
	// spreadMost is how long callers are given to hear that a server leaves, however slow discovery is.
	spreadMost = 10 * time.Second
	// tellMost is how long it may take, without the calls that finish having less time, until nobody sends any more: with the 20 s that these have a server is
	// gone before Kubernetes kills it after 30.
	tellMost = 8 * time.Second
	// unreadyMost is how long discovery may take to be told that a server is not ready, or is again; it is told again later.
	unreadyMost = time.Second
)

// life is where a server is in its life.
type life struct {
	mu      sync.Mutex // guards what follows
	phase   Phase
	why     string
	changed chan struct{} // closed at the next change
}

func (l *life) now() (p Phase, why string, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.phase, l.why, l.changed
}

// Phase returns where the server is in its life.
func (s *Server) Phase() Phase {
	p, _, _ := s.life.now()
	return p
}

// begin begins a phase.
func (s *Server) begin(p Phase, why string) {
	s.life.mu.Lock()
	s.life.phase, s.life.why = p, why
	if s.life.changed != nil {
		close(s.life.changed)
		s.life.changed = nil
	}
	s.life.mu.Unlock()
	args := []any{"service", s.service, "phase", p.String()}
	if id := s.NodeID(); id != "" {
		args = append(args, "node", id, "address", s.Addr())
	}
	if why != "" {
		args = append(args, "why", why)
	}
	if p >= Leaving {
		args = append(args, "in_flight", s.inFlight())
	}
	if p == Unready {
		s.log.Warn("server "+p.String(), args...)
	} else {
		s.log.Info("server "+p.String(), args...)
	}
	for _, f := range s.opt.phases {
		f(PhaseChange{p, why})
	}
}

// Close ends whatever the server does, at once: calls under way are cut off, and Run returns soon. Leaving gently is what the end of Run's context
// is for; this is for when that takes too long. It may be called at any time and more than once.
func (s *Server) Close() error {
	s.cutOnce.Do(func() { close(s.cut) })
	return nil
}

// warm runs the function that WarmUp was given.
func (s *Server) warm(ctx context.Context) error {
	if s.opt.warmUp == nil {
		return nil
	}
	s.begin(WarmingUp, "")
	ctx, cancel := context.WithTimeoutCause(ctx, s.opt.warmUpMost, fmt.Errorf("it may take %v at most", s.opt.warmUpMost))
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.opt.warmUp(ctx) }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("warming up: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("warming up: %w", context.Cause(ctx))
	case <-s.cut:
		return errCut
	}
}

var errCut = errors.New("the server was closed")

// serveUntil waits for the end of ctx, of the listener, or of everything, and has discovery told when the server cannot go on and when it can again.
func (s *Server) serveUntil(ctx context.Context, r announcement, failed <-chan error) error {
	health := make(chan error)
	if s.opt.health.Check != nil {
		watched, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		defer func() { cancel(); <-done }()
		go func() {
			defer close(done)
			_ = s.opt.health.Watch(watched, func(ill error) { // its options have been checked
				select {
				case health <- ill:
				case <-watched.Done():
				}
			})
		}()
	}
	var stuck bool
	var ill error
	for {
		select {
		case err := <-failed:
			if err == nil {
				err = net.ErrClosed
			}
			return fmt.Errorf("the listener failed: %w", err)
		case <-ctx.Done():
			return nil
		case <-s.cut:
			return errCut
		case stuck = <-s.stuck:
		case ill = <-health:
		}
		switch {
		case stuck:
			s.begin(Unready, "as many handlers as there are places run on after their time: look for what they wait for")
		case ill != nil:
			s.begin(Unready, ill.Error())
		default:
			s.begin(Ready, "it can be called again")
		}
		told, cancel := context.WithTimeout(ctx, unreadyMost)
		if err := r.Update(told, func(n *registry.Node) { n.Draining = stuck || ill != nil }); err != nil && !errors.Is(err, registry.ErrReadOnly) {
			s.log.Warn("discovery could not be told yet", "service", s.service, "error", err)
		}
		cancel()
	}
}

// leaveGently leaves without losing a call: first nobody is sent here any more, then what is here finishes.
func (s *Server) leaveGently(reg *registry.Registry, r announcement, f *front) error {
	all, done := s.cuttable(context.Background())
	defer done()
	began := time.Now()
	s.begin(Leaving, "")
	s.spread(all, reg, r)

	s.begin(Deregistering, "")
	s.takeBack(r)

	s.begin(Draining, "")
	finish, cut := context.WithCancelCause(all)
	defer cut(nil)
	whole := max(s.opt.drainTimeout, DefaultDrainTimeout) + max(tellMost, s.opt.drainWait+deregisterMost)
	most := min(s.opt.drainTimeout, whole-time.Since(began))
	var calls, streams int64 // that are under way when the time is up
	late := time.AfterFunc(most, func() {
		streams = s.streams.Load()
		calls = max(s.inFlight()-streams, 0)
		cut(errLate)
	})
	defer late.Stop()
	err := f.drain(finish)
	switch cause := context.Cause(finish); {
	case err == nil || cause == nil:
		return err
	case !errors.Is(cause, errLate):
		return cause
	case calls > 0:
		return fmt.Errorf("%d calls under way were cut off: they may take %v at most, see hull.Drain", calls, most.Round(time.Millisecond))
	}
	s.log.Warn("what has no end was cut off", "service", s.service, "streams", streams, "after", most)
	return nil
}

// cuttable is a context that ends with ctx, when the server is closed, or with done.
func (s *Server) cuttable(ctx context.Context) (c context.Context, done func()) {
	c, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-s.cut:
			cancel(errCut)
		case <-c.Done():
		}
	}()
	return c, func() { cancel(nil) }
}

// takeBack has discovery forget the server.
func (s *Server) takeBack(r announcement) {
	ctx, done := s.cuttable(context.Background())
	defer done()
	ctx, cancel := context.WithTimeout(ctx, deregisterMost)
	defer cancel()
	if err := r.Close(ctx); err != nil {
		s.log.Warn("deregistering failed; the registration expires by itself", "service", s.service, "error", err)
	}
}

// errLate is why calls are cut off that take longer than Drain says.
var errLate = errors.New("the time to finish is up")

// spread tells discovery that the server leaves, and waits until callers know: twice as long as it took to come back to the server itself, and at least the
// time that Drain has set. Where discovery is only read, as in Kubernetes, somebody else tells it, at about the moment in which the server is asked to leave.
func (s *Server) spread(ctx context.Context, reg *registry.Registry, r announcement) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, max(s.opt.drainWait, spreadMost))
	defer cancel()
	if s.opt.drainWait == 0 {
		ctx, cancel = context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
	}
	v := reg.Open(s.service)
	defer v.Close()
	told := r.Update(ctx, func(n *registry.Node) { n.Draining = true })
	if told != nil && !errors.Is(told, registry.ErrReadOnly) {
		s.log.Warn("discovery could not be told that the server leaves", "service", s.service, "error", told)
	}
	if s.opt.drainWait == 0 {
		return
	}
	wait := s.opt.drainWait
	self := func(n *registry.Node) bool { return n.ID == r.Node().ID }
	if told != nil { // then it is called something else there
		self = func(n *registry.Node) bool { return n.Address == r.Node().Address }
	}
	if told == nil || errors.Is(told, registry.ErrReadOnly) && reg.Changes() {
		seen, cancelSeen := context.WithTimeout(ctx, spreadMost/2)
		if seenLeaving(seen, v, self) {
			wait = max(wait, 2*time.Since(began))
		}
		cancelSeen()
	}
	t := time.NewTimer(wait - time.Since(began))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// seenLeaving waits until discovery shows that the node which is self leaves, or does not show it any more.
func seenLeaving(ctx context.Context, v *registry.View, self func(*registry.Node) bool) bool {
	for {
		changed := v.Changed()
		if snap := v.Snapshot(); snap.Revision > 0 && !snap.Stale { // else nobody has said anything yet
			leaves := true
			for _, n := range snap.Nodes {
				leaves = leaves && (!self(n) || n.Draining || n.Absent)
			}
			if leaves {
				return true
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// probes answers GET /hull/ready and /hull/live, for whoever starts and watches processes: 200 or 503, and the phase in words.
func (s *Server) probes(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		if path != "/hull/ready" && path != "/hull/live" || r.Method != http.MethodGet && r.Method != http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		phase, why, _ := s.life.now()
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		if path == "/hull/ready" && phase != Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		text := phase.String()
		if why != "" {
			text += ": " + why
		}
		_, _ = fmt.Fprintln(w, text) // who does not wait for it does not want it
	})
}

// Serve runs servers until ctx ends or the process gets SIGTERM or SIGINT. Then they leave gently, side by side; a second signal closes them at once. If one
// fails the others leave too. Programs with other plans for signals call Server.Run.
func Serve(ctx context.Context, servers ...*Server) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(servers))
	var wg sync.WaitGroup
	for i, s := range servers {
		wg.Go(func() {
			defer cancel()
			errs[i] = s.Run(ctx)
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for n := 1; ; n++ {
		select {
		case <-done:
			return errors.Join(errs...)
		case sig := <-signals:
			for _, s := range servers {
				s.log.Info("signal", "service", s.service, "signal", sig.String(), "number", n)
				if n > 1 {
					_ = s.Close() // it does not fail
				}
			}
			cancel()
		}
	}
}

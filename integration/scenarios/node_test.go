package scenarios_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/fileregistry"
	"github.com/hull-go/hull/registry/natsregistry"
	"github.com/hull-go/hull/registry/staticregistry"
	"github.com/hull-go/hull/spec"
	"github.com/hull-go/hull/status"
)

const (
	methodDo   = "scenarios.Work/Do"
	methodPing = "scenarios.Work/Ping" // is not work
)

type request struct {
	Key  int  `json:",omitempty"`
	Hang bool `json:",omitempty"`
}

type reply struct{}

// nodeConfig is what a server's process is told, as JSON.
type nodeConfig struct {
	Registry string
	TTL      time.Duration
	Host     string
	Service  service
	// Patience is how long a handler waits for what is below, if nobody tells it.
	Patience   time.Duration
	Protection protection
	Document   *spec.Spec
	Seed       uint64
}

// trouble is what a node is told to suffer from now on.
type trouble struct {
	Stall time.Duration // no work begins for so long
	// Work takes Slow times as long, and a share Fail of the requests fails, For so long; 0 = for ever.
	Slow, Fail float64
	For        time.Duration
	Forget     bool // the cache is empty
}

// seen is what a node says of itself.
type seen struct {
	Started int64
	// Ran is for how long handlers have run together, Over how much of that was after their deadlines.
	Ran, Over time.Duration
	// Admission is for each second since the start how many run, may run, wait, and have been refused: 3/40+0-12.
	Admission []string
}

// node is a server under way.
type node struct {
	nodeConfig
	client *hull.Client
	jobs   chan *job
	slots  chan struct{}

	mu      sync.Mutex
	rnd     *rand.Rand
	trouble trouble
	until   time.Time // of slow and fail; zero = for ever
	stalled time.Time // until then
	busy    int
	seen    seen
	cache   map[int]bool
	flights map[int]*answer
}

// job is work that waits for one of the node's processors.
type job struct {
	ctx  context.Context
	at   time.Time
	done chan error
}

// answer is what a call below will have come to.
type answer struct {
	done chan struct{}
	err  error
}

// serveNode is the role of a server's process. It is told of trouble over a port of its own, which is no part of the play.
func serveNode(args []string, listening func(string)) error {
	n := &node{cache: map[int]bool{}, flights: map[int]*answer{}}
	if err := json.Unmarshal([]byte(args[0]), &n.nodeConfig); err != nil {
		return err
	}
	s := &n.Service
	n.rnd = rand.New(rand.NewPCG(n.Seed, uint64(os.Getpid())))
	for k := range s.Keys {
		n.cache[k+1] = true
	}
	if s.Cores > 0 {
		runtime.GOMAXPROCS(s.Cores)
		n.jobs = make(chan *job, 1<<17)
		for range s.Cores {
			go n.work()
		}
	}
	if s.Threads > 0 {
		n.slots = make(chan struct{}, s.Threads)
	}
	r, err := openRegistry(n.Registry, n.TTL)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if n.client, err = hull.NewClient(hull.WithRegistry(r), hull.WithSpec(n.Document)); err != nil {
		return err
	}
	opts := []hull.ServerOption{hull.WithRegistry(r), hull.WithSpec(n.Document), hull.WithLogger(log), hull.Addr(net.JoinHostPort(n.Host, "0"))}
	if !n.Protection.Admission {
		opts = append(opts, hull.WithLimits(hull.Limits{StreamsPerConn: 1 << 16})) // it takes on everything
	}
	srv, err := hull.NewServer(s.Name, opts...)
	if err != nil {
		return err
	}
	hull.Handle(srv, methodDo, n.do)
	hull.Handle(srv, methodPing, func(ctx context.Context, _ *request) (*reply, error) {
		if s.Below != "" {
			return hull.Call[reply](ctx, n.client.To(s.Below), methodPing, &request{}, hull.Idempotent())
		}
		return &reply{}, nil
	})
	go n.watch(srv)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /trouble", n.suffer)
	mux.HandleFunc("GET /seen", func(w http.ResponseWriter, _ *http.Request) {
		n.mu.Lock()
		defer n.mu.Unlock()
		_ = json.NewEncoder(w).Encode(n.seen)
	})
	control, err := serveControl(n.Host, mux)
	if err != nil {
		return err
	}
	go func() {
		<-srv.Ready()
		listening(control + " " + srv.Addr())
	}()
	if err := hull.Serve(context.Background(), srv); err != nil {
		return err
	}
	return errors.New("left")
}

// serveControl opens the port over which a process is told what to do.
func serveControl(host string, mux http.Handler) (addr string, err error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", err
	}
	go func() { _ = (&http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}).Serve(l) }() // until the process ends
	return l.Addr().String(), nil
}

func openRegistry(at string, ttl time.Duration) (*registry.Registry, error) {
	d, err := openDriver(at)
	if err != nil {
		return nil, err
	}
	return registry.New(d, registry.Options{TTL: ttl})
}

func openDriver(at string) (registry.Driver, error) {
	u, err := url.Parse(at)
	if err != nil {
		return nil, err
	}
	switch u.Scheme {
	case "nats":
		return natsregistry.FromURL(u)
	case "static":
		return staticregistry.FromURL(u)
	}
	return fileregistry.FromURL(u)
}

// watch notes how the server's admission stands, for who looks for the reason of a failure.
func (n *node) watch(srv *hull.Server) {
	for {
		pass(time.Second)
		a := srv.Snapshot().Admission
		n.mu.Lock()
		n.seen.Admission = append(n.seen.Admission, fmt.Sprintf("%d/%d+%d-%d", a.Running, a.Limit, a.Waiting, a.Refused.Limit))
		n.mu.Unlock()
	}
}

func (n *node) suffer(_ http.ResponseWriter, r *http.Request) {
	var t trouble
	if err := json.NewDecoder(r.Body).Decode(&t); err != nil {
		panic(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if t.Stall > 0 {
		n.stalled = now.Add(t.Stall)
	}
	if t.Forget {
		clear(n.cache)
	}
	n.trouble, n.until = t, time.Time{}
	if t.For > 0 {
		n.until = now.Add(t.For)
	}
}

// suffers returns what the node suffers from.
func (n *node) suffers(now time.Time) trouble {
	if !n.until.IsZero() && now.After(n.until) {
		return trouble{}
	}
	return n.trouble
}

// cost is how long work takes that begins now.
func (n *node) cost(now time.Time) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	d := float64(n.Service.Work)
	switch n.Service.Law {
	case spread:
		d *= 0.5 + n.rnd.Float64()
	case about:
		d *= n.rnd.ExpFloat64()
	case crowded:
		d += d * float64(n.busy) / 100
	}
	if t := n.suffers(now); t.Slow > 0 {
		d *= t.Slow
	}
	return time.Duration(d)
}

// work is one of the node's processors. It goes by when work should have begun and ended: what the timers of a busy machine add to each
// piece is not to be the service's.
func (n *node) work() {
	var free time.Time
	for j := range n.jobs {
		start := j.at
		if start.Before(free) {
			start = free
		}
		n.mu.Lock()
		if start.Before(n.stalled) {
			start = n.stalled
		}
		n.mu.Unlock()
		pass(time.Until(start))
		if n.Protection.Drop && j.ctx.Err() != nil {
			j.done <- j.ctx.Err()
			continue
		}
		free = start.Add(n.cost(start))
		pass(time.Until(free))
		j.done <- nil
	}
}

// do is the handler. Unless it is said otherwise it never looks whether anybody still waits.
func (n *node) do(ctx context.Context, req *request) (*reply, error) {
	began := time.Now()
	n.mu.Lock()
	n.seen.Started++
	n.busy++
	fails := n.rnd.Float64() < n.suffers(began).Fail
	n.mu.Unlock()
	defer func() {
		now := time.Now()
		n.mu.Lock()
		defer n.mu.Unlock()
		n.busy--
		n.seen.Ran += now.Sub(began)
		if deadline, ok := ctx.Deadline(); ok && now.After(deadline) {
			n.seen.Over += now.Sub(deadline)
		}
	}()
	if n.slots != nil {
		select {
		case n.slots <- struct{}{}:
			defer func() { <-n.slots }()
		default:
			return nil, status.Errorf(status.Unavailable, "no thread is free")
		}
	}
	if req.Hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if err := n.toil(ctx); err != nil {
		return nil, err
	}
	if fails {
		return nil, status.Errorf(status.Unavailable, "asked to fail")
	}
	if n.Service.Below != "" {
		if err := n.below(ctx, req.Key); err != nil {
			return nil, err
		}
	}
	return &reply{}, nil
}

// toil does the node's own work.
func (n *node) toil(ctx context.Context) error {
	if n.jobs != nil {
		j := &job{ctx, time.Now(), make(chan error, 1)}
		n.jobs <- j
		return <-j.done
	}
	if !n.Service.Heeds {
		pass(n.cost(time.Now()))
		return nil
	}
	select {
	case <-time.After(n.cost(time.Now())):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// below gets what is needed from the service below, or from the cache.
func (n *node) below(ctx context.Context, key int) error {
	if key == 0 {
		return n.call(ctx, 0)
	}
	n.mu.Lock()
	if n.cache[key] {
		n.mu.Unlock()
		return nil
	}
	a := n.flights[key]
	if a == nil || !n.Protection.Flight {
		a = &answer{done: make(chan struct{})}
		n.flights[key] = a
		fetch := func(ctx context.Context) {
			a.err = n.call(ctx, key)
			n.mu.Lock()
			defer n.mu.Unlock()
			if a.err == nil && n.Service.Keys > 0 {
				n.cache[key] = true
			}
			if n.flights[key] == a {
				delete(n.flights, key)
			}
			close(a.done)
		}
		if n.Protection.Fill {
			go fetch(context.WithoutCancel(ctx))
		} else {
			n.mu.Unlock()
			fetch(ctx)
			return a.err
		}
	}
	n.mu.Unlock()
	select {
	case <-a.done:
		return a.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// call calls the service below: with the context of whoever waits, if it travels, or else with one of its own.
func (n *node) call(ctx context.Context, key int) error {
	if !n.Protection.Travel {
		ctx = context.Background()
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, n.Patience)
		defer cancel()
	}
	_, err := hull.Call[reply](ctx, n.client.To(n.Service.Below), methodDo, &request{Key: key}, hull.Idempotent())
	return err
}

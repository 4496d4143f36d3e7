package scenarios_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/spec"
	"github.com/hull-go/hull/status"
)

// callerConfig is what a caller's process is told, as JSON.
type callerConfig struct {
	Registry  string
	TTL       time.Duration
	Directory string // see protection
	Document  *spec.Spec
	Loads     []load
	Last      time.Duration
	// Settle is how long after Last calls may take to end; what is under way then has failed. 0 = as long as they like.
	Settle time.Duration
	Seed   uint64
}

// call is what became of one.
type call struct {
	Load string
	// At is when it was due, since the beginning, and Took how long it took from then on: who measures is not to hide it when he is late himself.
	At, Took time.Duration
	OK       bool
	Why      string `json:",omitempty"`
	Attempts []attempt
}

type attempt struct {
	To    string        // the service
	Node  string        // its address
	Began time.Duration // since the beginning
}

// calls is what a caller has to say in the end.
type calls struct {
	Calls []call
	// Late is by how much the latest call began too late.
	Late time.Duration
}

// caller is a client under way.
type caller struct {
	callerConfig
	client *hull.Client
	nodes  *directory // nil = the client finds them
	began  time.Time
	wg     sync.WaitGroup

	mu  sync.Mutex
	out calls
}

// serveCaller is the role of a client's process. It begins when it is told to.
func serveCaller(args []string, listening func(string)) error {
	c := &caller{}
	if err := json.Unmarshal([]byte(args[0]), &c.callerConfig); err != nil {
		return err
	}
	r, err := openRegistry(c.Registry, c.TTL)
	if err != nil {
		return err
	}
	if c.client, err = hull.NewClient(hull.WithRegistry(r), hull.WithSpec(c.Document)); err != nil {
		return err
	}
	ctx := context.Background()
	if c.Directory != "" {
		d, err := openDriver(c.Registry)
		if err != nil {
			return err
		}
		c.nodes = &directory{keeps: c.Directory == "keep"}
		go c.nodes.watch(ctx, d, c.Loads[0].To)
	}
	for i := range c.Loads {
		if err := c.ping(ctx, c.Loads[i].To); err != nil {
			return err
		}
	}
	over := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("POST /begin", func(_ http.ResponseWriter, r *http.Request) {
		var at time.Time
		if err := json.NewDecoder(r.Body).Decode(&at); err != nil {
			panic(err)
		}
		c.began = time.Now().Add(time.Until(at)) // by this process's own monotonic clock
		for i := range c.Loads {
			c.wg.Go(func() { c.load(ctx, &c.Loads[i], rand.New(rand.NewPCG(c.Seed, uint64(i)))) })
		}
		go func() {
			c.wg.Wait()
			close(over)
		}()
	})
	mux.HandleFunc("GET /calls", func(w http.ResponseWriter, _ *http.Request) {
		if c.Settle > 0 {
			select {
			case <-over:
			case <-time.After(time.Until(c.began.Add(c.Last + c.Settle))):
			}
		} else {
			<-over
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		_ = json.NewEncoder(w).Encode(&c.out)
	})
	control, err := serveControl("127.0.0.1", mux)
	if err != nil {
		return err
	}
	listening(control)
	select {}
}

// ping makes sure that a service can be called: what is measured is not how it starts.
func (c *caller) ping(ctx context.Context, service string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var err error
	for ctx.Err() == nil {
		if _, err = hull.Call[reply](ctx, c.client.To(service), methodPing, &request{}, hull.Idempotent()); err == nil {
			return nil
		}
		pass(100 * time.Millisecond)
	}
	return fmt.Errorf("the first call: %w", err)
}

// load makes calls at a rate, whether answers come or not.
func (c *caller) load(ctx context.Context, l *load, rnd *rand.Rand) {
	share := float64(max(l.Clients, 1))
	for at := time.Duration(0); ; {
		at += time.Duration(rnd.ExpFloat64() * share / l.rate(at) * float64(time.Second))
		if at >= c.Last {
			return
		}
		req := &request{Hang: rnd.Float64() < l.Hang}
		if l.Keys > 0 && rnd.Float64() >= l.Fresh {
			req.Key = 1 + rnd.IntN(l.Keys)
		}
		pass(time.Until(c.began.Add(at)))
		c.wg.Go(func() { c.call(ctx, l, at, req) })
	}
}

func (c *caller) call(ctx context.Context, l *load, at time.Duration, req *request) {
	due := c.began.Add(at)
	late := time.Since(due)
	c.mu.Lock()
	n := len(c.out.Calls)
	c.out.Calls = append(c.out.Calls, call{Load: l.Name, At: at, Took: l.Patience, Why: "has not ended"})
	c.mu.Unlock()
	ctx, cancel := context.WithDeadline(ctx, due.Add(l.Patience))
	defer cancel()
	var info hull.CallInfo
	opts := []hull.CallOption{hull.Info(&info), hull.Criticality(l.Criticality)}
	if !l.Once {
		opts = append(opts, hull.Idempotent())
	}
	if req.Key != 0 {
		opts = append(opts, hull.Key(strconv.Itoa(req.Key)))
	}
	to, err := l.To, error(nil)
	if c.nodes != nil {
		to, err = c.nodes.next()
	}
	if err == nil {
		_, err = hull.Call[reply](ctx, c.client.To(to), methodDo, req, opts...)
	}
	done := call{Load: l.Name, At: at, Took: time.Since(due)}
	done.OK = err == nil && done.Took <= l.Limit
	switch {
	case err != nil:
		done.Why = fmt.Sprint(info.Class, " ", status.CodeOf(err), " ", info.Stopped)
	case !done.OK:
		done.Why = "late"
	}
	began := due.Add(max(late, 0)).Sub(c.began)
	for _, a := range info.Attempts {
		if a.Class != policy.ClassRefused {
			done.Attempts = append(done.Attempts, attempt{l.To, a.Address, began + a.Began})
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.Late = max(c.out.Late, late)
	c.out.Calls[n] = done
}

// directory is how programs find nodes that were written without a thought: the engine is asked, and believed.
type directory struct {
	keeps bool

	mu    sync.Mutex
	nodes []string
	turn  int
}

func (d *directory) watch(ctx context.Context, driver registry.Driver, service string) {
	for ctx.Err() == nil {
		_ = driver.Watch(ctx, service, func(u registry.Update) {
			var all []string
			for _, n := range u.Nodes {
				all = append(all, n.Address)
			}
			d.set(all)
		})
		if !d.keeps {
			d.set(nil)
		}
		pass(100 * time.Millisecond)
	}
}

func (d *directory) set(nodes []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.nodes = nodes
}

func (d *directory) next() (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.nodes) == 0 {
		return "", status.Errorf(status.Unavailable, "the registry knows of nobody")
	}
	d.turn++
	return "hull://" + d.nodes[d.turn%len(d.nodes)], nil
}

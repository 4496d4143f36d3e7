package hulltest_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/idempotency"
	"github.com/hull-go/hull/idempotency/storetest"
	"github.com/hull-go/hull/internal/invariant"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/status"
)

var (
	soakFor  = flag.Duration("soak", 3*time.Minute, "how much virtual time TestSoak takes")
	soakSeed = flag.Uint64("soak.seed", 1, "the seed of TestSoak's faults; 0 = a new one")
)

// soak is a tree of services under load: callers, edges and leaves, of which something is always broken.
type soak struct {
	t     *testing.T
	w     *hulltest.World
	check *invariant.Checker
	ids   atomic.Uint64
	calls sync.WaitGroup

	mu      sync.Mutex
	rnd     *rand.Rand
	fault   string      // the one at work, or the last one
	calm    policy.Time // when the last fault had ended; 0 = one is at work
	tally   map[string]*tally
	clients []*hull.Client
	views   []*registry.View // of the services that they call
	was     map[string]breaker.Snapshot
	victim  string // whom the fault befell; "*" = anybody
	sick    bool   // the method that can be is

	spells *invariant.Spells
	over   []invariant.Spell // that have ended while a fault was at work
	known  map[string]bool   // clients that have seen nodes
}

// tally is what became of the idempotent root calls that began under a fault, or in the calm long after it.
type tally struct{ offered, failed, calm, calmFailed int }

type soakRequest struct{ Ms int }
type soakReply struct{ Node string }

const (
	soakNodes = 3
	recovery  = 5 * time.Second
	// disbelief is how long a registry disbelieves at most that nodes have gone which do not come back: as long as a lease, and another.
	disbelief = time.Minute
)

// overload offers a service whose workers do so many calls a second twice as many, of which most matter little, and then half as many.
func (s *soak) overload() {
	const workers, work = 8, 40 * time.Millisecond
	const capacity = float64(workers) * float64(time.Second) / float64(work)
	free := make(chan struct{}, workers)
	s.w.Serve("scarce", "scarce-0", func(srv *hull.Server) {
		hull.Handle(srv, "soak.Scarce/Get", func(ctx context.Context, _ *soakRequest) (*soakReply, error) {
			s.begins(ctx, srv, "scarce", false)
			select {
			case free <- struct{}{}:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			defer func() { <-free }()
			time.Sleep(work)
			return &soakReply{srv.NodeID()}, nil
		}, hull.Idempotent())
	})
	c := s.w.Client("crowd")
	offer := func(load float64, sheddable int, learning, d time.Duration) {
		from := policy.Now()
		for next := from; next < from.Add(learning+d); next = next.Add(time.Duration(float64(time.Second) / capacity / load)) {
			time.Sleep(next.Sub(policy.Now()))
			class := policy.Critical
			if s.intn(100) < sheddable {
				class = policy.Sheddable
			}
			s.calls.Go(func() {
				ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
				defer cancel()
				_, _, _ = s.call(ctx, "", c, "scarce", "soak.Scarce/Get", &soakRequest{}, false, true, class) // the checker is told
			})
		}
		s.check.Phase(invariant.Phase{Service: "scarce", From: from.Add(learning), To: from.Add(learning + d), Capacity: capacity})
		s.calls.Wait()
	}
	offer(2, 65, 10*time.Second, 15*time.Second)
	offer(0.5, 0, 5*time.Second, 10*time.Second)
}

func TestSoak(t *testing.T) {
	seed := *soakSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-soak.seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		s := &soak{t: t, w: hulltest.New(t), check: invariant.New(invariant.Options{Burst: 200}), rnd: rand.New(rand.NewPCG(seed, 1)),
			tally: map[string]*tally{}, was: map[string]breaker.Snapshot{}, spells: invariant.NewSpells(), known: map[string]bool{}}
		s.overload()
		keys := idempotency.Options{Store: storetest.NewMem(), Keep: time.Minute, TTL: 2 * time.Second}
		for i := range soakNodes {
			s.w.Serve("leaf", fmt.Sprintf("leaf-%d", i), s.leaf)
		}
		for i := range soakNodes {
			name := fmt.Sprintf("edge-%d", i)
			below := s.client(name)
			s.w.Serve("edge", name, func(srv *hull.Server) { s.edge(srv, below) }, hull.WithIdempotency(keys))
		}
		roots := []*hull.Client{s.client("caller-0"), s.client("caller-1")}
		ctx, cancel := context.WithTimeout(t.Context(), *soakFor)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() { s.breakThings(ctx) })
		wg.Go(func() { s.watch(ctx) })
		for _, c := range roots {
			wg.Go(func() { s.load(ctx, c) })
		}
		wg.Wait()
		s.calls.Wait()
		time.Sleep(time.Minute) // everything comes to rest
		s.look()
		s.rest()
		s.judge()
	})
}

func (s *soak) client(host string) *hull.Client {
	c := s.w.Client(host)
	s.clients = append(s.clients, c)
	service := "leaf"
	if len(s.clients) > soakNodes {
		service = "edge"
	}
	v := c.Registry().Open(service)
	s.t.Cleanup(func() { _ = v.Close() })
	s.views = append(s.views, v)
	return c
}

func (s *soak) intn(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rnd.IntN(n)
}

// between draws a time.
func (s *soak) between(from, to time.Duration) time.Duration {
	return from + time.Duration(s.intn(int(to-from)))
}

// begins tells the checker of a handler, as the first thing that the handler does.
func (s *soak) begins(ctx context.Context, srv *hull.Server, service string, once bool) {
	now := policy.Now()
	st := invariant.Start{Service: service, Node: srv.NodeID(), Once: once, At: now}
	if id := metadata.ValueFromIncomingContext(ctx, "x-call"); len(id) == 1 {
		st.Call, _ = strconv.ParseUint(id[0], 10, 64)
	}
	if want := metadata.ValueFromIncomingContext(ctx, "x-service"); len(want) == 1 {
		st.WantService = want[0]
	}
	if key := metadata.ValueFromIncomingContext(ctx, "x-key"); len(key) == 1 {
		st.Key = key[0]
	}
	if ctx.Err() != nil {
		st.Over = now - 1
	}
	s.check.Start(st)
}

// leaf serves reads and writes, which take the time that they are asked to.
func (s *soak) leaf(srv *hull.Server) {
	serve := func(once bool) func(context.Context, *soakRequest) (*soakReply, error) {
		return func(ctx context.Context, r *soakRequest) (*soakReply, error) {
			s.begins(ctx, srv, "leaf", once)
			select {
			case <-time.After(time.Duration(r.Ms) * time.Millisecond):
				return &soakReply{srv.NodeID()}, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
	hull.Handle(srv, "soak.Leaf/Get", serve(false), hull.Idempotent())
	hull.Handle(srv, "soak.Leaf/Put", serve(true))
}

// edge serves by asking a leaf.
func (s *soak) edge(srv *hull.Server, below *hull.Client) {
	serve := func(method string, once bool) func(context.Context, *soakRequest) (*soakReply, error) {
		return func(ctx context.Context, r *soakRequest) (*soakReply, error) {
			s.begins(ctx, srv, "edge", once)
			if _, _, err := s.call(ctx, srv.NodeID(), below, "leaf", "soak.Leaf/"+method, r, once, false, policy.Critical); err != nil {
				return nil, err
			}
			return &soakReply{srv.NodeID()}, nil
		}
	}
	hull.Handle(srv, "soak.Edge/Get", serve("Get", false), hull.Idempotent())
	hull.Handle(srv, "soak.Edge/Put", serve("Put", true))
	hull.Handle(srv, "soak.Edge/Pay", serve("Get", false))
	hull.Handle(srv, "soak.Edge/Sick", func(context.Context, *soakRequest) (*soakReply, error) {
		if s.isSick() {
			return nil, status.Errorf(status.Unavailable, "as it was told to be")
		}
		return &soakReply{srv.NodeID()}, nil
	})
}

func (s *soak) isSick() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sick
}

// call makes a call and tells the checker all about it.
func (s *soak) call(ctx context.Context, process string, c *hull.Client, service, method string, r *soakRequest, once, root bool, class policy.Criticality) (*soakReply, *hull.CallInfo, error) {
	id := s.ids.Add(1)
	offer := invariant.Call{ID: id, Service: service, Root: root, Once: once, Criticality: class, Process: process, At: policy.Now()}
	if d, ok := ctx.Deadline(); ok {
		offer.Deadline = policy.At(d)
	}
	s.check.Offer(offer)
	opts, md := []hull.CallOption{hull.Criticality(class)}, metadata.Pairs("x-call", fmt.Sprint(id), "x-service", service)
	keyed := method == "soak.Edge/Pay"
	if keyed {
		key := fmt.Sprint("pay-", id)
		opts = append(opts, hull.IdempotencyKey(key))
		md.Set("x-key", key)
	}
	conn, victim := c.To(service), s.hit()
	before := fit(conn, victim)
	var info hull.CallInfo
	rep, err := hull.Call[soakReply](metadata.NewOutgoingContext(ctx, md), conn, method, r, append(opts, hull.Info(&info))...)
	end := invariant.End{ID: id, Outcome: invariant.OK, Class: info.Class, Key: service + "/" + method, Fate: status.FateOf(err),
		Shed: info.Class == policy.ClassShed || info.Class == policy.ClassRefused, At: policy.Now()}
	if info.Class == policy.ClassRefused {
		end.Outcome = invariant.Refused
	} else if err != nil {
		end.Outcome = invariant.Failed
	}
	s.check.End(end)
	if rep != nil && !keyed { // a key's first answer is everybody's
		s.check.Answered(rep.Node, info.Node, end.At)
	}
	if s.hit() != victim {
		before = nil
	}
	after, tried := fit(conn, victim), []string{}
	for i, a := range info.Attempts {
		said := invariant.Attempt{Call: id, N: i, Service: service, Node: a.Node, Paid: true, Hedge: a.Hedge, Tried: slices.Clone(tried), Same: keyed}
		for _, n := range before {
			if slices.Contains(after, n) {
				said.Eligible = append(said.Eligible, n)
			}
		}
		tried = append(tried, a.Node)
		if i > 0 && info.Attempts[i-1].Class == policy.ClassDownstream {
			said.Before = &status.Error{Origin: status.Downstream}
		}
		s.check.Attempt(said)
	}
	return rep, &info, err
}

// hit is whom the fault befell that is at work, or was the last.
func (s *soak) hit() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.victim
}

// fit are the nodes that a client chooses from and that no fault befell.
func fit(c *hull.Conn, victim string) (ids []string) {
	for _, n := range c.Explain() {
		if n.State == balance.Ready && n.Considered && n.ID != victim && victim != "*" {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// load makes root calls at a rate, whether answers come or not.
func (s *soak) load(ctx context.Context, c *hull.Client) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		once, ms, other := s.intn(4) == 0, s.intn(20), s.intn(20)
		timeout := 2 * time.Second
		if s.intn(50) == 0 {
			timeout = time.Duration(1+s.intn(50)) * time.Millisecond // a caller in a hurry
		}
		s.calls.Go(func() {
			ctx, cancel := context.WithTimeout(s.t.Context(), timeout)
			defer cancel()
			method := "soak.Edge/Get"
			switch {
			case other == 0:
				once, method = false, "soak.Edge/Pay"
			case other <= 2:
				once, method = false, "soak.Edge/Sick"
			case once:
				method = "soak.Edge/Put"
			}
			fault, calm := s.state()
			_, info, err := s.call(ctx, "", c, "edge", method, &soakRequest{ms}, once, true, policy.Critical)
			if now, still := s.state(); !still {
				fault, calm = now, false // it has come meanwhile
			}
			if !once && other > 2 && timeout == 2*time.Second {
				s.count(fault, calm, info, err)
			}
		})
	}
}

// state is which fault is at work, or was the last, and whether that is long ago.
func (s *soak) state() (fault string, calm bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault, s.calm != 0 && policy.Now().Sub(s.calm) >= recovery
}

func (s *soak) count(fault string, calm bool, info *hull.CallInfo, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tally[fault]
	if t == nil {
		t = new(tally)
		s.tally[fault] = t
	}
	failed := 0
	if err != nil {
		failed = 1
	}
	if calm {
		t.calm++
		t.calmFailed += failed
		if err != nil && t.calmFailed < 4 {
			s.t.Logf("in the calm after %s: %v, %+v", fault, err, *info)
		}
		return
	}
	t.offered++
	t.failed += failed
	if err != nil && t.failed < 4 {
		s.t.Logf("during %s: %v, %+v", fault, err, *info)
	}
}

// node draws one of a service's nodes, by name.
func (s *soak) node() *hulltest.Node {
	service := []string{"edge", "leaf"}[s.intn(2)]
	name := fmt.Sprintf("%s-%d", service, s.intn(soakNodes))
	s.mu.Lock()
	s.victim = name
	s.mu.Unlock()
	return s.w.Node(name)
}

// soakFaults are what can be broken. Each returns when all is well again.
var soakFaults = map[string]func(*soak, time.Duration){
	"kill": func(s *soak, d time.Duration) {
		n := s.node()
		n.Kill()
		time.Sleep(d)
		n.Restart()
	},
	"freeze": func(s *soak, d time.Duration) {
		n := s.node()
		from := policy.Now()
		n.Freeze()
		time.Sleep(d)
		n.Thaw()
		s.check.Stall(n.Host.Name(), from, policy.Now()) // of its network at least, which its calls wait for
	},
	"cut": func(s *soak, d time.Duration) {
		n := s.node()
		n.Cut(true)
		time.Sleep(d)
		n.Cut(false)
	},
	"slow": func(s *soak, d time.Duration) {
		n := s.node()
		n.Slow(300 * time.Millisecond)
		time.Sleep(d)
		n.Slow(0)
	},
	"drain": func(s *soak, _ time.Duration) {
		n := s.node()
		n.Stop()
		n.Restart()
	},
	"reset": func(s *soak, d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
			n := s.node()
			s.mu.Lock()
			s.victim = "*"
			s.mu.Unlock()
			s.w.Network.Pair(n.Host.Name(), "*").Cut()
		}
	},
	"sick": func(s *soak, d time.Duration) {
		set := func(sick bool) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.sick, s.victim = sick, "*"
		}
		set(true)
		time.Sleep(d + 10*time.Second) // a breaker wants twenty calls
		set(false)
	},
	"registry down": func(s *soak, d time.Duration) {
		s.w.Registry.SetDown(true)
		time.Sleep(d)
		s.w.Registry.SetDown(false)
	},
	"registry silent": func(s *soak, d time.Duration) {
		s.w.Registry.SetSilent(true)
		time.Sleep(d)
		s.w.Registry.SetSilent(false)
	},
	"registry empty": func(s *soak, d time.Duration) {
		s.w.Registry.SetEmpty(true)
		time.Sleep(d)
		s.w.Registry.SetEmpty(false)
	},
	"registry down and kill": func(s *soak, d time.Duration) {
		s.w.Registry.SetDown(true)
		n := s.node()
		n.Kill()
		time.Sleep(d)
		s.w.Registry.SetDown(false)
		n.Restart()
	},
}

// breakThings plants one fault after the other, with a calm between them, until ctx ends.
func (s *soak) breakThings(ctx context.Context) {
	names := slices.Sorted(maps.Keys(soakFaults))
	for name := "sick"; ; name = names[s.intn(len(names))] { // first what opens breakers
		select {
		case <-time.After(s.between(recovery, 4*recovery)):
		case <-ctx.Done():
			return
		}
		s.mark(name, 0)
		from := policy.Now()
		soakFaults[name](s, s.between(time.Second, 30*time.Second))
		s.check.Caused("fault", from, policy.Now())
		s.mark(name, policy.Now())
	}
}

func (s *soak) mark(fault string, calm policy.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault, s.calm = fault, calm
}

// watch looks at what the clients make of the world.
func (s *soak) watch(ctx context.Context) {
	for ctx.Err() == nil {
		s.look()
		time.Sleep(time.Second)
	}
}

func (s *soak) look() {
	now := policy.Now()
	for i, c := range s.clients {
		service := "leaf"
		if i >= soakNodes {
			service = "edge"
		}
		conn, who := c.To(service), fmt.Sprintf("client %d %s", i, service)
		in := func(state, key string, since policy.Time, most time.Duration) {
			s.spells.See(invariant.Spell{State: state, Key: who + "/" + key, Cause: "fault", From: since, Max: most}, now)
		}
		nodes := conn.Explain()
		s.known[who] = s.known[who] || len(nodes) > 0
		view := invariant.Nodes{Service: service, Known: len(nodes), MaxEjected: len(nodes) / 2, Live: soakNodes - 1, Young: !s.known[who], At: now} // a fault befalls one
		for _, n := range nodes {
			if n.State != balance.Ejected {
				continue
			}
			view.Ejected++
			in("ejected", n.ID, n.Since, n.Until.Sub(n.Since))
			if n.Considered {
				view.FailingOpen, view.Said = true, n.Why != ""
			}
		}
		if s.known[who] {
			s.check.Nodes(view)
		}
		for name, m := range conn.Methods() {
			key := who + "/" + name
			if was := s.was[key]; was.State == breaker.Closed && m.Breaker.State == breaker.Open {
				s.check.BreakerOpened(service+"/"+name, 12*time.Second, m.Breaker.Since)
			}
			s.was[key] = m.Breaker
			if b := &m.Breaker; b.State == breaker.Open {
				in("open", name, b.Since, b.Until.Sub(b.Since))
			}
		}
		if snap := s.views[i].Snapshot(); snap.Disbelieved > 0 {
			in("disbelieving", "", policy.At(snap.Since), disbelief)
		}
	}
	s.over = append(s.over, s.spells.Next()...)
	if _, calm := s.state(); calm {
		for _, sp := range s.over {
			s.check.Spell(sp)
		}
		s.over = nil
	}
}

// rest tells the checker what is left when all calls have ended.
func (s *soak) rest() {
	for i, c := range s.clients {
		for _, p := range c.Connections() {
			s.check.Gauge(fmt.Sprintf("calls of client %d in flight to %s", i, p.Addr), p.InFlight, 0)
		}
		for _, service := range []string{"edge", "leaf"} {
			for _, n := range c.To(service).Explain() {
				s.check.Gauge(fmt.Sprintf("client %d's attempts at %s", i, n.ID), n.InFlight, 0)
			}
		}
	}
	for i := range soakNodes {
		for _, service := range []string{"edge", "leaf"} {
			name := fmt.Sprintf("%s-%d", service, i)
			s.check.Gauge("calls that run on "+name, int(s.w.Node(name).Server.Snapshot().InFlight), 0)
		}
	}
}

func (s *soak) judge() {
	r := s.check.Report(policy.Now())
	if err := r.Err(); err != nil {
		s.t.Error(err)
	}
	s.t.Logf("%d calls: %v; judged %v", r.Offered, r.Ended, r.Judged)
	// Whether anything is tried again is up to the faults of a short soak.
	if left := r.Untested(1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15); len(left) > 0 {
		s.t.Errorf("nothing was seen of the invariants %v", left)
	}
	for _, fault := range slices.Sorted(maps.Keys(s.tally)) {
		t := s.tally[fault]
		s.t.Logf("%-24s %5d calls, %3d failed; %5d in the calm after it, %d failed", fault, t.offered, t.failed, t.calm, t.calmFailed)
		if t.calmFailed > t.calm/200 || t.failed > t.offered/200 {
			s.t.Errorf("%s: %d of %d calls failed, and %d of %d in the calm after it", fault, t.failed, t.offered, t.calmFailed, t.calm)
		}
	}
}

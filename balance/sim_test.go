package balance

import (
	"container/heap"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// sim is an event loop in which calls arrive at a rate (open loop) and servers have slots and a queue.
type sim struct {
	t    testing.TB
	now  policy.Time
	seq  int
	heap events
	rnd  *rand.Rand
	src  *rand.PCG
	p    *Picker

	clients  []*Picker // nil = p alone
	reports  bool      // answers say how much their server has in flight
	keys     uint64    // calls have one of so many keys; 0 = none
	servers  map[string]*server
	timeout  time.Duration // of an attempt
	attempts int           // per call

	measuring       bool
	took            []time.Duration // of the calls that were offered while measuring
	offered, failed int
	picks           map[string]int
	flying          map[string]map[int]func(policy.Class) // how attempts at a node can be ended from outside
}

type server struct {
	slots   int
	service func(r *rand.Rand) time.Duration
	// class is how it answers; fault decides at arrival: hung servers answer nothing, refusing ones at once.
	class func(r *rand.Rand) policy.Class
	hung  bool
	busy  int
	queue []func()
	// inFlight is how many attempts it has, in slots and queue, of all clients.
	inFlight int
}

type event struct {
	at  policy.Time
	seq int
	do  func()
}

type events []event

func (h events) Len() int { return len(h) }
func (h events) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].seq < h[j].seq
}
func (h events) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *events) Push(x any)   { *h = append(*h, x.(event)) }
func (h *events) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}

func exponential(mean time.Duration) func(*rand.Rand) time.Duration {
	return func(r *rand.Rand) time.Duration { return time.Duration(r.ExpFloat64() * float64(mean)) }
}

// newSim returns servers of 8 slots that take 10 ms on average.
func newSim(t testing.TB, seed uint64, o Options, nodes int) *sim {
	src := rand.NewPCG(seed, 7)
	s := &sim{t: t, now: start, src: src, rnd: rand.New(src), timeout: 20 * time.Second, attempts: 1,
		servers: map[string]*server{}, picks: map[string]int{}, flying: map[string]map[int]func(policy.Class){}}
	s.p = picker(t, o, fleet(nodes)...)
	for _, n := range s.p.Nodes() {
		s.flying[n.ID()] = map[int]func(policy.Class){}
		s.servers[n.ID()] = &server{slots: 8, service: exponential(10 * time.Millisecond)}
	}
	return s
}

func (s *sim) after(d time.Duration, do func()) {
	s.seq++
	heap.Push(&s.heap, event{s.now.Add(d), s.seq, do})
}

// run offers rate calls a second for d, then lets what is under way end.
func (s *sim) run(rate float64, d time.Duration) {
	end := s.now.Add(d)
	var arrive func()
	arrive = func() {
		if s.now >= end {
			return
		}
		s.call()
		s.after(time.Duration(s.rnd.ExpFloat64()/rate*float64(time.Second)), arrive)
	}
	s.after(0, arrive)
	for len(s.heap) > 0 && s.heap[0].at <= end {
		s.step()
	}
	s.now = end
}

func (s *sim) drain() {
	for len(s.heap) > 0 {
		s.step()
	}
}

func (s *sim) step() {
	e := heap.Pop(&s.heap).(event)
	s.now = e.at
	e.do()
}

func (s *sim) call() {
	began, measured := s.now, s.measuring
	if measured {
		s.offered++
	}
	c := &policy.Call{Idempotent: s.attempts > 1}
	if s.keys > 0 {
		c.Hash = mix(1 + s.rnd.Uint64N(s.keys))
	}
	p := s.p
	if s.clients != nil {
		p = s.clients[s.rnd.IntN(len(s.clients))]
	}
	var tried []policy.Node
	var try func()
	finish := func(class policy.Class) {
		if class != policy.ClassOK && len(tried) < s.attempts {
			try()
			return
		}
		if !measured {
			return
		}
		if class != policy.ClassOK {
			s.failed++
		}
		s.took = append(s.took, s.now.Sub(began))
	}
	try = func() {
		n, v := p.Pick(s.now, s.src, c, tried)
		if v.Decision != policy.Admit {
			finish(policy.ClassRefused)
			return
		}
		if s.measuring {
			s.picks[n.ID()]++
		}
		tried = append(tried, n)
		ended := false
		s.seq++
		id := s.seq
		end := func(class policy.Class) {
			if ended {
				return
			}
			ended = true
			s.servers[n.ID()].inFlight--
			delete(s.flying[n.ID()], id)
			if s.reports && class == policy.ClassOK {
				n.(*Node).Report(s.servers[n.ID()].inFlight)
			}
			p.Done(s.now, s.src, n, v.Permit, policy.Ended{Class: class, Took: s.now.Sub(v.Permit.Start)})
			finish(class)
		}
		s.flying[n.ID()][id] = end
		s.servers[n.ID()].inFlight++
		s.after(s.timeout, func() { end(policy.ClassTimeout) })
		s.servers[n.ID()].serve(s, &ended, end)
	}
	try()
}

func (v *server) serve(s *sim, gone *bool, end func(policy.Class)) {
	if v.hung {
		return
	}
	class := policy.ClassOK
	if v.class != nil {
		class = v.class(s.rnd)
	}
	if class == policy.ClassUnsent {
		s.after(200*time.Microsecond, func() { end(class) })
		return
	}
	work := func() {
		s.after(v.service(s.rnd), func() {
			v.busy--
			v.next()
			end(class)
		})
	}
	if v.busy < v.slots {
		v.busy++
		work()
		return
	}
	v.queue = append(v.queue, func() {
		if *gone {
			v.busy--
			v.next()
			return
		}
		work()
	})
}

func (v *server) next() {
	if len(v.queue) > 0 {
		w := v.queue[0]
		v.queue = v.queue[1:]
		v.busy++
		w()
	}
}

func (s *sim) quantile(q float64) time.Duration {
	slices.Sort(s.took)
	return s.took[min(len(s.took)-1, int(q*float64(len(s.took))))]
}

func (s *sim) share(id string) float64 {
	total := 0
	for _, n := range s.picks {
		total += n
	}
	return float64(s.picks[id]) / float64(total)
}

// TestGrayReplica is scenario 10: ten nodes of eight slots at half load, one ten times slower.
func TestGrayReplica(t *testing.T) {
	measure := func(seed uint64, name string) time.Duration {
		strategy, _ := StrategyNamed(name)
		o := Options{Strategy: strategy}
		if name == "round-robin" {
			o.Ejection.Mode = policy.Off
		}
		s := newSim(t, seed, o, 10)
		s.servers["n03"].service = exponential(100 * time.Millisecond)
		s.run(4000, 2*time.Second)
		s.measuring = true
		s.run(4000, 3*time.Second)
		s.drain()
		if in := s.p.Snapshot(s.now).InFlight; in != 0 {
			t.Errorf("seed %d, %s: %d in flight at the end", seed, name, in)
		}
		return s.quantile(0.99)
	}
	var worst time.Duration
	for seed := range uint64(seeds) {
		rr := measure(seed, "round-robin")
		p99 := measure(seed, "p2c")
		worst = max(worst, p99)
		if p99 > rr/10 {
			t.Errorf("seed %d: p99 %v, round robin %v: want at least 90 %% less", seed, p99, rr)
		}
		if seed == 0 {
			lc := measure(seed, "least-connections")
			t.Logf("seed 0: p99 round robin %v, p2c %v, least connections %v", rr, p99, lc)
		}
	}
	t.Logf("p2c: worst p99 of %d seeds %v", seeds, worst)
	if worst > 65*time.Millisecond {
		t.Errorf("worst p99 %v, want at most 65 ms, that of P2C without latencies", worst)
	}
}

// TestEvenFleet: on nodes that are all alike P2C is not worse than round robin.
func TestEvenFleet(t *testing.T) {
	const evenSeeds = (seeds + 6) / 8
	for _, load := range []float64{0.3, 0.5, 0.8} {
		var rr, p2c time.Duration
		for seed := range uint64(evenSeeds) {
			for _, name := range []string{"round-robin", "p2c"} {
				strategy, _ := StrategyNamed(name)
				s := newSim(t, seed, Options{Strategy: strategy}, 10)
				s.run(8000*load, time.Second)
				s.measuring = true
				s.run(8000*load, 3*time.Second)
				s.drain()
				if name == "p2c" {
					p2c += s.quantile(0.99)
				} else {
					rr += s.quantile(0.99)
				}
			}
		}
		t.Logf("load %.1f: mean p99 round robin %v, p2c %v", load, rr/evenSeeds, p2c/evenSeeds)
		if float64(p2c) > 1.05*float64(rr) {
			t.Errorf("load %.1f: p2c p99 %v, round robin %v: want at most 5 %% more", load, p2c/5, rr/5)
		}
	}
}

// TestFastFailerAttractsNobody: a node that fails in 0.1 ms, with ejection and without.
func TestFastFailerAttractsNobody(t *testing.T) {
	for _, mode := range []policy.Mode{policy.On, policy.Off} {
		for _, class := range []policy.Class{policy.ClassUnavailable, policy.ClassInternal, policy.ClassUnsent, policy.ClassDownstream} {
			for seed := range uint64((seeds + 3) / 4) {
				s := newSim(t, seed, Options{Ejection: Ejection{Mode: mode}}, 10)
				s.run(1000, 2*time.Second)
				s.servers["n03"].service = exponential(100 * time.Microsecond)
				s.servers["n03"].class = func(*rand.Rand) policy.Class { return class }
				s.measuring = true
				s.run(1000, 20*time.Second)
				if got := s.share("n03"); got >= 0.01 {
					t.Errorf("seed %d, ejection %v: a node that answers %v got %.2f %% of the calls, want less than 1 %%", seed, mode, class, 100*got)
				}
			}
		}
	}
}

// TestHalfDead is scenario 18: one node hangs, another refuses; callers notice, and lose at most one attempt timeout.
func TestHalfDead(t *testing.T) {
	const timeout = 500 * time.Millisecond
	for _, name := range []string{"p2c", "round-robin"} {
		var most int
		var worst time.Duration
		for seed := range uint64(seeds) {
			strategy, _ := StrategyNamed(name)
			s := newSim(t, seed, Options{Strategy: strategy}, 5)
			s.timeout, s.attempts = timeout, 3
			s.run(1000, 3*time.Second)
			s.servers["n01"].hung = true
			s.servers["n02"].class = func(*rand.Rand) policy.Class { return policy.ClassUnsent }
			s.measuring = true
			s.run(1000, timeout)
			first := s.picks["n01"]
			refused := s.picks["n02"]
			s.run(1000, 10*time.Second)
			later := s.picks["n01"] - first
			most = max(most, first)
			if refused > 3 { // one more than meet in the 0.2 ms until the first is refused
				t.Errorf("seed %d, %s: %d attempts at the refusing node within %v, want the first, one beside it, and a probe", seed, name, refused, timeout)
			}
			if n := s.picks["n02"]; n > 13 {
				t.Errorf("seed %d, %s: %d attempts at the refusing node in 10.5 s, want one a second", seed, name, n)
			}
			if later > 11 {
				t.Errorf("seed %d, %s: %d attempts at the hung node in the 10 s after its first timeout, want one a second", seed, name, later)
			}
			s.servers["n01"].hung = false
			s.servers["n02"].class = nil
			returned := s.now
			s.run(1000, 3*time.Second)
			if snap := s.p.Snapshot(s.now); snap.Pool != 5 {
				t.Errorf("seed %d, %s: 3 s after their return: %+v\n%v", seed, name, snap, s.p.Explain(s.now))
			}
			s.picks = map[string]int{}
			s.run(1000, 2*time.Second)
			for id := range s.servers {
				if got := s.share(id); got < 0.1 {
					t.Errorf("seed %d, %s: node %s got %.0f %% of the calls %v after the return", seed, name, id, 100*got, s.now.Sub(returned))
				}
			}
			s.drain()
			if s.failed != 0 {
				t.Errorf("seed %d, %s: %d of %d calls failed, want none", seed, name, s.failed, s.offered)
			}
			worst = max(worst, s.quantile(0.999))
		}
		t.Logf("%s: at most %d attempts at the hung node before its first timeout; worst p99.9 of %d seeds %v", name, most, seeds, worst)
		if limit := map[string]int{"p2c": 20, "round-robin": 60}[name]; most > limit {
			t.Errorf("%s: %d attempts at the hung node before its first timeout, want at most %d", name, most, limit)
		}
	}
}

// TestKilledNode: a node dies with calls in flight. After the first broken connection it gets one call a second.
func TestKilledNode(t *testing.T) {
	for _, name := range []string{"p2c", "round-robin"} {
		for seed := range uint64(seeds) {
			strategy, _ := StrategyNamed(name)
			s := newSim(t, seed, Options{Strategy: strategy}, 3)
			s.attempts = 3
			s.run(1000, 2*time.Second)
			v := s.servers["n01"]
			v.hung = true // until the broken connections are seen
			s.run(1000, time.Millisecond)
			*v = server{slots: 8, service: v.service, class: func(*rand.Rand) policy.Class { return policy.ClassUnsent }}
			s.measuring = true
			for _, id := range slices.Sorted(maps.Keys(s.flying["n01"])) {
				s.flying["n01"][id](policy.ClassReset)
			}
			s.run(1000, 5*time.Second)
			if got := s.picks["n01"]; got > 6 {
				t.Errorf("seed %d, %s: %d attempts at a dead node in 5 s, want one a second", seed, name, got)
			}
			s.drain()
			if s.failed != 0 {
				t.Errorf("seed %d, %s: %d of %d calls failed", seed, name, s.failed, s.offered)
			}
		}
	}
}

// TestAllReturn: all nodes refuse for ten seconds and come back; within two seconds all serve again.
func TestAllReturn(t *testing.T) {
	for seed := range uint64(seeds) {
		s := newSim(t, seed, Options{}, 3)
		s.attempts = 3
		s.run(300, 2*time.Second)
		for _, v := range s.servers {
			v.class = func(*rand.Rand) policy.Class { return policy.ClassUnsent }
		}
		s.run(300, 10*time.Second)
		for _, v := range s.servers {
			v.class = nil
		}
		s.run(300, 50*time.Millisecond)
		s.measuring = true
		s.run(300, 2*time.Second)
		if s.failed > 0 {
			t.Errorf("seed %d: %d calls failed after the return", seed, s.failed)
		}
		if snap := s.p.Snapshot(s.now); snap.Pool != 3 {
			t.Errorf("seed %d: 2 s after the return: %+v", seed, snap)
		}
	}
}

// TestErraticNode: one of three fails half of its calls, which is what the demo's fault does.
func TestErraticNode(t *testing.T) {
	for _, name := range []string{"p2c", "round-robin"} {
		worst := 0.0
		for seed := range uint64(seeds) {
			strategy, _ := StrategyNamed(name)
			s := newSim(t, seed, Options{Strategy: strategy}, 3)
			s.run(300, 2*time.Second)
			s.servers["n01"].class = func(r *rand.Rand) policy.Class {
				if r.IntN(2) == 0 {
					return policy.ClassUnavailable
				}
				return policy.ClassOK
			}
			s.measuring = true
			s.run(300, 20*time.Second)
			worst = max(worst, s.share("n01"))
		}
		t.Logf("%s: a node that fails every second call got at most %.1f %% of all calls", name, 100*worst)
		if limit := map[string]float64{"p2c": 0.02, "round-robin": 0.1}[name]; worst > limit {
			t.Errorf("%s: a node that fails every second call got %.1f %% of all calls, want at most %.0f %%", name, 100*worst, 100*limit)
		}
	}
}

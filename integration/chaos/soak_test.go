package chaos_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hull-go/hull/internal/invariant"
	"github.com/hull-go/hull/policy"
)

const (
	soakNodes, soakCallers = 4, 2
	// calm is how long there is no fault after one.
	calmLeast, calmMost = 3 * time.Second, 8 * time.Second
	// settled is how long before its ends a soak has no fault.
	settled = 25 * time.Second
	// A service of so many workers is overloaded while all else is calm: it takes work for each call.
	scarce, scarceWorkers, scarceWork = "scarce", 8, 40 * time.Millisecond
	scarceCapacity                    = float64(scarceWorkers) * float64(time.Second) / float64(scarceWork)
	// overloaded is for how long, of which the first learning do not count.
	overloaded, learning = 22 * time.Second, 10 * time.Second
	// leakAfter is when the heap is looked at first, and leakMost how many bytes it may grow by in ten minutes after that.
	leakAfter, leakMost = 5 * time.Minute, 1 << 20
)

// soak is a world in which something is always broken.
type soak struct {
	*world
	rnd      *rand.Rand
	document string
	version  int
	count    map[string]int
}

// document returns a specification that changes every policy's options, one way or another.
func document(version int) string {
	return fmt.Sprintf("defaults:\n  timeout: %dms\nservices:\n  %s:\n    retry: {attempts: %d}\n    breaker: {window: %ds}\n    balancer: %s\n", 5000+version%7, service,
		3+version%2, 10+version%3, []string{"p2c", "round-robin", "least-connections"}[version%3])
}

// soakFaults are what can be broken. Each returns when all is well again, but for what callers have to find out. The first node, by whose
// heap leaks are found, is stopped and never killed.
var soakFaults = map[string]func(*soak, time.Duration){
	"kill": func(s *soak, d time.Duration) {
		n := s.victim(1)
		n.Kill()
		pass(d)
		n.start()
	},
	"stop": func(s *soak, d time.Duration) {
		n := s.victim(0)
		n.Freeze()
		pass(d)
		n.Thaw()
	},
	"restart": func(s *soak, _ time.Duration) {
		n := s.victim(1)
		n.leave()
		n.start()
	},
	"reset": func(s *soak, d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); live(500 * time.Millisecond) {
			s.victim(0).resetAll()
		}
	},
	"registry killed": func(s *soak, d time.Duration) {
		s.killRegistry()
		pass(d)
		s.startRegistry()
	},
	"registry stopped": func(s *soak, d time.Duration) {
		s.engine.Freeze()
		pass(d)
		s.engine.Thaw()
	},
	"registry cut off": func(s *soak, d time.Duration) {
		s.proxy.Cut()
		pass(d)
		s.proxy.Mend()
	},
	"registry killed and a node": func(s *soak, d time.Duration) {
		s.killRegistry()
		n := s.victim(1)
		n.Kill()
		pass(d)
		s.startRegistry()
		n.start()
	},
	"another document": func(s *soak, _ time.Duration) {
		s.version++
		write(s, s.document, document(s.version))
	},
	"a wrong document": func(s *soak, d time.Duration) {
		write(s, s.document, "defaults:\n  timeuot: 1s\n")
		pass(d)
		write(s, s.document, document(s.version))
	},
	"half a document": func(s *soak, d time.Duration) {
		whole := document(s.version)
		write(s, s.document, whole[:len(whole)/2])
		pass(d)
		write(s, s.document, whole)
	},
	"no document": func(s *soak, d time.Duration) {
		if err := os.Remove(s.document); err != nil {
			s.Error(err)
		}
		pass(d)
		write(s, s.document, document(s.version))
	},
	"a caller stopped": func(s *soak, d time.Duration) {
		c := s.callers[soakCallers-1]
		c.Freeze()
		pass(min(d, 3*time.Second))
		c.Thaw()
	},
}

// victim draws a node, not one of the first.
func (s *soak) victim(first int) *nodeProcess { return s.nodes[first+s.rnd.IntN(soakNodes-first)] }

// fault lets one of the faults befall the world, and notes when.
func (s *soak) fault(name string) {
	s.count[name]++
	from := policy.Now()
	soakFaults[name](s, time.Second+time.Duration(s.rnd.Int64N(int64(8*time.Second))))
	s.causes[causeFault] = append(s.causes[causeFault], span{from, policy.Now()})
}

// sickTimes are the times of a run in which the sick method failed.
func sickTimes(from, to policy.Time) (all []span) {
	for at := from - from%policy.Time(sickEvery); at < to; at = at.Add(sickEvery) {
		all = append(all, span{at, at.Add(sickFor)})
	}
	return all
}

// overload offers a service of its own twice what it can do, mostly by calls that matter little, and later half of it, and returns both times.
func (s *soak) overload() (twice, half invariant.Phase) {
	w := s.world
	n := w.node(nodeConfig{Service: scarce, Workers: scarceWorkers, Sample: 500 * time.Millisecond, Admin: true})
	n.start()
	conf := callerConfig{Service: scarce, Ms: int(scarceWork / time.Millisecond), Exactly: true, Timeout: 2 * time.Second, Sample: time.Second}
	conf.Rate, conf.Sheddable = 2*scarceCapacity, 650
	conf.Count = int64(conf.Rate * overloaded.Seconds())
	from := policy.Now()
	w.caller(conf).ended(func(int) { pass(100 * time.Millisecond) })
	twice = invariant.Phase{Service: scarce, From: from.Add(learning), To: from.Add(overloaded)}
	twice.Capacity = s.could(n, twice.From, twice.To)
	conf.Rate = scarceCapacity / 2
	conf.Count = int64(conf.Rate * learning.Seconds())
	from = policy.Now().Add(time.Second)
	w.caller(conf) // while other things break
	half = invariant.Phase{Service: scarce, From: from, To: from.Add(learning), Capacity: scarceCapacity}
	return twice, half
}

// could is how many calls a second a node's workers could have done, from how long each took them.
func (s *soak) could(n *nodeProcess, from, to policy.Time) float64 {
	some := within(samples(s, n.config.Ledger+".samples"), from, to)
	if len(some) < 2 {
		s.Fatal("the overloaded node says nothing of itself")
	}
	first, last := some[0], some[len(some)-1]
	took := (last.Took - first.Took) / time.Duration(max(1, last.Done-first.Done))
	could := float64(n.config.Workers) * float64(time.Second) / float64(took)
	s.Logf("overload: %d calls in %v, %v each, so %.0f a second could be done", last.Done-first.Done, last.At.Sub(first.At), took, could)
	return could
}

// rests has the checker look at what a node's admin page says when nobody calls any more.
func (n *nodeProcess) rests(check *invariant.Checker) {
	n.w.Helper()
	var state struct {
		Server struct {
			InFlight  int
			Admission struct{ Running, Reserved, Waiting, Abandoned int }
		}
	}
	n.w.until(fmt.Sprintf("node %d is at rest", n.config.Number), func() error {
		req, err := http.NewRequestWithContext(n.w.Context(), http.MethodGet, "http://"+adminOf(n.Process)+"/hull/state?format=json", nil)
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		return json.NewDecoder(res.Body).Decode(&state)
	})
	http.DefaultClient.CloseIdleConnections()
	who, a := fmt.Sprintf("node %d's ", n.config.Number), &state.Server.Admission
	for what, value := range map[string]int{"calls in flight": state.Server.InFlight, "places taken": a.Running, "places in reserve taken": a.Reserved,
		"calls in line": a.Waiting, "abandoned handlers": a.Abandoned} {
		check.Gauge(who+what, value, 0)
	}
}

// TestSoak lets random faults befall nodes, callers, the registry and the document, one after the other. No invariant may be broken, no
// idempotent call may fail, and neither the heap nor the number of goroutines of anybody may grow.
func TestSoak(t *testing.T) {
	seed := *soakSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-soak.seed %d", seed)
	w := newWorld(t)
	s := &soak{world: w, rnd: rand.New(rand.NewPCG(seed, 1)), document: filepath.Join(w.dir, "spec.yaml"), count: map[string]int{}}
	write(t, s.document, document(0))
	w.causes = map[string][]span{}
	w.serve(soakNodes, nodeConfig{Sample: time.Second, Admin: true, Keys: filepath.Join(w.dir, "keys.db")})
	for range soakCallers {
		w.caller(callerConfig{Rate: 150, Once: 180, Keyed: 20, Sick: 50, Hurry: 20, Cancel: 20, Ms: 10, Spec: s.document, Sample: time.Second, Seed: seed})
	}
	began := policy.Now()
	twice, half := s.overload()
	pass(began.Add(settled).Sub(policy.Now()))
	end := began.Add(*soakFor - settled)
	names := slices.Sorted(maps.Keys(soakFaults))
	for policy.Now() < end {
		s.fault(names[s.rnd.IntN(len(names))])
		pass(calmLeast + time.Duration(s.rnd.Int64N(int64(calmMost-calmLeast))))
	}
	pass(settled)
	finished := policy.Now()
	w.causes[causeSick] = sickTimes(began, finished)
	check := invariant.New(invariant.Options{Burst: 2000})
	check.Phase(twice)
	check.Phase(half)
	for i, c := range w.callers {
		sum := c.said
		if i < soakCallers {
			sum = c.finish
		}
		check.Gauge(fmt.Sprintf("what caller %d has in flight", c.config.Number), s.well(c, sum()), 0)
	}
	for _, n := range w.nodes {
		n.rests(check)
		n.leave()
	}
	t.Logf("faults: %v", s.count)
	for i, c := range w.callers[:soakCallers] {
		s.grows(fmt.Sprint("caller ", i), samples(t, c.config.Ledger+".samples"), began, finished)
	}
	s.grows("the first node", samples(t, w.nodes[0].config.Ledger+".samples"), began, finished)
	for _, n := range w.nodes {
		if all := samples(t, n.config.Ledger+".samples"); len(all) > 0 {
			check.Gauge(fmt.Sprintf("calls that run on node %d", n.config.Number), all[len(all)-1].InFlight, 0)
		}
	}
	_, r := w.judge(check)
	// Whether something was tried again, or anything was ejected, is up to the faults of a short soak.
	if left := r.Untested(1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15); len(left) > 0 {
		t.Errorf("nothing was seen of the invariants %v", left)
	}
}

// well wants that no idempotent call of a caller failed, but where too much was asked for, and returns what it has in flight in the end.
func (s *soak) well(c *callerProcess, sum *summary) int {
	s.Logf("caller %d: %d calls, %d failures, %d of calls that must not run twice, %d of calls with a key; %d sick, %d impatient, %d excused: %v", c.config.Number,
		sum.Offered, sum.Failed, sum.OnceFailed, sum.KeyedFailed, sum.Sick, sum.Impatient, sum.Excused, sum.Errors)
	if n := sum.Failed - sum.OnceFailed - sum.KeyedFailed; n > 0 && c.config.Service == service {
		s.Errorf("%d idempotent calls failed: %v", n, sum.Errors)
	}
	return sum.InFlight
}

// grows looks for leaks in what a process said of itself from began to ended.
func (s *soak) grows(who string, all []sample, began, ended policy.Time) {
	all = slices.DeleteFunc(all, func(a sample) bool { return a.At > ended })
	early, last := within(all, began.Add(settled/2), began.Add(settled)), within(all, ended.Add(-settled/2), ended)
	if len(early) == 0 || len(last) == 0 {
		s.Errorf("%s: no samples in the calm", who)
		return
	}
	before, after := median(early, goroutines), median(last, goroutines)
	heap := within(all, began.Add(min(leakAfter, *soakFor/3)), ended)
	slope := slopeOf(heap) * (10 * time.Minute).Seconds()
	s.Logf("%s: %.0f goroutines beside those of connections, %.0f in the end; a live heap of %.2f MiB, %.2f in the end, slope %.3f MiB in 10 min", who, before, after,
		median(early, liveHeap)/(1<<20), median(last, liveHeap)/(1<<20), slope/(1<<20))
	if math.Abs(after-before) > 5 {
		s.Errorf("%s: %.0f goroutines in the end, %.0f in the beginning", who, after, before)
	}
	if *soakFor >= 3*leakAfter && slope > leakMost {
		s.Errorf("%s: the live heap grows by %.2f MiB in 10 min", who, slope/(1<<20))
	}
	if grown := median(last, liveHeap) - median(early, liveHeap); grown > 8<<20 {
		s.Errorf("%s: the live heap has grown by %.2f MiB", who, grown/(1<<20))
	}
}

// goroutines are those beside the two of each connection: a node has one connection, or two, as its load happens to be.
func goroutines(s sample) float64 { return float64(s.Goroutines - 2*s.Conns) }
func liveHeap(s sample) float64   { return float64(s.Heap) }

func within(all []sample, from, to policy.Time) (some []sample) {
	for _, s := range all {
		if s.At >= from && s.At <= to {
			some = append(some, s)
		}
	}
	return some
}

func median(all []sample, of func(sample) float64) float64 {
	var v []float64
	for _, s := range all {
		v = append(v, of(s))
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// slopeOf is what the live heap grows by, in bytes a second: the slope of the line with the least squares.
func slopeOf(all []sample) float64 {
	var n, x, y, xx, xy float64
	for _, s := range all {
		sec := s.At.Sub(all[0].At).Seconds()
		n, x, y, xx, xy = n+1, x+sec, y+liveHeap(s), xx+sec*sec, xy+sec*liveHeap(s)
	}
	if n < 3 {
		return 0
	}
	return (n*xy - x*y) / (n*xx - x*x)
}

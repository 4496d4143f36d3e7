package chaos_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hull-go/hull/internal/invariant"
	"github.com/hull-go/hull/policy"
)

const (
	soakNodes = 4
	// calm is how long there is no fault after one.
	calmLeast, calmMost = 3 * time.Second, 8 * time.Second
	// settled is how long before its ends a soak has no fault.
	settled = 25 * time.Second
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
		for end := time.Now().Add(d); time.Now().Before(end); pass(500 * time.Millisecond) {
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
		c := s.callers[len(s.callers)-1]
		c.Freeze()
		pass(min(d, 3*time.Second))
		c.Thaw()
	},
}

// victim draws a node, not one of the first.
func (s *soak) victim(first int) *nodeProcess { return s.nodes[first+s.rnd.IntN(soakNodes-first)] }

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
	w.serve(soakNodes, nodeConfig{Sample: time.Second})
	for range 2 {
		w.caller(callerConfig{Rate: 150, Once: 200, Hurry: 20, Cancel: 20, Ms: 10, Spec: s.document, Sample: time.Second, Seed: seed})
	}
	began := policy.Now()
	pass(settled)
	end := began.Add(*soakFor - settled)
	names := slices.Sorted(maps.Keys(soakFaults))
	for policy.Now() < end {
		name := names[s.rnd.IntN(len(names))]
		s.count[name]++
		soakFaults[name](s, time.Second+time.Duration(s.rnd.Int64N(int64(8*time.Second))))
		pass(calmLeast + time.Duration(s.rnd.Int64N(int64(calmMost-calmLeast))))
	}
	pass(settled)
	finished := policy.Now()
	for _, c := range w.callers {
		sum := c.finish()
		t.Logf("%d calls, %d of %d failures were calls that must not run twice, %d impatient, %d excused: %v", sum.Offered, sum.OnceFailed, sum.Failed, sum.Impatient,
			sum.Excused, sum.Errors)
		if n := sum.Failed - sum.OnceFailed; n > 0 {
			t.Errorf("%d idempotent calls failed: %v", n, sum.Errors)
		}
		if sum.InFlight != 0 {
			t.Errorf("%d calls are in flight in the end", sum.InFlight)
		}
	}
	for _, n := range w.nodes {
		n.leave()
	}
	t.Logf("faults: %v", s.count)
	check := invariant.New(invariant.Options{Burst: 2000, Grace: grace})
	for i, c := range w.callers {
		s.grows(fmt.Sprint("caller ", i), samples(t, c.config.Ledger+".samples"), began, finished)
	}
	s.grows("the first node", samples(t, w.nodes[0].config.Ledger+".samples"), began, finished)
	for _, n := range w.nodes {
		if all := samples(t, n.config.Ledger+".samples"); len(all) > 0 {
			check.Gauge(fmt.Sprintf("calls that run on node %d", n.config.Number), all[len(all)-1].InFlight, 0)
		}
	}
	_, r := w.judge(check)
	if left := r.Untested(1, 2, 3, 5, 8, 9, 14, 15); len(left) > 0 {
		t.Errorf("nothing was seen of the invariants %v", left)
	}
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
	if after > before+5 {
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

package policy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/policy/policytest"
	"github.com/hull-go/hull/policy/timeout"
	"github.com/hull-go/hull/status"
)

// punctual is the line of a server that knows when it is too late: what ends after its deadline was no success.
type punctual struct {
	policy.Line
	waiting  map[uint32]policy.Time // deadlines by tag
	inside   map[uint32]policy.Time // and by the slot of the permit, which limiters do not use
	slot     uint32
	joined   map[uint32]policy.Time
	observed func(now policy.Time, waited time.Duration)
}

func newPunctual(l policy.Line) *punctual {
	return &punctual{Line: l, waiting: map[uint32]policy.Time{}, inside: map[uint32]policy.Time{}, joined: map[uint32]policy.Time{}}
}

func (p *punctual) enter(v policy.Verdict, deadline policy.Time) policy.Verdict {
	if v.Decision == policy.Admit {
		p.slot++
		v.Permit.Slot = p.slot
		p.inside[p.slot] = deadline
	}
	return v
}

func (p *punctual) Admit(now policy.Time, rnd rand.Source, c *policy.Call) policy.Verdict {
	return p.enter(p.Line.Admit(now, rnd, c), c.Deadline)
}

func (p *punctual) Done(now policy.Time, rnd rand.Source, permit policy.Permit, o policy.Outcome) {
	if d := p.inside[permit.Slot]; d != 0 && now > d && o == policy.Success {
		o = policy.TimedOut
	}
	delete(p.inside, permit.Slot)
	p.Line.Done(now, rnd, permit, o)
}

func (p *punctual) Join(now policy.Time, rnd rand.Source, c *policy.Call, w policy.Waiting) (policy.Ticket, policy.Verdict) {
	t, v := p.Line.Join(now, rnd, c, w)
	if v.Decision == policy.Park {
		p.waiting[w.Tag], p.joined[w.Tag] = c.Deadline, now
	}
	return t, p.enter(v, c.Deadline)
}

func (p *punctual) Next(now policy.Time, rnd rand.Source) (policy.Waiting, policy.Verdict, bool) {
	w, v, ok := p.Line.Next(now, rnd)
	if ok {
		if v.Decision == policy.Admit && p.observed != nil {
			p.observed(now, now.Sub(p.joined[w.Tag]))
		}
		v = p.enter(v, p.waiting[w.Tag])
		delete(p.waiting, w.Tag)
		delete(p.joined, w.Tag)
	}
	return w, v, ok
}

// kitchen is a server with cores that each serve one call after the other, and a dependency that each call then waits for without
// keeping a core. The server's own queue is endless.
type kitchen struct {
	cores int
	line  *punctual // nil = all come in
	drop  bool      // what has expired is not begun

	busy     int
	backlog  []func()
	waiters  map[uint32]*policytest.Request
	tag      uint32
	w        *policytest.World
	observed func(waited time.Duration) // until a core was free
}

const (
	kitchenWork  = 10 * time.Millisecond // mean: from half to one and a half times this
	kitchenAfter = 10 * time.Millisecond // mean
)

func (k *kitchen) capacity() float64 { return float64(k.cores) / kitchenWork.Seconds() }

// Serve implements policytest.Service.
func (k *kitchen) Serve(w *policytest.World, r *policytest.Request) {
	k.w = w
	if k.line == nil {
		k.cook(r, policy.Permit{})
		return
	}
	v := k.line.Admit(w.Now(), w.Rand(), &r.Call)
	if v.Decision == policy.Park {
		k.tag++
		tag := k.tag
		var t policy.Ticket
		if t, v = k.line.Join(w.Now(), w.Rand(), &r.Call, policy.Waiting{Waiter: k, Tag: tag}); v.Decision == policy.Park {
			k.waiters[tag] = r
			w.After(v.At.Sub(w.Now()), func() {
				if k.waiters[tag] == r && k.line.Leave(w.Now(), t) {
					k.Granted(tag, policy.Verdict{Decision: policy.Refuse})
				}
			})
			k.hand()
			return
		}
	}
	k.let(r, v)
}

// Granted implements policy.Waiter.
func (k *kitchen) Granted(tag uint32, v policy.Verdict) {
	r := k.waiters[tag]
	delete(k.waiters, tag)
	k.let(r, v)
}

func (k *kitchen) let(r *policytest.Request, v policy.Verdict) {
	if v.Decision != policy.Admit {
		r.Answer(errShed)
		return
	}
	k.cook(r, v.Permit)
}

func (k *kitchen) hand() {
	for {
		w, v, ok := k.line.Next(k.w.Now(), k.w.Rand())
		if !ok {
			return
		}
		w.Waiter.Granted(w.Tag, v)
	}
}

// cook works on a request as soon as a core is free.
func (k *kitchen) cook(r *policytest.Request, p policy.Permit) {
	came := k.w.Now()
	begin := func() {
		if k.drop && k.w.Now() >= r.Call.Deadline {
			k.end(p)
			k.free()
			return
		}
		if k.observed != nil {
			k.observed(k.w.Now().Sub(came))
		}
		k.w.After(time.Duration((0.5+k.w.Uniform())*float64(kitchenWork)), func() {
			k.free()
			k.w.After(k.w.Exponential(kitchenAfter), func() {
				r.Answer(nil)
				k.end(p)
			})
		})
	}
	if k.busy < k.cores {
		k.busy++
		begin()
		return
	}
	k.backlog = append(k.backlog, begin)
}

// free gives a core to the next. It is an event of its own, or a backlog of what has expired would be emptied by recursion.
func (k *kitchen) free() {
	if len(k.backlog) == 0 {
		k.busy--
		return
	}
	next := k.backlog[0]
	k.backlog = k.backlog[1:]
	k.w.After(0, next)
}

func (k *kitchen) end(p policy.Permit) {
	if k.line != nil {
		k.line.Done(k.w.Now(), k.w.Rand(), p, policy.Success)
		k.hand()
	}
}

var errShed = &status.Error{Code: status.ResourceExhausted, Kind: status.Shed, Fate: status.NotSent}

// guard is a way to protect a kitchen.
type guard struct {
	name   string
	client func(o *policy.Options)
	line   func(cores int) policy.Line
	drop   bool
}

// open builds what a guard says: the server and its client's pipeline.
func (g *guard) open(cores int) (*kitchen, *policy.Pipeline) {
	k := &kitchen{cores: cores, drop: g.drop, waiters: map[uint32]*policytest.Request{}}
	if g.line != nil {
		k.line = newPunctual(g.line(cores))
	}
	o := policy.Options{Timeouts: must(timeout.New(timeout.Options{Fixed: time.Second}))}
	if g.client != nil {
		g.client(&o)
	}
	return k, must(policy.New(o))
}

// knee is a fixed limit with which the cores are just busy: one call on each, one for each with the dependency, and some in hand.
func knee(o concurrency.Options) func(int) policy.Line {
	return func(cores int) policy.Line {
		o := o
		o.Limit, o.Queue = 3*cores, 1000
		return must(concurrency.New(o))
	}
}

// twoArm is an adaptive limit that begins with so many places for each core.
func twoArm(start int, flat bool) func(int) policy.Line {
	return func(cores int) policy.Line {
		src := must(concurrency.NewTwoArm(concurrency.TwoArmOptions{Start: start * cores}))
		return must(concurrency.New(concurrency.Options{Source: src, Flat: flat}))
	}
}

// Scenario 12, demand-jump: the load jumps from 0.8 to 1.4 × capacity. 300 ms later who is served has waited less than 2 × CoDel's
// target in the line, where there is none in the server, and goodput is never below 90 % of the capacity in half a second.
func TestDemandJump(t *testing.T) {
	const cores, quiet, last = 8, 2 * time.Second, 4600 * time.Millisecond
	const target = 5 * time.Millisecond
	var table strings.Builder
	fmt.Fprintf(&table, "%d seeds, from 300 ms after the jump:\n%-40s %12s %12s %9s %9s", *scenarioSeeds, "", "line ≤", "core ≤", "goodput ≥", "mean")
	for _, tt := range []struct {
		guard
		taught      bool // there was an overload before
		short, good bool // the expected outcome
	}{
		{guard{name: "none"}, false, false, false},
		{guard{name: "throttle", client: throttled}, false, false, false},
		{guard{name: "breaker", client: broken}, false, false, false},
		{guard{name: "deadline drop", drop: true}, false, false, false},
		{guard{name: "limit, endless line", line: knee(concurrency.Options{MaxWait: time.Hour})}, false, false, false},
		{guard{name: "limit, line of 100 ms", line: knee(concurrency.Options{})}, false, false, true},
		{guard{name: "limit, LIFO", line: knee(concurrency.Options{Order: concurrency.LIFO})}, false, false, true},
		{guard{name: "limit, CoDel", line: knee(concurrency.Options{Order: concurrency.CoDel})}, false, true, true},
		{guard{name: "adaptive, new to overload", line: twoArm(20, false)}, false, true, true},
		{guard{name: "adaptive, taught", line: twoArm(20, false)}, true, true, true},
		{guard{name: "adaptive, taught, from 4 per core", line: twoArm(4, false)}, true, true, true},
		{guard{name: "adaptive, taught, from 100 per core", line: twoArm(100, false)}, true, true, true},
	} {
		var mu sync.Mutex
		longest, core, least, mean := time.Duration(0), time.Duration(0), 1e9, 0.0
		seeds(*scenarioSeeds, func(seed uint64) {
			w := policytest.NewWorld(seed)
			k, p := tt.open(cores)
			begin := quiet
			if tt.taught {
				begin += 6 * time.Second
			}
			var line, inside time.Duration
			since := begin + 300*time.Millisecond
			k.observed = func(waited time.Duration) {
				if w.Elapsed() >= since && w.Elapsed() < begin+last {
					inside = max(inside, waited)
				}
			}
			if k.line != nil {
				k.line.observed = func(_ policy.Time, waited time.Duration) {
					if w.Elapsed() >= since && w.Elapsed() < begin+last {
						line = max(line, waited)
					}
				}
			}
			halves := make([]int, 9)
			w.Arrive(func() float64 {
				switch e := w.Elapsed(); {
				case e < begin-quiet:
					return 2 * k.capacity()
				case e < begin:
					return 0.8 * k.capacity()
				}
				return 1.4 * k.capacity()
			}, func() {
				w.Call(p, policy.Call{}, k, func(c *policytest.Call) {
					if n := (w.Elapsed() - begin - 100*time.Millisecond) / (500 * time.Millisecond); c.Err == nil && w.Elapsed() >= begin+100*time.Millisecond && int(n) < len(halves) {
						halves[n]++
					}
				})
			})
			w.Until(begin + last)
			mu.Lock()
			defer mu.Unlock()
			longest, core = max(longest, line), max(core, inside)
			least = min(least, float64(slices.Min(halves))/k.capacity()*2)
			for _, n := range halves {
				mean += float64(n) / k.capacity() * 2 / float64(len(halves)**scenarioSeeds)
			}
		})
		fmt.Fprintf(&table, "\n%-40s %12v %12v %9.3f %9.3f", tt.name, longest.Round(time.Microsecond), core.Round(time.Microsecond), least, mean)
		waited := longest
		if tt.line == nil {
			waited = core
		}
		if short := waited < 2*target; short != tt.short {
			t.Errorf("%s: who is served waited up to %v; want that below 2 × %v: %v", tt.name, waited, target, tt.short)
		}
		if good := least >= 0.9; good != tt.good {
			t.Errorf("%s: goodput falls to %.3f of the capacity; want at least 0.9: %v", tt.name, least, tt.good)
		}
	}
	t.Log(table.String())
}

// Scenario 13, priority-shed: a 12× spike of prefetch beside user calls. With classes the users do not notice, prefetch carries the
// loss and still gets its 2 %; without, both fall, whatever else there is.
func TestPriorityShed(t *testing.T) {
	const cores, spike, last = 4, 2 * time.Second, 6 * time.Second
	var table strings.Builder
	fmt.Fprintf(&table, "%d seeds:\n%-40s %9s %9s %10s %9s", *scenarioSeeds, "share served", "user", "least", "prefetch", "least")
	for _, tt := range []struct {
		guard
		saves bool // the users, while prefetch gets its share
	}{
		{guard{name: "none"}, false},
		{guard{name: "throttle", client: throttled}, false},
		{guard{name: "deadline drop", drop: true}, false},
		{guard{name: "limit, one class, line of 100 ms", line: knee(concurrency.Options{Flat: true})}, false},
		{guard{name: "adaptive, one class", line: twoArm(20, true)}, false},
		{guard{name: "limit, by criticality", line: knee(concurrency.Options{Order: concurrency.CoDel})}, true},
		{guard{name: "adaptive, by criticality", line: twoArm(20, false)}, true},
	} {
		var mu sync.Mutex
		least, mean := [2]float64{1, 1}, [2]float64{}
		seeds(*scenarioSeeds, func(seed uint64) {
			w := policytest.NewWorld(seed)
			k, p := tt.open(cores)
			var all, ok [2]int
			arrive := func(kind int, c policy.Criticality, rate func() float64) {
				w.Arrive(rate, func() {
					judged := w.Elapsed() >= spike && w.Elapsed() < last
					w.Call(p, policy.Call{Criticality: c, Hash: w.Rand().Uint64()}, k, func(c *policytest.Call) {
						if !judged {
							return
						}
						all[kind]++
						if c.Err == nil {
							ok[kind]++
						}
					})
				})
			}
			arrive(0, policy.Critical, func() float64 { return 0.5 * k.capacity() })
			arrive(1, policy.Sheddable, func() float64 {
				if w.Elapsed() < spike {
					return 0.2 * k.capacity()
				}
				return 12 * 0.2 * k.capacity()
			})
			w.Until(last + 2*time.Second)
			mu.Lock()
			defer mu.Unlock()
			for kind := range all {
				s := float64(ok[kind]) / float64(all[kind])
				mean[kind] += s / float64(*scenarioSeeds)
				least[kind] = min(least[kind], s)
			}
		})
		fmt.Fprintf(&table, "\n%-40s %9.4f %9.4f %10.4f %9.4f", tt.name, mean[0], least[0], mean[1], least[1])
		saves := mean[0] >= 0.999 && least[0] >= 0.98 && least[1] >= 0.02
		if falls := mean[0] < 0.9; saves != tt.saves || falls == tt.saves {
			t.Errorf("%s: %.4f of the user calls, at least %.4f, and at least %.4f of prefetch; want the users not to notice: %v",
				tt.name, mean[0], least[0], least[1], tt.saves)
		}
	}
	t.Log(table.String())
}

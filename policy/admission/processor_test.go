package admission_test

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/admission"
)

// processor is a server with one processor, whose handlers do nothing but compute: a goroutine that is ready waits for all that were ready before it.
type processor struct {
	*desk
	m      *admission.Method
	now    policy.Time
	ready  []goroutine
	due    timers
	unread []*request
	lags   []time.Duration // how long goroutines have waited since the last look
	counts bool            // what arrives now
	sent   map[policy.Criticality]float64
	done   map[policy.Criticality]float64 // in time
}

type goroutine struct {
	since policy.Time
	takes time.Duration
	then  func()
}

type timer struct {
	at policy.Time
	do func()
}

type timers []timer

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at < t[j].at }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)        { *t = append(*t, x.(timer)) }
func (t *timers) Pop() any {
	last := len(*t) - 1
	x := (*t)[last]
	*t = (*t)[:last]
	return x
}

const (
	handling = time.Millisecond
	reading  = 3 * time.Microsecond // and refusing, for each call
	patience = 500 * time.Millisecond
)

func (p *processor) after(d time.Duration, do func()) { heap.Push(&p.due, timer{p.now.Add(d), do}) }

func (p *processor) run(takes time.Duration, then func()) {
	p.ready = append(p.ready, goroutine{p.now, takes, then})
}

// until has the processor and the network go on until end.
func (p *processor) until(end policy.Time) {
	network := func(until policy.Time) {
		for len(p.due) > 0 && p.due[0].at <= until {
			t := heap.Pop(&p.due).(timer)
			p.now = max(p.now, t.at)
			t.do()
		}
	}
	for p.now < end {
		network(p.now)
		if len(p.ready) == 0 {
			p.now = min(end, p.due[0].at)
			continue
		}
		g := p.ready[0]
		p.ready = p.ready[1:]
		p.lags = append(p.lags, p.now.Sub(g.since))
		over := p.now.Add(g.takes)
		network(over)
		p.now = over
		g.then()
	}
}

// offer makes calls at random moments.
func (p *processor) offer(perSecond float64, c policy.Criticality) {
	if perSecond <= 0 {
		return
	}
	p.after(time.Duration(rand.New(p.rnd).ExpFloat64()/perSecond*float64(time.Second)), func() {
		if p.counts {
			p.sent[c]++
		}
		p.unread = append(p.unread, &request{p: p, arrived: p.now, class: c, counts: p.counts})
		if len(p.unread) == 1 {
			p.run(0, p.read)
		}
		p.offer(perSecond, c)
	})
}

// read takes in what has arrived.
func (p *processor) read() {
	all := p.unread
	p.unread = nil
	for _, r := range all {
		r.ask()
	}
	p.run(time.Duration(len(all))*reading, func() {})
}

// look is what a server does five times a second.
func (p *processor) look() {
	var s admission.Signals
	if slices.Sort(p.lags); len(p.lags) >= 50 {
		s.Lag = p.lags[len(p.lags)*9/10]
	}
	p.lags = p.lags[:0]
	p.Measured(p.now, s)
	p.Turn(p.now, p.rnd)
	p.after(200*time.Millisecond, p.look)
}

type request struct {
	p       *processor
	arrived policy.Time
	class   policy.Criticality
	counts  bool
	seat    admission.Seat
	waits   bool
}

func (r *request) ask() {
	p := r.p
	a := &admission.Ask{Call: policy.Call{Deadline: r.arrived.Add(patience), Criticality: r.class, Hash: p.rnd.Uint64()}}
	v, _ := p.Arrive(p.now, p.rnd, a, p.m, &r.seat)
	if v.Decision == policy.Park {
		var t policy.Ticket
		if t, v = p.Join(p.now, p.rnd, a, p.m, &r.seat, policy.Waiting{Waiter: r}); v.Decision == policy.Park {
			r.waits = true
			p.after(v.At.Sub(p.now), func() {
				if r.waits {
					r.waits = !p.Leave(p.now, &r.seat, t, true)
				}
			})
			return
		}
	}
	if v.Decision.Admits() {
		r.handle()
	}
}

// Granted implements policy.Waiter.
func (r *request) Granted(_ uint32, v policy.Verdict) {
	r.waits = false
	r.p.run(0, func() {
		r.p.Seated(r.p.now, r.arrived.Add(patience), r.p.m, &r.seat, v)
		if v.Decision.Admits() {
			r.handle()
		}
	})
}

func (r *request) handle() {
	p := r.p
	p.run(handling, func() {
		o := policy.Success
		if p.now.Sub(r.arrived) > patience {
			o = policy.TimedOut
		} else if r.counts {
			p.done[r.class]++
		}
		p.Done(p.now, p.rnd, p.m, &r.seat, o)
	})
}

// TestOneProcessor: a server whose handlers share one processor does as much as it can, whatever is offered, and sheddable calls carry the loss.
func TestOneProcessor(t *testing.T) {
	const capacity = float64(time.Second / handling)
	for _, tt := range []struct{ load, good, critical float64 }{
		{0.5, 0.48, 1}, {0.9, 0.87, 0.99}, {2, 0.9, 0.99}, {10, 0.9, 0.99},
	} {
		for seed := range uint64(5) {
			p := &processor{desk: &desk{mustNew(t, admission.Rules{Limit: admission.Limit{Start: 20}}), rand.NewPCG(seed, 2)}, now: begun,
				sent: map[policy.Criticality]float64{}, done: map[policy.Criticality]float64{}}
			p.m = p.Add("a")
			p.look()
			vital := min(0.6, tt.load)
			p.offer(vital*capacity, policy.Critical)
			p.offer((tt.load-vital)*capacity, policy.Sheddable)
			p.until(begun + 5*second)
			p.counts = true
			p.until(begun + 15*second)
			good := (p.done[policy.Critical] + p.done[policy.Sheddable]) / (10 * capacity)
			critical := p.done[policy.Critical] / p.sent[policy.Critical]
			if good < tt.good || critical < tt.critical {
				t.Errorf("load %v, seed %d: %.3f of the capacity is served, want %v, and %.4f of the critical calls, want %v", tt.load, seed, good, tt.good, critical, tt.critical)
			}
		}
	}
}

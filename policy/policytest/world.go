package policytest

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/hull-go/hull/policy"
)

// World is a heap of events in virtual time: what happens next is the event with the smallest time, in the order in which
// events of one time were added. Nothing waits, so an hour takes as long as its events do. It belongs to one goroutine.
type World struct {
	now policy.Time
	rnd rand.PCG
	seq uint64
	q   []event
	// spare are the machines of calls of which nothing is left; they are big, and there are millions of calls.
	spare []*policy.Exec
}

type event struct {
	at  policy.Time
	seq uint64
	do  func()
}

// begin is the time at which a World begins: not 0, which means never.
const begin policy.Time = 1e9

// NewWorld returns a World in which nothing is to happen yet. The same seed makes the same things happen.
func NewWorld(seed uint64) *World {
	w := &World{now: begin}
	w.rnd.Seed(seed, 0x9e3779b97f4a7c15)
	return w
}

// Now is the time in the World.
func (w *World) Now() policy.Time { return w.now }

// Elapsed is the time since the World began.
func (w *World) Elapsed() time.Duration { return w.now.Sub(begin) }

// Rand is the World's randomness.
func (w *World) Rand() rand.Source { return &w.rnd }

// Uniform draws from [0, 1).
func (w *World) Uniform() float64 { return float64(w.rnd.Uint64()>>11) / (1 << 53) }

// Exponential draws a time with the given mean, as it passes between events that know nothing of each other.
func (w *World) Exponential(mean time.Duration) time.Duration {
	return time.Duration(-math.Log(1-w.Uniform()) * float64(mean))
}

// After lets do happen d from now; negative is now.
func (w *World) After(d time.Duration, do func()) { w.at(w.now.Add(max(d, 0)), do) }

// At lets do happen when d has passed since the World began, or now if that is over.
func (w *World) At(d time.Duration, do func()) { w.at(max(begin.Add(d), w.now), do) }

// at puts an event into the heap. It is written out because container/heap allocates once per event.
func (w *World) at(at policy.Time, do func()) {
	w.seq++
	e := event{at, w.seq, do}
	i := len(w.q)
	w.q = append(w.q, e)
	for i > 0 {
		up := (i - 1) / 2
		if !before(&e, &w.q[up]) {
			break
		}
		w.q[i], i = w.q[up], up
	}
	w.q[i] = e
}

func before(a, b *event) bool { return a.at < b.at || a.at == b.at && a.seq < b.seq }

// Step lets the next event happen. It returns false if there is none.
func (w *World) Step() bool {
	if len(w.q) == 0 {
		return false
	}
	first := w.q[0]
	n := len(w.q) - 1
	e := w.q[n]
	w.q[n] = event{}
	w.q = w.q[:n]
	for i := 0; n > 0; {
		next := 2*i + 1
		if next+1 < n && before(&w.q[next+1], &w.q[next]) {
			next++
		}
		if next >= n || !before(&w.q[next], &e) {
			w.q[i] = e
			break
		}
		w.q[i], i = w.q[next], next
	}
	w.now = first.at
	first.do()
	return true
}

// Run lets events happen until there are none.
func (w *World) Run() {
	for w.Step() {
	}
}

// Until lets events happen until d has passed since the World began. What is due later stays in the heap.
func (w *World) Until(d time.Duration) {
	end := begin.Add(d)
	for len(w.q) > 0 && w.q[0].at <= end {
		w.Step()
	}
	w.now = max(w.now, end)
}

// Arrive lets each happen again and again, open loop: so many times a second as rate says at the time, independent of each
// other and of what becomes of them. It ends when rate is not positive.
func (w *World) Arrive(rate func() float64, each func()) {
	r := rate()
	if !(r > 0) {
		return
	}
	w.After(w.Exponential(time.Duration(float64(time.Second)/r)), func() {
		each()
		w.Arrive(rate, each)
	})
}

// exec returns a machine that is ready for a call.
func (w *World) exec() *policy.Exec {
	n := len(w.spare) - 1
	if n < 0 {
		return new(policy.Exec)
	}
	x := w.spare[n]
	w.spare = w.spare[:n]
	return x
}

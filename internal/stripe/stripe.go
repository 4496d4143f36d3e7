// Package stripe keeps processors from fighting over a counter: each counts in a place that the others rarely use.
package stripe

import (
	"sync/atomic"
	"unsafe"
)

// N is how many places there are.
const N = 4

// Caller tells apart goroutines, by where their stacks lie: the same goroutine is the same Caller for a while.
type Caller uint64

// Here returns who calls, at the cost of a multiplication.
func Here() Caller {
	var here byte
	const golden = 0x9E3779B97F4A7C15 // 2⁶⁴ ÷ the golden ratio: its product's upper bits are well mixed
	return Caller(uint64(uintptr(unsafe.Pointer(&here))>>11) * golden)
}

// Choice says which of N places is whose. Its zero value is ready. It is read all the time and hardly ever written: it belongs in a
// cache line that is hardly ever written either.
type Choice struct{ moved atomic.Uint64 }

// callers is how many kinds of Caller a Choice tells apart, with two bits for each.
const callers = 32

// Of returns the caller's place, below N, which goroutines that run at the same time mostly do not share. What is counted must not
// depend on the place, only the time it takes may.
func (c *Choice) Of(who Caller) uint { return uint(uint64(who)>>62+c.moved.Load()>>who.shift()) % N }

// Met says that the caller has met another in its place, and gives it the next. Otherwise two who happen to have the same place would
// fight over it for as long as they run.
func (c *Choice) Met(who Caller) {
	v, at := c.moved.Load(), who.shift()
	next := (v>>at + 1) % N
	c.moved.CompareAndSwap(v, v&^((N-1)<<at)|next<<at) // or somebody else has moved, which may do
}

// shift is where the caller's bits are.
func (who Caller) shift() uint64 { return uint64(who) >> 57 % callers * 2 }

// Counter is a number that many processors may add to at the same time. It is one word until two of them meet in it, and then
// spreads over places of their own. Its zero value is zero; it must not be copied.
type Counter struct {
	n      atomic.Int64
	spread atomic.Pointer[[N]part]
	choice Choice
}

type part struct {
	n atomic.Int64
	_ [56]byte // a cache line for each
}

// Add adds d.
func (c *Counter) Add(d int64) {
	if spread := c.spread.Load(); spread != nil {
		who := Here()
		n := &spread[c.choice.Of(who)].n
		if v := n.Load(); !n.CompareAndSwap(v, v+d) {
			n.Add(d)
			c.choice.Met(who)
		}
		return
	}
	if v := c.n.Load(); !c.n.CompareAndSwap(v, v+d) {
		c.n.Add(d)
		c.spreadOut()
	}
}

func (c *Counter) spreadOut() { c.spread.CompareAndSwap(nil, new([N]part)) }

// Load returns the sum. What is added at the same time may or may not be in it.
func (c *Counter) Load() int64 {
	sum := c.n.Load()
	if spread := c.spread.Load(); spread != nil {
		for i := range spread {
			sum += spread[i].n.Load()
		}
	}
	return sum
}

// Take returns the sum and begins again from zero. Nothing that is added at the same time is lost or counted twice.
func (c *Counter) Take() int64 {
	sum := c.n.Swap(0)
	if spread := c.spread.Load(); spread != nil {
		for i := range spread {
			sum += spread[i].n.Swap(0)
		}
	}
	return sum
}

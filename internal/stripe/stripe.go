// Package stripe keeps processors from fighting over a counter: each counts in a place that the others rarely use.
package stripe

import (
	"sync/atomic"
	"unsafe"
)

// N is how many places there are.
const N = 4

// Index returns a place, below N, that goroutines running at the same time mostly do not share. It is taken from where the
// caller's stack lies: the same goroutine gets the same place for a while, at the cost of a multiplication. What is counted must
// not depend on the place, only the time it takes may.
func Index() uint {
	var here byte
	const golden = 0x9E3779B97F4A7C15 // 2⁶⁴ ÷ the golden ratio: its product's upper bits are well mixed
	return uint(uint64(uintptr(unsafe.Pointer(&here))>>11) * golden >> 62)
}

// Counter is a number that many processors may add to at the same time. It is one word until two of them meet in it, and then
// spreads over places of their own. Its zero value is zero; it must not be copied.
type Counter struct {
	n      atomic.Int64
	spread atomic.Pointer[[N]part]
}

type part struct {
	n atomic.Int64
	_ [56]byte // a cache line for each
}

// Add adds d.
func (c *Counter) Add(d int64) {
	if spread := c.spread.Load(); spread != nil {
		spread[Index()].n.Add(d)
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

package hystrix

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/internal/window"
	"github.com/hull-go/hull/policy"
)

// Kinds of result in the window.
const (
	kindOK = iota
	kindError
	kinds
)

// health decides whether commands may run: hystrix's rules as a state machine that is given the time.
//
// Closed, results are counted over ten seconds, and the next command finds the circuit open if by then there are enough
// of them and enough of these are errors. Open, one command per sleep window may run as a test; a test that succeeds closes the circuit.
//
// Each opening and closing begins a new generation. A permit carries the generation that gave it, and a result counts only in its
// own. So what began before an outage cannot end it, and what began during one is not held against what follows.
type health struct {
	window *window.Ring
	word   atomic.Uint64 // generation and, in the lowest bit, whether it is open
	tested atomic.Int64  // when it opened, or the latest test began

	mu    sync.Mutex // held while word changes
	since policy.Time
}

// limits are the settings that health needs.
type limits struct {
	volume  uint64        // results before the circuit can open
	percent int           // of errors that open it
	sleep   time.Duration // between tests
}

// permit is leave to run.
type permit struct {
	gen  uint32
	test bool
}

// change is what a decision changed.
type change uint8

const (
	unchanged change = iota
	opened
	closed
	oneTest
)

func newHealth() *health {
	return &health{window: window.New(int64(10*time.Second), 10, kinds)}
}

func (h *health) state() (gen uint32, open bool) {
	w := h.word.Load()
	return uint32(w >> 1), w&1 != 0
}

// isOpen reports whether the circuit is open at now, and opens it if that is due.
func (h *health) isOpen(now policy.Time, l limits) (bool, change) {
	gen, open := h.state()
	if open {
		return true, unchanged
	}
	if !h.unhealthy(now, gen, l) {
		return false, unchanged
	}
	return true, h.open(now, gen)
}

// admit asks for leave to run a command at now.
func (h *health) admit(now policy.Time, l limits) (permit, bool, change) {
	gen, open := h.state()
	what := unchanged
	if !open {
		if !h.unhealthy(now, gen, l) {
			return permit{gen: gen}, true, unchanged
		}
		what = h.open(now, gen)
		gen, _ = h.state()
	}
	if last := h.tested.Load(); now > policy.Time(last).Add(l.sleep) && h.tested.CompareAndSwap(last, int64(now)) {
		return permit{gen: gen, test: true}, true, oneTest
	}
	return permit{gen: gen}, false, what
}

func (h *health) unhealthy(now policy.Time, gen uint32, l limits) bool {
	n := h.window.Sum(int64(now), gen)
	total := n[kindOK] + n[kindError]
	return uint64(total) >= l.volume && percentage(n[kindError], total) >= l.percent
}

// percentage is rounded as hystrix-go does, half up.
func percentage(errs, total int64) int {
	if total <= 0 {
		return 0
	}
	return int(float64(errs)/float64(total)*100 + 0.5)
}

// done counts the result of a command that was admitted, or was refused for another reason.
func (h *health) done(now policy.Time, p permit, ok bool) change {
	gen, open := h.state()
	switch {
	case gen != p.gen:
		return unchanged
	case !open:
		h.count(now, gen, ok)
		return unchanged
	case p.test && ok:
		return h.close(now, gen)
	}
	return unchanged
}

// report counts the result of something that began at start without a permit. Zero means that nobody knows when. Only what succeeded may
// close the circuit, which what is ok need not have done.
func (h *health) report(now, start policy.Time, ok, succeeded bool) change {
	h.mu.Lock()
	gen, open := h.state()
	since := h.since
	h.mu.Unlock()
	if start != 0 && start < since {
		return unchanged
	}
	return h.done(now, permit{gen: gen, test: open && succeeded}, ok)
}

func (h *health) count(now policy.Time, gen uint32, ok bool) {
	kind := kindError
	if ok {
		kind = kindOK
	}
	h.window.Add(int64(now), gen, kind)
}

func (h *health) open(now policy.Time, gen uint32) change {
	h.mu.Lock()
	defer h.mu.Unlock()
	if g, open := h.state(); g != gen || open {
		return unchanged // somebody was faster
	}
	h.since = now
	h.tested.Store(int64(now))
	h.word.Store(uint64(gen+1)<<1 | 1)
	return opened
}

// close closes the circuit of generation gen. The result that closed it is the first of the new window.
func (h *health) close(now policy.Time, gen uint32) change {
	h.mu.Lock()
	defer h.mu.Unlock()
	if g, open := h.state(); g != gen || !open {
		return unchanged
	}
	h.since = now
	h.count(now, gen+1, true)
	h.word.Store(uint64(gen+1) << 1)
	return closed
}

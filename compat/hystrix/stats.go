package hystrix

import (
	"time"

	"github.com/hull-go/hull/compat/hystrix/rolling"
	"github.com/hull-go/hull/internal/window"
	"github.com/hull-go/hull/policy"
)

// stats is what the dashboard shows of one circuit: how the commands of the last ten seconds ended, and how long those of the last
// minute took.
type stats struct {
	counts     [(numEvents + window.Kinds - 1) / window.Kinds]*window.Ring // by event
	total, run *rolling.Timing
}

func newStats() *stats {
	s := &stats{total: rolling.NewTiming(), run: rolling.NewTiming()}
	for i := range s.counts {
		s.counts[i] = window.New(int64(10*time.Second), 10, window.Kinds)
	}
	return s
}

// add counts a command.
func (s *stats) add(now policy.Time, e, fallback event, total, run time.Duration) {
	s.count(now, e)
	if fallback != none {
		s.count(now, fallback)
	}
	s.total.AddAt(now, total)
	if e != rejected && e != shortCircuit {
		s.run.AddAt(now, run)
	}
}

func (s *stats) count(now policy.Time, e event) {
	s.counts[e/window.Kinds].Add(int64(now), 0, int(e%window.Kinds))
}

// tally is the number of each event.
type tally [numEvents]int64

func (s *stats) read(now policy.Time) (n tally) {
	for i, ring := range s.counts {
		sums := ring.Sum(int64(now), 0)
		copy(n[i*window.Kinds:], sums[:])
	}
	return n
}

func (n *tally) errors() int64 { return n[failure] + n[rejected] + n[shortCircuit] + n[timeout] }

// telling is the number of commands that say anything about the dependency.
func (n *tally) telling() int64 { return n[none] + n[success] + n.errors() }

func (n *tally) requests() int64 { return n.telling() + n[canceled] + n[deadlineExceeded] }

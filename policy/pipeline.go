package policy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hull-go/hull/status"
)

// Nodes chooses where an attempt goes. balance.Picker is one; a function call needs none.
type Nodes interface {
	// Pick chooses a node for an attempt of c, avoiding those already tried as long as another is there. A refusal ends the
	// call's attempts. Each Admit is followed by exactly one Done.
	Pick(now Time, rnd rand.Source, c *Call, tried []Node) (Node, Verdict)
	// Done reports what became of the attempt. Attempts that were picked but never started have class ClassRefused.
	Done(now Time, rnd rand.Source, n Node, p Permit, e Ended)
}

// Spares is a Nodes that can tell whether there is somewhere else to go. A call that was sent nowhere, since a node could not be reached or was about
// to leave, goes there beyond the number of attempts that it has: it fails for want of a connection only if no node can be reached. A call whose
// attempts are bounded by itself (Call.Attempts) does not, and none has more attempts than MaxAttempts.
type Spares interface {
	Nodes
	// Spare reports whether a node is left that is none of tried and that may be reached.
	Spare(now Time, rnd rand.Source, c *Call, tried []Node) bool
}

// Versions is a Nodes that knows which nodes run the same program. What one of them does not serve none of the others does: a call whose method is unknown
// (ClassNoMethod) is made again only if another version is there, and goes to that.
type Versions interface {
	Nodes
	// Other is Pick among the nodes that run another version than any of lacking. It refuses if there is none.
	Other(now Time, rnd rand.Source, c *Call, tried, lacking []Node) (Node, Verdict)
	// HasOther reports whether Other would find one.
	HasOther(now Time, rnd rand.Source, c *Call, lacking []Node) bool
}

// Acquitting is a Nodes that hears of calls which failed wherever they went: that is rather the doing of what they ask for, a query of death, than of the
// nodes that it met, and must not have all of them avoided one after the other.
type Acquitting interface {
	Nodes
	// Acquit takes back what an attempt that ended at ended, as class cl, has counted against its node. Done was told of it then. It is called
	// for each attempt that may have been processed of a call that has failed on two nodes or more and was answered by none.
	Acquit(now Time, rnd rand.Source, n Node, ended Time, cl Class)
}

// Node is a place that can serve attempts. Implementations are pointers, compared by identity.
type Node interface {
	// ID is the instance's name in discovery.
	ID() string
}

// Timeouts says how long an attempt may take.
type Timeouts interface {
	// Attempt returns the time that the next attempt of c gets if the caller has left for it (0 = no deadline); last
	// says that no other attempt can follow. The executor caps it by what is left.
	Attempt(now Time, c *Call, left time.Duration, last bool) time.Duration
	// Fair reports whether an attempt that ran for d when its caller's deadline passed had a fair chance, so that the
	// failure is the node's and not the caller's.
	Fair(now Time, d time.Duration) bool
	// Done records an attempt.
	Done(now Time, e Ended)
}

// Growing are Timeouts that are a guess: an attempt that follows one that timed out may get longer.
type Growing interface {
	Timeouts
	// Longer returns what an attempt gets at least that follows one which timed out after d, if the caller has left for it (0 = no deadline).
	Longer(d, left time.Duration) time.Duration
}

// Exploring are Timeouts that know when it does not help to wait for longer.
type Exploring interface {
	Timeouts
	// Enough returns what the last attempt of a call gets at most if an earlier one timed out after d, and the caller has left for it (0 = no deadline).
	// 0 bounds nothing.
	Enough(now Time, d, left time.Duration) time.Duration
}

// Expecting are Timeouts that know how soon an attempt ends well at best.
type Expecting interface {
	Timeouts
	// Least returns the time within which an attempt that begins now is hardly likely to end well; 0 = not known. A call that has no more left than that is not
	// made again: the attempt would be nothing but load.
	Least(now Time) time.Duration
}

// Retries says whether a failed attempt is followed by another, and when.
type Retries interface {
	// Attempts is the largest number of attempts, the first included, but for those that reached nobody (see Spares).
	Attempts() int
	// Again is asked after attempt n (from 1) has failed with class cl and fate; pushback is the server's. Of a class that is tried again only once (RetryAnyOnce)
	// n counts the attempts that have failed with it. It returns how long to wait, or false and why not in one constant sentence. Budget and deadline are the
	// executor's business.
	Again(now Time, rnd rand.Source, c *Call, n int, cl Class, fate status.Fate, pushback time.Duration) (wait time.Duration, ok bool, why string)
}

// Hedging says when a call that has no answer yet gets another attempt beside the running ones.
type Hedging interface {
	// Delay returns how long after the latest attempt's start the next one begins, when n attempts have begun; false = no more.
	Delay(now Time, c *Call, n int) (time.Duration, bool)
	// Done records an attempt, for delays learned from latencies.
	Done(now Time, e Ended)
}

// Budget bounds how many extra attempts there may be. Retries and hedges of one client to one service share it. One that only changes what
// another is asked has a method Unwrap() Budget, so that the events of that one are shown once.
type Budget interface {
	// Spend takes tokens for one extra attempt of a call of class c, or reports that there are not enough for it. What costs nothing is
	// always paid.
	Spend(now Time, c Criticality, tokens int) bool
	// Earn puts tokens in.
	Earn(now Time, tokens int)
}

// Slot is a gate in its place in a pipeline.
type Slot struct {
	// Name appears in refusals and statistics. Empty = what the slot is for: "rate", "breaker", "throttle", "concurrency"; a gate of
	// one's own needs one.
	Name string
	Gate Gate
	Mode Mode
}

// Options describes a Pipeline. Every field may be left out. The order of the fields is the order in which they are
// asked; it cannot be changed, see the package comment.
type Options struct {
	// Key names what the pipeline protects in refusals, for instance "greeter/greeter.Greeter/Hello".
	Key string
	// Rate is asked once per call; the server's per-caller limits and the client's own rate limit.
	Rate Slot
	// Gates are a user's own, asked once per call after Rate.
	Gates []Slot
	// Breaker is asked once per call, told the call's final result, and asked whether it still holds before each further attempt.
	Breaker Slot

	// Retries drive the attempts one after the other; nil = one attempt.
	Retries Retries
	// RetryMode: in dry-run, failed attempts that would be repeated are counted, as if the budget could pay for it. Retries
	// that do not act still say how many attempts a call may have with its hedges.
	RetryMode Mode
	// Hedging starts attempts beside running ones, for calls that are SideEffectFree; nil = none.
	Hedging Hedging
	// HedgeMode: in dry-run, delays are learned, and calls that ran for longer are counted.
	HedgeMode Mode
	// Budget pays for every attempt after the first; nil = unbounded.
	Budget Budget

	// Throttle is asked per attempt, before a node is chosen.
	Throttle Slot
	// Nodes chooses the node of each attempt.
	Nodes Nodes
	// Concurrency is asked per attempt, when the node is known. Its permit is held until the attempt has really ended.
	Concurrency Slot
	// Timeouts bound each attempt; nil = what is left of the call.
	Timeouts Timeouts
	// TimeoutMode: in dry-run, timeouts are learned, and attempts that ran for longer are counted.
	TimeoutMode Mode

	// Classify sorts errors of the attempts; nil = Classify.
	Classify func(error) Class
	// Observer is told what happened; nil = nobody.
	Observer Observer
	// Counters are where the pipeline counts, as others may that stand for the same method; nil = it has its own.
	Counters *Counters
}

// MaxAttempts is the largest number of attempts that one call can have, hedges included.
const MaxAttempts = 8

// maxGates bounds the call-level gates, so that a call's permits need no allocation.
const maxGates = 6

// Pipeline is a validated, immutable arrangement of policies. It is safe for concurrent use; its state lives in the
// policies.
type Pipeline struct {
	opt     Options
	gates   []Slot // call level, in order, without those that are off
	brk     int    // index of the breaker in gates, or −1
	max     int    // attempts
	lines   Set    // the gates in which calls can wait: bits as in Steps.Release
	line    [maxGates + 1]Line
	lane    bool    // calls of Drive can go straight
	plain   bool    // and those of Do
	waiters waiters // the only one of line, if it tells quickly that nobody waits
	pass    [throttleBit + 1]passer
	chooser chooser   // the nodes, if they are one
	shows   bool      // policies look at calls
	grows   Growing   // the timeouts, if they are a guess
	seeks   Exploring // the same, if they know when waiting does not help
	expect  Expecting // the same, if they know what an attempt takes at least

	acquits Acquitting // the nodes, if they hear of calls that fail everywhere
	dry     *dryRun
	n       *Counters
	pool    sync.Pool // of *drive
	lanes   sync.Pool // of *Lane
	hedged  sync.Pool // of *concurrent
	// selective is opt.Observer, made one that wants to hear of all calls if it is none.
	selective Selective
}

// New checks o and returns the pipeline. All faults are reported together.
func New(o Options) (*Pipeline, error) {
	p := &Pipeline{opt: o, brk: -1, max: 1, n: o.Counters}
	if p.n == nil {
		p.n = new(Counters)
	}
	if s, ok := o.Observer.(Selective); ok {
		p.selective = s
	} else if o.Observer != nil {
		p.selective = curious{o.Observer}
	}
	var errs []error
	if o.Classify == nil {
		p.opt.Classify = Classify
	}
	for name, slot := range map[string]*Slot{"rate": &o.Rate, "breaker": &o.Breaker, "throttle": &o.Throttle, "concurrency": &o.Concurrency} {
		if slot.Gate != nil && slot.Name == "" {
			slot.Name = name
		}
	}
	p.opt.Rate, p.opt.Breaker, p.opt.Throttle, p.opt.Concurrency = o.Rate, o.Breaker, o.Throttle, o.Concurrency
	names := map[string]bool{}
	check := func(s Slot, what string) bool {
		switch {
		case s.Gate == nil && s.Name != "":
			errs = append(errs, fmt.Errorf("%s %q has no gate: set Slot.Gate or leave the slot out", what, s.Name))
			return false
		case s.Gate == nil:
			return false
		case s.Mode > Off:
			errs = append(errs, fmt.Errorf("%s %q: mode %d is none of on, dry-run, off", what, s.Name, s.Mode))
			return false
		case s.Name == "":
			errs = append(errs, fmt.Errorf("%s has no name: refusals could not say who refused; set Slot.Name", what))
			return false
		case names[s.Name]:
			errs = append(errs, fmt.Errorf("two slots are named %q: give each its own name", s.Name))
			return false
		}
		names[s.Name] = true
		return s.Mode != Off
	}
	if check(o.Rate, "rate limit") {
		p.gates = append(p.gates, o.Rate)
	}
	for _, s := range o.Gates {
		if s.Gate == nil {
			errs = append(errs, fmt.Errorf("own gate %q is nil", s.Name))
		} else if check(s, "own gate") {
			p.gates = append(p.gates, s)
		}
	}
	if check(o.Breaker, "breaker") {
		p.brk = len(p.gates)
		p.gates = append(p.gates, o.Breaker)
	}
	if len(p.gates) > maxGates {
		errs = append(errs, fmt.Errorf("%d gates around one call: at most %d", len(p.gates), maxGates))
	}
	if !check(o.Throttle, "throttle") {
		p.opt.Throttle = Slot{}
	} else if _, ok := o.Throttle.Gate.(Line); ok {
		errs = append(errs, fmt.Errorf("throttle %q makes attempts wait in a line: only the concurrency slot and call-level gates can", o.Throttle.Name))
	}
	if !check(o.Concurrency, "concurrency") {
		p.opt.Concurrency = Slot{}
	}
	if o.Retries != nil {
		p.max = o.Retries.Attempts()
		if p.max < 1 || p.max > MaxAttempts {
			errs = append(errs, fmt.Errorf("%d attempts: want 1 to %d, the first included", p.max, MaxAttempts))
		}
	}
	for _, m := range []struct {
		name string
		mode Mode
	}{{"retry", o.RetryMode}, {"hedge", o.HedgeMode}, {"timeout", o.TimeoutMode}} {
		if m.mode > Off {
			errs = append(errs, fmt.Errorf("%s: mode %d is none of on, dry-run, off", m.name, m.mode))
		}
	}
	if o.Hedging != nil && o.Retries == nil {
		errs = append(errs, errors.New("hedging without retries: a hedge is an extra attempt, so set Retries with the number of attempts a call may have"))
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("policy: pipeline %q: %w", o.Key, errors.Join(errs...))
	}
	for i, s := range p.gates {
		p.addLine(i, s.Gate)
	}
	p.addLine(concurrencyBit, o.Concurrency.Gate)
	p.applyModes()
	p.findPassers()
	p.grows, _ = p.opt.Timeouts.(Growing)
	p.seeks, _ = p.opt.Timeouts.(Exploring)
	p.expect, _ = p.opt.Timeouts.(Expecting)
	p.acquits, _ = p.opt.Nodes.(Acquitting)
	p.lane = p.straightens()
	p.plain = p.lane && o.Nodes == nil && o.Observer == nil
	return p, nil
}

// addLine notes that calls can wait in g, if they can.
func (p *Pipeline) addLine(bit int, g Gate) {
	if line, ok := g.(Line); ok {
		p.line[bit] = line
		p.lines |= one(bit)
	}
}

// Key returns the name of what the pipeline protects.
func (p *Pipeline) Key() string { return p.opt.Key }

// Options returns what the pipeline was made of, without gates that are off, and without retries, hedging and timeouts that are off
// or in dry-run.
func (p *Pipeline) Options() Options { return p.opt }

package supervise

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hull-go/hull/demo/faults"
)

// The faults that are done to a process from outside, beside those of package faults, and their end.
const (
	FaultCrash = "crash"
	FaultHang  = "hang"
	Heal       = "heal"
)

// State is what a node's process is doing.
type State string

// The states.
const (
	Starting State = "starting"
	Up       State = "up"
	Frozen   State = "frozen"
	Down     State = "down"
)

// What a Fleet asks its nodes through their Links.
const (
	OpStart = "start" // StartRequest → StartReply
	OpFault = "fault" // FaultRequest → nothing
	OpHeal  = "heal"  // nothing → nothing
	OpHold  = "hold"  // nothing → nothing: let go of shared locks, for a moment
)

// StartRequest tells a node who it is.
type StartRequest struct {
	Node string `json:"node"`
	// Addr is where to listen.
	Addr string `json:"addr"`
	// Config is what the Fleet's options say.
	Config any `json:"config,omitempty"`
}

// StartReply says that a node serves.
type StartReply struct {
	Addr string `json:"addr"`
}

// FaultRequest asks for a fault, or for its end.
type FaultRequest struct {
	// Node is the node's name, or "all".
	Node string `json:"node"`
	// Fault is "crash", "hang", a name of package faults, or "heal".
	Fault string `json:"fault"`
	// Seconds is after how long it is over: a crashed node is started again, others are healed. 0 = 5 s for a crash, else
	// until Heal; negative = until Heal.
	Seconds float64 `json:"seconds,omitempty"`
	faults.Setting
}

// Validate returns what is wrong with the request but for the node's name, or nil.
func (r *FaultRequest) Validate() error {
	if r.Seconds > 3600 {
		return fmt.Errorf("seconds is %g: give at most 3600, or -1 for until it is healed", r.Seconds)
	}
	switch r.Fault {
	case FaultCrash, FaultHang, Heal:
		return nil
	case "":
		return fmt.Errorf("fault is missing: give one of %v", Faults())
	}
	if !slices.Contains(Faults(), r.Fault) {
		return fmt.Errorf("unknown fault %q: give one of %v", r.Fault, Faults())
	}
	return faults.Check(r.Fault, r.Setting)
}

// Faults lists the names that FaultRequest.Fault may have.
func Faults() []string {
	return []string{FaultCrash, FaultHang, faults.NameSlow, faults.NameErrors, faults.NamePanic, faults.NameWrong,
		faults.NameRefuse, Heal}
}

// NodeStatus is what a Fleet knows about one node.
type NodeStatus struct {
	ID      string   `json:"id"`
	Address string   `json:"address"`
	State   State    `json:"state"`
	PID     int      `json:"pid,omitempty"`
	Faults  []string `json:"faults"`
	// Starts is how often its process was started.
	Starts int `json:"starts"`
	// BackIn is in how many seconds a node that is down is started again; 0 = not by itself.
	BackIn float64 `json:"backIn,omitempty"`
}

// node is one node of a Fleet: a process now and then.
type node struct {
	f  *Fleet
	id string

	op sync.Mutex // held while something is done to the node, one thing at a time

	mu     sync.Mutex
	proc   *Process
	state  State
	addr   string
	faults []string
	starts int
	killed bool        // the process ends on purpose: what comes next is settled
	backAt time.Time   // when a node that is down is started again; zero = not by itself
	timer  *time.Timer // ends a fault, or brings the node back
}

func (n *node) status() NodeStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := NodeStatus{ID: n.id, Address: n.addr, State: n.state, Faults: slices.Clone(n.faults), Starts: n.starts}
	if s.Faults == nil {
		s.Faults = []string{}
	}
	if n.proc != nil && n.state != Down {
		s.PID = n.proc.PID()
	}
	if n.state == Down && !n.backAt.IsZero() {
		s.BackIn = max(time.Until(n.backAt).Seconds(), 0.1)
	}
	return s
}

// start starts the node's process and waits until it serves. n.op is held.
func (n *node) start(ctx context.Context) error {
	if n.f.ctx.Err() != nil {
		return errClosed
	}
	n.disarm()
	n.set(Starting, nil)
	p, err := n.f.o.Launcher.Start(n.id, n.f.answer, append(slices.Clone(n.f.o.Args), n.id)...)
	if err != nil {
		n.set(Down, nil)
		return err
	}
	n.mu.Lock()
	n.proc, n.killed = p, false
	n.starts++
	addr := n.addr
	n.mu.Unlock()
	n.f.wg.Go(func() { n.watch(p) })
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var rep StartReply
	if err := p.Link.Call(ctx, OpStart, StartRequest{Node: n.id, Addr: addr, Config: n.f.o.Config}, &rep); err != nil {
		return fmt.Errorf("starting %s: %w", n.id, errors.Join(err, p.Kill()))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc == p && n.state == Starting { // it may have died meanwhile
		n.addr, n.state = rep.Addr, Up
	}
	return nil
}

// watch waits for the end of a process and brings the node back.
func (n *node) watch(p *Process) {
	<-p.Done()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc != p {
		return
	}
	n.state, n.faults = Down, nil
	if n.killed || n.f.ctx.Err() != nil {
		return
	}
	n.f.o.Logger.Warn("a node has died by itself", "node", n.id, "error", p.Err())
	n.backAt = time.Now().Add(n.f.o.Restart)
	n.arm(n.f.o.Restart)
}

// inject does the request. n.op is held.
func (n *node) inject(ctx context.Context, r FaultRequest) error {
	n.mu.Lock()
	p, state := n.proc, n.state
	n.mu.Unlock()
	if state != Up && !(state == Frozen && (r.Fault == FaultCrash || r.Fault == FaultHang)) {
		return fmt.Errorf("%s is %s: heal it first", n.id, state)
	}
	n.disarm()
	after := time.Duration(r.Seconds * float64(time.Second))
	switch r.Fault {
	case FaultCrash:
		if after == 0 {
			after = n.f.o.Restart
		}
		n.mu.Lock()
		n.killed = true
		if after > 0 {
			n.backAt = time.Now().Add(after)
			n.arm(after)
		}
		n.mu.Unlock()
		if err := p.Kill(); err != nil {
			return err
		}
		// Now, and not when watch gets to it: whoever heals the node next finds it down.
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.proc == p {
			n.proc, n.state, n.faults = nil, Down, nil
		}
		return nil
	case FaultHang:
		if state == Frozen {
			return nil
		}
		hold, cancel := context.WithTimeout(ctx, 250*time.Millisecond)
		defer cancel()
		if err := p.Link.Call(hold, OpHold, nil, nil); err != nil {
			n.f.o.Logger.Warn("a node is frozen although it did not let go of its locks", "node", n.id, "error", err)
		}
		if err := p.Freeze(); err != nil {
			return err
		}
		n.mark(Frozen, r.Fault)
	default:
		if err := p.Link.Call(ctx, OpFault, r, nil); err != nil {
			return err
		}
		n.mark(Up, r.Fault)
	}
	if after > 0 {
		n.mu.Lock()
		n.arm(after)
		n.mu.Unlock()
	}
	return nil
}

// heal undoes every fault. n.op is held.
func (n *node) heal(ctx context.Context) error {
	n.disarm()
	n.mu.Lock()
	p, state := n.proc, n.state
	n.mu.Unlock()
	switch state {
	case Down:
		return n.start(ctx)
	case Frozen:
		if err := p.Thaw(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := p.Link.Call(ctx, OpHeal, nil, nil); err != nil {
		return fmt.Errorf("healing %s: %w", n.id, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc == p && n.state != Down {
		n.state, n.faults = Up, nil
	}
	return nil
}

// stop ends the node's process for good.
func (n *node) stop() error {
	n.op.Lock()
	defer n.op.Unlock()
	n.disarm()
	n.mu.Lock()
	p := n.proc
	n.mu.Unlock()
	if p == nil {
		return nil
	}
	return p.Stop()
}

func (n *node) set(s State, list []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state, n.faults = s, list
}

// mark notes a fault that is in force now.
func (n *node) mark(s State, fault string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.state == Down {
		return
	}
	n.state = s
	n.faults = append(slices.DeleteFunc(n.faults, func(f string) bool { return f == fault }), fault)
}

// arm has the node healed after d. n.mu is held.
func (n *node) arm(d time.Duration) {
	// The function may run before n.timer is set, but not before n.mu is free.
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		n.f.background(func(ctx context.Context) {
			n.op.Lock()
			defer n.op.Unlock()
			n.mu.Lock()
			current := n.timer == t
			n.mu.Unlock()
			if !current {
				return
			}
			if err := n.heal(ctx); err != nil && ctx.Err() == nil {
				n.f.o.Logger.Warn("a node does not come back", "node", n.id, "error", err)
			}
		})
	})
	n.timer = t
}

func (n *node) disarm() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.timer != nil {
		n.timer.Stop()
	}
	n.timer, n.backAt = nil, time.Time{}
}

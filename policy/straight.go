package policy

import (
	"context"
	"math/rand/v2"
	"time"
)

// straight is a call of Do, or of Drive (see lane), on the straight road: every gate admits it at once, and its first attempt succeeds; of those of
// Do nobody wants to hear the story. Nearly every call is one. It asks and tells the policies what Exec would, in the same order, with nothing in
// between; when anything else happens it becomes an Exec that stands where it stopped. A test compares the two.
//
// It is ordered by how often a call needs what: where many calls are under way it has left the caches when its attempt ends, and each line of 64 bytes that
// has to come back takes time.
type straight struct {
	c Call

	p        *Pipeline
	began    Time
	deadline Time // of the attempt
	own      time.Duration
	node     Node
	straightState

	ended                 Time  // when it succeeded
	shown                 *Call // what gates are shown of it, on the heap too; nil as long as none looks
	throttle, pick, place Permit
	held                  [maxGates]Permit

	ctx *attemptContext // the function's, on the heap: it may keep it; nil in a lane
	d   *drive          // what it became
}

// straightState is how far a straight call has come.
type straightState struct {
	gate, settled                         uint8 // call-level gates that have admitted it, and that were told of its success
	probe, hasThrottle, hasPick, hasPlace bool
	running                               bool // the function was begun
	left                                  bool // it is over, or another's to end
	timed, earned                         bool // timeouts and budget were told of its success
}

// shownCall is a call that is shown to somebody, with its context: one piece of memory instead of two.
type shownCall struct {
	attemptContext
	c Call
}

// straightens reports whether calls of Drive can go straight: what would make every one of them an Exec is not there.
func (p *Pipeline) straightens() bool {
	return p.opt.Classify(nil) == ClassOK && p.opt.Hedging == nil && p.dry == nil
}

// passer is a Gate that lets most calls pass with no more than a look at them and without a Verdict, which is too large to be handed
// over quickly. Nothing has happened if it does not, and Admit is asked.
type passer interface {
	// Pass is Admit for a call that goes at once and is no probe. The deadline is the call's, 0 = none.
	Pass(now, deadline Time, c Criticality) (Permit, bool)
	// Passer returns the gate itself, or nil if it has to look at calls. In a gate that embeds this one and has an Admit of its own it
	// returns another, and is not used.
	Passer() Gate
}

// chooser is Nodes that choose for most first attempts without a Verdict. Nothing has happened if they do not, and Pick is asked.
type chooser interface {
	// Choose is Pick for a first attempt that has a node at once.
	Choose(now Time, rnd rand.Source, c *Call) (Node, Permit)
	// Chooser returns the Nodes themselves, as Passer does the gate.
	Chooser() Nodes
}

// waiters is a Line, and a passer, that tells quickly that nobody waits.
type waiters interface {
	// Waits reports whether Next may have somebody. It says false only if Next would.
	Waits() bool
}

// blind is Timeouts that do not look at calls: Attempt may be given none.
type blind interface {
	// Blind returns the Timeouts themselves. In others that embed these and have an Attempt of their own it returns these, and says nothing.
	Blind() Timeouts
}

// findPassers fills in pass, bits as in Steps.Release, and finds out whether any policy looks at calls.
func (p *Pipeline) findPassers() {
	find := func(bit int, g Gate) {
		if f, ok := g.(passer); ok && f.Passer() == g {
			p.pass[bit] = f
			if p.lines == one(bit) {
				p.waiters, _ = g.(waiters)
			}
		} else if g != nil {
			p.shows = true
		}
	}
	for i, s := range p.gates {
		find(i, s.Gate)
	}
	find(concurrencyBit, p.opt.Concurrency.Gate)
	find(throttleBit, p.opt.Throttle.Gate)
	if c, ok := p.opt.Nodes.(chooser); ok && c.Chooser() == p.opt.Nodes {
		p.chooser = c
	}
	if t := p.opt.Timeouts; t != nil {
		b, ok := t.(blind)
		p.shows = p.shows || !ok || b.Blind() != t
	}
}

// begin asks the gates. nil means that the function may run; else the call needs the drive that is returned.
func (s *straight) begin(ctx context.Context, p *Pipeline, c []Call) *drive {
	s.p = p
	if len(c) > 0 {
		s.c = c[0]
	}
	if d, ok := ctx.Deadline(); ok {
		s.c.Deadline = Earliest(s.c.Deadline, At(d))
	}
	if p.shows {
		sc := &shownCall{attemptContext: attemptContext{Context: ctx}, c: s.c}
		s.ctx, s.shown = &sc.attemptContext, &sc.c
	} else {
		s.ctx = &attemptContext{Context: ctx}
	}
	d := s.enter(Now())
	s.ctx.deadline = s.deadline
	return d
}

// enter asks the policies. nil means that the attempt may run; else the call needs the drive that is returned.
func (s *straight) enter(now Time) *drive {
	p := s.p
	s.began = now
	if s.c.Deadline != 0 && now >= s.c.Deadline {
		return s.late(now)
	}
	for i := range p.gates {
		if f := p.pass[i]; f != nil {
			if permit, ok := f.Pass(now, s.c.Deadline, s.c.Criticality); ok {
				s.held[i] = permit
				s.gate++
				continue
			}
		}
		if d := s.ask(now, i); d != nil {
			return d
		}
	}
	if f := p.pass[throttleBit]; f != nil {
		s.throttle, s.hasThrottle = f.Pass(now, s.c.Deadline, s.c.Criticality)
	}
	if !s.hasThrottle && p.opt.Throttle.Gate != nil {
		if d := s.askThrottle(now); d != nil {
			return d
		}
	}
	if p.opt.Nodes != nil {
		if p.chooser != nil {
			s.node, s.pick = p.chooser.Choose(now, Source{}, s.shown) // only lanes have nodes, and those show their calls
		}
		if s.node == nil {
			if d := s.pickNode(now); d != nil {
				return d
			}
		}
		s.hasPick = true
	}
	if f := p.pass[concurrencyBit]; f != nil {
		s.place, s.hasPlace = f.Pass(now, s.c.Deadline, s.c.Criticality)
	}
	if !s.hasPlace && p.opt.Concurrency.Gate != nil {
		if d := s.askForPlace(now); d != nil {
			return d
		}
	}
	s.deadline = s.c.Deadline
	if p.opt.Timeouts != nil {
		left, _ := s.c.Left(now)
		// Timeouts that are not blind look at the call, which is shown then.
		if s.own = p.opt.Timeouts.Attempt(now, s.shown, left, p.last(&s.c, 1, s.probe)); s.own > 0 {
			s.deadline = Earliest(s.deadline, now.Add(s.own))
		}
	}
	p.n.straight.Add(1)
	s.running = true
	return nil
}

// late ends a call whose time is up before any policy is asked.
func (s *straight) late(now Time) *drive {
	d := s.becomes()
	d.x.begin(now, Source{})
	d.now, d.steps = now, d.x.take(now)
	return d
}

// show returns the call for somebody who looks at it.
func (s *straight) show() *Call {
	if s.shown == nil {
		c := s.c
		s.shown = &c
	}
	return s.shown
}

// ask asks a call-level gate. nil means that it admits the call.
func (s *straight) ask(now Time, i int) *drive {
	g := &s.p.gates[i]
	v := g.Gate.Admit(now, Source{}, s.show())
	if !v.Decision.Admits() || v.Decision == Probe && s.p.opt.Observer != nil { // stories tell of probes
		return s.leave(now, phaseGates, stageThrottle, v)
	}
	s.held[i] = v.Permit
	s.probe = s.probe || v.Decision == Probe && g.Mode == On
	s.gate++
	return nil
}

// askThrottle asks the throttle. nil means that it admits the call.
func (s *straight) askThrottle(now Time) *drive {
	v := s.p.opt.Throttle.Gate.Admit(now, Source{}, s.show())
	if !v.Decision.Admits() {
		return s.leave(now, phaseAttempts, stageThrottle, v)
	}
	s.throttle, s.hasThrottle = v.Permit, true
	return nil
}

// pickNode has a node chosen. nil means that there is one.
func (s *straight) pickNode(now Time) *drive {
	n, v := s.p.opt.Nodes.Pick(now, Source{}, s.show(), nil)
	if v.Decision.Admits() && n != nil {
		s.node, s.pick = n, v.Permit
		return nil
	}
	d := s.becomes()
	x := &d.x
	x.phase, x.n = phaseAttempts, 1
	x.att[0] = s.attempt(stageNode)
	x.attemptRefused(now, Source{}, 0, nodesName, v)
	x.count()
	d.now, d.steps = now, x.take(now)
	return d
}

// attempt is the call's first attempt as an Exec keeps it.
func (s *straight) attempt(st stage) attempt {
	return attempt{stage: st, node: s.node, throttle: s.throttle, hasThrottle: s.hasThrottle, pick: s.pick, hasPick: s.hasPick,
		place: s.place, hasPlace: s.hasPlace}
}

// askForPlace asks the concurrency limit. nil means that it admits the call.
func (s *straight) askForPlace(now Time) *drive {
	v := s.p.opt.Concurrency.Gate.Admit(now, Source{}, s.show())
	if !v.Decision.Admits() {
		return s.leave(now, phaseAttempts, stageConcurrency, v)
	}
	s.place, s.hasPlace = v.Permit, true
	return nil
}

// succeeded ends the call whose function has returned without an error.
func (s *straight) succeeded() {
	s.ctx.end()
	s.ended = Now()
	s.tell()
}

// tell tells the policies of the success, each once: if one panics, another call goes on after it.
func (s *straight) tell() {
	now, p := s.ended, s.p
	o, c, took := &p.opt, &counts[ClassOK], now.Sub(s.began)
	if s.hasThrottle {
		s.hasThrottle = false
		o.Throttle.Gate.Done(now, Source{}, s.throttle, c.Throttle)
	}
	if s.hasPick {
		s.hasPick = false
		o.Nodes.Done(now, Source{}, s.node, s.pick, Ended{Class: ClassOK, Took: took})
	}
	if s.hasPlace {
		s.hasPlace = false
		o.Concurrency.Gate.Done(now, Source{}, s.place, c.Limit)
	}
	if o.Timeouts != nil && !s.timed {
		s.timed = true
		o.Timeouts.Done(now, Ended{Class: ClassOK, Took: took})
	}
	if o.Budget != nil && !s.earned {
		s.earned = true
		o.Budget.Earn(now, c.Earn)
	}
	for i := int(s.settled); i < len(p.gates); i++ {
		s.settled++
		p.gates[i].Gate.Done(now, Source{}, s.held[i], c.Breaker)
	}
	s.ended = 0
	if p.crowded() {
		p.handOut(now, Source{}, p.lines)
	}
}

// goOnTelling ends a call in whose tell a policy has panicked, also if others do.
func (s *straight) goOnTelling() {
	if s.ended == 0 {
		return
	}
	defer s.goOnTelling()
	s.tell()
}

// failed makes the call an Exec whose first attempt has ended with err.
func (s *straight) failed(ctx context.Context, err error) *drive {
	s.ctx.end()
	d := s.started()
	d.x.forsaken = ctx.Err() != nil
	d.now = Now()
	d.steps = d.x.Result(d.now, Source{}, 0, meant(ctx, err, s.deadline))
	return d
}

// broken ends the call whose function, or a policy of it, has panicked or ended its goroutine. It does nothing if that has been
// seen to.
func (s *straight) broken() {
	if !s.left || s.ended != 0 {
		s.mend(nil)
	}
}

func (s *straight) mend(r Runner) {
	if s.left {
		s.goOnTelling()
		return
	}
	if s.ctx != nil {
		s.ctx.end()
	}
	p := s.p
	if s.d == nil {
		if s.running {
			s.started()
		} else {
			x := &s.becomes().x
			x.phase, x.n = phaseAttempts, 1
			x.att[0] = s.attempt(stageThrottle)
		}
	}
	defer p.put(s.d)
	s.d.wrecked(r, 0)
}

// leave makes the call an Exec at a gate that did not simply admit it.
func (s *straight) leave(now Time, ph phase, st stage, said Verdict) *drive {
	d := s.becomes()
	x := &d.x
	x.said = &said
	if ph == phaseGates {
		x.askGates(now, Source{})
	} else {
		x.phase, x.n = phaseAttempts, 1
		x.att[0] = s.attempt(st)
		x.advance(now, Source{}, 0)
	}
	x.count()
	d.now, d.steps = now, x.take(now)
	return d
}

// started makes the call an Exec whose first attempt is running.
func (s *straight) started() *drive {
	d := s.becomes()
	x := &d.x
	x.phase, x.n, x.running, x.counted = phaseAttempts, 1, one(0), true
	a := &x.att[0]
	*a = s.attempt(stageRunning)
	a.start, a.deadline, a.own = s.began, s.deadline, s.own
	return d
}

// becomes makes the call an Exec that holds the permits of its gates.
func (s *straight) becomes() *drive {
	d := s.p.get()
	s.d = d
	x := &d.x
	x.init(s.began, s.p, s.c, d, false)
	x.alone, x.probe, x.gate, x.held = true, s.probe, s.gate, s.held
	x.heldSet = one(int(s.gate)) - 1
	return d
}

// goOn drives a call that was straight to its end.
func (d *drive) goOn(ctx context.Context, r Runner) (int, error) {
	over := false
	defer func() {
		if !over {
			d.broken(r)
		}
	}()
	winner, err := d.turn(ctx, r, d.steps, d.now, false)
	over = true
	d.p.put(d)
	return winner, err
}

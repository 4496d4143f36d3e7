package policy

import (
	"context"
	"time"
)

// straight is a call of Do on the straight road: every gate admits it at once, its first attempt succeeds, and nobody wants to hear
// its story. Nearly every call is one. It asks and tells the policies what Exec would, in the same order, with nothing in
// between; when anything else happens it becomes an Exec that stands where it stopped. A test compares the two.
type straight struct {
	p     *Pipeline
	call  *straightCall
	began Time
	own   time.Duration

	gate                         uint8 // call-level gates that have admitted it
	probe, hasThrottle, hasPlace bool
	running                      bool   // the function was begun
	left                         bool   // it is over, or another's to end
	told                         uint8  // how many have been told of its success
	ended                        Time   // when it succeeded
	d                            *drive // what it became

	throttle, place Permit
	held            [maxGates]Permit
}

// straightCall is what of it must be on the heap, because gates and the function see it.
type straightCall struct {
	attemptContext
	c Call
}

// straightens reports whether calls of p can go straight: what would make every one of them an Exec is not there.
func (p *Pipeline) straightens() bool {
	o := &p.opt
	return o.Nodes == nil && o.Hedging == nil && o.Observer == nil && p.dry == nil
}

// passer is a Gate that lets a call pass without a Verdict, which is too large to be handed over quickly. Nothing has happened if it
// does not, and Admit is asked.
type passer interface {
	// Pass is Admit for a call that goes at once and is no probe.
	Pass(now Time, c *Call) (Permit, bool)
	// Passer returns the gate itself. In a gate that embeds this one and has an Admit of its own it returns another, and is not used.
	Passer() Gate
}

// findPassers fills in pass: bits as in Steps.Release.
func (p *Pipeline) findPassers() {
	find := func(bit int, g Gate) {
		if f, ok := g.(passer); ok && f.Passer() == g {
			p.pass[bit] = f
		}
	}
	for i, s := range p.gates {
		find(i, s.Gate)
	}
	find(concurrencyBit, p.opt.Concurrency.Gate)
}

// begin asks the gates. nil means that the function may run; else the call needs the drive that is returned.
func (s *straight) begin(ctx context.Context, p *Pipeline, c []Call) *drive {
	sc := &straightCall{attemptContext: attemptContext{Context: ctx}}
	s.p, s.call = p, sc
	if len(c) > 0 {
		sc.c = c[0]
	}
	if d, ok := ctx.Deadline(); ok {
		sc.c.Deadline = Earliest(sc.c.Deadline, At(d))
	}
	now, o := Now(), &p.opt
	s.began = now
	if sc.c.Deadline != 0 && now >= sc.c.Deadline {
		d := s.becomes()
		d.x.begin(now, Source{})
		d.now, d.steps = now, d.x.take(now)
		return d
	}
	for i := range p.gates {
		if f := p.pass[i]; f != nil {
			if permit, ok := f.Pass(now, &sc.c); ok {
				s.held[i] = permit
				s.gate++
				continue
			}
		}
		if d := s.ask(now, i); d != nil {
			return d
		}
	}
	if g := o.Throttle.Gate; g != nil {
		v := g.Admit(now, Source{}, &sc.c)
		if !v.Decision.Admits() {
			return s.leave(now, phaseAttempts, stageThrottle, v)
		}
		s.throttle = v.Permit
		s.hasThrottle = true
	}
	if g := o.Concurrency.Gate; g != nil {
		if f := p.pass[concurrencyBit]; f != nil {
			s.place, s.hasPlace = f.Pass(now, &sc.c)
		}
		if !s.hasPlace {
			v := g.Admit(now, Source{}, &sc.c)
			if !v.Decision.Admits() {
				return s.leave(now, phaseAttempts, stageConcurrency, v)
			}
			s.place = v.Permit
			s.hasPlace = true
		}
	}
	sc.deadline = sc.c.Deadline
	if o.Timeouts != nil {
		left, _ := sc.c.Left(now)
		if s.own = o.Timeouts.Attempt(now, &sc.c, left, p.last(&sc.c, 1, s.probe)); s.own > 0 {
			sc.deadline = Earliest(sc.deadline, now.Add(s.own))
		}
	}
	p.n.straight.Add(1)
	s.running = true
	return nil
}

// ask asks a call-level gate. nil means that it admits the call.
func (s *straight) ask(now Time, i int) *drive {
	g := &s.p.gates[i]
	v := g.Gate.Admit(now, Source{}, &s.call.c)
	if !v.Decision.Admits() {
		return s.leave(now, phaseGates, stageThrottle, v)
	}
	s.held[i] = v.Permit
	s.probe = s.probe || v.Decision == Probe && g.Mode == On
	s.gate++
	return nil
}

// succeeded ends the call whose function has returned without an error.
func (s *straight) succeeded() {
	s.call.end()
	s.ended = Now()
	s.tell()
}

// tell tells the policies of the success, each once: if one panics, another call goes on after it.
func (s *straight) tell() {
	now, p := s.ended, s.p
	o, c := &p.opt, &counts[ClassOK]
	if s.hasThrottle {
		s.hasThrottle = false
		o.Throttle.Gate.Done(now, Source{}, s.throttle, c.Throttle)
	}
	if s.hasPlace {
		s.hasPlace = false
		o.Concurrency.Gate.Done(now, Source{}, s.place, c.Limit)
	}
	if o.Timeouts != nil && s.told == 0 {
		s.told = 1
		o.Timeouts.Done(now, Ended{Class: ClassOK, Took: now.Sub(s.began)})
	}
	if o.Budget != nil && s.told <= 1 {
		s.told = 2
		o.Budget.Earn(now, c.Earn)
	}
	for i := max(int(s.told)-2, 0); i < len(p.gates); i++ {
		s.told = uint8(i + 3)
		p.gates[i].Gate.Done(now, Source{}, s.held[i], c.Breaker)
	}
	s.ended = 0
	p.release(now, Source{}, p.lines)
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
	s.call.end()
	d := s.started()
	d.x.forsaken = ctx.Err() != nil
	d.now = Now()
	d.steps = d.x.Result(d.now, Source{}, 0, meant(ctx, err, s.call.deadline))
	return d
}

// broken ends the call whose function, or a policy of it, has panicked or ended its goroutine. It does nothing if that has been
// seen to.
func (s *straight) broken() {
	if !s.left || s.ended != 0 {
		s.mend()
	}
}

func (s *straight) mend() {
	if s.left {
		s.goOnTelling()
		return
	}
	s.call.end()
	p := s.p
	if s.d == nil {
		if s.running {
			s.started()
		} else {
			x := &s.becomes().x
			x.phase, x.n = phaseAttempts, 1
			x.att[0] = attempt{throttle: s.throttle, hasThrottle: s.hasThrottle, place: s.place, hasPlace: s.hasPlace}
		}
	}
	defer p.put(s.d)
	s.d.wrecked(nil, 0)
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
		a := &x.att[0]
		a.stage, a.throttle, a.hasThrottle = st, s.throttle, s.hasThrottle
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
	x.att[0] = attempt{stage: stageRunning, start: s.began, deadline: s.call.deadline, own: s.own,
		throttle: s.throttle, hasThrottle: s.hasThrottle, place: s.place, hasPlace: s.hasPlace}
	return d
}

// becomes makes the call an Exec that holds the permits of its gates.
func (s *straight) becomes() *drive {
	d := s.p.get()
	s.d = d
	x := &d.x
	x.init(s.began, s.p, s.call.c, d, false)
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

package policy

import (
	"math/bits"
	"math/rand/v2"
	"time"

	"github.com/hull-go/hull/status"
)

// Set is a set of attempts, numbered from 0.
type Set uint8

func one(k int) Set { return 1 << k }

// Has reports whether k is in s.
func (s Set) Has(k int) bool { return s&one(k) != 0 }

// Len returns the number of attempts in s.
func (s Set) Len() int { return bits.OnesCount8(uint8(s)) }

// Steps is what an executor has to do after it has given an Exec an event. Do them in any order, without locks that
// gates or attempts might want.
type Steps struct {
	// Start these attempts now; Attempt describes each. Every one of them is followed by one Result.
	Start Set
	// Cancel these running attempts: their results are no longer wanted, but still have to be reported when they have ended.
	Cancel Set
	// Wake: give the event Wake then, unless a later Steps says otherwise. Zero = no need.
	Wake Time
	// Release: permits came back to gates in which others wait; call Exec.Release.
	Release Set
	// Done: the call has its result; see Exec.End.
	Done bool
}

// Attempt describes an attempt that is to be started.
type Attempt struct {
	// N numbers the attempts of a call from 0.
	N int
	// Node is where it goes; nil around a plain function.
	Node Node
	// Start is when it begins, Deadline when it must have ended; zero = never.
	Start, Deadline Time
	// Hedge: it runs beside others.
	Hedge bool
}

// Exec is one whole call as a state machine. Events go in (Begin, Wake, Granted, Result, Cancel), Steps come out. Order,
// retries, budgets, hedging and recording live here once, whoever turns it: Do, an RPC client, or a simulator.
// It is pure: no clock, no goroutine, no I/O. It is not safe for concurrent use; its gates are.
type Exec struct {
	p        *Pipeline
	call     Call
	waiter   Waiter
	detached bool
	stream   bool // the attempt is committed to: it is not repeated, and its duration is not a latency
	alone    bool // the executor cannot run two attempts at once: no hedges
	forsaken bool // the caller is gone: what runs may still decide the call, but nothing else begins
	barred   bool // a node has said that no other attempt must follow: what runs may still decide the call
	counted  bool // among the pipeline's calls

	began   Time
	steps   Steps
	wake    Time // as last told
	retryAt Time
	hedgeAt Time
	dryAt   Time // when hedging in dry-run would begin another attempt

	phase   phase
	probe   bool
	gate    uint8 // the call-level gate that is being asked
	heldSet Set   // call-level gates whose permits are held
	seat    seat  // where the call itself waits
	n       uint8 // attempts begun
	running Set   // attempts that were started and have not ended
	lost    Set   // those among them that were given up (detached only)
	unpaid  Set   // attempts whose turn to wait was left but whose verdict is still to arrive; the call's own is lateCall
	late    bool  // the same for the call itself

	winner  int8
	class   Class
	err     error
	stopped string
	by      string         // the policy that stopped it
	notes   []VerdictStory // what policies said
	pause   int8           // the note of the pause that retryAt ends; 0 = none

	said *Verdict // of the gate that is to be asked next; nil = it was not asked
	held [maxGates]Permit
	att  [MaxAttempts]attempt
}

type phase uint8

const (
	phaseGates phase = iota
	phaseAttempts
	phaseDone
)

// seat is a wait: until a time (Wait) or for a verdict (Park).
type seat struct {
	kind   seatKind
	note   int8 // of the wait
	at     Time
	ticket Ticket
}

// due reports whether the time of a wait has come.
func (s *seat) due(now Time) bool { return s.kind != seatNone && s.at != 0 && now >= s.at }

type seatKind uint8

const (
	seatNone seatKind = iota
	seatTimed
	seatParked
)

type stage uint8

const (
	stageThrottle stage = iota
	stageNode
	stageConcurrency
	stageStart
	stageRunning
	stageEnded
)

type attempt struct {
	node                           Node
	err                            error
	throttle, pick, place          Permit
	start, deadline                Time
	own                            time.Duration // the attempt's timeout before the caller's deadline capped it; 0 = none
	took                           time.Duration
	seat                           seat
	stage                          stage
	class                          Class
	hasThrottle, hasPick, hasPlace bool
	hedge, cancelled, fatal        bool
}

// tagCall is the mark of the call itself in a Line; attempts use their number.
const tagCall = MaxAttempts

// concurrencyBit marks the concurrency slot in Steps.Release; lower bits are call-level gates.
const concurrencyBit = maxGates

// throttleBit marks the throttle where concurrencyBit marks the concurrency slot. Nobody waits in it.
const throttleBit = concurrencyBit + 1

// Begin starts the call. w is told the verdicts of waits; it may be nil if no gate is a Line. detached means that
// attempts may outlive their deadline: then Wake events end them, and their Results arrive whenever they really end.
func (x *Exec) Begin(now Time, rnd rand.Source, p *Pipeline, c Call, w Waiter, detached bool) Steps {
	x.init(now, p, c, w, detached)
	x.begin(now, rnd)
	return x.take(now)
}

func (x *Exec) begin(now Time, rnd rand.Source) {
	if x.expired(now) {
		x.finishErr(now, rnd, ClassDeadlineSoon, &status.Error{Code: status.DeadlineExceeded, Kind: status.Timeout, Fate: status.NotSent,
			Message: "the deadline had passed before the call began"})
	} else {
		x.askGates(now, rnd)
	}
	x.count()
}

// count counts a call whose first attempt did not begin at once.
func (x *Exec) count() {
	if !x.counted {
		x.counted = true
		x.p.n.calls.Add(1)
	}
}

func (x *Exec) init(now Time, p *Pipeline, c Call, w Waiter, detached bool) {
	if x.p != p || x.waiter != w { // a pooled Exec's are the same ones again
		x.p, x.waiter = p, w
	}
	x.call, x.detached, x.began, x.winner = c, detached, now, -1
}

// stillborn is Begin for a caller that had given up before: no gate is asked.
func (x *Exec) stillborn(now Time, rnd rand.Source, p *Pipeline, c Call, cause error) Steps {
	x.init(now, p, c, nil, false)
	x.count()
	return x.Cancel(now, rnd, cause)
}

// Reset makes x ready for another call. It must be Idle. What Begin sets anyway stays, for the sake of speed; it is nothing of
// the call's that is large.
func (x *Exec) Reset() {
	for i := range x.att[:x.n] {
		x.att[i] = attempt{}
	}
	x.err, x.stopped, x.by, x.class = nil, "", "", 0
	x.notes, x.pause = x.notes[:0], 0
	x.steps, x.wake, x.retryAt, x.hedgeAt, x.dryAt = Steps{}, 0, 0, 0, 0
	x.phase, x.probe, x.gate, x.heldSet, x.seat.kind, x.n = phaseGates, false, 0, 0, seatNone, 0
	x.running, x.lost, x.unpaid, x.late = 0, 0, 0, false
	x.stream, x.alone, x.forsaken, x.barred, x.counted = false, false, false, false, false
}

// Idle reports whether the call has ended and nothing of it is outstanding: no attempt runs, no verdict is to arrive.
func (x *Exec) Idle() bool {
	return x.phase == phaseDone && x.running == 0 && x.unpaid == 0 && !x.late
}

// Commit says that the running attempt is a stream that has begun: whatever becomes of it, no other follows, and how long it
// lasts is not a latency.
func (x *Exec) Commit() { x.stream = true }

// Call returns the call as policies see it.
func (x *Exec) Call() *Call { return &x.call }

// Attempt describes attempt k.
func (x *Exec) Attempt(k int) Attempt {
	a := &x.att[k]
	return Attempt{N: k, Node: a.node, Start: a.start, Deadline: a.deadline, Hedge: a.hedge}
}

// End returns how the call ended: the attempt whose result is the call's, or −1, and its error. Valid once Steps.Done was seen.
func (x *Exec) End() (winner int, class Class, err error) { return int(x.winner), x.class, x.err }

// Story tells what happened so far, into s, whose slice is reused.
func (x *Exec) Story(now Time, s *Story) {
	s.Class, s.Err, s.Took, s.Stopped, s.StoppedBy = x.class, x.err, now.Sub(x.began), x.stopped, x.by
	s.Attempts = s.Attempts[:0]
	for i := range x.att[:x.n] {
		a := &x.att[i]
		if a.start == 0 {
			continue // never left
		}
		as := AttemptStory{Node: a.node, Start: a.start, Took: a.took, Ended: a.stage == stageEnded, Class: a.class, Err: a.err, Hedge: a.hedge}
		if !as.Ended {
			as.Took = now.Sub(a.start)
		}
		s.Attempts = append(s.Attempts, as)
	}
	s.Verdicts = append(s.Verdicts[:0], x.notes...)
	for i := range s.Verdicts {
		if v := &s.Verdicts[i]; v.Took == waitsStill {
			v.Took = now.Sub(v.At)
		}
	}
}

// note keeps what a policy said of attempt k, or with tagCall of the call, for its story. It returns what waited takes.
func (x *Exec) note(now Time, policy string, k int, v Verdict, m Mode) int8 {
	if len(x.notes) >= MaxVerdicts {
		return 0
	}
	if k == tagCall {
		k = -1
	}
	x.notes = append(x.notes, VerdictStory{Policy: policy, Attempt: k, Decision: v.Decision, DryRun: m == DryRun, At: now, State: v.State, Reason: v.Reason})
	return int8(len(x.notes))
}

// waitsStill stands in the note of a wait that goes on.
const waitsStill = -1

// waits is note for a wait, which goes on until waited.
func (x *Exec) waits(now Time, policy string, k int, v Verdict) int8 {
	n := x.note(now, policy, k, v, On)
	if n > 0 {
		x.notes[n-1].Took = waitsStill
	}
	return n
}

// waited notes that a wait is over.
func (x *Exec) waited(now Time, note int8) {
	if note > 0 {
		x.notes[note-1].Took = now.Sub(x.notes[note-1].At)
	}
}

// rise ends the wait of a seat.
func (x *Exec) rise(now Time, s *seat) {
	x.waited(now, s.note)
	*s = seat{}
}

func (x *Exec) expired(now Time) bool { return x.call.Deadline != 0 && now >= x.call.Deadline }

// take hands out the collected steps, with the time of the next Wake if that changed.
func (x *Exec) take(now Time) Steps {
	s := x.steps
	x.steps = Steps{}
	if x.phase == phaseDone {
		return s
	}
	if w := x.nextWake(); w != x.wake {
		x.wake = w
		if w != 0 {
			s.Wake = max(w, now)
		}
	}
	return s
}

func (x *Exec) nextWake() Time {
	w := Earliest(x.retryAt, x.hedgeAt)
	waits := x.retryAt != 0
	if x.seat.kind != seatNone {
		w, waits = Earliest(w, x.seat.at), true
	}
	for i := range x.att[:x.n] {
		a := &x.att[i]
		switch {
		case a.stage < stageRunning && a.seat.kind != seatNone:
			w, waits = Earliest(w, a.seat.at), true
		case a.stage == stageRunning && x.detached && !x.lost.Has(i):
			w = Earliest(w, a.deadline)
		}
	}
	if (waits && x.running == 0) || x.detached {
		w = Earliest(w, x.call.Deadline)
	}
	return w
}

// askGates asks the call-level gates from where it left off, then starts the first attempt.
func (x *Exec) askGates(now Time, rnd rand.Source) {
	for int(x.gate) < len(x.p.gates) {
		if x.expired(now) { // it waited for a gate before this one
			x.timeOut(now, rnd)
			return
		}
		s := &x.p.gates[x.gate]
		v := x.ask(now, rnd, s)
		switch x.settle(now, rnd, s, &v, &x.seat, tagCall) {
		case went:
			x.hold(now, v)
		case waits:
			if v.Decision == Wait {
				x.hold(now, v) // the permit is held while the time passes
			}
			return
		case refused:
			x.refuse(now, rnd, s, v)
			return
		case unasked:
		}
		x.gate++
	}
	x.phase = phaseAttempts
	x.startAttempt(now, rnd, false)
}

// ask asks a gate, or tells what it has said to a straight call already.
func (x *Exec) ask(now Time, rnd rand.Source, s *Slot) Verdict {
	if v := x.said; v != nil {
		x.said = nil
		return *v
	}
	return s.Gate.Admit(now, rnd, &x.call)
}

// hold keeps the permit of the current call-level gate.
func (x *Exec) hold(now Time, v Verdict) {
	x.held[x.gate] = v.Permit
	x.heldSet |= one(int(x.gate))
	if s := &x.p.gates[x.gate]; v.Decision == Probe && s.Mode == On {
		x.probe = true
		x.note(now, s.Name, tagCall, v, On)
	}
}

type answer uint8

const (
	went    answer = iota // admitted, the permit counts
	waits                 // sits in a seat
	refused               // not admitted
	unasked               // dry-run: goes on without a permit
)

// settle turns a verdict into what it means for a call, joining the line where it says so. v is the final verdict.
func (x *Exec) settle(now Time, rnd rand.Source, s *Slot, v *Verdict, at *seat, tag uint32) answer {
	if v.Decision.Admits() {
		return went
	}
	return x.settleRest(now, rnd, s, v, at, tag)
}

func (x *Exec) settleRest(now Time, rnd rand.Source, s *Slot, v *Verdict, at *seat, tag uint32) answer {
	if s.Mode == DryRun {
		x.p.n.dryRefused.Add(1)
		x.note(now, s.Name, int(tag), *v, DryRun)
		if v.Decision == Wait {
			s.Gate.Done(now, rnd, v.Permit, Ignored)
		}
		return unasked
	}
	if v.Decision == Park {
		line, ok := s.Gate.(Line)
		if !ok || x.waiter == nil {
			*v = Verdict{Decision: Refuse, State: v.State, Reason: "the gate parks calls but cannot be waited in here"}
			return refused
		}
		var t Ticket
		if t, *v = line.Join(now, rnd, &x.call, Waiting{Waiter: x.waiter, Tag: tag}); v.Decision == Park {
			*at = seat{kind: seatParked, note: x.waits(now, s.Name, int(tag), *v), at: Earliest(v.At, x.call.Deadline), ticket: t}
			return waits
		}
		if v.Decision.Admits() {
			return went
		}
	}
	if v.Decision == Wait {
		if x.call.Deadline == 0 || v.At < x.call.Deadline {
			*at = seat{kind: seatTimed, note: x.waits(now, s.Name, int(tag), *v), at: v.At}
			return waits
		}
		s.Gate.Done(now, rnd, v.Permit, Ignored)
		*v = Verdict{Decision: Refuse, At: v.At, State: "busy", Reason: "its turn would come after the call's deadline"}
	}
	return refused
}

// refuse ends the call, or only the attempt that asked, with a gate's refusal.
func (x *Exec) refuse(now Time, rnd rand.Source, s *Slot, v Verdict) {
	x.p.n.refused.Add(1)
	x.note(now, s.Name, tagCall, v, On)
	x.finishErr(now, rnd, ClassRefused, x.refusal(now, s.Name, v))
}

func (x *Exec) refusal(now Time, policy string, v Verdict) *status.Error {
	r := &status.Refusal{Policy: policy, Key: x.p.opt.Key, State: v.State, Reason: v.Reason}
	if v.At > now {
		r.RetryAfter = v.At.Sub(now)
	}
	e := &status.Error{Code: status.Unavailable, Fate: status.NotSent, Kind: status.Refused, Refusal: r}
	switch policy {
	case x.p.opt.Rate.Name:
		e.Code = status.ResourceExhausted
	case nodesName:
		e.Kind = status.NoNode
	}
	return e
}

// nodesName is the name of node choice in refusals.
const nodesName = "balancer"

// fate is what is proved about all attempts together: the call was not sent if none of them was.
func (x *Exec) fate() status.Fate {
	if x.running != 0 {
		return status.Maybe
	}
	f := status.NotSent
	for i := range x.att[:x.n] {
		a := &x.att[i]
		if a.start == 0 {
			continue
		}
		switch status.FateOf(a.err) {
		case status.Maybe:
			return status.Maybe
		case status.Processed:
			f = status.Processed
		case status.NotSent:
		}
	}
	return f
}

// finishAs ends the call with the result of attempt k. That its request was not sent must not hide that an earlier one was.
func (x *Exec) finishAs(now Time, rnd rand.Source, k int) {
	a := &x.att[k]
	x.winner, x.err = int8(k), a.err
	if a.err != nil && (x.n > 1) && status.FateOf(a.err) == status.NotSent {
		if f := x.fate(); f != status.NotSent {
			e := *status.From(a.err)
			e.Fate, e.Message, e.Cause = f, "an earlier attempt may have been processed; the last one", a.err
			x.err = &e
		}
	}
	cl := a.class
	if cl == ClassDeadlineSoon && x.tried(now) {
		cl = ClassDeadlineLate
	}
	if a.err != nil {
		x.p.pushback(now, x.heldSet, cl, a.err)
	}
	x.finish(now, rnd, cl)
}

// pushback tells the call-level gates whose permits are held that the other side wants to be left alone for a while. Somebody's own
// quota says nothing about anybody else's calls.
func (p *Pipeline) pushback(now Time, held Set, cl Class, err error) {
	d := status.From(err).Pushback
	if d <= 0 || cl == ClassQuota {
		return
	}
	for i := range p.gates {
		if g, ok := p.gates[i].Gate.(Pushbacker); ok && held.Has(i) {
			g.Pushback(now, d)
		}
	}
}

// finishErr ends the call with an error of the executor's own.
func (x *Exec) finishErr(now Time, rnd rand.Source, cl Class, err error) {
	x.winner, x.err = -1, err
	x.finish(now, rnd, cl)
}

// finish records the call and gives back what the call itself holds. Attempts that still run are cancelled; they keep
// what is theirs until their results arrive.
func (x *Exec) finish(now Time, rnd rand.Source, cl Class) {
	x.class, x.phase = cl, phaseDone
	x.retryAt, x.hedgeAt = 0, 0
	x.steps.Done = true
	x.settleCall(now, rnd)
	if x.n > 1 && x.p.acquits != nil && cl.Counts().Breaker != Success {
		x.acquit(now, rnd)
	}
}

// acquit takes back what a call that was answered by no node has counted against those that it failed on, if these are two or more.
func (x *Exec) acquit(now Time, rnd rand.Source) {
	var set Set
	var first Node
	several := false
	for i := range x.att[:x.n] {
		a := &x.att[i]
		if c := a.class.Counts(); a.node == nil || a.stage != stageEnded || c.Rate != Failure || status.FateOf(a.err) == status.NotSent {
			continue
		}
		if set |= one(i); first == nil {
			first = a.node
		}
		several = several || a.node != first
	}
	for i := range x.att[:x.n] {
		if a := &x.att[i]; several && set.Has(i) {
			x.p.acquits.Acquit(now, rnd, a.node, a.start.Add(a.took), a.class)
		}
	}
}

// settleCall gives back what a call that has ended still holds. Each thing is forgotten before its policy is told, so that it can be
// called again if a policy panics.
func (x *Exec) settleCall(now Time, rnd rand.Source) {
	o := x.class.Counts().Breaker
	for i := range x.p.gates {
		if !x.heldSet.Has(i) {
			continue
		}
		x.heldSet &^= one(i)
		x.steps.Release |= one(i) & x.p.lines
		x.p.gates[i].Gate.Done(now, rnd, x.held[i], o)
	}
	if x.n == 1 && x.att[0].stage == stageEnded && !x.holds(0) {
		return
	}
	x.leaveSeat(now, &x.seat, int(x.gate), tagCall)
	for k := range x.att[:x.n] {
		a := &x.att[k]
		switch {
		case a.stage < stageRunning:
			x.leaveSeat(now, &a.seat, concurrencyBit, uint32(k))
			x.abort(now, rnd, k)
		case x.holds(k):
			c := a.class.Counts()
			x.giveBack(now, rnd, a, c.Throttle, Ended{Class: a.class, Took: a.took, Untimed: x.stream}, c.Limit, !x.running.Has(k))
		case x.running.Has(k) && !x.lost.Has(k) && !a.cancelled:
			a.cancelled = true
			x.steps.Cancel |= one(k)
			x.p.n.abandoned.Add(1)
		}
	}
}

// holds reports whether attempt k has permits though it has ended or was given up. What was given up keeps its place.
func (x *Exec) holds(k int) bool {
	a := &x.att[k]
	if x.running.Has(k) {
		return x.lost.Has(k) && (a.hasThrottle || a.hasPick)
	}
	return a.hasThrottle || a.hasPick || a.hasPlace
}

// unsettled reports whether a call that has ended holds something that nothing else will give back.
func (x *Exec) unsettled() bool {
	if x.heldSet != 0 || x.seat.kind != seatNone {
		return true
	}
	for k := range x.att[:x.n] {
		a := &x.att[k]
		if a.stage < stageRunning || x.holds(k) || x.running.Has(k) && !x.lost.Has(k) && !a.cancelled {
			return true
		}
	}
	return false
}

// settleLeft does what a policy's panic has left undone, whatever other policies panic.
func (x *Exec) settleLeft(now Time, rnd rand.Source) {
	if x.phase != phaseDone || !x.unsettled() {
		return
	}
	defer x.settleLeft(now, rnd)
	x.settleCall(now, rnd)
}

// leaveSeat gives up a wait. If the verdict is already on its way, Granted settles it when it arrives.
func (x *Exec) leaveSeat(now Time, s *seat, gate int, tag uint32) {
	was := *s
	x.rise(now, s)
	if was.kind != seatParked || x.p.line[gate].Leave(now, was.ticket) {
		return
	}
	if tag == tagCall {
		x.late = true
	} else {
		x.unpaid |= one(int(tag))
	}
}

// Release hands permits that came back to those who wait for them. It may be called without the lock that protects x.
func (x *Exec) Release(now Time, rnd rand.Source, p *Pipeline, set Set) { p.release(now, rnd, set) }

func (p *Pipeline) release(now Time, rnd rand.Source, set Set) {
	if set != 0 && p.crowded() {
		p.handOut(now, rnd, set)
	}
}

// crowded reports whether somebody may wait in a line.
func (p *Pipeline) crowded() bool { return p.lines != 0 && (p.waiters == nil || p.waiters.Waits()) }

// handOut is release where somebody may wait.
func (p *Pipeline) handOut(now Time, rnd rand.Source, set Set) {
	if rest := set & (set - 1); rest != 0 {
		defer p.release(now, rnd, rest) // also if this line panics
	}
	line := p.line[bits.TrailingZeros8(uint8(set))]
	for {
		w, v, ok := line.Next(now, rnd)
		if !ok {
			return
		}
		w.Waiter.Granted(w.Tag, v)
	}
}

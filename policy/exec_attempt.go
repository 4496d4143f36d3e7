package policy

import (
	"math/rand/v2"
	"time"

	"github.com/hull-go/hull/status"
)

// startAttempt begins one more attempt. The caller has seen to budget and number.
func (x *Exec) startAttempt(now Time, rnd rand.Source, hedge bool) {
	k := int(x.n)
	x.n++
	x.att[k].hedge = hedge
	x.advance(now, rnd, k)
}

// advance asks attempt k's gates from where it left off: throttle → node → concurrency → timeout.
func (x *Exec) advance(now Time, rnd rand.Source, k int) {
	a := &x.att[k]
	o := &x.p.opt
	if x.expired(now) { // it waited too long; what runs has the same deadline
		x.abort(now, rnd, k)
		if !x.active() {
			x.timeOut(now, rnd)
		}
		return
	}
	if a.stage == stageThrottle {
		if o.Throttle.Gate != nil {
			v := x.ask(now, rnd, &o.Throttle)
			switch x.settle(now, rnd, &o.Throttle, &v, &a.seat, uint32(k)) {
			case went:
				a.throttle, a.hasThrottle = v.Permit, true
			case waits:
				a.throttle, a.hasThrottle = v.Permit, true // held while the time passes
				return
			case refused:
				x.attemptRefused(now, rnd, k, o.Throttle.Name, v)
				return
			case unasked:
			}
		}
		a.stage = stageNode
	}
	if a.stage == stageNode {
		if o.Nodes != nil {
			n, v := x.pick(now, rnd, k)
			if !v.Decision.Admits() || n == nil {
				x.attemptRefused(now, rnd, k, nodesName, v)
				return
			}
			a.node, a.pick, a.hasPick = n, v.Permit, true
		}
		a.stage = stageConcurrency
	}
	if a.stage == stageConcurrency {
		if s := &o.Concurrency; s.Gate != nil {
			v := x.ask(now, rnd, s)
			switch x.settle(now, rnd, s, &v, &a.seat, uint32(k)) {
			case went:
				a.place, a.hasPlace = v.Permit, true
			case waits:
				a.place, a.hasPlace = v.Permit, v.Decision == Wait
				return
			case refused:
				x.attemptRefused(now, rnd, k, s.Name, v)
				return
			case unasked:
			}
		}
		a.stage = stageStart
	}
	x.run(now, k)
}

// triedNodes are the nodes of the attempts before k. For the first attempt, which is most, it costs no allocation.
func (x *Exec) triedNodes(k int) (tried []Node) {
	for i := range x.att[:k] {
		if n := x.att[i].node; n != nil {
			tried = append(tried, n)
		}
	}
	return tried
}

// pick chooses the node of attempt k.
func (x *Exec) pick(now Time, rnd rand.Source, k int) (Node, Verdict) {
	nodes, tried := x.p.opt.Nodes, x.triedNodes(k)
	if k > 0 && x.att[k-1].class == ClassNoMethod {
		if v, ok := nodes.(Versions); ok {
			return v.Other(now, rnd, &x.call, tried, x.lacking(k))
		}
	}
	return nodes.Pick(now, rnd, &x.call, tried)
}

// lacking are the nodes of the attempts before k that do not know the method.
func (x *Exec) lacking(k int) (nodes []Node) {
	for i := range x.att[:k] {
		if a := &x.att[i]; a.node != nil && a.class == ClassNoMethod {
			nodes = append(nodes, a.node)
		}
	}
	return nodes
}

// run sets attempt k's timeout and lets it start.
func (x *Exec) run(now Time, k int) {
	a := &x.att[k]
	o := &x.p.opt
	a.deadline = x.call.Deadline
	if o.Timeouts != nil {
		left, _ := x.call.Left(now)
		last := x.p.last(&x.call, int(x.n), x.probe)
		if a.own = o.Timeouts.Attempt(now, &x.call, left, last); a.own > 0 {
			a.own = x.enough(now, k, last, left, max(a.own, x.longer(k, left)))
			a.deadline = Earliest(x.call.Deadline, now.Add(a.own))
		}
	}
	if x.p.dry != nil {
		x.dryBegun(now, k)
	}
	x.scheduleHedge(now)
	a.stage, a.start = stageRunning, now // not before: if a policy panics the attempt does not start
	x.running |= one(k)
	x.steps.Start |= one(k)
	switch {
	case a.hedge:
		x.p.n.hedges.Add(1)
	case k > 0:
		x.p.n.retries.Add(1)
	case x.counted:
		x.p.n.waited.Add(1)
	default:
		x.counted = true
		x.p.n.straight.Add(1)
	}
}

// longer is what attempt k gets at least because an earlier one of its call timed out. That so much is not enough here is the newest there is to know.
func (x *Exec) longer(k int, left time.Duration) time.Duration {
	if x.p.grows == nil {
		return 0
	}
	for i := k - 1; i >= 0; i-- {
		if a := &x.att[i]; a.stage == stageEnded && a.class == ClassTimeout {
			return x.p.grows.Longer(a.own, left)
		}
	}
	return 0
}

// enough is d, or what the last attempt of a call gets at most of which an earlier one timed out.
func (x *Exec) enough(now Time, k int, last bool, left, d time.Duration) time.Duration {
	if !last || x.p.seeks == nil {
		return d
	}
	for i := k - 1; i >= 0; i-- {
		if a := &x.att[i]; a.stage == stageEnded && a.class == ClassTimeout {
			if most := x.p.seeks.Enough(now, a.own, left); most > 0 {
				return min(d, most)
			}
			return d
		}
	}
	return d
}

// last reports whether no other attempt can follow the nth.
func (p *Pipeline) last(c *Call, n int, probe bool) bool {
	return p.opt.Retries == nil || n >= p.most(c) || !c.Idempotent || c.PathAttempt > 1 || probe
}

// most is how many attempts c can have.
func (p *Pipeline) most(c *Call) int {
	if n := int(c.Attempts); n > 0 {
		return min(n, p.max)
	}
	return p.max
}

func (x *Exec) scheduleHedge(now Time) {
	x.hedgeAt = 0
	if x.p.opt.Hedging == nil || !x.call.SideEffectFree || x.alone || x.probe || x.barred || int(x.n) >= x.p.most(&x.call) || x.call.PathAttempt > 1 {
		return
	}
	if d, ok := x.p.opt.Hedging.Delay(now, &x.call, int(x.n)); ok {
		if at := now.Add(d); x.fits(now, at) {
			x.hedgeAt = at
		}
	}
}

// fits reports whether an attempt that begins at a time may end well before the deadline, as far as is known now.
func (x *Exec) fits(now, at Time) bool {
	if x.call.Deadline == 0 {
		return true
	}
	return at < x.call.Deadline && (x.p.expect == nil || x.p.expect.Least(now) < x.call.Deadline.Sub(at))
}

// hedge begins an attempt beside the running ones, if breaker and budget allow and there is time for it.
func (x *Exec) hedge(now Time, rnd rand.Source) {
	x.hedgeAt = 0
	if int(x.n) >= x.p.most(&x.call) || x.forsaken || !x.fits(now, now) || !x.breakerHolds(now) {
		return
	}
	if !x.apart(now, rnd) {
		return
	}
	if b := x.p.opt.Budget; b != nil && !b.Spend(now, x.call.Criticality, ClassLoser.Counts().Cost) {
		x.p.n.budgetEmpty.Add(1)
		x.note(now, budgetName, int(x.n), Verdict{Decision: Refuse, State: "empty", Reason: "it could not pay for a hedge"}, On)
		return
	}
	x.startAttempt(now, rnd, true)
}

// apart reports whether a hedge would go to another node than those that have the call already, as far as that is known.
func (x *Exec) apart(now Time, rnd rand.Source) bool {
	_, ok := x.p.opt.Nodes.(Spares)
	return !ok || x.spare(now, rnd)
}

// attemptRefused ends an attempt that never started. If others run, the call waits for them; if an earlier one failed,
// that failure is the call's; else the refusal is.
func (x *Exec) attemptRefused(now Time, rnd rand.Source, k int, policy string, v Verdict) {
	x.abort(now, rnd, k)
	v.Decision = Refuse
	x.note(now, policy, k, v, On)
	if x.active() {
		return
	}
	err := x.refusal(now, policy, v)
	if i := x.lastEnded(); i >= 0 {
		x.stopped, x.by = "no further attempt: "+policy+": "+v.Reason, policy
		x.finishAs(now, rnd, i)
		return
	}
	x.p.n.refused.Add(1)
	x.finishErr(now, rnd, ClassRefused, err)
}

// abort gives back what an attempt that never started holds.
func (x *Exec) abort(now Time, rnd rand.Source, k int) {
	a := &x.att[k]
	a.stage, a.class = stageEnded, ClassRefused
	x.giveBack(now, rnd, a, Ignored, Ended{Class: ClassRefused}, Ignored, true)
}

// giveBack settles an attempt's permits, each once; free says that its place is free again.
func (x *Exec) giveBack(now Time, rnd rand.Source, a *attempt, throttle Outcome, e Ended, place Outcome, free bool) {
	o := &x.p.opt
	if a.hasThrottle {
		a.hasThrottle = false
		o.Throttle.Gate.Done(now, rnd, a.throttle, throttle)
	}
	if a.hasPick {
		a.hasPick = false
		o.Nodes.Done(now, rnd, a.node, a.pick, e)
	}
	if a.hasPlace && free {
		x.freePlace(now, rnd, a, place)
	}
}

func (x *Exec) freePlace(now Time, rnd rand.Source, a *attempt, outcome Outcome) {
	a.hasPlace = false
	x.steps.Release |= one(concurrencyBit) & x.p.lines
	x.p.opt.Concurrency.Gate.Done(now, rnd, a.place, outcome)
}

// active reports whether something of the call is still to come without a further decision.
func (x *Exec) active() bool {
	if x.running&^x.lost != 0 || x.retryAt != 0 {
		return true
	}
	for i := range x.att[:x.n] {
		if a := &x.att[i]; a.stage < stageRunning && a.seat.kind != seatNone {
			return true
		}
	}
	return false
}

// Result reports that attempt k has ended with err, nil for success. The first result that is an answer is the call's.
func (x *Exec) Result(now Time, rnd rand.Source, k int, err error) Steps {
	if x.running.Has(k) {
		x.result(now, rnd, k, err)
	}
	return x.take(now)
}

func (x *Exec) result(now Time, rnd rand.Source, k int, err error) {
	a := &x.att[k]
	if x.lost.Has(k) { // given up long ago; only its place was still in use
		x.running &^= one(k)
		x.lost &^= one(k)
		x.p.n.abandoned.Add(-1)
		if a.hasPlace {
			x.freePlace(now, rnd, a, a.class.Counts().Limit)
		}
		return
	}
	cl := x.classify(now, a, err) // first, since the user's own Classify may panic
	x.running &^= one(k)
	if x.phase == phaseDone {
		x.p.n.abandoned.Add(-1)
	}
	a.err = err
	x.ended(now, rnd, k, cl, true)
}

// Panicked reports that attempt k has ended by a panic or by runtime.Goexit, or that a policy panicked in its Result: nobody is left
// to make another, so the call ends with it. It counts as ClassInternal.
func (x *Exec) Panicked(now Time, rnd rand.Source, k int) Steps {
	x.wreck(now, rnd, k)
	return x.take(now)
}

// wreck ends a call in which attempt k, or with −1 a policy, has panicked. Afterwards it holds nothing, also if other policies panic
// on the way; then the latest panic goes on, and the steps are still to be taken.
func (x *Exec) wreck(now Time, rnd rand.Source, k int) {
	defer x.settleLeft(now, rnd)
	told := false
	defer func() {
		if !told {
			x.broke(now, rnd)
		}
	}()
	if k >= 0 && x.running.Has(k) {
		x.att[k].fatal = true
		x.result(now, rnd, k, errPanicked)
		told = true
	}
}

// broke ends a call in which a policy has panicked, unless it has ended.
func (x *Exec) broke(now Time, rnd rand.Source) {
	x.said = nil
	x.count()
	if x.phase == phaseDone {
		return
	}
	cl := ClassRefused
	for i := range x.att[:x.n] {
		if x.att[i].start != 0 {
			cl = ClassInternal
		}
	}
	x.finishErr(now, rnd, cl, errPanicked)
}

// broken reports whether a panic has left something of the call to do.
func (x *Exec) broken() bool {
	return x.phase != phaseDone || x.steps.Done || x.steps.Release != 0 || x.unsettled()
}

var errPanicked = &status.Error{Code: status.Internal, Kind: status.Panicked, Message: "the function panicked or ended its goroutine"}

// ended records an attempt and decides what follows. free says that its place is free again.
func (x *Exec) ended(now Time, rnd rand.Source, k int, cl Class, free bool) {
	a, o := &x.att[k], &x.p.opt
	a.stage, a.class, a.took = stageEnded, cl, now.Sub(a.start)
	c := cl.Counts()
	e := Ended{Class: cl, Took: a.took, Untimed: x.stream}
	x.giveBack(now, rnd, a, c.Throttle, e, c.Limit, free)
	if o.Timeouts != nil && !x.stream {
		o.Timeouts.Done(now, e)
	}
	if o.Hedging != nil && !x.stream {
		o.Hedging.Done(now, e)
	}
	if x.p.dry != nil {
		x.dryEnded(now, rnd, a, e)
	}
	if k == 0 && c.Earn > 0 && o.Budget != nil {
		o.Budget.Earn(now, c.Earn)
	}
	if x.phase == phaseDone {
		return
	}
	switch {
	case final(cl) || a.fatal:
		x.finishAs(now, rnd, k)
	case x.active():
		x.beside(now, rnd, k)
	default:
		x.again(now, rnd, k)
	}
}

// beside takes in the failure of an attempt beside which others run. It is reason enough not to wait for a hedge's delay, unless the node wants to be left
// alone for a while; and some failures forbid all further attempts, as they do where attempts follow each other. What still waits for its place is one of those.
func (x *Exec) beside(now Time, rnd rand.Source, k int) {
	a := &x.att[k]
	pushback := status.From(a.err).Pushback
	switch {
	case pushback < 0 || a.class == ClassDownstream:
		x.barred, x.hedgeAt = true, 0
		x.callOff(now, rnd)
		if !x.active() {
			x.again(now, rnd, k)
		}
	case x.hedgeAt == 0 || a.class.Counts().Retry == RetryNever:
	case pushback > 0:
		x.hedgeAt = max(x.hedgeAt, now.Add(pushback))
	default:
		x.hedge(now, rnd)
	}
}

// callOff ends the attempts that have not begun.
func (x *Exec) callOff(now Time, rnd rand.Source) {
	for k := range x.att[:x.n] {
		if a := &x.att[k]; a.stage < stageRunning {
			x.leaveSeat(now, &a.seat, concurrencyBit, uint32(k))
			x.abort(now, rnd, k)
		}
	}
}

// final reports whether a result is the call's at once, whatever else runs: an answer, or the caller's own end.
func final(cl Class) bool {
	switch cl {
	case ClassOK, ClassCaller, ClassAborted, ClassTooLarge, ClassQuota, ClassCancelled, ClassDeadlineLate, ClassDeadlineSoon:
		return true
	}
	return false
}

// classify sorts a result, and tells whose deadline it was that passed.
func (x *Exec) classify(now Time, a *attempt, err error) Class {
	if a.fatal {
		return ClassInternal
	}
	cl := x.p.opt.Classify(err)
	if cl == ClassDownstream && a.own > 0 && now.Sub(a.start) >= a.own-a.own/10 && status.CodeOf(err) == status.DeadlineExceeded {
		// The time that ran out below is what this attempt was given: nobody there had any left to try again. A moment later
		// the attempt would have timed out here.
		cl = ClassTimeout
	}
	if cl == ClassExpired && a.own > 0 && (x.call.Deadline == 0 || a.start.Add(a.own) < x.call.Deadline) {
		cl = ClassTimeout // what the server says is over is the attempt's time; the caller has more
	}
	if cl != ClassTimeout && cl != ClassCancelled {
		return cl
	}
	late := a.cancelled && (x.class == ClassDeadlineLate || x.class == ClassDeadlineSoon) // nobody won
	if a.cancelled && !late {
		return ClassLoser
	}
	if late || cl == ClassTimeout && x.expired(now) {
		if x.fair(now, a) {
			return ClassDeadlineLate
		}
		return ClassDeadlineSoon
	}
	return cl
}

// fair reports whether an attempt that runs has had a fair chance.
func (x *Exec) fair(now Time, a *attempt) bool {
	ran, t := now.Sub(a.start), x.p.opt.Timeouts
	return t == nil || (a.own > 0 && ran >= a.own) || t.Fair(now, ran)
}

// tried reports whether any attempt failed by itself or has had a fair chance. Then a deadline that passed too soon for the
// latest one is not the caller's doing.
func (x *Exec) tried(now Time) bool {
	for i := range x.att[:x.n] {
		a := &x.att[i]
		switch {
		case a.stage == stageEnded && a.class.Counts().Breaker == Failure, a.stage == stageRunning && x.fair(now, a):
			return true
		}
	}
	return false
}

// again decides, when attempt k has failed and nothing else runs, whether another follows.
func (x *Exec) again(now Time, rnd rand.Source, k int) {
	a, o := &x.att[k], &x.p.opt
	x.hedgeAt = 0 // nothing runs any more that a hedge could run beside
	stop := func(by, why string) {
		if x.stopped = why; why != "" {
			x.by = by
		}
		x.finishAs(now, rnd, k)
	}
	if o.Retries == nil {
		stop(retryName, x.dryAgain(now, rnd, a))
		return
	}
	if x.forsaken {
		stop("", "the caller is gone")
		return
	}
	if x.barred {
		stop(retryName, "the answer to one of the attempts forbids it")
		return
	}
	if x.stream {
		stop("", "a stream that has begun is not repeated")
		return
	}
	if x.probe {
		stop(x.breakerName(), "a probe is not retried")
		return
	}
	n := int(x.n)
	if n >= x.p.most(&x.call) {
		n -= x.inVain(now, rnd)
	}
	if n >= x.p.most(&x.call) {
		stop(retryName, "the attempts are used up")
		return
	}
	if a.class.Counts().Retry == RetryAnyOnce {
		n = x.once() // how others have failed is not counted
	}
	e := status.From(a.err)
	wait, ok, why := o.Retries.Again(now, rnd, &x.call, n, a.class, e.Fate, e.Pushback)
	if !ok {
		stop(retryName, why)
		return
	}
	if v, ok := o.Nodes.(Versions); ok && a.class == ClassNoMethod && !v.HasOther(now, rnd, &x.call, x.lacking(int(x.n))) {
		stop(nodesName, "no node of another version is there, which might serve the method")
		return
	}
	at := now.Add(wait)
	if x.call.Deadline != 0 && at >= x.call.Deadline {
		stop(retryName, "the deadline would pass before the next attempt")
		return
	}
	if !x.fits(now, at) {
		stop(retryName, "the next attempt would take longer than is left")
		return
	}
	if !x.breakerHolds(now) {
		stop(x.breakerName(), "the breaker opened meanwhile")
		return
	}
	if cost := a.class.Counts().Cost; cost > 0 && o.Budget != nil && !o.Budget.Spend(now, x.call.Criticality, cost) {
		x.p.n.budgetEmpty.Add(1)
		stop(budgetName, "the retry budget is empty")
		return
	}
	if wait <= 0 {
		x.startAttempt(now, rnd, false)
		return
	}
	x.retryAt = at
	x.pause = x.waits(now, retryName, int(x.n), Verdict{Decision: Wait})
}

// The names of policies that have no slot.
const (
	retryName  = "retry"
	budgetName = "budget"
)

// breakerName is the name of the breaker's slot.
func (x *Exec) breakerName() string {
	if x.p.brk < 0 {
		return ""
	}
	return x.p.gates[x.p.brk].Name
}

// spare reports whether a node is left that the call has not tried.
func (x *Exec) spare(now Time, rnd rand.Source) bool {
	s, ok := x.p.opt.Nodes.(Spares)
	return ok && s.Spare(now, rnd, &x.call, x.triedNodes(int(x.n)))
}

// once is how many attempts have failed in a way that is tried again only once.
func (x *Exec) once() (n int) {
	for i := range x.att[:x.n] {
		if a := &x.att[i]; a.stage == stageEnded && a.class.Counts().Retry == RetryAnyOnce {
			n++
		}
	}
	return n
}

// inVain is how many attempts do not count because they reached nobody, while somebody else may be reached: 0 if nobody is left. At least one counts.
func (x *Exec) inVain(now Time, rnd rand.Source) int {
	if x.call.Attempts != 0 || x.p.max < 2 || int(x.n) >= MaxAttempts {
		return 0
	}
	vain := 0
	for i := range x.att[:x.n] {
		a := &x.att[i]
		if c := a.class.Counts(); a.start != 0 && c.Retry == RetryAny && c.Cost == 0 && status.FateOf(a.err) == status.NotSent {
			vain++
		}
	}
	if vain == 0 || !x.spare(now, rnd) {
		return 0
	}
	return min(vain, int(x.n)-1)
}

func (x *Exec) breakerHolds(now Time) bool {
	if x.p.brk < 0 || !x.heldSet.Has(x.p.brk) || x.p.gates[x.p.brk].Mode != On {
		return true
	}
	r, ok := x.p.gates[x.p.brk].Gate.(Revoker)
	return !ok || r.Holds(now, x.held[x.p.brk])
}

// Wake says that the time asked for has come. Waking too early or too often does no harm.
func (x *Exec) Wake(now Time, rnd rand.Source) Steps {
	x.wake = 0
	if x.phase == phaseDone {
		return x.take(now)
	}
	if x.expired(now) && (x.detached || x.running == 0) {
		x.timeOut(now, rnd)
		return x.take(now)
	}
	if x.seat.due(now) {
		x.callWaited(now, rnd)
	}
	for k := 0; k < int(x.n) && x.phase == phaseAttempts; k++ {
		a := &x.att[k]
		switch {
		case a.stage < stageRunning && a.seat.due(now):
			x.attemptWaited(now, rnd, k)
		case a.stage == stageRunning && x.detached && !x.lost.Has(k) && a.deadline != 0 && now >= a.deadline:
			x.giveUp(now, rnd, k)
		}
	}
	if x.phase == phaseAttempts && x.retryAt != 0 && now >= x.retryAt {
		x.retryAt = 0
		x.waited(now, x.pause)
		if !x.breakerHolds(now) {
			x.stopped, x.by = "the breaker opened meanwhile", x.breakerName()
			x.finishAs(now, rnd, x.lastEnded())
		} else {
			x.startAttempt(now, rnd, false)
		}
	}
	if x.phase == phaseAttempts && x.hedgeAt != 0 && now >= x.hedgeAt {
		x.hedge(now, rnd)
	}
	return x.take(now)
}

// callWaited ends the call's own wait, whose time has come.
func (x *Exec) callWaited(now Time, rnd rand.Source) {
	s := &x.p.gates[x.gate]
	if x.seat.kind == seatTimed {
		x.rise(now, &x.seat)
		x.gate++
		x.askGates(now, rnd)
		return
	}
	t := x.seat.ticket
	if !s.Gate.(Line).Leave(now, t) {
		x.seat.at = 0 // the verdict is on its way
		return
	}
	x.rise(now, &x.seat)
	x.refuse(now, rnd, s, Verdict{Decision: Refuse, State: "full", Reason: "waited in vain for a place"})
}

// attemptWaited ends attempt k's wait, whose time has come.
func (x *Exec) attemptWaited(now Time, rnd rand.Source, k int) {
	a := &x.att[k]
	if a.seat.kind == seatTimed {
		x.rise(now, &a.seat)
		a.stage++
		x.advance(now, rnd, k)
		return
	}
	s := &x.p.opt.Concurrency
	if !s.Gate.(Line).Leave(now, a.seat.ticket) {
		a.seat.at = 0
		return
	}
	x.rise(now, &a.seat)
	x.attemptRefused(now, rnd, k, s.Name, Verdict{Decision: Refuse, State: "full", Reason: "waited in vain for a place"})
}

// giveUp ends a detached attempt at its deadline though it runs on. Its place stays taken until it really ends.
func (x *Exec) giveUp(now Time, rnd rand.Source, k int) {
	a := &x.att[k]
	x.lost |= one(k)
	x.p.n.abandoned.Add(1)
	x.steps.Cancel |= one(k)
	a.err = &status.Error{Code: status.DeadlineExceeded, Kind: status.Timeout, Message: "the attempt did not end in time"}
	x.ended(now, rnd, k, x.classify(now, a, a.err), false)
}

// timeOut ends the call because its deadline has passed.
func (x *Exec) timeOut(now Time, rnd rand.Source) {
	for k := 0; k < int(x.n) && x.phase != phaseDone; k++ {
		if x.running.Has(k) && !x.lost.Has(k) {
			x.giveUp(now, rnd, k)
		}
	}
	if x.phase == phaseDone {
		return
	}
	e := &status.Error{Code: status.DeadlineExceeded, Kind: status.Timeout, Fate: x.fate(), Message: "the deadline passed while the call waited"}
	cl := ClassDeadlineSoon
	if last := x.lastEnded(); last >= 0 { // it had failed before and was waiting for another try
		e.Cause, e.Message = x.att[last].err, "the deadline passed before another attempt; the last one failed"
		cl = x.att[last].class
	}
	x.finishErr(now, rnd, cl, e)
}

func (x *Exec) lastEnded() int {
	for k := int(x.n) - 1; k >= 0; k-- {
		if x.att[k].stage == stageEnded && x.att[k].err != nil {
			return k
		}
	}
	return -1
}

// Granted brings the verdict of a wait.
func (x *Exec) Granted(now Time, rnd rand.Source, tag uint32, v Verdict) Steps {
	if tag == tagCall {
		if int(x.gate) >= len(x.p.gates) { // a faulty line tells a call twice
			return x.take(now)
		}
		s := &x.p.gates[x.gate]
		if x.late || x.seat.kind != seatParked {
			x.late = false
			x.refund(now, rnd, s, v, int(x.gate))
			return x.take(now)
		}
		x.rise(now, &x.seat)
		if !v.Decision.Admits() {
			x.refuse(now, rnd, s, v)
			return x.take(now)
		}
		x.hold(now, v)
		x.gate++
		x.askGates(now, rnd)
		return x.take(now)
	}
	k := int(tag)
	a := &x.att[k]
	if x.unpaid.Has(k) || a.seat.kind != seatParked {
		x.unpaid &^= one(k)
		x.refund(now, rnd, &x.p.opt.Concurrency, v, concurrencyBit)
		return x.take(now)
	}
	x.rise(now, &a.seat)
	if !v.Decision.Admits() {
		x.attemptRefused(now, rnd, k, x.p.opt.Concurrency.Name, v)
		return x.take(now)
	}
	a.place, a.hasPlace = v.Permit, true
	a.stage++
	x.advance(now, rnd, k)
	return x.take(now)
}

// refund gives back a place that arrived after its call had ended.
func (x *Exec) refund(now Time, rnd rand.Source, s *Slot, v Verdict, bit int) {
	if !v.Decision.Admits() {
		return
	}
	s.Gate.Done(now, rnd, v.Permit, Ignored)
	x.steps.Release |= one(bit)
}

// Cancel says that the caller has given up; cause is context.Cause of its context.
func (x *Exec) Cancel(now Time, rnd rand.Source, cause error) Steps {
	if x.phase == phaseDone {
		return x.take(now)
	}
	if x.expired(now) {
		// The deadline came first. What runs ends by it and decides, unless it is detached.
		if x.detached || x.running == 0 {
			x.timeOut(now, rnd)
		}
		return x.take(now)
	}
	x.finishErr(now, rnd, ClassCancelled, &status.Error{Code: status.Canceled, Kind: status.Cancelled, Fate: x.fate(), Cause: cause})
	return x.take(now)
}

package admission

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/policy/rate"
)

// Desk decides which calls a server runs. It is safe for concurrent use.
type Desk struct {
	rules atomic.Pointer[made]
	press pressure

	abandoned atomic.Int64 // calls now that run though their time is over
	full      atomic.Bool  // as many as there are places

	parked  atomic.Int64 // calls that had to wait
	refused [numReasons]atomic.Int64
	latest  atomic.Int64 // when a call was refused last, give or take refusalsApart
	dry     [numReasons]atomic.Int64
	reserve atomic.Int64 // calls that ran in their method's reserve
	active  atomic.Int64 // methods that have had calls lately
	crowded atomic.Bool  // the hall was full at the last Turn
	ended   atomic.Int64 // calls that gave their place back while it was
	stands  atomic.Bool  // it stays full, and nobody leaves it
	late    atomic.Int64 // calls whose time was over when a place came
	lost    atomic.Int64 // calls that were abandoned, ever

	mu      sync.Mutex // guards what follows, and one change of rules at a time
	methods []*Method
	swept   policy.Time
	left    int64         // ended at the last Turn
	still   time.Duration // for how long nobody has left the hall
}

// made is a set of rules and what was made by them. It is immutable.
type made struct {
	Rules
	hall *hall
	rate *rate.Limiter
}

// Reason is what refused a call.
type Reason uint8

// The reasons.
const (
	None Reason = iota
	ByLimit
	ByRate
	ByPressure
	numReasons
)

// String names the policy.
func (r Reason) String() string {
	switch r {
	case ByLimit:
		return "limit"
	case ByRate:
		return "rate"
	case ByPressure:
		return "pressure"
	}
	return "none"
}

// Ask is what a Desk is asked with. It may be used again when the call has a verdict.
type Ask struct {
	// Call: Method, Deadline, Criticality and PathAttempt as its caller said, Hash that of its root request, 0 if that is not known.
	Call policy.Call
	// Caller.Hash tells callers apart for the rate limit. Nothing else in it matters.
	Caller policy.Call
}

// Seat is a call's leave to run, from Arrive to Done. The zero value is that of a call that has not asked. It belongs to one call.
type Seat struct {
	hall  *hall
	start policy.Time
	spot         // beside kind, so that a seat is small
	gen   uint32 // of the permit of one that is placed
}

type kind uint8

const (
	none     kind = iota
	waiting       // is in the hall's line
	free          // no rule holds for it: it is only counted
	placed        // has a place in the hall
	reserved      // has one of its method's reserve
	lent          // has one beside them, as a call of a lower class while the hall stands
)

// Taken reports whether the call may run and has to be settled by Done.
func (s *Seat) Taken() bool { return s.kind > waiting }

// Waits reports whether the call is in the line.
func (s *Seat) Waits() bool { return s.kind == waiting }

// Start is when the call got its seat.
func (s *Seat) Start() policy.Time { return s.start }

// New returns a desk with all places free.
func New(r Rules) (*Desk, error) {
	d := &Desk{}
	if err := d.Apply(0, r); err != nil {
		return nil, err
	}
	return d, nil
}

// Apply changes the rules while calls go on. What did not change keeps its state. With an error nothing has changed.
func (d *Desk) Apply(now policy.Time, r Rules) error {
	if err := r.check(); err != nil {
		return fmt.Errorf("admission: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	old, next := d.rules.Load(), &made{Rules: r}
	if old != nil && old.Limit.same(r.Limit) {
		next.hall = &hall{r.Limit, old.hall.line}
	} else {
		h, err := newHall(r.Limit)
		if err != nil {
			return fmt.Errorf("admission: %w", err)
		}
		next.hall = h
	}
	if old != nil && old.Rate.Limit > 0 && r.Rate.Limit > 0 && old.Rate.Per == r.Rate.Per && old.Rate.Callers == r.Rate.Callers {
		next.rate = old.rate
		if old.Rate != r.Rate {
			if err := next.rate.SetLimit(now, r.Rate.Limit, r.Rate.Burst); err != nil {
				return fmt.Errorf("admission: %w", err)
			}
		}
	} else {
		l, err := newRate(r.Rate)
		if err != nil {
			return fmt.Errorf("admission: %w", err)
		}
		next.rate = l
	}
	if old != nil && r.Limit.Fixed > 0 && next.hall.line == old.hall.line && old.Limit.Fixed != r.Limit.Fixed {
		if err := next.hall.line.SetLimit(now, r.Limit.Fixed); err != nil {
			return fmt.Errorf("admission: %w", err)
		}
	}
	d.rules.Store(next)
	return nil
}

// Rules returns the rules in force.
func (d *Desk) Rules() Rules { return d.rules.Load().Rules }

// Arrive asks for leave for a call of m at now. With Admit the seat is taken. With Park the call has to Join. With Refuse the reason says what
// refused it.
func (d *Desk) Arrive(now policy.Time, rnd rand.Source, a *Ask, m *Method, s *Seat) (policy.Verdict, Reason) {
	r := d.rules.Load()
	if r.Pressure.Mode != policy.Off && d.press.sheds(rnd, &a.Call) {
		if r.Pressure.Mode == policy.On {
			d.refuse(now, ByPressure)
			return policy.Verdict{Decision: policy.Refuse, State: "pressed", Reason: whyPressed}, ByPressure
		}
		d.dry[ByPressure].Add(1)
	}
	var paid policy.Verdict
	if r.rate != nil && r.Rate.Mode != policy.Off {
		paid = r.rate.Admit(now, rnd, &a.Caller)
		if paid.Decision == policy.Refuse {
			if r.Rate.Mode == policy.On {
				d.refuse(now, ByRate)
				return paid, ByRate
			}
			d.dry[ByRate].Add(1)
		}
	}
	if r.Limit.Mode == policy.Off {
		d.take(now, a.Call.Deadline, m, s, free)
		return policy.Verdict{}, None
	}
	v := r.hall.line.Admit(now, rnd, &a.Call)
	switch {
	case v.Decision.Admits():
		s.hall = r.hall
		d.take(now, a.Call.Deadline, m, s, placed)
		s.keep(v.Permit)
		return v, None
	case r.Limit.Mode == policy.DryRun:
		d.dry[ByLimit].Add(1)
		d.take(now, a.Call.Deadline, m, s, free)
		return policy.Verdict{}, None
	}
	if !r.NoReserve {
		if k := m.entitled(&a.Call, d.share(r.hall), d.stands.Load()); k != none {
			d.reserve.Add(1)
			d.take(now, a.Call.Deadline, m, s, k)
			return policy.Verdict{}, None
		}
	}
	if v.Decision == policy.Park {
		s.hall = r.hall
		return v, None
	}
	d.unpay(now, rnd, r, paid)
	d.refuse(now, ByLimit)
	return v, ByLimit
}

// Pass takes a seat for a call of m if it simply goes: nothing but the limit has to be asked, and that has a place. Otherwise it changes nothing, and
// Arrive has to be asked.
func (d *Desk) Pass(now, deadline policy.Time, m *Method, s *Seat) bool {
	r := d.rules.Load()
	if r.rate != nil || r.Limit.Mode != policy.On || d.press.level.Load() != 0 {
		return false
	}
	p, ok := r.hall.line.Pass(now, deadline, policy.Critical)
	if !ok {
		return false
	}
	s.hall, s.start = r.hall, now
	s.spot = m.begin(now, deadline, r.Grace, placed)
	s.keep(p)
	return true
}

// keep keeps what has to be said again when the place is given back.
func (s *Seat) keep(p policy.Permit) { s.slot, s.gen = uint16(p.Slot), p.Gen }

// unpay gives back what a call took from its caller's rate when it is refused for another reason at the same moment.
func (d *Desk) unpay(now policy.Time, rnd rand.Source, r *made, paid policy.Verdict) {
	if r.rate != nil && r.Rate.Mode != policy.Off && paid.Decision.Permits() {
		r.rate.Done(now, rnd, paid.Permit, policy.Ignored)
	}
}

// Join puts a call into the line, after Arrive said Park: w is told when its wait is over, and Seated must be called with that verdict. It may
// also be admitted or refused at once.
func (d *Desk) Join(now policy.Time, rnd rand.Source, a *Ask, m *Method, s *Seat, w policy.Waiting) (policy.Ticket, policy.Verdict) {
	t, v := s.hall.line.Join(now, rnd, &a.Call, w)
	switch {
	case v.Decision.Admits():
		d.take(now, a.Call.Deadline, m, s, placed)
		s.keep(v.Permit)
	case v.Decision == policy.Park:
		s.kind = waiting
		d.parked.Add(1)
	default:
		s.kind = none
		d.refuse(now, ByLimit)
	}
	return t, v
}

// Seated takes in the verdict that a waiter got, at now, when it has noticed.
func (d *Desk) Seated(now, deadline policy.Time, m *Method, s *Seat, v policy.Verdict) {
	if v.Decision.Admits() {
		d.take(now, deadline, m, s, placed)
		s.keep(v.Permit)
		return
	}
	s.kind = none
	d.refuse(now, ByLimit)
}

// Leave takes a call out of the line that does not want to wait any longer. False means that its verdict is on its way: Seated has to be called with
// it. vain says that its patience was over, and not its caller's.
func (d *Desk) Leave(now policy.Time, s *Seat, t policy.Ticket, vain bool) bool {
	if !s.hall.line.Leave(now, t) {
		return false
	}
	s.kind = none
	if vain {
		d.refuse(now, ByLimit)
	}
	return true
}

// Late counts a call that got a seat when nobody waited for its answer any more. Its seat has to be settled as ever.
func (d *Desk) Late() { d.late.Add(1) }

func (d *Desk) take(now, deadline policy.Time, m *Method, s *Seat, k kind) {
	s.start = now
	s.spot = m.begin(now, deadline, d.rules.Load().Grace, k)
}

// Done settles a seat: the call's handler has returned, and o says what came of it. What has become free goes to those who wait.
func (d *Desk) Done(now policy.Time, rnd rand.Source, m *Method, s *Seat, o policy.Outcome) {
	k := s.kind
	s.kind = none
	if k <= waiting {
		return
	}
	if !m.end(s.spot, k) { // its place was given back when it was abandoned
		d.abandoned.Add(-1)
		return
	}
	if k == placed {
		if d.crowded.Load() {
			d.ended.Add(1)
		}
		s.hall.line.Done(now, rnd, policy.Permit{Start: s.start, Gen: s.gen, Slot: uint32(s.slot)}, o)
		if s.hall.line.Waits() {
			s.hall.next(now, rnd)
		}
	}
}

// next tells those whose wait is over.
func (h *hall) next(now policy.Time, rnd rand.Source) {
	for {
		w, v, ok := h.line.Next(now, rnd)
		if !ok {
			return
		}
		w.Waiter.Granted(w.Tag, v)
	}
}

// Stuck reports whether so many handlers run on after their time that only a new process helps.
func (d *Desk) Stuck() bool { return d.full.Load() }

// Turn does what has to be done from time to time: call it a few times a second while calls are under way.
func (d *Desk) Turn(now policy.Time, rnd rand.Source) {
	d.mu.Lock()
	r := d.rules.Load()
	took := now.Sub(d.swept)
	d.swept = now
	line := r.hall.line.Snapshot()
	limit := line.Limit
	d.watch(took, line.InUse >= line.Limit)
	if r.Limit.Mode == policy.Off {
		limit = maxAbandoned
	}
	// What methods are used to is not forgotten while the hall stands: of what lower classes are lent then they would be lent a quarter next.
	aged := took
	if d.stands.Load() {
		aged = 0
	}
	active := 0
	for _, m := range d.methods {
		if m.look(now, aged) {
			active++
		}
	}
	d.active.Store(int64(active))
	freed, full := int64(0), false
	for _, m := range d.methods {
		share := 0
		if len(d.methods) > 1 && !r.NoReserve {
			share = max(1, limit/max(active, 1))
		}
		m.keep(share)
		n, left := m.sweep(now, int64(limit)-d.abandoned.Load())
		d.abandoned.Add(n.placed + n.others)
		d.lost.Add(n.placed + n.others)
		freed += n.placed
		full = full || left
	}
	d.full.Store(full)
	d.mu.Unlock()
	for range freed {
		r.hall.line.Done(now, rnd, policy.Permit{Start: now}, policy.Ignored)
	}
	r.hall.next(now, rnd)
}

// share is the most that each method may keep: an even share of the limit as it is now. What Turn has last seen of that was before places were taken away,
// and critical calls beside the hall would fill anew what is to become empty.
func (d *Desk) share(h *hall) int64 {
	return max(1, int64(h.line.Limit())/max(d.active.Load(), 1))
}

// standsAfter is for how long nobody has left a full hall when it counts as standing still. Where handlers run on after their time, which they do for a
// while before they hang for good, one look is enough.
const standsAfter = time.Second

// watch finds out whether the hall stands still: it is full of calls that do not end, so that no sheddable call could ever get in, of whatever method. It is
// called with mu held.
func (d *Desk) watch(took time.Duration, full bool) {
	ended := d.ended.Load()
	if was := d.crowded.Swap(full); !full || !was || ended != d.left {
		d.left, d.still = ended, 0
		d.stands.Store(false)
		return
	}
	d.still += min(max(took, 0), standsAfter/2)
	d.stands.Store(d.still >= standsAfter || d.abandoned.Load() > 0)
}

// maxAbandoned is how many handlers may run on where there is no limit.
const maxAbandoned = 10_000

// Measured takes in what was measured of the machine. Call it at even intervals while calls are under way.
func (d *Desk) Measured(now policy.Time, s Signals) { d.press.observe(now, s, d.rules.Load().Pressure) }

// Snapshot is a reading of a desk.
type Snapshot struct {
	// Running calls, and those of them that are in their method's reserve; Limit of those in the hall; Waiting in its line, of at most Queue.
	Running, Reserved, Limit, Waiting, Queue int64
	// Refused calls by what refused them, since the start, and those that would have been by rules in dry-run.
	Refused, DryRefused Refused
	// Parked calls waited in the line, since the start.
	Parked int64
	// InReserve calls ran though the hall was full. Late ones got a place when their time was over, and did not start.
	InReserve, Late int64
	// Abandoned calls run now though their time is over; Lost counts them since the start. Stuck: there are as many as places.
	Abandoned, Lost int64
	Stuck           bool
	// LongestWaited in the line; Dropping: the line stands, and who came last is next.
	LongestWaited time.Duration
	Dropping      bool
	// Pressure: the share of sheddable-plus and sheddable calls, and of critical ones, that is refused now because the machine is short of
	// something, and the latest signals.
	Pressure PressureSnapshot
	// Classes are the calls of each class in the line, the most important first: critical-plus, critical, sheddable-plus, sheddable.
	Classes [numClasses]ClassSnapshot
	// Methods that were asked for, in the order in which they were added.
	Methods []MethodSnapshot
}

const numClasses = len(concurrency.Snapshot{}.Shed)

// ClassSnapshot is how calls of one class fare in the line.
type ClassSnapshot struct {
	// Class is which.
	Class policy.Criticality
	// Waiting are there now. For Lost the line was too long, since the start.
	Waiting, Lost int64
	// Shed is the share of root requests that is refused before they come to the line.
	Shed float64
}

// Refused are calls by what refused them.
type Refused struct{ Limit, Rate, Pressure int64 }

// Snapshot reads the desk.
func (d *Desk) Snapshot() Snapshot {
	r := d.rules.Load()
	l := r.hall.line.Snapshot()
	out := Snapshot{Limit: int64(l.Limit), Waiting: int64(l.Waiting), Queue: int64(l.Queue), Parked: d.parked.Load(), InReserve: d.reserve.Load(), Late: d.late.Load(),
		Abandoned: d.abandoned.Load(), Lost: d.lost.Load(), Stuck: d.Stuck(), LongestWaited: l.LongestWaited, Dropping: l.Dropping,
		Refused:    Refused{d.refused[ByLimit].Load(), d.refused[ByRate].Load(), d.refused[ByPressure].Load()},
		DryRefused: Refused{d.dry[ByLimit].Load(), d.dry[ByRate].Load(), d.dry[ByPressure].Load()}, Pressure: d.press.snapshot()}
	for i, c := range [...]policy.Criticality{policy.CriticalPlus, policy.Critical, policy.SheddablePlus, policy.Sheddable} {
		out.Classes[i] = ClassSnapshot{c, int64(l.WaitingOf[i]), l.LostOf[i], l.Shed[i]}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.methods {
		s := m.snapshot()
		out.Methods = append(out.Methods, s)
		out.Running += s.Running
		out.Reserved += s.Reserved
	}
	return out
}

// Events are the sources of changes of state: the limit's, the rate limit's and the pressure's.
func (d *Desk) Events(key string) []policy.NamedSource {
	r := d.rules.Load()
	out := []policy.NamedSource{{Key: key, Policy: "limit", Mode: r.Limit.Mode, Source: r.hall.line},
		{Key: key, Policy: "pressure", Mode: r.Pressure.Mode, Source: &d.press}}
	if r.rate != nil {
		out = append(out, policy.NamedSource{Key: key, Policy: "rate", Mode: r.Rate.Mode, Source: r.rate})
	}
	return out
}

// Busy reports whether Turn has something to look after beside calls that arrive: pressure, or handlers that were abandoned.
func (d *Desk) Busy() bool {
	return d.press.level.Load() != 0 || d.abandoned.Load() > 0 || d.full.Load()
}

// Refusals counts the calls that were refused, for whatever reason.
func (d *Desk) Refusals() (n int64) {
	for i := range d.refused {
		n += d.refused[i].Load()
	}
	return n
}

const (
	// refusingFor is how long a desk counts as refusing after a refusal; refusalsApart spares those who refuse many the word that says when.
	refusingFor   = 100 * time.Millisecond
	refusalsApart = refusingFor / 10
)

func (d *Desk) refuse(now policy.Time, by Reason) {
	d.refused[by].Add(1)
	if t := policy.Time(d.latest.Load()); t == 0 || now.Sub(t) > refusalsApart {
		d.latest.Store(int64(now))
	}
}

// Refusing reports whether calls have been refused within the last tenth of a second, so that the next one is likely to be too.
func (d *Desk) Refusing(now policy.Time) bool {
	t := policy.Time(d.latest.Load())
	return t != 0 && now.Sub(t) < refusingFor
}

// shedPushback is when callers are asked to come back at the earliest, on average: when those who wait now are served or gone.
const shedPushback = 100 * time.Millisecond

// Pushback is for how long a call that was refused without a time should stay away: until those who wait now are served or gone, and until as many have left
// as there are too many, should places have been taken away. Not all come back at the same time.
func (d *Desk) Pushback(now policy.Time, rnd rand.Source) time.Duration {
	u := float64(rnd.Uint64()>>11) / (1 << 53)
	return d.rules.Load().hall.line.Surplus(now) + shedPushback/2 + time.Duration(u*float64(shedPushback))
}

// CountsCallers reports whether Ask.Caller matters.
func (d *Desk) CountsCallers() bool { return d.rules.Load().rate != nil }

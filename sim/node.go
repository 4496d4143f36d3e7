package sim

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/admission"
	"github.com/hull-go/hull/policy/policytest"
	"github.com/hull-go/hull/status"
)

// node is one instance of a service.
type node struct {
	lab     *Lab
	service *service
	caller  *caller
	index   int
	life    int // how often it was started

	announced, draining bool
	down, leaving, mute bool // not there; refuses new requests; its answers are lost
	stopped             bool
	slow                float64
	failing             float64
	stalled             policy.Time // no work begins until then

	jobs    []*job // that have arrived and have not ended
	busy    int
	threads int
	cores   queue       // wait for a core
	starts  queue       // wait for a thread
	frozen  []func()    // what happens when it goes on after a stop
	lags    []laggard   // who waited for a core lately
	line    policy.Line // nil = none
	desk    *admission.Desk
	methods []*admission.Method
}

type laggard = time.Duration

// queue is first come, first served.
type queue struct{ jobs []*job }

func (q *queue) push(j *job) { q.jobs = append(q.jobs, j) }

func (q *queue) pop() *job {
	if len(q.jobs) == 0 {
		return nil
	}
	j := q.jobs[0]
	q.jobs[0] = nil
	q.jobs = q.jobs[1:]
	return j
}

// job is a request at a node.
type job struct {
	n      *node
	life   int // of the node
	m      int // method
	r      *policytest.Request
	extra  extra
	from   *target       // who asks
	to     *balance.Node // whom
	place  int           // in n.jobs
	queued policy.Time
	held   bool // a thread

	permit policy.Permit
	ask    admission.Ask
	seat   admission.Seat
	ticket policy.Ticket
	waits  bool
}

func (n *node) id() string { return fmt.Sprintf("%s-%d.%d", n.service.Name, n.index, n.life) }

// start makes a new process of the node.
func (n *node) start() error {
	n.life++
	n.down, n.leaving, n.draining, n.announced = false, false, false, true
	n.jobs, n.cores, n.starts, n.busy, n.threads, n.lags = nil, queue{}, queue{}, 0, 0, nil
	n.lab.byID[n.id()] = n
	p := &n.lab.with
	var err error
	switch {
	case p.desk:
		if n.desk, err = admission.New(rules(n.service.processors())); err != nil {
			return err
		}
		n.methods = nil
		for _, m := range n.service.Methods {
			n.methods = append(n.methods, n.desk.Add(m.Name))
		}
		n.turn(n.life)
	case p.line != nil:
		places := n.service.Cores
		if places == 0 {
			places = max(n.service.Threads, 1)
		}
		n.line, err = p.line(places)
	}
	return err
}

// turn looks after the desk as a server does.
func (n *node) turn(life int) {
	l := n.lab
	if n.life != life || n.down || l.Elapsed() > l.last {
		return
	}
	if !n.stopped {
		var lag time.Duration
		if len(n.lags) > 0 {
			slices.Sort(n.lags)
			lag = n.lags[len(n.lags)*9/10]
			n.lags = n.lags[:0]
		}
		n.desk.Measured(l.Now(), admission.Signals{Lag: lag})
		n.desk.Turn(l.Now(), l.Rand())
	}
	l.After(200*time.Millisecond, func() { n.turn(life) })
}

// arrive takes a request from the network.
func (n *node) arrive(j *job) {
	l := n.lab
	switch {
	case n.down:
		l.After(200*time.Microsecond, func() { j.reply(errDial) })
		return
	case n.stopped:
		n.frozen = append(n.frozen, func() { n.arrive(j) })
		return
	case n.leaving:
		j.answer(errDraining)
		return
	}
	j.life, j.place = n.life, len(n.jobs)
	n.jobs = append(n.jobs, j)
	v := policy.Verdict{}
	switch {
	case n.desk != nil:
		c := &j.r.Call
		j.ask.Call = policy.Call{Method: c.Method, Deadline: c.Deadline, Criticality: c.Criticality, PathAttempt: c.PathAttempt, Hash: c.Hash}
		if v, _ = n.desk.Arrive(l.Now(), l.Rand(), &j.ask, n.methods[j.m], &j.seat); v.Decision == policy.Park {
			j.ticket, v = n.desk.Join(l.Now(), l.Rand(), &j.ask, n.methods[j.m], &j.seat, policy.Waiting{Waiter: j})
		}
	case n.line != nil:
		if v = n.line.Admit(l.Now(), l.Rand(), &j.r.Call); v.Decision == policy.Park {
			if j.ticket, v = n.line.Join(l.Now(), l.Rand(), &j.r.Call, policy.Waiting{Waiter: j}); v.Decision == policy.Park {
				n.hand() // somebody may have had to make room
			}
		}
		j.permit = v.Permit
	}
	switch v.Decision {
	case policy.Admit, policy.Probe:
		n.enter(j)
	case policy.Park:
		j.waits = true
		if v.At != 0 {
			l.After(v.At.Sub(l.Now()), j.impatient)
		}
	default:
		j.leave(n.shed())
	}
}

// impatient takes a request out of the line that has waited for long enough.
func (j *job) impatient() {
	n, now := j.n, j.n.lab.Now()
	if !j.waits || j.life != n.life {
		return
	}
	if n.desk != nil && n.desk.Leave(now, &j.seat, j.ticket, true) || n.line != nil && n.line.Leave(now, j.ticket) {
		j.waits = false
		j.leave(n.shed())
	}
}

// Granted implements policy.Waiter.
func (j *job) Granted(_ uint32, v policy.Verdict) {
	n, l := j.n, j.n.lab
	j.waits = false
	l.After(0, func() {
		if j.life != n.life {
			return
		}
		if n.desk != nil {
			n.desk.Seated(l.Now(), j.r.Call.Deadline, n.methods[j.m], &j.seat, v)
		}
		if !v.Decision.Admits() {
			j.leave(n.shed())
			return
		}
		j.permit = v.Permit
		n.enter(j)
	})
}

// hand tells those in the line whose wait is over.
func (n *node) hand() {
	for {
		w, v, ok := n.line.Next(n.lab.Now(), n.lab.Rand())
		if !ok {
			return
		}
		w.Waiter.Granted(w.Tag, v)
	}
}

// shed is the answer of a server that has too much to do.
func (n *node) shed() error {
	l := n.lab
	e := &status.Error{Code: status.ResourceExhausted, Kind: status.Shed, Fate: status.NotSent}
	if n.desk != nil {
		e.Pushback = n.desk.Pushback(l.Now(), l.Rand())
	} else {
		e.Pushback = 50*time.Millisecond + time.Duration(l.Uniform()*float64(100*time.Millisecond))
	}
	return e
}

// enter gives the request a thread as soon as there is one.
func (n *node) enter(j *job) {
	full := n.service.Threads > 0 && n.threads >= n.service.Threads
	if full && !n.service.Refuses {
		n.starts.push(j)
		return
	}
	n.threads++
	j.held = true
	if full {
		j.leave(errFails)
		return
	}
	j.queued = n.lab.Now()
	if c := n.service.Cores; c > 0 && n.busy >= c {
		n.cores.push(j)
		return
	}
	n.work(j)
}

func (j *job) expired() bool {
	d := j.r.Call.Deadline
	return j.n.lab.with.drop && (d != 0 && j.n.lab.Now() >= d || !j.r.Wanted())
}

// work works on a request for which there is a core.
func (n *node) work(j *job) {
	l := n.lab
	n.busy++
	if n.desk != nil && n.service.Cores > 0 && len(n.lags) < 1000 {
		n.lags = append(n.lags, l.Now().Sub(j.queued))
	}
	if d := n.stalled.Sub(l.Now()); n.stalled != 0 && d > 0 {
		l.After(d, func() { n.begin(j) })
		return
	}
	n.begin(j)
}

func (n *node) begin(j *job) {
	l := n.lab
	if j.life != n.life {
		return
	}
	if j.expired() {
		n.free()
		j.leave(errExpired)
		return
	}
	var took time.Duration
	if w := n.service.Methods[j.m].Work; w != nil {
		took = time.Duration(float64(w(l.Rand(), n.busy)) * n.slow)
	}
	if j.extra.lost { // for as long as it may
		took = max(j.r.Attempt.Deadline.Sub(l.Now()), 0)
	}
	var done func()
	done = func() {
		switch {
		case j.life != n.life:
			return
		case n.stopped:
			n.frozen = append(n.frozen, done)
			return
		}
		if j.r.Wanted() {
			n.service.useful += took
		} else {
			n.service.wasted += took
		}
		n.free()
		switch {
		case j.extra.lost:
			j.leave(errLate)
		case n.failing > 0 && l.Uniform() < n.failing:
			j.leave(errFails)
		case n.service.Cache != nil:
			n.look(j)
		default:
			n.next(j, 0)
		}
	}
	l.After(took, done)
}

// free gives a core to the next.
func (n *node) free() {
	n.busy--
	n.lab.After(0, func() {
		if c := n.service.Cores; c > 0 && n.busy < c {
			if next := n.cores.pop(); next != nil {
				n.work(next)
			}
		}
	})
}

// next makes the calls of a request from the i-th on, and then answers.
func (n *node) next(j *job, i int) {
	m := &n.service.Methods[j.m]
	if i == len(m.Calls) {
		j.leave(nil)
		return
	}
	n.fetch(j, m.Calls[i], nil, func(err error) {
		switch {
		case err == nil:
			n.next(j, i+1)
		case m.Poorer && n.lab.with.poorer:
			n.service.poorer++
			j.leave(nil)
		default:
			j.leave(n.passOn(err))
		}
	})
}

// passOn is the answer to a request that failed because of a call.
func (n *node) passOn(err error) error {
	if n.lab.with.travel {
		return &status.Error{Code: status.CodeOf(err), Fate: status.Processed, Origin: status.Downstream, Cause: err}
	}
	return &status.Error{Code: status.Unavailable, Fate: status.Processed, Cause: err}
}

// fetch makes one call for a request.
func (n *node) fetch(j *job, to string, kept func(), then func(error)) {
	up := &j.r.Call
	c := policy.Call{Idempotent: true, Criticality: up.Criticality, Hash: up.Hash}
	if n.lab.with.travel {
		c.Deadline, c.PathAttempt = up.Deadline, up.PathAttempt
	}
	life, began := n.life, n.lab.Now()
	n.caller.call(to, c, extra{kept: kept}, func(err error) {
		now := n.lab.Now()
		n.service.calling += now.Sub(began)
		if d := j.r.Attempt.Deadline; d != 0 && now > d {
			n.service.overtime += now.Sub(max(d, began))
		}
		if n.life == life {
			then(err)
		}
	})
}

// look asks the cache, and what it stands before if need be.
func (n *node) look(j *job) {
	s, l := n.service, n.lab
	m := &s.Methods[j.m]
	key := -1
	if l.Uniform() >= s.Cache.Once {
		key = int(l.Uniform() * float64(s.Cache.Keys))
	}
	if key >= 0 && s.hits[key] {
		j.leave(nil)
		return
	}
	answer := func(err error) {
		if err != nil {
			err = n.passOn(err)
		}
		j.leave(err)
	}
	if key >= 0 && l.with.flight {
		others, flies := s.flights[key]
		s.flights[key] = append(others, answer)
		if flies {
			return
		}
		answer = func(err error) {
			all := s.flights[key]
			delete(s.flights, key)
			for _, each := range all {
				if err != nil {
					each(n.passOn(err))
					continue
				}
				each(nil)
			}
		}
	}
	var kept func()
	if key >= 0 && l.with.fill {
		kept = func() { s.hits[key] = true }
	}
	n.fetch(j, m.Calls[0], kept, func(err error) {
		if err == nil && key >= 0 {
			s.hits[key] = true
		}
		answer(err)
	})
}

// leave ends a request with its answer.
func (j *job) leave(err error) {
	n := j.n
	if j.life != n.life || j.place < 0 {
		return
	}
	last := n.jobs[len(n.jobs)-1]
	n.jobs[j.place], last.place = last, j.place
	n.jobs = n.jobs[:len(n.jobs)-1]
	j.place = -1
	if j.held {
		n.threads--
		if len(n.starts.jobs) > 0 {
			n.lab.After(0, func() {
				if n.threads < n.service.Threads {
					if next := n.starts.pop(); next != nil {
						n.enter(next)
					}
				}
			})
		}
		n.settle(j, err)
	}
	if err == nil && j.extra.kept != nil {
		j.extra.kept()
	}
	j.answer(err)
}

// settle gives back what a request held of a line or a desk.
func (n *node) settle(j *job, err error) {
	now, rnd := n.lab.Now(), n.lab.Rand()
	o := policy.Success
	switch d := j.r.Call.Deadline; {
	case errors.Is(err, errExpired):
		o = policy.Ignored
	case d != 0 && now > d:
		o = policy.TimedOut
	case err != nil:
		o = policy.Classify(err).Counts().Limit
	}
	switch {
	case n.desk != nil:
		n.desk.Done(now, rnd, n.methods[j.m], &j.seat, o)
	case n.line != nil:
		n.line.Done(now, rnd, j.permit, o)
		n.hand()
	}
}

// reply is an answer that has arrived.
func (j *job) reply(err error) {
	if j.r.Wanted() {
		j.from.sees(j.n.lab, j.to, err)
	}
	j.r.Answer(err)
}

// answer sends an answer.
func (j *job) answer(err error) {
	n := j.n
	if n.mute {
		return
	}
	if d := n.service.Network; d > 0 {
		n.lab.After(n.lab.Exponential(d), func() { j.reply(err) })
		return
	}
	j.reply(err)
}

// kill ends the node's process: the connections break.
func (n *node) kill() {
	for _, j := range n.jobs {
		j.reply(errReset)
	}
	n.life++ // what is under way knows that it is over
	n.jobs, n.down = nil, true
}

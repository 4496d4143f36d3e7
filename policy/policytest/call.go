package policytest

import (
	"errors"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// Service is what the attempts of calls are sent to. Server models one.
type Service interface {
	// Serve takes on a request, and answers it now or later by Request.Answer.
	Serve(w *World, r *Request)
}

// ServiceFunc is a function that is a Service.
type ServiceFunc func(w *World, r *Request)

// Serve implements Service.
func (f ServiceFunc) Serve(w *World, r *Request) { f(w, r) }

// Replies is a Service in which nobody gets in another's way: it answers each request with err after took, as f says.
func Replies(f func(a policy.Attempt) (took time.Duration, err error)) Service {
	return ServiceFunc(func(w *World, r *Request) {
		took, err := f(r.Attempt)
		w.After(took, func() { r.Answer(err) })
	})
}

// Distant is a Service to which requests, and from which answers, are under way for a time with the given mean.
func Distant(mean time.Duration, to Service) Service {
	return ServiceFunc(func(w *World, r *Request) {
		far := *r
		far.via = func(err error) { w.After(w.Exponential(mean), func() { r.Answer(err) }) }
		w.After(w.Exponential(mean), func() { to.Serve(w, &far) })
	})
}

// Request is an attempt as a Service sees it.
type Request struct {
	// Call is what travelled with it: Deadline is the attempt's, and PathAttempt counts it.
	Call policy.Call
	// Attempt describes it.
	Attempt policy.Attempt

	from *Call
	via  func(error) // the way of the answer, if it is not the straight one
}

// Answer ends the attempt, if the caller still waits for it. nil is success. Only the first Answer counts.
func (r *Request) Answer(err error) {
	if r.via != nil {
		r.via(err)
		return
	}
	r.from.result(r.Attempt.N, err)
}

// Wanted reports whether the caller still waits for the answer. A Service that asks it models one that is told of
// cancellation.
func (r *Request) Wanted() bool { return r.from.wants.Has(r.Attempt.N) }

// Call is one call on its way through a pipeline in a World: an executor that uses events where others use
// goroutines and timers. Its fields are for reading.
type Call struct {
	// Began is when it began, Took how long it took. Class and Err are how it ended.
	Began policy.Time
	Took  time.Duration
	Class policy.Class
	Err   error
	// Ended: the fields above are valid.
	Ended bool
	// Starts are the times at which its attempts began.
	Starts []policy.Time

	starts   [2]policy.Time // what Starts needs as a rule
	w        *World
	p        *policy.Pipeline
	x        *policy.Exec // nil when nothing of the call is left
	to       Service
	then     func(*Call)
	wakes    int
	detached bool
	wants    policy.Set // attempts whose answers are wanted
	running  policy.Set // attempts that have not been reported
}

// errCut is the result of attempts that were cancelled, and errLate of those whose time was up.
var (
	errCut  = &status.Error{Code: status.Canceled, Kind: status.Cancelled, Cause: errors.New("cancelled")}
	errLate = &status.Error{Code: status.DeadlineExceeded, Kind: status.Timeout}
)

// Call begins a call now. Its attempts go to the service, and end at the latest at their deadlines or when they are cancelled,
// whether or not the service goes on working for them. then is told when the call has ended; nil = nobody.
func (w *World) Call(p *policy.Pipeline, c policy.Call, to Service, then func(*Call)) *Call {
	return w.call(p, c, to, then, false)
}

// Detach is Call for a service of functions that ignore their contexts: attempts end only when they are answered, though
// the call ends in time.
func (w *World) Detach(p *policy.Pipeline, c policy.Call, to Service, then func(*Call)) *Call {
	return w.call(p, c, to, then, true)
}

func (w *World) call(p *policy.Pipeline, c policy.Call, to Service, then func(*Call), detached bool) *Call {
	s := &Call{w: w, p: p, x: w.exec(), to: to, then: then, Began: w.now, detached: detached}
	s.Starts = s.starts[:0]
	s.take(s.x.Begin(w.now, &w.rnd, p, c, s, detached))
	return s
}

// Cancel gives the call up. After its end it does nothing.
func (s *Call) Cancel() {
	if !s.Ended {
		s.take(s.x.Cancel(s.w.now, &s.w.rnd, errCut.Cause))
	}
}

// Idle reports whether the call has ended and none of its attempts runs any more.
func (s *Call) Idle() bool { return s.x == nil }

// Granted implements policy.Waiter. The verdict arrives as an event of its own.
func (s *Call) Granted(tag uint32, v policy.Verdict) {
	s.w.After(0, func() { s.take(s.x.Granted(s.w.now, &s.w.rnd, tag, v)) })
}

func (s *Call) take(st policy.Steps) {
	w := s.w
	if st.Wake != 0 {
		s.wakes++
		wake := s.wakes
		w.at(max(st.Wake, w.now), func() {
			if wake == s.wakes {
				s.take(s.x.Wake(w.now, &w.rnd))
			}
		})
	}
	for k := 0; k < policy.MaxAttempts && st.Start|st.Cancel != 0; k++ {
		if st.Start.Has(k) {
			s.start(k)
		}
		if st.Cancel.Has(k) {
			s.cancel(k)
		}
	}
	s.x.Release(w.now, &w.rnd, s.p, st.Release)
	if st.Done {
		_, s.Class, s.Err = s.x.End()
		s.Ended, s.Took = true, w.now.Sub(s.Began)
		if s.then != nil {
			s.then(s)
		}
	}
	if s.x.Idle() {
		s.wakes++
		s.x.Reset()
		w.spare = append(w.spare, s.x)
		s.x = nil
	}
}

func (s *Call) start(k int) {
	w, a := s.w, s.x.Attempt(k)
	s.Starts = append(s.Starts, w.now)
	s.wants |= 1 << k
	s.running |= 1 << k
	if a.Deadline != 0 && !s.detached {
		w.at(a.Deadline, func() { s.result(k, errLate) })
	}
	c := *s.x.Call()
	c.Deadline = a.Deadline
	c.PathAttempt = max(c.PathAttempt, k+1)
	// As an event of its own: the service must not answer before the steps of this one are done.
	w.After(0, func() { s.to.Serve(w, &Request{Call: c, Attempt: a, from: s}) })
}

// cancel lets an attempt end that is not wanted any more, unless it does not listen.
func (s *Call) cancel(k int) {
	s.wants &^= 1 << k
	if !s.detached {
		s.w.After(0, func() { s.result(k, errCut) })
	}
}

// result reports the end of attempt k, once.
func (s *Call) result(k int, err error) {
	if !s.running.Has(k) {
		return
	}
	s.running &^= 1 << k
	s.wants &^= 1 << k
	s.take(s.x.Result(s.w.now, &s.w.rnd, k, err))
}

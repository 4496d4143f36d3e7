package policytest

import (
	"math/rand/v2"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// ServerOptions describes a Server.
type ServerOptions struct {
	// Workers is how many requests are worked on at a time: 1. Negative = no bound.
	Workers int
	// Work returns how long one takes, if busy are worked on, this one included; required.
	Work func(rnd rand.Source, busy int) time.Duration
	// Line stands before the workers and says who is let in, who waits and who is refused, for instance a concurrency.Limiter.
	// Those who are let in, without a Line everybody, wait for a worker in the order in which they came, for as long as it takes.
	Line policy.Line
	// Drop: requests whose deadline has passed are not worked on.
	Drop bool
}

// Server is a Service with a capacity and a queue. Unless it is told to look at deadlines it works on what it was sent even if
// nobody waits for the answer any more, as most servers do.
type Server struct {
	opt     ServerOptions
	slow    float64
	stalled policy.Time // until then
	busy    int
	queue   []admitted // those before head are gone
	head    int
	waiting map[uint32]*Request // in the Line
	tag     uint32
	w       *World
	n       Work
}

// admitted is a request that the Line has let in.
type admitted struct {
	r *Request
	p policy.Permit
}

// Work is what a Server has done, in requests.
type Work struct {
	// Arrived = Done + Wasted + Dropped + Refused + those that are still there. Wasted ones were worked on although their caller had
	// gone at the end, Dropped ones were not worked on because it was too late.
	Arrived, Done, Wasted, Dropped, Refused int
}

// NewServer returns an idle server. It belongs to one World.
func NewServer(o ServerOptions) *Server {
	if o.Workers == 0 {
		o.Workers = 1
	}
	return &Server{opt: o, slow: 1, waiting: map[uint32]*Request{}}
}

// Every is the Work of a server whose requests take d each.
func Every(d time.Duration) func(rand.Source, int) time.Duration {
	return func(rand.Source, int) time.Duration { return d }
}

// Stall lets no work begin until d from now.
func (s *Server) Stall(w *World, d time.Duration) { s.stalled = w.now.Add(d) }

// Slow makes work that begins from now on take factor times as long: 1 = as usual.
func (s *Server) Slow(factor float64) { s.slow = factor }

// Busy is how many requests are worked on, Queued how many wait.
func (s *Server) Busy() int { return s.busy }

// Queued is how many requests wait.
func (s *Server) Queued() int { return len(s.queue) - s.head + len(s.waiting) }

// Work returns what was done so far.
func (s *Server) Work() Work { return s.n }

// Serve implements Service.
func (s *Server) Serve(w *World, r *Request) {
	s.w = w
	s.n.Arrived++
	if s.opt.Line != nil {
		s.line(r)
		return
	}
	s.admit(r, policy.Permit{})
}

// admit lets a request wait for a worker.
func (s *Server) admit(r *Request, p policy.Permit) {
	s.queue = append(s.queue, admitted{r, p})
	s.next()
}

// next begins work while there are workers.
func (s *Server) next() {
	for s.head < len(s.queue) && (s.opt.Workers < 0 || s.busy < s.opt.Workers) {
		a := s.queue[s.head]
		s.queue[s.head] = admitted{}
		if s.head++; s.head > len(s.queue)/2 {
			s.queue = s.queue[:copy(s.queue, s.queue[s.head:])]
			s.head = 0
		}
		s.begin(a.r, a.p)
	}
}

// begin works on r, or waits with it for the end of a stall.
func (s *Server) begin(r *Request, p policy.Permit) {
	s.busy++
	if d := s.stalled.Sub(s.w.now); s.stalled != 0 && d > 0 {
		s.w.After(d, func() { s.work(r, p) })
		return
	}
	s.work(r, p)
}

func (s *Server) work(r *Request, p policy.Permit) {
	if d := r.Call.Deadline; s.opt.Drop && d != 0 && s.w.now >= d {
		s.n.Dropped++
		s.end(p, policy.Ignored)
		r.Answer(&status.Error{Code: status.DeadlineExceeded, Kind: status.Expired, Fate: status.NotSent})
		return
	}
	s.w.After(time.Duration(float64(s.opt.Work(&s.w.rnd, s.busy))*s.slow), func() {
		if r.Wanted() {
			s.n.Done++
		} else {
			s.n.Wasted++
		}
		s.end(p, policy.Success)
		r.Answer(nil)
	})
}

// end frees a worker.
func (s *Server) end(p policy.Permit, o policy.Outcome) {
	s.busy--
	if s.opt.Line != nil {
		s.opt.Line.Done(s.w.now, &s.w.rnd, p, o)
		s.hand()
	}
	if s.head < len(s.queue) { // an event of its own, or a queue full of what is too late would be emptied by recursion
		s.w.After(0, s.next)
	}
}

// line asks the Line about a request that has arrived.
func (s *Server) line(r *Request) {
	v := s.opt.Line.Admit(s.w.now, &s.w.rnd, &r.Call)
	if v.Decision == policy.Park {
		s.tag++
		tag := s.tag
		var t policy.Ticket
		if t, v = s.opt.Line.Join(s.w.now, &s.w.rnd, &r.Call, policy.Waiting{Waiter: s, Tag: tag}); v.Decision == policy.Park {
			s.waiting[tag] = r
			if v.At != 0 {
				s.w.at(max(v.At, s.w.now), func() {
					if s.waiting[tag] == r && s.opt.Line.Leave(s.w.now, t) {
						s.Granted(tag, policy.Verdict{Decision: policy.Refuse})
					}
				})
			}
			s.hand() // somebody may have had to make room
			return
		}
	}
	s.answer(r, v)
}

// hand tells those whose wait is over.
func (s *Server) hand() {
	for {
		w, v, ok := s.opt.Line.Next(s.w.now, &s.w.rnd)
		if !ok {
			return
		}
		w.Waiter.Granted(w.Tag, v)
	}
}

// Granted implements policy.Waiter.
func (s *Server) Granted(tag uint32, v policy.Verdict) {
	r := s.waiting[tag]
	delete(s.waiting, tag)
	s.answer(r, v)
}

// answer does what a verdict says.
func (s *Server) answer(r *Request, v policy.Verdict) {
	switch v.Decision {
	case policy.Admit, policy.Probe:
		s.admit(r, v.Permit)
	case policy.Wait:
		s.w.at(max(v.At, s.w.now), func() { s.admit(r, v.Permit) })
	default:
		s.n.Refused++
		r.Answer(&status.Error{Code: status.ResourceExhausted, Kind: status.Shed, Fate: status.NotSent})
	}
}

package hull

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/hull-go/hull/internal/callctx"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/admission"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// parking is a call that waits for a place.
type parking struct {
	verdict chan policy.Verdict
	ticket  policy.Ticket
	until   policy.Time
}

// Granted implements policy.Waiter.
func (p *parking) Granted(_ uint32, v policy.Verdict) { p.verdict <- v }

// Arrive asks for leave to run a unary call before it gets a goroutine, for transports that ask. waits says that Unary will have to wait, so it must not
// run where nothing may wait. Unless the call is refused it goes on to Unary, or to Forget.
func (s *handler) Arrive(ctx *callctx.Context, in *transport.Incoming, now policy.Time) (waits bool, refusal *status.Error) {
	c, ok := ctx.Values().(*incoming)
	if !ok || c.m == nil || c.m.desk == nil || c.m.serve == nil || s.desk.Pass(now, in.Deadline, c.m.desk, &c.seat) {
		return false, nil
	}
	p, e := s.ask(c, in, now)
	return p != nil, e
}

// Refusing says that calls are being refused.
func (s *handler) Refusing(now policy.Time) bool { return s.desk.Refusing(now) }

// Forget settles a call that Arrive let in, or has wait, and that is over before it came to Unary.
func (s *handler) Forget(ctx *callctx.Context) {
	c, ok := ctx.Values().(*incoming)
	if !ok {
		return
	}
	if c.seat.Waits() {
		_ = s.giveUp(c, policy.Now(), false) // nobody is left to be told
	}
	s.settle(c)
}

// ask asks the desk for a seat for a call that does not simply pass. One that has to wait is in the line when it returns.
func (s *Server) ask(c *incoming, in *transport.Incoming, now policy.Time) (*parking, *status.Error) {
	a, _ := s.asks.Get().(*admission.Ask)
	if a == nil {
		a = new(admission.Ask)
	}
	defer s.asks.Put(a)
	a.Call = policy.Call{Method: in.Method, Deadline: in.Deadline, Criticality: in.Criticality, PathAttempt: in.PathAttempt, Hash: c.root()}
	if s.desk.CountsCallers() {
		a.Caller.Hash = c.from.identity(s.callers)
	}
	v, by := s.desk.Arrive(now, policy.Source{}, a, c.m.desk, &c.seat)
	if v.Decision == policy.Park {
		p := &parking{verdict: make(chan policy.Verdict, 1)}
		if p.ticket, v = s.desk.Join(now, policy.Source{}, a, c.m.desk, &c.seat, policy.Waiting{Waiter: p}); v.Decision == policy.Park {
			p.until = v.At
			c.says().parked = p
			return p, nil
		}
		by = admission.ByLimit
	}
	if v.Decision == policy.Refuse {
		return nil, s.shed(now, v, by)
	}
	return nil, nil
}

// admitted sees to it that a call gets the seat that it has not yet when its handler is to start, and waits for it if that is allowed.
func (s *Server) admitted(c *incoming, in *transport.Incoming) *status.Error {
	if !c.seat.Waits() {
		now := policy.Now()
		if s.desk.Pass(now, in.Deadline, c.m.desk, &c.seat) {
			return nil
		}
		if p, e := s.ask(c, in, now); p == nil {
			return e
		}
	}
	return s.await(c)
}

// await waits for the verdict of a call in the line.
func (s *Server) await(c *incoming) *status.Error {
	p := c.says().parked
	timer := time.NewTimer(p.until.Sub(policy.Now()))
	defer timer.Stop()
	select {
	case v := <-p.verdict:
		return s.seated(c, v)
	case <-timer.C:
		return s.giveUp(c, policy.Now(), true)
	case <-c.Done():
		return s.giveUp(c, policy.Now(), false)
	}
}

// giveUp takes a call out of the line whose patience (vain) or caller's patience is over, unless its verdict is on its way.
func (s *Server) giveUp(c *incoming, now policy.Time, vain bool) *status.Error {
	p := c.says().parked
	if !s.desk.Leave(now, &c.seat, p.ticket, vain) {
		return s.seated(c, <-p.verdict)
	}
	if vain {
		return s.shed(now, policy.Verdict{Decision: policy.Refuse, Reason: "waited in vain for a place"}, admission.ByLimit)
	}
	return gone(c)
}

// seated takes in the verdict of a wait. A call that nobody waits for any more does not start.
func (s *Server) seated(c *incoming, v policy.Verdict) *status.Error {
	now, until := policy.Now(), c.own.Until()
	s.desk.Seated(now, until, c.m.desk, &c.seat, v)
	if !v.Decision.Admits() {
		return s.shed(now, v, admission.ByLimit)
	}
	if until != 0 && until <= now || c.Err() != nil {
		return s.late(c)
	}
	return nil
}

// gone is the answer to a call that was over before its handler began.
func gone(c *incoming) *status.Error {
	if errors.Is(c.Err(), context.Canceled) {
		return &status.Error{Code: status.Canceled, Kind: status.Cancelled, Fate: status.NotSent, Message: "the caller gave up before the call could start"}
	}
	return &status.Error{Code: status.DeadlineExceeded, Kind: status.Expired, Fate: status.NotSent,
		Message: "the deadline had passed before the call could start"}
}

// over reports whether nobody waits for the call any more. Where the timer is the transport's the clock is asked as well: timers can be late.
func (c *incoming) over() bool {
	if c.whole() {
		return c.own.Err() != nil
	}
	until := c.own.Until()
	return c.base().Err() != nil || until != 0 && until <= policy.Now()
}

// late takes the seat from a call that was let in and is over before its handler has begun.
func (s *Server) late(c *incoming) *status.Error {
	s.desk.Late()
	s.settle(c)
	return gone(c)
}

// settle gives the seat of a call back that came to nothing, if it has one.
func (s *Server) settle(c *incoming) {
	if c.seat.Taken() {
		s.desk.Done(policy.Now(), policy.Source{}, c.m.desk, &c.seat, policy.Ignored)
	}
}

// outcome is what a call counts for in the eyes of the limit.
func (c *incoming) outcome(now policy.Time, e *status.Error) policy.Outcome {
	if until := c.own.Until(); until != 0 && now > until {
		return policy.TimedOut // nobody waited for it
	}
	if e == nil {
		return policy.Success
	}
	return policy.Classify(e).Counts().Limit
}

// shed is the answer to a call that is not served.
func (s *Server) shed(now policy.Time, v policy.Verdict, by admission.Reason) *status.Error {
	e := &status.Error{Code: status.ResourceExhausted, Kind: status.Shed, Fate: status.NotSent, Message: "the server is overloaded: " + v.Reason}
	if by == admission.ByRate {
		e.Kind, e.Message = status.Quota, "the caller makes more calls than it may: "+v.Reason
	}
	if e.Pushback = v.At.Sub(now); v.At <= now {
		e.Pushback = s.desk.Pushback(now, policy.Source{})
	}
	return e
}

// root is the hash of the root request that a call belongs to, as its trace says; 0 = not known.
func root(md transport.Metadata) uint64 {
	for i := range md {
		if md[i].Key == "traceparent" {
			return traceHash(md[i].Value)
		}
	}
	return 0
}

// traceHash reads the half of a W3C trace's id that is random, 0 if it is none.
func traceHash(traceparent string) uint64 {
	if len(traceparent) < 55 || !strings.HasPrefix(traceparent, "00-") {
		return 0
	}
	var h uint64
	for _, b := range []byte(traceparent[19:35]) {
		switch {
		case '0' <= b && b <= '9':
			b -= '0'
		case 'a' <= b && b <= 'f':
			b -= 'a' - 10
		default:
			return 0
		}
		h = h<<4 | uint64(b)
	}
	return h
}

// turnEvery is how often the desk looks at what goes on, turnsPerLog after how many of those changes of state are logged.
const (
	turnEvery   = 200 * time.Millisecond
	turnsPerLog = 5
)

// turn looks after the desk until stop is called, which waits. While nothing happens it does next to nothing.
func (s *Server) turn() (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	s.desk.Turn(policy.Now(), policy.Source{})
	go func() {
		defer close(done)
		read := s.opt.signals
		if read == nil {
			read = newGauge().read
		}
		events := policy.NewEventLogger(s.log)
		t := time.NewTicker(turnEvery)
		defer t.Stop()
		var seen int64
		stuck := false
		for n := 1; ; n++ {
			select {
			case <-quit:
				return
			case <-t.C:
			}
			now, calls := policy.Now(), s.calls.Load()+s.desk.Refusals()
			if calls != seen || s.inFlight() > 0 || s.desk.Busy() {
				seen = calls
				s.desk.Measured(now, read())
				s.desk.Turn(now, policy.Source{})
			}
			if s.desk.Stuck() != stuck {
				select {
				case s.stuck <- !stuck:
					stuck = !stuck
				default: // it is not ready yet, or leaves
				}
			}
			if n%turnsPerLog == 0 {
				_ = events.Log(context.Background(), now, s.desk.Events(s.service)) // a handler that cannot write has nowhere to say so
			}
		}
	}()
	return func() { close(quit); <-done }
}

// Signals are measures of how short the machine is of something; see WithSignals.
type Signals = admission.Signals

// WithSignals says where a server learns how short its machine is of processor and memory, in place of what it measures itself: the run queues of Go's
// scheduler, Go's memory limit, and on Linux its control group. read is called a few times a second, by one goroutine, while there are calls. Tests in
// virtual time return the zero Signals: the machine that runs them may be busy.
func WithSignals(read func() Signals) ServerOption {
	return serverOption(func(o *serverOptions) error {
		if read == nil {
			return errors.New("WithSignals: the function is nil")
		}
		o.signals = read
		return nil
	})
}

package policy_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

func TestContextThatEndedBeforeTheCallBegan(t *testing.T) {
	hedged := mustNew(t, policy.Options{Retries: tries{3, 0}, Hedging: delay(ms)})
	call := policy.Call{Idempotent: true, SideEffectFree: true}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("shutting down"))
	for range 200 {
		fn := func(context.Context) (int, error) { t.Error("it ran"); return 0, nil }
		for name, do := range map[string]func() (int, error){
			"hedged":   func() (int, error) { return policy.Do(ctx, hedged, fn, call) },
			"detached": func() (int, error) { return policy.Detach(ctx, hedged, fn, call) },
			"plain":    func() (int, error) { return policy.Do(ctx, hedged, fn) },
			"fallback": func() (int, error) {
				return policy.DoElse(ctx, hedged, fn, func(context.Context, error) (int, error) { return 1, nil })
			},
		} {
			if _, err := do(); !errors.Is(err, context.Canceled) || status.FateOf(err) != status.NotSent {
				t.Errorf("%s: error %v of fate %v, want cancelled and not sent", name, err, status.FateOf(err))
			}
		}
	}
}

func TestDeadlineOfAHedgedCallIsNotACancel(t *testing.T) {
	for name, detached := range map[string]bool{"hedged": false, "detached": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &gate{}
				p := mustNew(t, policy.Options{Retries: tries{2, 0}, Hedging: delay(5 * ms), Timeouts: fixed(20 * ms), Breaker: policy.Slot{Name: "breaker", Gate: b}})
				ctx, cancel := context.WithTimeout(t.Context(), 20*ms)
				defer cancel()
				fn := func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() }
				c := policy.Call{Idempotent: true, SideEffectFree: true}
				var err error
				if detached {
					_, err = policy.Detach(ctx, p, fn, c)
				} else {
					_, err = policy.Do(ctx, p, fn, c)
				}
				if status.CodeOf(err) != status.DeadlineExceeded || len(b.outcomes) != 1 || b.outcomes[0] != policy.Failure {
					t.Errorf("error %v, and the breaker saw %v; want the deadline and a failure", err, b.outcomes)
				}
			})
		})
	}
}

func TestNotSentIsSaidOfTheWholeCall(t *testing.T) {
	reset := &status.Error{Code: status.Unavailable, Kind: status.Reset}
	tests := []struct {
		name    string
		answers []answer
		want    status.Fate
	}{
		{"nothing was sent", []answer{{ms, errRefusedConn}, {ms, errRefusedConn}}, status.NotSent},
		{"the first may have been", []answer{{ms, reset}, {ms, errRefusedConn}}, status.Maybe},
		{"the first was answered", []answer{{ms, errUnavailable}, {ms, errRefusedConn}}, status.Processed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := mustNew(t, policy.Options{Retries: tries{2, 0}})
			w := newWorld(1)
			c := w.call(p, policy.Call{Idempotent: true}, script(tt.answers...))
			w.run()
			if status.FateOf(c.err) != tt.want || !errors.Is(c.err, errRefusedConn) || c.class != policy.ClassUnsent {
				t.Errorf("%v: fate %v, class %v; want %v, unsent", c.err, status.FateOf(c.err), c.class, tt.want)
			}
		})
	}
}

func TestProbeOfADryRunBreakerIsRetried(t *testing.T) {
	b := &gate{verdicts: []policy.Verdict{{Decision: policy.Probe}}}
	p := mustNew(t, policy.Options{Retries: tries{2, 0}, Breaker: policy.Slot{Name: "breaker", Gate: b, Mode: policy.DryRun}})
	w := newWorld(1)
	c := w.call(p, policy.Call{Idempotent: true}, script(answer{ms, errUnavailable}, answer{ms, nil}))
	w.run()
	if c.err != nil || b.out != 0 {
		t.Errorf("error %v, %d permits out; want success, 0", c.err, b.out)
	}
}

// patient is a line that makes everybody wait without end, and lets them in one at a time by hand.
type patient struct {
	gate
	who   []policy.Waiting
	tells bool // verdicts are on their way: nobody can leave
	free  int  // so many need not wait
}

func (p *patient) Admit(policy.Time, rand.Source, *policy.Call) policy.Verdict {
	if p.free > 0 {
		p.free--
		return p.grant()
	}
	return policy.Verdict{Decision: policy.Park}
}

func (p *patient) Join(_ policy.Time, _ rand.Source, _ *policy.Call, w policy.Waiting) (policy.Ticket, policy.Verdict) {
	p.who = append(p.who, w)
	return 1, policy.Verdict{Decision: policy.Park}
}

// grant is the verdict for one who is let in.
func (p *patient) grant() policy.Verdict {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out++
	return policy.Verdict{}
}

func (p *patient) Leave(policy.Time, policy.Ticket) bool { return !p.tells }
func (p *patient) Next(policy.Time, rand.Source) (policy.Waiting, policy.Verdict, bool) {
	return policy.Waiting{}, policy.Verdict{}, false
}

func TestEarlyWakeDoesNotEndAWaitWithoutEnd(t *testing.T) {
	line := &patient{}
	for name, o := range map[string]policy.Options{
		"call":    {Gates: []policy.Slot{{Name: "line", Gate: line}}},
		"attempt": {Concurrency: policy.Slot{Name: "line", Gate: line}},
	} {
		var x policy.Exec
		x.Begin(1000, policy.Source{}, mustNew(t, o), policy.Call{}, &simCall{}, false)
		if s := x.Wake(2000, policy.Source{}); s.Done {
			_, _, err := x.End()
			t.Errorf("%s: ended with %v, want it to wait on", name, err)
		}
	}
}

func TestVerdictOnItsWayIsWaitedForWithoutAStorm(t *testing.T) {
	line := &patient{tells: true}
	p := mustNew(t, policy.Options{Concurrency: policy.Slot{Name: "line", Gate: line}, Retries: tries{3, 0}, Hedging: delay(ms)})
	var x policy.Exec
	rnd := policy.Source{}
	c := policy.Call{Deadline: 1000 + policy.Time(10*ms), Idempotent: true, SideEffectFree: true}
	x.Begin(1000, rnd, p, c, &simCall{}, false)
	if s := x.Granted(1000, rnd, 0, policy.Verdict{}); s.Start != 1 {
		t.Fatalf("steps %+v: want the first attempt to start", s)
	}
	x.Wake(1000+policy.Time(ms), rnd) // the hedge waits in the line
	if len(line.who) != 2 {
		t.Fatalf("%d joined the line, want 2", len(line.who))
	}
	if s := x.Wake(c.Deadline, rnd); s.Wake != 0 {
		t.Errorf("after the deadline a wake is asked for at %v: nothing is left to be woken for", s.Wake)
	}
	if s := x.Granted(c.Deadline, rnd, 1, policy.Verdict{}); s.Start != 0 {
		t.Error("a hedge starts at the deadline")
	}
	if s := x.Result(c.Deadline, rnd, 0, errTimeout); !s.Done || !x.Idle() {
		t.Errorf("steps %+v, idle %v: want the end", s, x.Idle())
	}
}

func TestFailureAfterTheDeadlineFiresNoHedge(t *testing.T) {
	p := mustNew(t, policy.Options{Retries: tries{4, 0}, Hedging: delay(2 * ms)})
	var x policy.Exec
	rnd := policy.Source{}
	c := policy.Call{Deadline: 1000 + policy.Time(5*ms), Idempotent: true, SideEffectFree: true}
	x.Begin(1000, rnd, p, c, nil, false)
	x.Wake(1000+policy.Time(2*ms), rnd)
	if s := x.Result(c.Deadline+1, rnd, 0, errUnavailable); s.Start != 0 {
		t.Error("a hedge starts after the deadline")
	}
}

func TestPanicOfALoserIsNotTheCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustNew(t, policy.Options{Retries: tries{2, 0}, Hedging: delay(ms)})
		n := make(chan int, 2)
		n <- 1
		n <- 2
		v, err := policy.Do(t.Context(), p, func(ctx context.Context) (int, error) {
			k := <-n
			if k == 1 {
				time.Sleep(10 * ms)
				return k, nil
			}
			time.Sleep(10*ms - ms)
			<-ctx.Done()
			panic("too late")
		}, policy.Call{Idempotent: true, SideEffectFree: true})
		synctest.Wait()
		if v != 1 || err != nil {
			t.Errorf("got %v, %v; want 1", v, err)
		}
	})
}

func TestErrOfAnAttemptsContextDoesNotChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustNew(t, policy.Options{Timeouts: fixed(5 * ms)})
		var kept context.Context
		_, _ = policy.Do(t.Context(), p, func(ctx context.Context) (int, error) {
			kept = ctx //nolint:fatcontext // it is looked at afterwards
			time.Sleep(6 * ms)
			return 0, ctx.Err()
		})
		if err := kept.Err(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after the attempt: %v, want the deadline as before", err)
		}
	})
}

func TestFallbackIsNotForACallerThatIsGone(t *testing.T) {
	p := mustNew(t, policy.Options{})
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err := policy.DoElse(ctx, p, func(ctx context.Context) (int, error) {
		cancel(errors.New("a cause of its own"))
		return 0, ctx.Err()
	}, func(context.Context, error) (int, error) {
		t.Error("the fallback ran")
		return 0, nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want cancelled", err)
	}
}

// TestAttemptsOfACall: a call can have fewer attempts than its pipeline gives, hedges included, and not more.
func TestAttemptsOfACall(t *testing.T) {
	for _, c := range []struct {
		most uint8
		want int64
	}{{0, 3}, {1, 1}, {2, 2}, {200, 3}} {
		for _, hedged := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				o := policy.Options{Retries: tries{3, 0}}
				if hedged {
					o.Hedging = delay(time.Millisecond)
				}
				p := mustNew(t, o)
				_, err := policy.Do(t.Context(), p, func(context.Context) (int, error) {
					time.Sleep(10 * time.Millisecond)
					return 0, errUnavailable
				}, policy.Call{Idempotent: true, SideEffectFree: hedged, Attempts: c.most})
				if n := p.Snapshot().Attempts; err == nil || n != c.want {
					t.Errorf("at most %d, hedged %v: %d attempts, %v", c.most, hedged, n, err)
				}
			})
		}
	}
}

// TestWaitingHedgeIsCalledOff: a hedge that still waits for its place, for a while or in a line, has not begun, and does not begin after an answer that forbids
// further attempts. It leaves the line and gives back what it has; what runs may still answer the call.
func TestWaitingHedgeIsCalledOff(t *testing.T) {
	t0 := policy.Time(time.Second)
	at := func(n int) policy.Time { return t0.Add(time.Duration(n) * ms) }
	timed := func() policy.Gate {
		return &gate{verdicts: []policy.Verdict{{}, {}, {Decision: policy.Wait, At: at(60)}}}
	}
	parked := func(tells bool) func() policy.Gate {
		return func() policy.Gate {
			return &patient{free: 2, tells: tells}
		}
	}
	for _, line := range []struct {
		name string
		gate func() policy.Gate
	}{{"timed", timed}, {"parked", parked(false)}, {"parked, and its verdict on its way", parked(true)}} {
		for answer, err := range map[string]error{
			"downstream":        &status.Error{Code: status.Unavailable, Origin: status.Downstream, Fate: status.Processed},
			"negative pushback": &status.Error{Code: status.Unavailable, Fate: status.Processed, Pushback: -1},
		} {
			for _, wins := range []bool{false, true} {
				t.Run(line.name+"/"+answer+map[bool]string{true: "/the other answers"}[wins], func(t *testing.T) {
					g := line.gate()
					p := mustNew(t, policy.Options{Retries: tries{n: 3}, Hedging: delay(10 * ms), Concurrency: policy.Slot{Name: "line", Gate: g}})
					var x policy.Exec
					rnd := policy.Source{}
					x.Begin(t0, rnd, p, policy.Call{SideEffectFree: true, Idempotent: true}, &simCall{}, false)
					x.Wake(at(10), rnd)
					if s := x.Wake(at(20), rnd); s.Start != 0 {
						t.Fatalf("%+v: want the third attempt to wait", s)
					}
					if s := x.Result(at(30), rnd, 0, err); s.Done || s.Start != 0 {
						t.Fatalf("%+v: want the second attempt to run on", s)
					}
					if s := x.Wake(at(60), rnd); s.Start != 0 {
						t.Error("an attempt begins after an answer that forbids it")
					}
					want := err
					if wins {
						want = nil
					}
					s := x.Result(at(70), rnd, 1, want)
					if _, _, got := x.End(); !s.Done || s.Start != 0 || !errors.Is(got, want) {
						t.Errorf("%+v, %v: want the call to end with %v", s, got, want)
					}
					if l, ok := g.(*patient); ok && l.tells {
						if s := x.Granted(at(80), rnd, 2, l.grant()); s.Start != 0 {
							t.Error("an attempt begins after the end of its call")
						}
					}
					if n := g.(interface{ taken() int }).taken(); n != 0 || !x.Idle() {
						t.Errorf("%d places are taken, idle %v", n, x.Idle())
					}
				})
			}
		}
	}
}

// TestOnlyAWaitingHedgeIsLeft: an answer that forbids further attempts ends the call, if the only other attempt has not begun.
func TestOnlyAWaitingHedgeIsLeft(t *testing.T) {
	t0 := policy.Time(time.Second)
	g := &gate{verdicts: []policy.Verdict{{}, {Decision: policy.Wait, At: t0.Add(60 * ms)}}}
	p := mustNew(t, policy.Options{Retries: tries{n: 3}, Hedging: delay(10 * ms), Concurrency: policy.Slot{Gate: g}})
	var x policy.Exec
	rnd := policy.Source{}
	x.Begin(t0, rnd, p, policy.Call{SideEffectFree: true, Idempotent: true}, nil, false)
	x.Wake(t0.Add(10*ms), rnd)
	s := x.Result(t0.Add(20*ms), rnd, 0, &status.Error{Code: status.Unavailable, Fate: status.Processed, Pushback: -1})
	if !s.Done || s.Start != 0 || g.out != 0 || !x.Idle() {
		t.Errorf("%+v, %d places are taken, idle %v: want the end", s, g.out, x.Idle())
	}
}

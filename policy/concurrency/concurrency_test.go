package concurrency

import (
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

const t0 = policy.Time(1_700_000_000 * time.Second)

func at(d time.Duration) policy.Time { return t0.Add(d) }

func must(t testing.TB, o Options) *Limiter {
	t.Helper()
	l, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func admit(t *testing.T, l *Limiter, now policy.Time, want policy.Decision) policy.Verdict {
	t.Helper()
	v := l.Admit(now, nil, nil)
	if v.Decision != want {
		t.Fatalf("%+v, want decision %d", v, want)
	}
	return v
}

// join waits under number tag.
func join(t *testing.T, l *Limiter, now policy.Time, tag uint32) policy.Ticket {
	t.Helper()
	ticket, v := l.Join(now, nil, nil, policy.Waiting{Tag: tag})
	if v.Decision != policy.Park {
		t.Fatalf("%+v, want to wait", v)
	}
	return ticket
}

// next expects tag to be next with decision want; tag 0 means nobody.
func next(t *testing.T, l *Limiter, now policy.Time, tag uint32, want policy.Decision) {
	t.Helper()
	w, v, ok := l.Next(now, nil)
	if ok != (tag != 0) || w.Tag != tag || (ok && v.Decision != want) {
		t.Fatalf("next is %d with %+v (%v), want %d with decision %d", w.Tag, v, ok, tag, want)
	}
}

func TestWithoutALine(t *testing.T) {
	l := must(t, Options{Limit: 2})
	v := admit(t, l, t0, policy.Admit)
	admit(t, l, t0, policy.Admit)
	if v := admit(t, l, t0, policy.Refuse); v.State != "full" || v.Reason != whyTaken {
		t.Errorf("%+v", v)
	}
	l.Done(t0, nil, v.Permit, policy.Failure)
	next(t, l, t0, 0, 0)
	admit(t, l, t0, policy.Admit)
	if s := l.Snapshot(); s.InUse != 2 || s.Limit != 2 || s.Refused != 1 {
		t.Errorf("%+v", s)
	}
}

func TestDefaults(t *testing.T) {
	l := must(t, Options{})
	for range 1024 {
		admit(t, l, t0, policy.Admit)
	}
	admit(t, l, t0, policy.Refuse)
}

func TestLine(t *testing.T) {
	tests := []struct {
		order         Order
		first, second uint32
	}{{FIFO, 1, 3}, {LIFO, 3, 1}}
	for _, tt := range tests {
		l := must(t, Options{Limit: 1, Queue: 3, MaxWait: time.Second, Order: tt.order})
		admit(t, l, t0, policy.Admit)
		if v := admit(t, l, t0, policy.Park); v.At != at(time.Second) {
			t.Errorf("%+v", v)
		}
		join(t, l, t0, 1)
		two := join(t, l, t0, 2)
		join(t, l, t0, 3)
		if v := admit(t, l, t0, policy.Refuse); v.Reason != whyLine {
			t.Errorf("%+v", v)
		}
		if _, v := l.Join(t0, nil, nil, policy.Waiting{}); v.Decision != policy.Refuse {
			t.Errorf("a fourth may join: %+v", v)
		}
		next(t, l, t0, 0, 0)
		if !l.Leave(t0, two) || l.Leave(t0, two) {
			t.Error("leaving works once")
		}
		l.Done(t0, nil, policy.Permit{}, policy.Success)
		admit(t, l, t0, policy.Park) // nobody overtakes those who wait
		next(t, l, t0, tt.first, policy.Admit)
		next(t, l, t0, 0, 0)
		l.Done(t0, nil, policy.Permit{}, policy.Success)
		next(t, l, t0, tt.second, policy.Admit)
		l.Done(t0, nil, policy.Permit{}, policy.Success)
		next(t, l, t0, 0, 0)
		if s := l.Snapshot(); s.InUse != 0 || s.Waiting != 0 || s.Parked != 3 {
			t.Errorf("%+v", s)
		}
	}
}

func TestEachHasItsOwnPatience(t *testing.T) {
	l := must(t, Options{Limit: 1, Queue: 10, MaxWait: time.Second})
	admit(t, l, t0, policy.Admit)
	hurried := &policy.Call{Deadline: at(300 * time.Millisecond)}
	if _, v := l.Join(t0, nil, hurried, policy.Waiting{Tag: 1}); v.At != hurried.Deadline {
		t.Errorf("%+v, want the call's own deadline", v)
	}
	join(t, l, t0, 2)
	join(t, l, at(500*time.Millisecond), 3)
	late := at(time.Second)
	next(t, l, late, 1, policy.Refuse)
	next(t, l, late, 2, policy.Refuse)
	next(t, l, late, 0, 0)
	l.Done(late, nil, policy.Permit{}, policy.Success)
	next(t, l, late, 3, policy.Admit)
	if s := l.Snapshot(); s.Vain != 2 || s.LongestWaited != time.Second {
		t.Errorf("%+v", s)
	}
}

func TestJoinAdmitsIfAPlaceCameBack(t *testing.T) {
	l := must(t, Options{Limit: 1, Queue: 1})
	v := admit(t, l, t0, policy.Admit)
	admit(t, l, t0, policy.Park)
	l.Done(t0, nil, v.Permit, policy.Success)
	if _, v := l.Join(t0, nil, nil, policy.Waiting{}); v.Decision != policy.Admit {
		t.Errorf("%+v, want the free place", v)
	}
	if s := l.Snapshot(); s.InUse != 1 || s.Waiting != 0 {
		t.Errorf("%+v", s)
	}
}

func TestForeignTickets(t *testing.T) {
	l := must(t, Options{Limit: 1, Queue: 4})
	admit(t, l, t0, policy.Admit)
	for _, ticket := range []policy.Ticket{0, 1, 1 << 32, 1<<64 - 1, 1<<32 | 7} {
		if l.Leave(t0, ticket) {
			t.Errorf("ticket %x of nobody leaves", uint64(ticket))
		}
	}
	old := join(t, l, t0, 1)
	l.Leave(t0, old)
	again := join(t, l, t0, 2)
	if l.Leave(t0, old) || !l.Leave(t0, again) {
		t.Error("a ticket of before takes out who has the seat now")
	}
}

func TestWrongOptions(t *testing.T) {
	_, err := New(Options{Limit: -1, Queue: -1, MaxWait: -1, Order: 9})
	if err == nil {
		t.Fatal("no error")
	}
	for _, word := range []string{"concurrency: ", "Limit", "Queue", "MaxWait", "Order"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not name %s: %v", word, err)
		}
	}
}

func TestNothingAllocates(t *testing.T) {
	l := must(t, Options{Limit: 1, Queue: 8})
	if n := testing.AllocsPerRun(1000, func() {
		v := l.Admit(t0, nil, nil)
		_, w := l.Join(t0, nil, nil, policy.Waiting{})
		if w.Decision != policy.Park {
			t.Error("not parked")
		}
		l.Done(t0, nil, v.Permit, policy.Success)
		l.Next(t0, nil)
		l.Done(t0, nil, v.Permit, policy.Success)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// person waits in lines and is told through a channel.
type person chan policy.Verdict

func (p person) Granted(_ uint32, v policy.Verdict) { p <- v }

// Many take, wait, give up and give back at once: never more than Limit, nobody forgotten, nothing left in the end.
func TestParallel(t *testing.T) {
	for i, order := range []Order{FIFO, LIFO, FIFO, LIFO} {
		l := must(t, Options{Limit: 3, Queue: 5, MaxWait: time.Hour, Order: order})
		if i >= 2 {
			l.force()
		}
		var inside, served atomic.Int64
		release := func() {
			for {
				w, v, ok := l.Next(t0, nil)
				if !ok {
					return
				}
				w.Waiter.Granted(w.Tag, v)
			}
		}
		give := func() {
			l.Done(t0, nil, policy.Permit{Slot: rand.Uint32()}, policy.Success)
			release()
		}
		// The places are taken until somebody waits, so that this does not hang on who runs when.
		for range 3 {
			l.Admit(t0, nil, nil)
		}
		var wg sync.WaitGroup
		for g := range uint64(12) {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(g, 7))
				for range 2000 {
					v := l.Admit(t0, nil, nil)
					if v.Decision == policy.Park {
						me := make(person, 1)
						var ticket policy.Ticket
						ticket, v = l.Join(t0, nil, nil, policy.Waiting{Waiter: me})
						if v.Decision == policy.Park {
							if rnd.IntN(4) == 0 {
								runtime.Gosched()
								if l.Leave(t0, ticket) {
									continue
								}
							}
							v = <-me
							if rnd.IntN(8) == 0 { // its caller is gone meanwhile: a refund
								give()
								continue
							}
						}
					}
					if v.Decision != policy.Admit {
						continue
					}
					if n := inside.Add(1); n > 3 {
						t.Errorf("%d inside", n)
					}
					served.Add(1)
					runtime.Gosched()
					inside.Add(-1)
					give()
				}
			})
		}
		for l.Snapshot().Parked == 0 {
			runtime.Gosched()
		}
		for range 3 {
			give()
		}
		wg.Wait()
		if s := l.Snapshot(); s.InUse != 0 || s.Waiting != 0 || served.Load() == 0 || s.Parked == 0 {
			t.Errorf("in the end %+v, %d served", s, served.Load())
		}
	}
}

package pool_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport/pool"
)

func TestOptions(t *testing.T) {
	if _, err := pool.New(nil, pool.Options{}); err == nil {
		t.Error("no dialer: no error")
	}
	_, err := pool.New(&fakeDialer{}, pool.Options{PerNode: 17, DialTimeout: -1, MaxBackoff: -1})
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("want three faults, got %v", err)
	}
}

func TestWaitersShareOneDial(t *testing.T) {
	inBubble(t, pool.Options{}, func(t *testing.T, b *bubble) {
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if c := b.mustGet(); c != b.d.conn(0) {
					t.Error("another connection")
				}
			})
		}
		wg.Wait()
		b.elapsed(10 * time.Millisecond)
		b.mustGet()
		b.elapsed(10 * time.Millisecond)
		if n := b.d.dials(); n != 1 {
			t.Fatalf("%d dials", n)
		}
		b.told("up")
	})
}

func TestWaitersLeaveOnTheirOwn(t *testing.T) {
	inBubble(t, pool.Options{}, func(t *testing.T, b *bubble) {
		b.d.takes = 300 * time.Millisecond
		patient := make(chan *fakeConn)
		go func() { patient <- b.mustGet() }()
		_, err := b.get(100 * time.Millisecond)
		b.elapsed(100 * time.Millisecond)
		if err.Code != status.DeadlineExceeded || err.Kind != status.Timeout {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err = b.Get(ctx, addr, 0)
		b.elapsed(150 * time.Millisecond)
		if err.Code != status.DeadlineExceeded || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		_, err = b.Get(ctx, addr, 0)
		b.elapsed(200 * time.Millisecond)
		if err.Code != status.Canceled || err.Kind != status.Cancelled || err.Fate != status.NotSent {
			t.Fatal(err)
		}
		<-patient
		b.elapsed(300 * time.Millisecond)
	})
	t.Run("the dial outlives them all", func(t *testing.T) {
		inBubble(t, pool.Options{}, func(t *testing.T, b *bubble) {
			b.d.takes = 300 * time.Millisecond
			_, _ = b.get(time.Millisecond)
			time.Sleep(300 * time.Millisecond)
			if _, err := b.get(time.Nanosecond); err != nil || b.d.dials() != 1 {
				t.Fatal(err, b.d.dials())
			}
		})
	})
	t.Run("expired ones do not dial", func(t *testing.T) {
		inBubble(t, pool.Options{}, func(t *testing.T, b *bubble) {
			_, err := b.Get(t.Context(), addr, policy.Now()-1)
			if err == nil || err.Code != status.DeadlineExceeded || b.d.dials() != 0 {
				t.Fatal(err, b.d.dials())
			}
		})
	})
}

func TestDialIsBounded(t *testing.T) {
	inBubble(t, pool.Options{}, func(t *testing.T, b *bubble) {
		b.d.hang = true
		_, err := b.get(0)
		b.elapsed(pool.DefaultDialTimeout)
		if err.Code != status.Unavailable || err.Kind != status.Dial {
			t.Fatal(err)
		}
		b.told("down")
	})
}

// A process that stood still while it dialled looks again before it takes the node for down.
func TestOwnStallIsNoFailure(t *testing.T) {
	inBubble(t, pool.Options{}, func(t *testing.T, b *bubble) {
		b.d.late, b.d.takes = time.Second, 0
		b.mustGet()
		b.elapsed(pool.DefaultDialTimeout + time.Second)
		b.told("up")
	})
	inBubble(t, pool.Options{}, func(t *testing.T, b *bubble) {
		b.d.late, b.d.hang = time.Second, true
		if _, err := b.get(0); err.Kind != status.Dial || b.d.dials() != 2 {
			t.Fatal(err, b.d.dials())
		}
		b.told("down")
	})
}

func TestBackoffInDemand(t *testing.T) {
	inBubble(t, pool.Options{}, func(t *testing.T, b *bubble) {
		b.d.takes, b.d.err = 0, refused
		_, err := b.get(0)
		if err != refused {
			t.Fatal(err)
		}
		b.told("down")
		for time.Since(b.start) < 20*time.Second { // asking 100 times a second
			start := time.Now()
			_, err := b.get(0)
			if err == nil || err.Kind != status.Dial || err.Code != status.Unavailable || time.Since(start) != 0 {
				t.Fatalf("%v after %v", err, time.Since(start))
			}
			if err != refused && (!strings.Contains(err.Error(), "next try in") || !errors.Is(err, refused)) {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		want := 100 * time.Millisecond
		for i := 1; i < len(b.d.at); i++ {
			gap := b.d.at[i].Sub(b.d.at[i-1])
			between(t, "gap", gap, min(want*8/10, 666*time.Millisecond), min(want*12/10, time.Second))
			want = want * 16 / 10
		}
		if n := len(b.d.at); n < 20 {
			t.Fatalf("only %d dials", n)
		}
		s := b.Snapshot()[0]
		if s.Up || s.Fails != len(b.d.at) || s.RetryAt <= policy.Now() || s.Err != refused || len(s.Conns) != 0 {
			t.Fatalf("%+v", s)
		}
		b.d.set(func() { b.d.err = nil })
		back := time.Now()
		for {
			if _, err := b.get(0); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		between(t, "return seen", time.Since(back), 0, time.Second)
		synctest.Wait()
		b.told("down", "up")
		if s := b.Snapshot()[0]; !s.Up || s.Fails != 0 || s.RetryAt != 0 || s.Err != nil || len(s.Conns) != 1 {
			t.Fatalf("%+v", s)
		}
	})
}

func TestBackoffIdle(t *testing.T) {
	inBubble(t, pool.Options{}, func(t *testing.T, b *bubble) {
		b.d.takes, b.d.err = 0, refused
		_, _ = b.get(0)
		time.Sleep(10 * time.Minute) // nobody asks
		synctest.Wait()
		n := b.d.dials()
		last := b.d.at[n-1].Sub(b.d.at[n-2])
		between(t, "idle gap", last, 20*time.Second, 30*time.Second)
		if n < 25 || n > 50 {
			t.Fatalf("%d dials in 10 idle minutes", n)
		}
		time.Sleep(time.Until(b.d.at[n-1].Add(5 * time.Second)))
		if _, err := b.get(0); err != refused || b.d.dials() != n+1 {
			t.Fatalf("the first to ask again did not dial: %v", err)
		}
		b.d.set(func() { b.d.err = nil })
		time.Sleep(time.Second) // the pool finds out by itself
		synctest.Wait()
		b.told("down", "up")
	})
}

func TestSecondConnectionUnderLoad(t *testing.T) {
	inBubble(t, pool.Options{}, func(t *testing.T, b *bubble) {
		first := b.mustGet()
		first.inFlight.Store(1)
		b.mustGet()
		time.Sleep(time.Second)
		if b.d.dials() != 1 {
			t.Fatal("grew without load")
		}
		first.inFlight.Store(2)
		for range 5 {
			if b.mustGet() != first {
				t.Fatal("waited for the second connection")
			}
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		second := b.mustGet()
		if second == first || b.d.dials() != 2 {
			t.Fatalf("%d dials", b.d.dials())
		}
		second.inFlight.Store(3)
		if b.mustGet() != first {
			t.Fatal("not the least busy one")
		}
		time.Sleep(time.Second)
		if b.d.dials() != 2 {
			t.Fatal("grew beyond two")
		}
		b.told("up")
	})
	t.Run("its failure is no news", func(t *testing.T) {
		inBubble(t, pool.Options{}, func(t *testing.T, b *bubble) {
			first := b.mustGet()
			first.inFlight.Store(5)
			b.d.set(func() { b.d.err = refused })
			for range 1000 {
				if b.mustGet() != first {
					t.Fatal("another connection")
				}
				time.Sleep(10 * time.Millisecond)
			}
			if n := b.d.dials(); n < 3 || n > 15 {
				t.Fatalf("%d dials in 10 s", n)
			}
			b.told("up")
			b.d.set(func() { b.d.err = nil })
			time.Sleep(30 * time.Second)
			b.mustGet()
			time.Sleep(time.Second)
			if b.mustGet() == first {
				t.Fatal("never grew")
			}
		})
	})
}

func TestLostConnection(t *testing.T) {
	t.Run("is replaced at once", func(t *testing.T) {
		inBubble(t, pool.Options{}, func(t *testing.T, b *bubble) {
			first := b.mustGet()
			time.Sleep(time.Minute)
			_ = first.Close()
			synctest.Wait()
			if b.d.dials() != 2 {
				t.Fatal("no dial before anybody asked")
			}
			if b.mustGet() == first {
				t.Fatal("got the lost one")
			}
			b.told("up")
		})
	})
	t.Run("of a dead node is noticed", func(t *testing.T) {
		inBubble(t, pool.Options{}, func(t *testing.T, b *bubble) {
			first := b.mustGet()
			time.Sleep(time.Minute)
			b.d.set(func() { b.d.err = refused })
			_ = first.Close()
			time.Sleep(20 * time.Millisecond)
			b.told("up", "down")
			start := time.Now()
			if _, err := b.get(0); err == nil || time.Since(start) != 0 {
				t.Fatalf("%v after %v", err, time.Since(start))
			}
		})
	})
	t.Run("again and again is a failed dial", func(t *testing.T) {
		inBubble(t, pool.Options{}, func(t *testing.T, b *bubble) {
			for time.Since(b.start) < time.Minute {
				if c, err := b.get(0); err == nil {
					_ = c.Close()
				}
				time.Sleep(time.Millisecond)
			}
			if n := b.d.dials(); n < 60 || n > 120 {
				t.Fatalf("%d dials in a minute, want about one a second", n)
			}
			for {
				if c, err := b.get(0); err == nil {
					time.Sleep(2 * time.Second)
					_ = c.Close() // has held: replaced at once
					break
				}
				time.Sleep(time.Millisecond)
			}
			b.mustGet()
		})
	})
}

// TestResetNowAndThen is a regression test: connections that were reset after 150 ms, both of a node's at once, counted as failed dials, and a node that served well
// was not called for up to a second each time.
func TestResetNowAndThen(t *testing.T) {
	inBubble(t, pool.Options{}, func(t *testing.T, b *bubble) {
		for range 100 {
			b.mustGet().inFlight.Store(10)
			b.mustGet() // has a second connection made
			time.Sleep(150 * time.Millisecond)
			b.d.set(func() {
				for _, c := range b.d.conns {
					_ = c.Close()
				}
			})
			synctest.Wait()
		}
		b.mustGet()
		b.told("up")
	})
}

// TestEndedOneAfterTheOther is a regression test: a node that ended each connection soon after it was made was dialled again at once as long as
// another connection was left, hundreds of times a second.
func TestEndedOneAfterTheOther(t *testing.T) {
	inBubble(t, pool.Options{}, func(t *testing.T, b *bubble) {
		b.d.takes = time.Millisecond
		ended := 0
		for time.Since(b.start) < time.Minute {
			if c, err := b.get(0); err == nil {
				c.inFlight.Store(10) // so that a second one is wanted
				_, _ = b.get(0)
			}
			time.Sleep(3 * time.Millisecond)
			b.d.set(func() {
				if ended < len(b.d.conns) {
					_ = b.d.conns[ended].Close()
					ended++
				}
			})
		}
		if n := b.d.dials(); n < 60 || n > 240 {
			t.Fatalf("%d dials in a minute, want about two a second at most", n)
		}
	})
}

// TestOneOfTwoDoesNotHold: while another connection serves, one that is ended soon after it was made, again and again, is replaced after a pause.
func TestOneOfTwoDoesNotHold(t *testing.T) {
	inBubble(t, pool.Options{}, func(t *testing.T, b *bubble) {
		b.mustGet().inFlight.Store(10) // so that a second one is wanted
		for time.Since(b.start) < time.Minute {
			b.mustGet()
			time.Sleep(5 * time.Millisecond)
			b.d.set(func() {
				for _, c := range b.d.conns[1:] {
					_ = c.Close()
				}
			})
		}
		if n := b.d.dials(); n < 8 || n > 40 {
			t.Fatalf("%d dials in a minute, want as few as when they fail while nobody waits for them", n)
		}
		for len(b.Snapshot()[0].Conns) < 2 {
			if b.mustGet(); time.Since(b.start) > 2*time.Minute {
				t.Fatal("no second connection, although the node would let it be now")
			}
			time.Sleep(5 * time.Millisecond)
		}
		b.told("up")
	})
}

func TestDrainingConnectionIsReplaced(t *testing.T) {
	inBubble(t, pool.Options{}, func(t *testing.T, b *bubble) {
		first := b.mustGet()
		time.Sleep(time.Minute)
		first.inFlight.Store(1)
		first.worn.Store(true)
		second := b.mustGet()
		if second == first || b.d.dials() != 2 || !first.drained.Load() {
			t.Fatalf("%d dials, drained %v", b.d.dials(), first.drained.Load())
		}
		s := b.Snapshot()[0]
		if len(s.Conns) != 2 || s.Conns[0].Draining || !s.Conns[1].Draining || s.InFlight != 1 || s.Dialing || s.Addr != addr {
			t.Fatalf("%+v", s)
		}
		first.end()
		synctest.Wait()
		if s := b.Snapshot()[0]; len(s.Conns) != 1 {
			t.Fatalf("%+v", s)
		}
		b.told("up")
	})
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	inBubble(t, pool.Options{IdleTime: 4 * time.Minute}, func(t *testing.T, b *bubble) {
		c := b.mustGet()
		for range 10 { // used every now and then
			time.Sleep(3 * time.Minute)
			if b.mustGet() != c {
				t.Fatal("closed though used")
			}
		}
		c.inFlight.Store(1)
		time.Sleep(time.Hour)
		if c.drained.Load() {
			t.Fatal("closed under a call")
		}
		c.inFlight.Store(0)
		at := time.Now()
		<-c.Done()
		between(t, "idle time", time.Since(at), 3*time.Minute, 5*time.Minute)
		time.Sleep(time.Hour)
		if b.d.dials() != 1 {
			t.Fatal("dialled again without need")
		}
		if b.mustGet() == c {
			t.Fatal("got a closed one")
		}
		b.told("up")
	})
	t.Run("off", func(t *testing.T) {
		inBubble(t, pool.Options{IdleTime: -1}, func(t *testing.T, b *bubble) {
			c := b.mustGet()
			time.Sleep(1000 * time.Hour)
			if b.mustGet() != c {
				t.Fatal("closed")
			}
		})
	})
}

func TestForget(t *testing.T) {
	inBubble(t, pool.Options{}, func(t *testing.T, b *bubble) {
		n := b.Node(addr)
		if n != b.Node(addr) || n.Addr() != addr {
			t.Fatal("two handles")
		}
		busy := b.mustGet()
		busy.inFlight.Store(1)
		b.Node("other:80")
		b.Retain([]string{"other:80", "never:80"})
		if !busy.drained.Load() {
			t.Fatal("not drained")
		}
		if s := b.Snapshot(); len(s) != 1 || s[0].Addr != "other:80" {
			t.Fatalf("%+v", s)
		}
		if _, err := n.Get(t.Context(), 0); err == nil || err.Kind != status.Draining || err.Fate != status.NotSent {
			t.Fatal(err)
		}
		if b.mustGet() == busy {
			t.Fatal("got the drained one")
		}
		select {
		case <-busy.Done():
			t.Fatal("cut off")
		default:
			busy.end()
		}
	})
	t.Run("while dialling", func(t *testing.T) {
		inBubble(t, pool.Options{}, func(t *testing.T, b *bubble) {
			b.d.hang = true
			time.AfterFunc(100*time.Millisecond, func() { b.Forget(addr) })
			_, err := b.get(0)
			b.elapsed(100 * time.Millisecond)
			if err.Kind != status.Draining {
				t.Fatal(err)
			}
			b.told()
		})
	})
	t.Run("while backing off", func(t *testing.T) {
		inBubble(t, pool.Options{}, func(t *testing.T, b *bubble) {
			b.d.err = refused
			_, _ = b.get(0)
			b.Forget(addr)
			time.Sleep(time.Hour)
			if b.d.dials() != 1 {
				t.Fatal("still dialling")
			}
		})
	})
}

func TestClose(t *testing.T) {
	inBubble(t, pool.Options{}, func(t *testing.T, b *bubble) {
		busy := b.mustGet()
		busy.inFlight.Store(1)
		b.d.set(func() { b.d.hang = true })
		waiter := make(chan *status.Error)
		go func() {
			_, err := b.Get(t.Context(), "other:80", 0)
			waiter <- err
		}()
		synctest.Wait()
		_ = b.Close()
		<-busy.Done()
		if err := <-waiter; err == nil || err.Fate != status.NotSent {
			t.Fatal(err)
		}
		if _, err := b.get(0); err == nil {
			t.Fatal("got a connection from a closed pool")
		}
		b.elapsed(10 * time.Millisecond)
		_ = b.Close()
	})
}

func TestDrain(t *testing.T) {
	for _, tt := range []struct {
		name string
		call time.Duration // how long the call under way takes
		at   time.Duration
		err  error
	}{
		{"calls end", 500 * time.Millisecond, 510 * time.Millisecond, nil},
		{"calls are cut off", time.Hour, 1010 * time.Millisecond, context.DeadlineExceeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, pool.Options{}, func(t *testing.T, b *bubble) {
				c := b.mustGet()
				c.inFlight.Store(1)
				time.AfterFunc(tt.call, c.end)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := b.Drain(ctx); !errors.Is(err, tt.err) {
					t.Fatal(err)
				}
				b.elapsed(tt.at)
				<-c.Done()
			})
		})
	}
}

// TestKnown is what others are told of a node: nothing before anybody has asked for it, then whether it can be reached.
func TestKnown(t *testing.T) {
	inBubble(t, pool.Options{}, func(t *testing.T, b *bubble) {
		if b.Known(addr) != nil {
			t.Fatal("a node is known that nobody asked for")
		}
		b.d.hang = true
		_, _ = b.get(0)
		n := b.Known(addr)
		if n == nil || n != b.Node(addr) || b.Known(addr, "another way") != nil {
			t.Fatal("the node is not known, or by another way")
		}
		if err := n.Down(); err == nil || err.Kind != status.Dial || n.Up() {
			t.Errorf("it cannot be reached: %v, up %v", err, n.Up())
		}
		b.d.set(func() { b.d.hang = false })
		time.Sleep(time.Second)
		b.mustGet()
		if err := n.Down(); err != nil || !n.Up() {
			t.Errorf("it can be reached: %v, up %v", err, n.Up())
		}
	})
}

// TestLostConnectionsOfANodeThatAnswers: a node whose connections are cut as soon as they have carried an answer is dialled again at once, each time. When
// there are no more answers for a second it is one that ends connections.
func TestLostConnectionsOfANodeThatAnswers(t *testing.T) {
	inBubble(t, pool.Options{PerNode: 1}, func(t *testing.T, b *bubble) {
		cut := func(answered bool) {
			t.Helper()
			c := b.mustGet()
			if answered {
				b.Node(addr).Answered()
			}
			c.end()
			time.Sleep(20 * time.Millisecond)
		}
		for range 20 {
			cut(true)
		}
		if n := b.d.dials(); n != 21 || !b.Node(addr).Up() {
			t.Fatalf("%d dials, up %v", n, b.Node(addr).Up())
		}
		// Regression: those that nobody had used yet counted against it, and calls failed although each dial succeeded.
		last, dials := time.Now(), b.d.dials()
		for time.Since(last) < 800*time.Millisecond {
			cut(false)
		}
		if n := b.d.dials() - dials; n > 20 {
			t.Errorf("%d dials in 0.8 s: want pauses between them", n)
		}
		for time.Since(last) < 1500*time.Millisecond {
			if c, err := b.get(0); err == nil {
				c.end()
			}
			time.Sleep(20 * time.Millisecond)
		}
		if _, err := b.get(0); err == nil || err.Kind != status.Dial || b.Node(addr).Up() {
			t.Errorf("a node that ends connections: %v, up %v", err, b.Node(addr).Up())
		}
	})
}

// TestOneServesAndOthersEnd is a regression test: where a peer let a client keep one connection and ended every other at once, the answers on the one had the
// others dialled again without a pause.
func TestOneServesAndOthersEnd(t *testing.T) {
	inBubble(t, pool.Options{PerNode: 2}, func(t *testing.T, b *bubble) {
		b.mustGet()
		b.d.conn(0).inFlight.Store(5)
		ended := 1
		for range 5000 {
			b.mustGet()
			b.Node(addr).Answered() // on the first connection
			time.Sleep(time.Millisecond)
			made := 0
			b.d.set(func() { made = len(b.d.conns) })
			for ; ended < made; ended++ {
				b.d.conn(ended).end()
			}
			time.Sleep(time.Millisecond)
		}
		if n := b.d.dials(); n > 50 {
			t.Errorf("%d dials in 10 s", n)
		}
	})
}

package faults

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/status"
)

type reply struct{ spoilt bool }

func (r *reply) Spoil() { r.spoilt = true }

func handler(took time.Duration) func(context.Context) (any, error) {
	return func(ctx context.Context) (any, error) {
		if err := pause(ctx, took); err != nil {
			return nil, err
		}
		return &reply{}, nil
	}
}

func TestSlow(t *testing.T) {
	tests := []struct {
		name string
		o    Setting
		want time.Duration
	}{
		{"default", Setting{}, 200 * time.Millisecond},
		{"factor", Setting{Factor: 3}, 30 * time.Millisecond},
		{"delay", Setting{Delay: 500}, 510 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := NewSet(nil)
				if err := s.Add(NameSlow, tt.o); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				if _, err := s.Pass(t.Context(), handler(10*time.Millisecond)); err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took != tt.want {
					t.Errorf("took %v, want %v", took, tt.want)
				}
			})
		})
	}
}

// A slow node stops working for a caller who has gone away.
func TestSlowEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSet(nil)
		if err := s.Add(NameSlow, Setting{Delay: 60_000}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := s.Pass(ctx, handler(10*time.Millisecond))
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 100*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestErrorsHitTheirShare(t *testing.T) {
	s := NewSet(nil)
	for _, percent := range []int{0, 1, 100} {
		if err := s.Add(NameErrors, Setting{Percent: percent}); err != nil {
			t.Fatal(err)
		}
		failed := 0
		for range 2000 {
			if _, err := s.Pass(t.Context(), handler(0)); err != nil {
				failed++
				if status.CodeOf(err) != status.Unavailable {
					t.Fatal(err)
				}
			}
		}
		low, high := map[int]int{0: 800, 1: 1, 100: 2000}[percent], map[int]int{0: 1200, 1: 80, 100: 2000}[percent]
		if failed < low || failed > high {
			t.Errorf("at %d %%: %d of 2000 failed", percent, failed)
		}
	}
}

func TestPanicAndWrong(t *testing.T) {
	s := NewSet(nil)
	if err := s.Add(NameWrong, Setting{}); err != nil {
		t.Fatal(err)
	}
	rep, err := s.Pass(t.Context(), handler(0))
	if err != nil || !rep.(*reply).spoilt {
		t.Errorf("wrong: %+v, %v", rep, err)
	}
	if err := s.Add(NamePanic, Setting{}); err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("panic: there is none")
			}
		}()
		_, _ = s.Pass(t.Context(), handler(0))
	}()
	if got := s.Names(); !slices.Equal(got, []string{NameWrong, NamePanic}) {
		t.Errorf("Names = %v", got)
	}
	if err := s.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rep, err := s.Pass(t.Context(), handler(0)); err != nil || rep.(*reply).spoilt || len(s.Names()) != 0 {
		t.Errorf("after Heal: %+v, %v, %v", rep, err, s.Names())
	}
}

func TestCheck(t *testing.T) {
	for name, tt := range map[string]struct {
		fault string
		o     Setting
	}{
		"name":       {"meteor", Setting{}},
		"percent":    {NameErrors, Setting{Percent: 101}},
		"negative":   {NameErrors, Setting{Percent: -1}},
		"factor":     {NameSlow, Setting{Factor: 0.5}},
		"big factor": {NameSlow, Setting{Factor: 1e9}},
		"delay":      {NameSlow, Setting{Delay: -5}},
		"no port":    {NameRefuse, Setting{}},
	} {
		if err := NewSet(nil).Add(tt.fault, tt.o); err == nil {
			t.Errorf("%s: %+v is accepted", name, tt)
		}
	}
}

func TestListenerRefuses(t *testing.T) {
	// While it refuses its port is free, and another program may be given it, which uses 127.0.0.1.
	l, err := Listen(t.Context(), "127.83.41.7:0")
	if err != nil { // where there is no other address of this machine
		l, err = Listen(t.Context(), "127.0.0.1:0")
	}
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { // an echo server
		for {
			c, err := l.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
				return
			}
			wg.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			})
		}
	})
	defer wg.Wait()
	defer l.Close()

	dial := func() (net.Conn, error) {
		return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(t.Context(), "tcp", l.Addr().String())
	}
	echo := func(c net.Conn) error {
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	}
	c, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := echo(c); err != nil {
		t.Fatal(err)
	}

	s := NewSet(l)
	if err := s.Add(NameRefuse, Setting{}); err != nil {
		t.Fatal(err)
	}
	if err := echo(c); err == nil {
		t.Error("the old connection still works")
	}
	if c, err := dial(); err == nil {
		c.Close()
		t.Error("a new connection is accepted")
	} else if !errors.Is(err, syscall.ECONNREFUSED) && !strings.Contains(err.Error(), "refused") {
		t.Errorf("a new connection: %v, want connection refused", err)
	}

	if err := s.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	again, err := dial()
	if err != nil {
		t.Fatalf("after Heal: %v", err)
	}
	defer again.Close()
	if err := echo(again); err != nil {
		t.Errorf("after Heal: %v", err)
	}
}

// Closing ends Accept, also while the listener refuses.
func TestListenerClosesWhileRefusing(t *testing.T) {
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Refuse()
	done := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		done <- err
	}()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept = %v", err)
	}
}

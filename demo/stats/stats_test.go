package stats

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Every bucket's own bounds fall into it, and the ranges join.
func TestBuckets(t *testing.T) {
	for i := range buckets {
		if got := bucket(upper(i)); got != i {
			t.Fatalf("bucket(upper(%d) = %v) = %d", i, upper(i), got)
		}
		if i+1 < buckets {
			if got := bucket(upper(i) + time.Microsecond); got != i+1 {
				t.Fatalf("the range after bucket %d begins in bucket %d", i, got)
			}
		}
	}
	for d, want := range map[time.Duration]int{-time.Second: 0, 0: 0, time.Hour: buckets - 1} {
		if got := bucket(d); got != want {
			t.Errorf("bucket(%v) = %d, want %d", d, got, want)
		}
	}
}

func TestQuantile(t *testing.T) {
	var h histogram
	if got := quantile([]*histogram{&h}, 0.5); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
	for i := range 1000 {
		h.add(time.Duration(i+1) * time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{0: time.Millisecond, 0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond, 1: time.Second} {
		got := quantile([]*histogram{&h}, q)
		if got < want || float64(got) > 1.07*float64(want) {
			t.Errorf("quantile %v = %v, want %v to +7 %%", q, got, want)
		}
	}
}

func TestRecorder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRecorder()
		for sec := range 130 {
			for i := range 10 {
				r.Begin()
				c := Call{Result: OK, Node: "a", Attempts: 1, Took: 10 * time.Millisecond}
				switch {
				case sec >= 125 && i == 0:
					c = Call{Result: Failed, Attempts: 3, Took: time.Second, Reason: "broken"}
				case sec >= 125 && i == 1:
					c = Call{Result: Fallback, Attempts: 3, Took: time.Second}
				case i == 2:
					c.Node, c.Attempts = "b", 2
				case i == 3:
					c.Unsafe = true
				case i == 4:
					c = Call{Result: Maybe, Unsafe: true, Attempts: 1}
				}
				r.End(c)
			}
			time.Sleep(time.Second)
		}
		r.Begin()
		s := r.Snapshot()
		if s.Waiting != 1 {
			t.Errorf("Waiting = %d", s.Waiting)
		}
		want := Counts{OK: 130*8 - 10, Failed: 5, Fallback: 5, Retried: 140, Attempts: 130*11 + 20, UnsafeOK: 130, UnsafeMaybe: 130}
		if s.Total != want {
			t.Errorf("Total = %+v, want %+v", s.Total, want)
		}
		if s.Total.Calls() != 130*8 {
			t.Errorf("Calls = %d", s.Total.Calls())
		}
		w := s.Window
		if w.Seconds != 10 || w.Counts.Failed != 5 || w.Counts.OK != 70 || w.Goodput != 7 {
			t.Errorf("Window = %+v", w)
		}
		if w.P50 < 10 || w.P50 > 11 || w.P99 < 1000 || w.P99 > 1070 {
			t.Errorf("p50 %v, p99 %v", w.P50, w.P99)
		}
		if w.Nodes["b"] != 10 || w.Nodes["a"] != 70 {
			t.Errorf("Nodes = %v", w.Nodes)
		}
		if len(s.History) != History || s.History[0].OK != 8 || s.History[History-1].Failed != 1 {
			t.Errorf("History: %d points, %+v … %+v", len(s.History), s.History[0], s.History[len(s.History)-1])
		}
		if s.Reasons["broken"] != 5 {
			t.Errorf("Reasons = %v", s.Reasons)
		}
	})
}

// Seconds in which nothing ended are zeroes, not copies of what was there two minutes ago.
func TestSilenceIsZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRecorder()
		r.Begin()
		r.End(Call{Result: OK, Took: time.Millisecond})
		time.Sleep((History + 1) * time.Second)
		s := r.Snapshot()
		if slices.ContainsFunc(s.History, func(p Point) bool { return p != Point{} }) || s.Window.Goodput != 0 || s.Window.P99 != 0 {
			t.Errorf("after two minutes of silence: %+v", s.Window)
		}
	})
}

func TestReasonsAreBounded(t *testing.T) {
	r := NewRecorder()
	for i := range 1000 {
		r.Begin()
		r.End(Call{Reason: fmt.Sprint(i)})
	}
	if s := r.Snapshot(); len(s.Reasons) != maxReasons+1 || s.Reasons["other"] != 1000-maxReasons {
		t.Errorf("Reasons = %v", s.Reasons)
	}
}

func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Stall
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.Run(ctx)
		}()
		time.Sleep(time.Second)
		if got := s.Max(); got != 0 {
			t.Errorf("in virtual time nothing stalls, but Max = %v", got)
		}
		s.note(time.Now(), 80*time.Millisecond)
		time.Sleep(8 * time.Second)
		if got := s.Max(); got != 80 {
			t.Errorf("Max = %v, want 80", got)
		}
		time.Sleep(3 * time.Second)
		if got := s.Max(); got != 0 {
			t.Errorf("11 s later Max = %v", got)
		}
		cancel()
		<-done
	})
}

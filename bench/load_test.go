package main

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/hull-go/hull/bench/echopb"
)

// callerFunc answers in this process.
type callerFunc func(*echopb.Msg) (*echopb.Msg, error)

func (f callerFunc) Call(_ context.Context, m *echopb.Msg) (*echopb.Msg, error) { return f(m) }
func (callerFunc) Close() error                                                 { return nil }

func honest(m *echopb.Msg) (*echopb.Msg, error) { return proto.CloneOf(m), nil }

func TestNewMsgHasTheSize(t *testing.T) {
	for _, size := range []int{64, 100, 127, 128, 129, 200, 1024, 16 << 10, 1 << 20} {
		for _, worker := range []int{0, 1, maxConns - 1} {
			m := newMsg(worker, size)
			m.N += 1 << 20
			if got := proto.Size(m); got < size-1 || got > size+1 {
				t.Errorf("newMsg(%d, %d) has %d bytes", worker, size, got)
			}
			if m.Id == "" || m.Text == "" || m.N == 0 || !m.Ok || len(m.Data) == 0 {
				t.Errorf("newMsg(%d, %d) has an empty field: %v", worker, size, m)
			}
		}
	}
}

func TestLoadCounts(t *testing.T) {
	l := newLoad(callerFunc(honest), 3, 100)
	for range 2 {
		took, err := l.run(5 * time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if took < 5*time.Millisecond || l.calls() == 0 {
			t.Errorf("%d calls in %v", l.calls(), took)
		}
		var counted uint64
		for _, w := range l.workers {
			for _, n := range w.hist.counts {
				counted += uint64(n)
			}
		}
		if counted != l.calls() {
			t.Errorf("%d calls, %d latencies", l.calls(), counted)
		}
	}
}

func TestLoadFailsOnWrongAnswers(t *testing.T) {
	for _, c := range []struct {
		name string
		f    callerFunc
		want string
	}{
		{"error", func(*echopb.Msg) (*echopb.Msg, error) { return nil, errors.New("boom") }, "boom"},
		{"nothing", func(*echopb.Msg) (*echopb.Msg, error) { return nil, nil }, "wrong answer"},
		{"empty", func(*echopb.Msg) (*echopb.Msg, error) { return new(echopb.Msg), nil }, "wrong answer"},
		{"another call's", func(m *echopb.Msg) (*echopb.Msg, error) {
			m = proto.CloneOf(m)
			m.N++
			return m, nil
		}, "wrong answer"},
		{"cut off", func(m *echopb.Msg) (*echopb.Msg, error) {
			m = proto.CloneOf(m)
			m.Data = m.Data[1:]
			return m, nil
		}, "wrong answer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := newLoad(c.f, 2, 100).run(time.Minute)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestQuantiles(t *testing.T) {
	// The histograms' answer against the exact one.
	rnd := rand.New(rand.NewPCG(1, 2))
	var all []time.Duration
	hs := []*histogram{new(histogram), new(histogram), new(histogram)}
	for i := range 30000 {
		d := time.Duration(math.Exp(rnd.Float64() * math.Log(5e9))) // 1 ns to 5 s
		all = append(all, d)
		hs[i%len(hs)].add(d)
	}
	slices.Sort(all)
	qs := []float64{0, 0.01, 0.5, 0.99, 1}
	for i, got := range quantiles(hs, qs...) {
		want := all[min(int(qs[i]*float64(len(all))), len(all)-1)]
		if diff := math.Abs(float64(got - want)); diff > 0.02*float64(want)+1 {
			t.Errorf("quantile %g: %v, want %v", qs[i], got, want)
		}
	}
	if got := quantiles([]*histogram{new(histogram)}, 0.5); got[0] != 0 {
		t.Errorf("the median of nothing is %v", got[0])
	}
}

func TestBucketsCoverTheRange(t *testing.T) {
	last := -1
	for _, d := range []time.Duration{-1, 0, 1, 63, 64, 65, 127, 128, 1000, time.Millisecond, time.Second, 2 * time.Minute, time.Hour, math.MaxInt64} {
		b := bucket(d)
		if b < last || b >= buckets {
			t.Errorf("bucket(%v) = %d after %d, of %d", d, b, last, buckets)
		}
		last = b
		if d > 0 && d <= 2*time.Minute {
			if rel := math.Abs(float64(middle(b)-d)) / float64(d); rel > 0.017 {
				t.Errorf("%v becomes %v", d, middle(b))
			}
		}
	}
}

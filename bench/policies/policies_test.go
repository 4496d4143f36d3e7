package main

import (
	"bytes"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// BenchmarkPolicies has a benchmark for each case: single is one goroutine, parallel one for each processor.
func BenchmarkPolicies(b *testing.B) {
	for _, c := range cases() {
		b.Run(c.Group+"/"+strings.ReplaceAll(c.Name, "/", "-"), func(b *testing.B) {
			b.Run("single", func(b *testing.B) { benchmark(b, &c, 1) })
			b.Run("parallel", func(b *testing.B) { benchmark(b, &c, runtime.GOMAXPROCS(0)) })
		})
	}
}

func benchmark(b *testing.B, c *bench, goroutines int) {
	b.Helper()
	do, err := c.Setup()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime()
	err = concurrently(do, goroutines, b.N)
	cpu = cpuTime() - cpu
	b.StopTimer()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(cpu)/float64(b.N), "cpu-ns/op")
}

// Each case does what it says: nobody is refused, alone or beside others.
func TestCases(t *testing.T) {
	for _, c := range cases() {
		t.Run(c.Group+"/"+c.Name, func(t *testing.T) {
			for _, procs := range []int{1, 2} {
				if _, err := measure(&c, procs, 1001); err != nil {
					t.Errorf("%d processors: %v", procs, err)
				}
			}
		})
	}
}

// What is said to allocate nothing allocates nothing: only what a goroutine makes for all its calls.
func TestGatesDoNotAllocate(t *testing.T) {
	for _, c := range cases() {
		if !c.Given {
			continue
		}
		s, err := measure(&c, 1, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		if s.Allocs > 0.1 {
			t.Errorf("%s: %v allocations per call, want none", c.title(), s.Allocs)
		}
	}
}

func TestRunPrintsTables(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), strings.Fields("-rounds 2 -d 1ms -procs 2 -only breaker"), &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2 interleaved rounds", "gobreaker, 10 buckets", "breaker: hull, in Do", "time.Now"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "hystrix") {
		t.Errorf("a group that was not asked for:\n%s", &out)
	}
}

func TestRunRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, args := range []string{"-only breakr", "-rounds 0", "-d 0s", "-procs 0", "more"} {
		if err := run(t.Context(), strings.Fields(args), io.Discard, io.Discard); err == nil {
			t.Errorf("%s: no error", args)
		}
	}
}

func TestRatioIsNetOfTheRivalsClock(t *testing.T) {
	// In the first round the machine was twice as slow.
	at := func(c bench, ns float64) row {
		return row{bench: c, one: way{samples: []sample{{CPU: 2 * ns}, {CPU: ns}}}}
	}
	rep := &report{rounds: 2, rows: []row{
		at(bench{Group: clockGroup, Name: clockNow}, 40), at(bench{Group: clockGroup, Name: clockSince}, 10),
		at(bench{Group: "g", Name: "ours", Hull: true, Given: true}, 20), at(bench{Group: "g", Name: "rival", Nows: 1, Sinces: 2}, 100),
	}}
	ours, rival := &rep.rows[2], &rep.rows[3]
	if x := rep.ratio(ours, rival, single, sample.time, false); x != 5 {
		t.Errorf("plain ratio %v, want 5", x)
	}
	if x := rep.ratio(ours, rival, single, sample.time, true); x != 2 {
		t.Errorf("net ratio %v, want 2", x)
	}
}

func TestConcurrentlySharesOut(t *testing.T) {
	shares := make(chan int, 3)
	if err := concurrently(func(n int) error { shares <- n; return nil }, 3, 11); err != nil {
		t.Fatal(err)
	}
	if sum := <-shares + <-shares + <-shares; sum != 11 {
		t.Errorf("ran %d times, want 11", sum)
	}
	if err := concurrently(func(n int) error { return check(n > 0, "nothing to do") }, 3, 1); err != nil {
		t.Error(err)
	}
	if err := concurrently(func(int) error { return refused("no") }, 2, 2); err == nil {
		t.Error("the error of a goroutine is lost")
	}
}

// In virtual time: on the wall one moment in which the machine does something else looks like a body that takes long.
func TestCalibrateAimsAtTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := bench{Setup: func() (body, error) {
			return func(n int) error {
				time.Sleep(time.Duration(n) * time.Microsecond)
				return nil
			}, nil
		}}
		n, err := calibrate(&c, 1, 20*time.Millisecond)
		if err != nil || n < 19_999 || n > 20_001 {
			t.Errorf("%d times, %v; want 20000", n, err)
		}
	})
}

package main

import (
	"errors"
	"runtime"
	"sync"
	"time"
)

// A sample is what one call cost in one measurement.
type sample struct {
	// Wall is nanoseconds on the wall: with several processors, how long after each other calls end.
	Wall float64
	// CPU is nanoseconds of processor time, on all processors together. It is 0 where that is not known.
	CPU           float64
	Bytes, Allocs float64
}

// time returns processor time, or time on the wall where there is none.
func (s sample) time() float64 {
	if s.CPU > 0 {
		return s.CPU
	}
	return s.Wall
}

func (s sample) wall() float64 { return s.Wall }

// warmUp is how often each body runs before it is measured.
const warmUp = 1000

// measure makes c new and runs it n times on procs processors, one goroutine on each.
func measure(c *bench, procs, n int) (sample, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
	b, err := c.Setup()
	if err != nil {
		return sample{}, err
	}
	if err := b(warmUp); err != nil {
		return sample{}, err
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, start := cpuTime(), time.Now()
	err = concurrently(b, procs, n)
	wall := time.Since(start)
	cpu = cpuTime() - cpu
	runtime.ReadMemStats(&after)
	each := 1 / float64(n)
	return sample{
		Wall:   float64(wall) * each,
		CPU:    float64(cpu) * each,
		Bytes:  float64(after.TotalAlloc-before.TotalAlloc) * each,
		Allocs: float64(after.Mallocs-before.Mallocs) * each,
	}, err
}

// concurrently runs b n times altogether, on so many goroutines.
func concurrently(b body, goroutines, n int) error {
	if goroutines == 1 {
		return b(n)
	}
	errs := make([]error, goroutines)
	var wg sync.WaitGroup
	for i := range errs {
		share := n / goroutines
		if i < n%goroutines {
			share++
		}
		if share == 0 {
			break
		}
		wg.Go(func() { errs[i] = b(share) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// calibrate returns how often c must run to take about d.
func calibrate(c *bench, procs int, d time.Duration) (int, error) {
	for n := procs; ; n *= 4 {
		s, err := measure(c, procs, n)
		if err != nil {
			return 0, err
		}
		if took := s.Wall * float64(n); took >= float64(d)/10 {
			return max(n, int(float64(d)/s.Wall)), nil
		}
	}
}

// check returns an error that says so if something is not as it should be.
func check(ok bool, otherwise string) error {
	if ok {
		return nil
	}
	return errors.New(otherwise)
}

// refused is the error of a call that a policy did not let through.
func refused(why string) error { return errors.New("refused: " + why) }

package main

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// usage is what a process has used since it started.
type usage struct {
	CPU    time.Duration `json:"cpu_ns"` // user and system; 0 where it is not known
	Allocs uint64        `json:"allocs"` // heap objects
	RSS    int64         `json:"rss"`    // bytes resident now; 0 where it is not known
	// What the runtime holds now, in bytes: live objects and those not collected yet, stacks of goroutines, and the rest.
	Heap       int64 `json:"heap"`
	Stacks     int64 `json:"stacks"`
	Runtime    int64 `json:"runtime"`
	Goroutines int64 `json:"goroutines"`
}

// takeUsage reads the usage of this process.
func takeUsage() usage {
	u := usage{CPU: cpuTime(), RSS: residentBytes()}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.Allocs = m.Mallocs
	u.Heap, u.Stacks = int64(m.HeapInuse), int64(m.StackInuse)
	u.Runtime = int64(m.MSpanInuse + m.MCacheInuse + m.GCSys + m.OtherSys + m.BuckHashSys)
	u.Goroutines = int64(runtime.NumGoroutine())
	return u
}

// residentBytes reads Linux's statm; other systems have no such file.
func residentBytes() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

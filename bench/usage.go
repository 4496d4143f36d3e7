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
}

// takeUsage reads the usage of this process.
func takeUsage() usage {
	u := usage{CPU: cpuTime(), RSS: residentBytes()}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.Allocs = m.Mallocs
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

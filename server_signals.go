package hull

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"time"

	"github.com/hull-go/hull/policy/admission"
)

// gauge measures how short the machine is of processor and memory. It is used by one goroutine.
type gauge struct {
	samples []metrics.Sample
	waits   []uint64 // of the last reading
	group   string   // the control group's directory, "" = none
	stat    throttling
}

const (
	metricWaits = iota
	metricLive
	metricTotal
	metricObjects
	metricUnused
	metricFree
	metricReleased
)

func newGauge() *gauge {
	g := &gauge{group: controlGroup(), samples: []metrics.Sample{metricWaits: {Name: "/sched/latencies:seconds"}, metricLive: {Name: "/gc/heap/live:bytes"},
		metricTotal: {Name: "/memory/classes/total:bytes"}, metricObjects: {Name: "/memory/classes/heap/objects:bytes"},
		metricUnused: {Name: "/memory/classes/heap/unused:bytes"}, metricFree: {Name: "/memory/classes/heap/free:bytes"},
		metricReleased: {Name: "/memory/classes/heap/released:bytes"}}}
	g.read()
	return g
}

// read returns the signals since it was last called.
func (g *gauge) read() admission.Signals {
	metrics.Read(g.samples)
	var s admission.Signals
	if v := g.samples[metricWaits].Value; v.Kind() == metrics.KindFloat64Histogram {
		s.Lag = g.lag(v.Float64Histogram())
	}
	number := func(i int) float64 {
		if v := g.samples[i].Value; v.Kind() == metrics.KindUint64 {
			return float64(v.Uint64())
		}
		return 0
	}
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 {
		// What is free, or garbage, can be had at any time: the heap's objects count as far as the last collection found them alive.
		used := number(metricTotal) - number(metricReleased) - number(metricFree) - number(metricUnused) - number(metricObjects) + number(metricLive)
		s.Memory = used / float64(max(limit, 1))
	}
	if g.group == "" {
		return s
	}
	if b, err := os.ReadFile(filepath.Join(g.group, "cpu.stat")); err == nil {
		was := g.stat
		g.stat = parseThrottling(b)
		s.Throttled = g.stat.since(was)
	}
	if share, ok := groupMemory(g.group); ok {
		s.Memory = max(s.Memory, share)
	}
	return s
}

// fewWaits is how many goroutines must have waited for a processor for that to say something.
const fewWaits = 50

// lag is how long goroutines waited for a processor since the last reading, all but the slowest tenth.
func (g *gauge) lag(h *metrics.Float64Histogram) time.Duration {
	if len(g.waits) != len(h.Counts) {
		g.waits = append(g.waits[:0], h.Counts...)
		return 0
	}
	var all uint64
	for i, n := range h.Counts {
		all += n - g.waits[i]
	}
	var lag float64
	if all >= fewWaits {
		rest := all - all/10
		for i, n := range h.Counts {
			d := n - g.waits[i]
			if d >= rest {
				lag = h.Buckets[i] // the bucket's lower end: rather too little than too much
				break
			}
			rest -= d
		}
	}
	copy(g.waits, h.Counts)
	if lag <= 0 || math.IsInf(lag, 0) {
		return 0
	}
	return time.Duration(lag * float64(time.Second))
}

// throttling is what a control group says of its processor quota.
type throttling struct{ periods, throttled uint64 }

func (t throttling) since(was throttling) float64 {
	if t.periods <= was.periods || t.throttled < was.throttled {
		return 0
	}
	return min(float64(t.throttled-was.throttled)/float64(t.periods-was.periods), 1)
}

// parseThrottling reads a cpu.stat file.
func parseThrottling(b []byte) throttling {
	periods, _ := statField(b, "nr_periods")
	throttled, _ := statField(b, "nr_throttled")
	return throttling{periods, throttled}
}

// statField reads one number of a file with a name and a number in each line.
func statField(b []byte, name string) (uint64, bool) {
	for line := range bytes.Lines(b) {
		key, value, ok := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		if ok && string(key) == name {
			n, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// groupMemory is the share of a control group's memory limit that is in use, without what the kernel can drop at once.
func groupMemory(dir string) (share float64, ok bool) {
	limit, ok := groupNumber(dir, "memory.max")
	if !ok || limit == 0 {
		return 0, false
	}
	used, ok := groupNumber(dir, "memory.current")
	if !ok {
		return 0, false
	}
	if b, err := os.ReadFile(filepath.Join(dir, "memory.stat")); err == nil {
		if cache, ok := statField(b, "inactive_file"); ok {
			used -= min(used, cache)
		}
	}
	return float64(used) / float64(limit), true
}

// groupNumber reads a file that holds one number; "max" is none.
func groupNumber(dir, name string) (uint64, bool) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 64)
	return n, err == nil
}

// controlGroup is the directory of this process's control group, version 2; "" if it has none, as outside of Linux.
func controlGroup() string {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	return groupDir(b, "/sys/fs/cgroup")
}

// groupDir finds the directory that a /proc/self/cgroup file names, or mount itself if that is all that can be seen of it.
func groupDir(b []byte, mount string) string {
	for line := range bytes.Lines(b) {
		path, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("0::/"))
		if !ok {
			continue
		}
		for _, dir := range []string{filepath.Join(mount, filepath.Clean("/"+string(path))), mount} {
			if _, err := os.Stat(filepath.Join(dir, "cpu.stat")); err == nil {
				return dir
			}
		}
	}
	return ""
}

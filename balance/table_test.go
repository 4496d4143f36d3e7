//go:build !race

package balance

// The simulation is single-threaded, so the race detector would find nothing in it, slowly.

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// Scenario 9 is much longer than the others and has a quarter of the seeds, but for the default and its best rival never less than rampSeeds:
// single seeds differ by a third.
var (
	update     = flag.Bool("update", false, "write the table of docs/balancing.md; give it -seeds 100")
	tableSeeds = flag.Int("seeds", 4, "how many seeds the table is the mean of")
)

const rampSeeds = 6

const tableFile = "../docs/balancing.md"

// A measure is one column of the table: the mean over the seeds of what one scenario comes to with one balancer. Less is better.
type measure struct {
	head string
	unit string
	// within is how much worse than the best the default may be.
	within float64
	// slack is a difference that does not count.
	slack float64
}

var measures = [...]measure{
	{"even fleet, p99", "ms", 0.15, 0},
	{"9 load-ramp, p99 at 1.27", "ms", 0.15, 0},
	{"9, p99 at 1.74", "ms", 0.15, 0},
	{"9, missed at 1.74", "%", 0.15, 0.05},
	{"10 gray-replica, p99", "ms", 0.15, 0},
	{"14 one shard down, failed", "‱", 0.15, 2},
	{"18 half-dead, p99.9", "ms", 0.15, 0},
	{"18, failed", "‱", 0.15, 0},
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func perMyriad(part, of int) float64 { return 1e4 * float64(part) / float64(of) }

// quality is one row for one seed, scenario 9 excepted.
func quality(t testing.TB, seed uint64, name string) (row [len(measures)]float64) {
	world := func(nodes int) *sim {
		s := newSim(t, seed, Options{Strategy: strategyOf(t, name)}, nodes)
		s.keys, s.reports = 10_000, true
		return s
	}

	s := world(10)
	s.run(6400, time.Second)
	s.measuring = true
	s.run(6400, 3*time.Second)
	s.drain()
	row[0] = milliseconds(s.quantile(0.99))

	s = world(10)
	s.servers["n03"].service = exponential(100 * time.Millisecond)
	s.run(4000, 2*time.Second)
	s.measuring = true
	s.run(4000, 3*time.Second)
	s.drain()
	row[4] = milliseconds(s.quantile(0.99))

	s = world(10)
	s.run(1000, 2*time.Second)
	s.servers["n03"].class = func(*rand.Rand) policy.Class { return policy.ClassUnavailable }
	s.measuring = true
	s.run(1000, 10*time.Second)
	s.drain()
	row[5] = perMyriad(s.failed, s.offered)

	s = world(5)
	s.timeout, s.attempts = 500*time.Millisecond, 3
	s.run(1000, 3*time.Second)
	s.servers["n01"].hung = true
	s.servers["n02"].class = func(*rand.Rand) policy.Class { return policy.ClassUnsent }
	s.measuring = true
	s.run(1000, 10*time.Second)
	s.drain()
	row[6], row[7] = milliseconds(s.quantile(0.999)), perMyriad(s.failed, s.offered)
	return row
}

// loadRamp is scenario 9: a hundred clients and servers. A server has what it was promised for certain and 2.4 times as
// much while its neighbours on the machine are quiet, which they are three quarters of the time.
func loadRamp(t testing.TB, seed uint64, name string) (p99, last, missed float64) {
	const count, promised, mean = 100, 50.0, 80 * time.Millisecond // calls a second; 4 slots of 80 ms
	s := newSim(t, seed, Options{Strategy: strategyOf(t, name)}, count)
	s.keys, s.reports, s.timeout = 10_000, true, 5*time.Second
	for range count {
		s.clients = append(s.clients, picker(t, Options{Strategy: strategyOf(t, name)}, fleet(count)...))
	}
	for _, n := range s.p.Nodes() {
		v := s.servers[n.ID()]
		v.slots = 4
		speed := 1.0
		var neighbours func()
		neighbours = func() {
			if speed = 2.4; s.rnd.IntN(4) == 0 {
				speed = 1
			}
			s.after(time.Duration(s.rnd.ExpFloat64()*4*float64(time.Second)), neighbours)
		}
		neighbours()
		v.service = func(r *rand.Rand) time.Duration { return time.Duration(r.ExpFloat64() * float64(mean) / speed) }
	}
	for _, load := range []float64{0.75, 1.27, 1.74} {
		s.run(load*promised*count, time.Second)
		s.measuring, s.took, s.failed, s.offered = true, nil, 0, 0
		s.run(load*promised*count, 2*time.Second)
		s.measuring = false
		s.run(load*promised*count, time.Second) // what was measured ends, most of it
		switch load {
		case 1.27:
			p99 = milliseconds(s.quantile(0.99))
		case 1.74:
			last, missed = milliseconds(s.quantile(0.99)), 100*float64(s.failed)/float64(s.offered)
		}
	}
	return p99, last, missed
}

// TestQuality holds the default against all balancers in scenarios 9, 10, 14 and 18 and on an even fleet.
func TestQuality(t *testing.T) {
	count := *tableSeeds
	names := StrategyNames()
	rows := make([][len(measures)]float64, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			for seed := range uint64(count) {
				row := quality(t, seed, name)
				for j, v := range row {
					rows[i][j] += v / float64(count)
				}
			}
			ramps := (count + 3) / 4
			if name == "p2c" || name == "prequal" {
				ramps = max(ramps, rampSeeds)
			}
			for seed := range uint64(ramps) {
				p99, last, missed := loadRamp(t, seed, name)
				for j, v := range []float64{p99, last, missed} {
					rows[i][1+j] += v / float64(ramps)
				}
			}
		})
	}
	wg.Wait()
	var table strings.Builder
	fmt.Fprintf(&table, "The mean of %d seeds, in scenario 9 of %d:\n\n", count, (count+3)/4)
	table.WriteString("| balancer |")
	for _, m := range measures {
		fmt.Fprintf(&table, " %s |", m.head)
	}
	table.WriteString("\n|---|" + strings.Repeat("---|", len(measures)) + "\n")
	for i, name := range names {
		fmt.Fprintf(&table, "| `%s` |", name)
		for j, m := range measures {
			fmt.Fprintf(&table, " %.3g %s |", rows[i][j], m.unit)
		}
		table.WriteString("\n")
	}
	t.Logf("%d seeds:\n%s", count, table.String())
	for j, m := range measures {
		best := 0
		for i := range names {
			if rows[i][j] < rows[best][j] {
				best = i
			}
		}
		if got, least := rows[0][j], rows[best][j]; got > least*(1+m.within)+m.slack {
			t.Errorf("%s: %s has %.3g %s, %s has %.3g: want at most %.0f %% more", m.head, names[0], got, m.unit, names[best], least, 100*m.within)
		}
	}
	writeTable(t, table.String())
}

// writeTable puts the table into the page with -update, and otherwise looks whether the page has one with all balancers.
func writeTable(t *testing.T, table string) {
	const begin, end = "<!-- begin generated -->\n", "<!-- end generated -->"
	page, err := os.ReadFile(tableFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := bytes.Cut(page, []byte(begin))
	old, after, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		t.Fatalf("%s has no generated part", tableFile)
	}
	if !*update {
		for _, name := range StrategyNames() {
			if !bytes.Contains(old, []byte("`"+name+"`")) {
				t.Errorf("the table of %s lacks %s: run go test ./balance -run Quality -update", tableFile, name)
			}
		}
		return
	}
	page = fmt.Appendf(nil, "%s%s\n%s\n%s%s", before, begin, table, end, after)
	if err := os.WriteFile(tableFile, page, 0o644); err != nil {
		t.Fatal(err)
	}
}

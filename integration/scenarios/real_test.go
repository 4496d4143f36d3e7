package scenarios_test

import (
	"fmt"
	"testing"
	"time"
)

// all are the scenarios, at their full length or not. 9 to 11 are about tails of fleets larger than a machine, 19 is the lab's own.
func all(full bool) (list []scenario) {
	for _, sc := range []func(bool) scenario{retryStorm, cpuThrottle, openLoopSpike, openLoopRamp, retryPolicyCurve, layeredRetry, bimodalDeadline, cacheWipe, demandJump, priorityShed,
		shardedBreaker, timeoutMismatch, registryBlackout, rollingRestart, halfDead} {
		list = append(list, sc(full))
	}
	return list
}

// TestReal plays scenarios with real programs: without protection they break, and with Hull they hold.
func TestReal(t *testing.T) {
	for _, sc := range all(*full) {
		if !*full && !sc.quick {
			continue
		}
		t.Run(sc.name, func(t *testing.T) {
			if !*full {
				t.Parallel()
				sc.test(t, 1)
				return
			}
			results := make([]result, len(sc.rows))
			for round := range *rounds {
				t.Run(fmt.Sprint("round ", round+1), func(t *testing.T) {
					for i := range sc.rows {
						t.Run(sc.rows[i].name, func(t *testing.T) {
							t.Parallel()
							results[i].add(sc.playCalmly(t, &sc.rows[i], uint64(round+1)), t, &sc.rows[i])
						})
					}
				})
			}
			text := sc.section(results, *rounds)
			t.Log("\n" + text)
			if *update && !t.Failed() {
				write(t, &sc, text)
			}
		})
	}
}

const (
	// still is by how much a caller is late when it is the machine that stood still, and not the service that was slow: twice what callers of the scenarios
	// in which half seconds count have learned to wait for.
	still = 200 * time.Millisecond
	// calmly is how often a row is played at most to find the machine going on all the time.
	calmly = 3
)

// playCalmly plays a row, and again if the machine has stood still, whatever the run came to. The last run counts, calm or not.
func (sc *scenario) playCalmly(t *testing.T, r *row, seed uint64) *run {
	t.Helper()
	for i := 1; ; i++ {
		got := sc.play(t, r, seed)
		if got.late < still || i == calmly {
			return got
		}
		t.Logf("%s, %s: a call began %v too late; once more. It would have held: %v", sc.name, r.name, got.late.Round(time.Millisecond), sc.holds(got))
	}
}

// test plays what has to break and what has to hold for certain: the first row, and Hull's.
func (sc *scenario) test(t *testing.T, seed uint64) {
	for i := range sc.rows {
		r := &sc.rows[i]
		if i > 0 && r.name != "Hull" {
			continue
		}
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			var one result
			one.add(sc.play(t, r, seed), t, r)
			if held := one.roughly == 1; held != (r.want == holds) {
				t.Errorf("holds %v, %s", held, map[bool]string{true: "although it is without protection", false: "with Hull"}[held])
			}
		})
	}
}

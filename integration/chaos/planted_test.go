package chaos_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/internal/invariant"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/status"
)

// tale is what processes might have written, for the checker to find what is wrong with it.
type tale struct {
	calls   []called
	starts  []started
	samples []sample
	causes  map[string][]span
}

// t0 is when tales begin.
const t0 = policy.Time(time.Hour)

// fine is a call that was answered by node 1 after 10 ms.
func fine(id uint64, at policy.Time) called {
	return called{ID: id, At: at, Deadline: at.Add(time.Second), End: at.Add(10 * time.Millisecond), Class: uint8(policy.ClassOK), Fate: uint8(status.Processed), Kind: kindGet,
		Criticality: uint8(policy.Critical), Attempts: 1, Answered: 1, Replied: 1, Nodes: [policy.MaxAttempts]uint16{1}, Classes: [policy.MaxAttempts]uint8{uint8(policy.ClassOK)}}
}

// again is a call that failed at one node, in a way, and was answered after 20 ms by another or the same.
func again(id uint64, at policy.Time, class policy.Class, first, second uint16) called {
	c := fine(id, at)
	c.Attempts, c.End, c.Answered, c.Replied = 2, at.Add(30*time.Millisecond), second, second
	c.Nodes[0], c.Nodes[1], c.Began[1] = first, second, 20_000
	c.Classes[0], c.Classes[1] = uint8(class), uint8(policy.ClassOK)
	return c
}

// sees is how a caller sees two nodes.
func sees(at policy.Time, states ...balance.State) sample {
	s := sample{At: at, Capacity: 1000}
	for i, state := range states {
		s.Nodes = append(s.Nodes, balance.NodeState{ID: nodeID(uint16(i + 1)), State: state, Considered: state == balance.Ready, Since: at, Until: at.Add(time.Second)})
	}
	return s
}

// calm is a caller that makes twenty calls a second for ten seconds, all well, to two nodes.
func calm() tale {
	var s tale
	for i := range 200 {
		at := t0.Add(time.Duration(i) * 50 * time.Millisecond)
		c := fine(uint64(i+1), at)
		c.Answered, c.Replied, c.Nodes[0] = uint16(1+i%2), uint16(1+i%2), uint16(1+i%2)
		s.calls = append(s.calls, c)
		s.starts = append(s.starts, started{Call: c.ID, At: at, Read: at, Node: c.Replied})
	}
	for i := range 11 {
		s.samples = append(s.samples, sees(t0.Add(time.Duration(i)*time.Second-time.Millisecond), balance.Ready, balance.Ready))
	}
	s.causes = map[string][]span{causeFault: {{t0, t0.Add(time.Second)}}}
	return s
}

// TestPlantedInLedgers plants a violation of each invariant that is judged by what processes write: it is found, and nothing else is.
func TestPlantedInLedgers(t *testing.T) {
	const ms = time.Millisecond
	mid := t0.Add(5 * time.Second)
	for _, tt := range []struct {
		name  string
		rule  invariant.Rule // 0 = there is nothing to find
		plant func(*tale)
	}{
		{"nothing", 0, func(*tale) {}},
		{"a call ends twice", 1, func(s *tale) { s.calls = append(s.calls, s.calls[3]) }},
		{"a call is late", 2, func(s *tale) { s.calls[3].End = s.calls[3].Deadline.Add(60 * ms) }},
		{"a call is late, and its caller stood still", 0, func(s *tale) {
			c := &s.calls[3]
			c.End = c.Deadline.Add(60 * ms)
			s.calls = append(s.calls, called{At: c.Deadline, End: c.Deadline.Add(20 * ms)})
		}},
		{"runs twice", 3, func(s *tale) {
			s.starts[3].Once, s.calls[3].Kind = true, kindPut
			s.starts = append(s.starts, s.starts[3])
		}},
		{"runs, and was not sent", 3, func(s *tale) {
			s.starts[3].Once = true
			s.calls[3].Kind, s.calls[3].Outcome, s.calls[3].Fate = kindPut, outcomeFailed, uint8(status.NotSent)
		}},
		{"a key starts twice", 4, func(s *tale) {
			s.starts[3].Keyed = true
			again := s.starts[3]
			again.Node = 9
			s.starts = append(s.starts, again)
		}},
		{"many attempts", 5, func(s *tale) {
			for i := range 60 {
				c := &s.calls[i]
				c.Attempts = policy.MaxAttempts
				for k := range policy.MaxAttempts {
					c.Nodes[k], c.Classes[k] = uint16(10+k), uint8(policy.ClassDraining) // which cost nothing
				}
				c.Outcome, c.Class, c.Answered, c.Replied = outcomeFailed, uint8(policy.ClassDraining), 0, 0
			}
		}},
		{"an attempt after a failure downstream", 6, func(s *tale) { s.calls[3] = again(4, s.calls[3].At, policy.ClassDownstream, 1, 2) }},
		{"attempts that nothing pays for", 6, func(s *tale) {
			for i := range 60 { // at 20 tokens each, of 1,000
				s.calls = append(s.calls, again(uint64(1000+i), mid, policy.ClassTimeout, 1, 2))
			}
		}},
		{"attempts that are paid for", 0, func(s *tale) {
			for i := range 49 {
				s.calls = append(s.calls, again(uint64(1000+i), mid, policy.ClassTimeout, 1, 2))
			}
		}},
		{"the same node again", 7, func(s *tale) { s.calls = append(s.calls, again(1000, mid.Add(70*ms), policy.ClassReset, 1, 1)) }},
		{"the same node again, with a key", 0, func(s *tale) {
			c := again(1000, mid.Add(70*ms), policy.ClassReset, 1, 1)
			c.Kind = kindPay
			s.calls = append(s.calls, c)
		}},
		{"all nodes ejected", 9, func(s *tale) { s.samples[1] = sees(s.samples[1].At, balance.Ejected, balance.Ejected) }},
		{"opens for nothing", 10, func(s *tale) {
			s.samples[1].Breakers = map[string]breaker.Snapshot{methodGet: {State: breaker.Open, Since: s.samples[1].At, Until: s.samples[1].At.Add(time.Second)}}
		}},
		{"opens from failures", 0, func(s *tale) {
			s.calls[3].Outcome, s.calls[3].Class = outcomeFailed, uint8(policy.ClassTimeout)
			s.samples[1].Breakers = map[string]breaker.Snapshot{methodGet: {State: breaker.Open, Since: s.samples[1].At, Until: s.samples[1].At.Add(time.Second)}}
		}},
		{"stays ejected", 11, func(s *tale) {
			for i := range s.samples {
				s.samples[i] = sees(s.samples[i].At, balance.Ready, balance.Ejected)
				s.samples[i].Nodes[1].Since, s.samples[i].Nodes[1].Until = t0, t0.Add(time.Second)
			}
		}},
		{"disbelieves for ever", 11, func(s *tale) {
			for i := range 30 {
				at := s.samples[len(s.samples)-1].At.Add(time.Second)
				s.samples = append(s.samples, sees(at, balance.Ready, balance.Ready))
				s.samples[i].Disbelieved = 1
			}
		}},
		{"starts what had expired when it was read", 14, func(s *tale) {
			st := &s.starts[3]
			st.Known, st.Over, st.Read = true, st.At.Add(-20*ms), st.At.Add(-10*ms)
		}},
		{"starts what was cancelled long before", 14, func(s *tale) {
			s.calls[3].Class, s.calls[3].Outcome = uint8(policy.ClassCancelled), outcomeFailed
			s.starts[3].Known, s.starts[3].At = true, s.calls[3].End.Add(late+ms)
		}},
		{"starts what was cancelled just before", 0, func(s *tale) {
			s.calls[3].Class, s.calls[3].Outcome = uint8(policy.ClassCancelled), outcomeFailed
			s.starts[3].Known, s.starts[3].At = true, s.calls[3].End.Add(late-ms)
		}},
		{"forgets all nodes", 15, func(s *tale) { s.samples[3] = sees(s.samples[3].At) }},
		{"reaches another service", 15, func(s *tale) { s.starts[3].Astray = true }},
		{"reaches another node", 15, func(s *tale) { s.calls[3].Replied = 9 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := calm()
			tt.plant(&s)
			w := &world{T: t, dir: t.TempDir(), stops: map[uint16][]policy.Time{}, causes: s.causes}
			c := &callerProcess{w: w, config: callerConfig{Service: service, Number: 1, Ledger: filepath.Join(w.dir, "caller")}}
			node := ledgerOf{filepath.Join(w.dir, "node"), service}
			w.callers, w.ledgers = []*callerProcess{c}, []ledgerOf{node}
			write(t, c.config.Ledger+".samples", jsonLines(t, s.samples))
			writeLedger(t, c.config.Ledger, s.calls)
			writeLedger(t, node.path, s.starts)
			check := invariant.New(invariant.Options{Burst: 100})
			w.hear(check)
			r := check.Report(t0.Add(time.Minute))
			for n, broken := range r.Broken {
				if (broken > 0) != (tt.rule != 0 && n == int(tt.rule)) {
					t.Errorf("invariant %d was broken %d times: %v", n, broken, r.Violations)
				}
			}
		})
	}
}

func jsonLines[T any](t *testing.T, all []T) (text string) {
	t.Helper()
	for i := range all {
		b, err := json.Marshal(&all[i])
		if err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintln(string(b))
	}
	return text
}

func writeLedger[T any](t *testing.T, path string, all []T) {
	t.Helper()
	l, err := openLedger(path, true)
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		l.write(&all[i])
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
}

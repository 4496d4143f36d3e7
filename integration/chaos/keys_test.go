package chaos_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/hull-go/hull/internal/invariant"
	"github.com/hull-go/hull/policy"
)

// TestKeyedCalls loses the answers of calls with keys: connections are reset while handlers run, nodes killed and stopped. Where nodes share their keys, in a SQLite
// file, no key starts twice; where each has its own none starts twice on one. Its callers give up when their attempts are used up: what becomes of calls is TestReset's business.
func TestKeyedCalls(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		shared bool
		full   int64
	}{{"store", true, 200_000}, {"memory", false, 1_000_000}} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			conf := nodeConfig{Admin: true}
			if tt.shared {
				conf.Keys = filepath.Join(w.dir, "keys.db")
			}
			w.serve(3, conf)
			c := w.caller(callerConfig{Keyed: 1000, Ms: size(40, 10), Exactly: !*full, Workers: 16, Count: size(0, tt.full), Rate: size(200.0, 0), Timeout: 10 * time.Second, Strict: true})
			faults := 0
			fault := func(n int) {
				faults++
				switch victim := w.nodes[n%3]; n % 40 {
				case 20:
					victim.Kill()
					pass(500 * time.Millisecond)
					victim.start()
				case 5:
					victim.Freeze()
					pass(1500 * time.Millisecond)
					victim.Thaw()
				default:
					victim.resetAll()
				}
				live(250 * time.Millisecond)
			}
			var s *summary
			if *full {
				s = c.ended(fault)
			} else {
				for n := range 12 {
					fault(5 * n) // the second and the tenth stop a node, the fifth kills one
				}
				s = c.finish()
			}
			check, begun := invariant.New(invariant.Options{}), 0
			for _, l := range w.ledgers {
				for _, st := range records[started](t, l.path) {
					if st.Keyed {
						begun++
						key := fmt.Sprint(st.Call)
						if !tt.shared {
							key += " of " + nodeID(st.Node)
						}
						check.Start(invariant.Start{Call: st.Call, Key: key, Node: nodeID(st.Node), At: st.At})
					}
				}
			}
			r := check.Report(policy.Now())
			if err := r.Err(); err != nil || len(r.Untested(4)) > 0 {
				t.Errorf("of %d starts: %v", begun, err)
			}
			known, cut := w.knownKeys(), w.attempts(policy.ClassReset)
			t.Logf("%d calls in %v, %d faults, %d starts, %d of a key that had started; %d in doubt, %d others failed, %d excused; %d attempts cut off; nodes that run now had seen the key %d times", s.Offered,
				s.Took.Round(time.Millisecond), faults, begun, r.Broken[4], s.KeyedFailed, s.Failed-s.KeyedFailed, s.Excused, cut, known)
			if known == 0 {
				t.Error("no call was repeated: nothing was tested")
			}
		})
	}
}

// knownKeys is how often nodes were asked for a call whose key they, or the others, knew.
func (w *world) knownKeys() (n int) {
	w.Helper()
	for _, p := range w.nodes {
		var state struct {
			Server struct {
				Keys struct{ Replayed, Waited int }
			}
		}
		w.until(fmt.Sprintf("node %d says what it knows", p.config.Number), func() error {
			req, err := http.NewRequestWithContext(w.Context(), http.MethodGet, "http://"+adminOf(p.Process)+"/hull/state?format=json", nil)
			if err != nil {
				return err
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			err = json.NewDecoder(res.Body).Decode(&state)
			return errors.Join(err, res.Body.Close())
		})
		n += state.Server.Keys.Replayed + state.Server.Keys.Waited
	}
	http.DefaultClient.CloseIdleConnections()
	return n
}

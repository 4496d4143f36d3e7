package hull_test

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/transport/pool"
)

// span is one attempt at a node.
type span struct {
	began, ended time.Time
	class        policy.Class
}

// attempts makes calls for a while and returns those attempts of theirs that went to one node, in the order in which they began.
func attempts(t *testing.T, c *hull.Client, node string, perSecond int, d time.Duration) []span {
	t.Helper()
	var (
		mu   sync.Mutex
		all  []span
		wg   sync.WaitGroup
		tick = time.Second / time.Duration(perSecond)
	)
	for range int(d / tick) {
		wg.Go(func() {
			start := time.Now()
			var info hull.CallInfo
			_, err := hello(t.Context(), c, hull.Info(&info))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("a call failed: %v", err)
			}
			for _, a := range info.Attempts {
				if a.Node == node {
					began := start.Add(a.Began)
					all = append(all, span{began, began.Add(a.Took), a.Class})
				}
			}
		})
		time.Sleep(tick)
	}
	wg.Wait()
	slices.SortStableFunc(all, func(a, b span) int { return a.began.Compare(b.began) })
	return all
}

// onlyProbes fails the test if more attempts begin after a moment than one a second, or if nobody looks any more, neither calls nor the client itself. It
// returns how many attempts there were.
func onlyProbes(t *testing.T, c *hull.Client, node string, all []span, after time.Time, until time.Duration) int {
	t.Helper()
	n := 0
	var last time.Time
	for _, a := range all {
		if !a.began.After(after) {
			continue
		}
		if n++; n > 1 && a.began.Sub(last) < time.Second {
			t.Errorf("two attempts at the node %v and %v after it was known to be dead: more than a probe a second", last.Sub(after), a.began.Sub(after))
		}
		last = a.began
	}
	looks := slices.ContainsFunc(c.Connections(), func(s pool.State) bool { return s.Addr == node+":80" && s.Fails >= 3 && (s.Dialing || s.RetryAt != 0) })
	if n == 0 && !looks {
		t.Errorf("nobody looked whether the node was back in %v", until)
	}
	return n
}

// What callers do about a dead node, whatever discovery says, which goes on listing it for the TTL: once a refusal or a broken connection has
// been read, or one attempt timeout after the first call that hung, it gets one probe a second and nothing else: a dial if it has no connection any
// more, which no call waits for.
func TestDeadNodesAreLeftAlone(t *testing.T) {
	const rate, lasts = 300, 6 * time.Second
	for _, nodes := range [][]string{{"a", "b"}, {"a", "b", "c", "d", "e"}} {
		for name, test := range map[string]struct {
			end func(*hulltest.Node)
			// known is when, of the attempts at it, everybody knows.
			known func([]span) time.Time
		}{
			"killed": {func(n *hulltest.Node) { n.Kill() }, func(all []span) time.Time {
				return slices.MinFunc(slices.DeleteFunc(slices.Clone(all), func(a span) bool { return a.class == policy.ClassOK }),
					func(a, b span) int { return a.ended.Compare(b.ended) }).ended
			}},
			"frozen": {func(n *hulltest.Node) { n.Freeze() }, func(all []span) time.Time {
				first := slices.IndexFunc(all, func(a span) bool { return a.class == policy.ClassTimeout })
				return all[first].ended
			}},
		} {
			t.Run(name+" of "+cmp.Or(map[int]string{2: "two", 5: "five"}[len(nodes)]), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := hulltest.New(t)
					for _, n := range nodes {
						w.Serve("greeter", n, func(s *hull.Server) {
							hull.Handle(s, "greeter.Greeter/Hello", func(_ context.Context, r *helloRequest) (*helloReply, error) {
								time.Sleep(5*time.Millisecond + rand.N(20*time.Millisecond)) // some are always under way
								return &helloReply{Text: r.Name}, nil
							}, hull.Idempotent())
						})
						w.Node(n).Slow(time.Millisecond)
					}
					c := w.Client("caller")
					attempts(t, c, "b", rate, 3*time.Second) // attempt timeouts are learned
					known := time.Now()
					test.end(w.Node("b"))
					all := attempts(t, c, "b", rate, lasts)
					if len(all) > 0 { // else the client knew it before the first call
						if all[len(all)-1].class == policy.ClassOK {
							t.Fatalf("%v", all)
						}
						known = test.known(all)
					}
					probes := onlyProbes(t, c, "b", all, known, lasts)
					t.Logf("%d attempts before it was known; %d probes in %v", len(all)-probes, probes, lasts)
				})
			})
		}
	}
}

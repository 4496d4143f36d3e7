package hull_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// TestStoryText is that a story tells events in their order, names the policies, and says nothing twice.
func TestStoryText(t *testing.T) {
	const ms = time.Millisecond
	last := status.Errorf(status.Unavailable, "the disk is gone")
	info := hull.CallInfo{Service: "shop", Method: "shop.S/Get", Class: policy.ClassUnavailable, Err: last, Took: 40 * ms, Stopped: "the retry budget is empty", StoppedBy: "budget",
		Attempts: []hull.AttemptInfo{
			{Node: "a", Address: "h:1", Class: policy.ClassUnavailable, Began: 9 * ms, Took: ms, Err: errors.New("refused:\n" + strings.Repeat("é", 400))},
			{Node: "b", Address: "h:2", Class: policy.ClassUnavailable, Began: 27 * ms, Took: 2 * ms, Err: last},
		},
		Verdicts: []hull.VerdictInfo{
			{Policy: "rate", Decision: policy.Wait, Took: 9 * ms},
			{Policy: "breaker", Decision: policy.Probe, Began: 9 * ms},
			{Policy: "retry", Attempt: 2, Decision: policy.Wait, Began: 10 * ms, Took: 17 * ms},
			{Policy: "throttle", Attempt: 2, Decision: policy.Refuse, DryRun: true, Began: 27 * ms, State: "throttling", Reason: "it refuses too much"},
			{Policy: "concurrency", Attempt: 3, Decision: policy.Park, Began: 30 * ms, Took: 10 * ms, Reason: "all places are taken"},
			{Policy: "concurrency", Attempt: 3, Decision: policy.Refuse, Began: 40 * ms, Reason: "waited in vain"},
			{Policy: "budget", Attempt: 3, Decision: policy.Refuse, Began: 40 * ms, Reason: "the retry budget is empty"},
		}}
	want := `shop shop.S/Get: failed since the service is unavailable after 40ms
  error     Unavailable: the disk is gone
  rate      waited 9ms from +0s on
  breaker   let it go as a probe at +9ms
  attempt   1 at +9ms to a (h:1): failed since the service is unavailable after 1ms: refused:; ` + strings.Repeat("é", 290) + `…
  retry     waited 17ms from +10ms on
  throttle  refused at +27ms [dry-run]: it refuses too much
  attempt   2 at +27ms to b (h:2): failed since the service is unavailable after 2ms
  concurrency waited 10ms in line from +30ms on: all places are taken
  concurrency refused at +40ms: waited in vain
  stopped   the retry budget is empty`
	if got := info.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	b, err := json.Marshal(&info)
	for _, part := range []string{`{"policy":"throttle","attempt":2,"verdict":"refuse","dryRun":true,"beganMs":27,"state":"throttling","reason":"it refuses too much"}`,
		`{"policy":"rate","verdict":"wait","beganMs":0,"tookMs":9}`, `"stoppedBy":"budget"`, `"error":"Unavailable: the disk is gone"}]`} {
		if err != nil || !strings.Contains(string(b), part) {
			t.Errorf("%v, no %s in %s", err, part, b)
		}
	}
	info = hull.CallInfo{Service: "shop", Method: "shop.S/Get", Stopped: "not safe", StoppedBy: "retry"}
	if got := info.String(); !strings.HasSuffix(got, "  stopped   not safe (retry)") {
		t.Error(got)
	}
}

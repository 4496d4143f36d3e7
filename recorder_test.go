package hull

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// TestRecorderIsCheap is that calls cost no allocation, neither those that succeed nor, once there is room for their attempts, those that fail.
func TestRecorderIsCheap(t *testing.T) {
	var r recorder
	now := policy.Now()
	call := policy.Call{Service: "a", Method: "b", Deadline: now.Add(time.Hour)}
	ok := policy.Story{Class: policy.ClassOK, Took: time.Millisecond, Attempts: make([]policy.AttemptStory, 1)}
	bad := policy.Story{Class: policy.ClassInternal, Err: errors.New("bad"), Took: time.Millisecond, Attempts: make([]policy.AttemptStory, 3)}
	for i := range 2 * keptFailures {
		slow := ok
		slow.Took = time.Duration(i) * time.Second
		r.Call(now, &call, &slow)
		r.Call(now, &call, &bad)
	}
	for name, s := range map[string]*policy.Story{"success": &ok, "failure": &bad} {
		if n := testing.AllocsPerRun(100, func() { r.Call(now, &call, s) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// TestRecorderKeepsTheSlowest is that the slowest of the last minutes are there, and no others for long.
func TestRecorderKeepsTheSlowest(t *testing.T) {
	var r recorder
	now := policy.Now()
	tell := func(at policy.Time, took time.Duration) {
		c := policy.Call{Service: "a", Method: "b", Deadline: at.Add(time.Hour)}
		r.Call(at, &c, &policy.Story{Class: policy.ClassOK, Took: took, Attempts: make([]policy.AttemptStory, 2*keptAttempts)})
	}
	for i := range 1000 {
		tell(now, time.Duration(i*7919%1000)*time.Millisecond)
	}
	got := r.read().Slowest
	for i, c := range got {
		if c.Took != time.Duration(999-i)*time.Millisecond || len(c.Attempts) != keptAttempts {
			t.Errorf("%d: %v, %d attempts", i, c.Took, len(c.Attempts))
		}
	}
	if len(got) != keptSlowest {
		t.Errorf("%d kept", len(got))
	}
	later := now.Add(slowestFor)
	tell(later, time.Millisecond)
	if got := r.read().Slowest; got[0].Took != 999*time.Millisecond {
		t.Errorf("forgotten at once: %v", got[0].Took)
	}
	tell(later.Add(slowestFor), time.Millisecond)
	if got := r.read().Slowest; len(got) != 2 || got[0].Took != time.Millisecond {
		t.Errorf("%d kept, the slowest %v", len(got), got[0].Took)
	}
	// A stream has no deadline.
	c := policy.Call{Service: "a", Method: "b"}
	r.Call(later, &c, &policy.Story{Class: policy.ClassOK, Took: time.Hour})
	if got := r.read(); got.Slowest[0].Took == time.Hour || got.Failed != 0 || len(got.Failures) != 0 {
		t.Error("a stream is slow")
	}
}

// TestRecorderRace is that calls may be remembered and read at the same time.
func TestRecorderRace(t *testing.T) {
	var r recorder
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 2000 {
				now := policy.Now()
				c := policy.Call{Service: "a", Method: "b", Deadline: now.Add(time.Hour)}
				s := policy.Story{Class: policy.ClassOK, Took: time.Duration(i), Attempts: make([]policy.AttemptStory, i%3)}
				if i%5 == 0 {
					s.Class, s.Err = policy.ClassInternal, errors.New("bad")
				}
				r.Call(now, &c, &s)
				if i%100 == 0 {
					_ = r.read()
				}
			}
		})
	}
	wg.Wait()
	if r := r.read(); r.Failed != 4*400 || len(r.Failures) != keptFailures {
		t.Errorf("%d failed, %d kept", r.Failed, len(r.Failures))
	}
}

// TestRecorderKeepsLittle is that what is remembered of errors is bounded, however much servers write into them, and says the same as far as it goes.
func TestRecorderKeepsLittle(t *testing.T) {
	long := strings.Repeat("é", 1<<20)
	large := &status.Error{Code: status.Unavailable, Kind: status.Shed, Message: long, Details: []status.Detail{{Value: make([]byte, 1<<20)}}}
	for name, err := range map[string]error{
		"message": large,
		"details": &status.Error{Code: status.Unavailable, Kind: status.Shed, Message: "é", Details: large.Details},
		"cause":   &status.Error{Code: status.Unavailable, Kind: status.Shed, Message: "é", Cause: large},
		"wrapped": fmt.Errorf("é: %w", large),
		"foreign": errors.New(long),
		"caused":  &status.Error{Code: status.Unavailable, Kind: status.Shed, Message: "é", Cause: errors.New(long)},
	} {
		var r recorder
		now := policy.Now()
		c := policy.Call{Service: "a", Method: "b", Deadline: now.Add(time.Hour)}
		r.Call(now, &c, &policy.Story{Class: policy.ClassOverloaded, Err: err, Took: time.Second, Attempts: []policy.AttemptStory{{Err: err}, {Err: large}}})
		r.refused(&CallInfo{Service: "a", Method: "b", Err: err})
		got := r.read()
		for _, c := range append(got.Failures, got.Slowest...) {
			for _, e := range []error{c.Err, c.attemptErr(0), c.attemptErr(1)} {
				if e == nil {
					continue
				}
				if words := e.Error(); len(words) > 2*keptText || !utf8.ValidString(words) || !strings.Contains(words, "é") {
					t.Errorf("%s: %d bytes are kept: %.40q", name, len(words), words)
				}
				s, ok := errors.AsType[*status.Error](e)
				if ok && (len(s.Details) > 0 || s.Cause != nil || s.Code != status.Unavailable || s.Kind != status.Shed) {
					t.Errorf("%s: %v with %d details and %v", name, s.Code, len(s.Details), s.Cause)
				}
				if !ok && name != "foreign" {
					t.Errorf("%s: it is no status any more", name)
				}
			}
		}
		if len(got.Failures) != 2 || len(got.Slowest) != 1 {
			t.Errorf("%s: %d failures and %d slow calls are kept", name, len(got.Failures), len(got.Slowest))
		}
	}
	small := &status.Error{Code: status.NotFound, Message: "no such thing", Details: []status.Detail{{Value: []byte("x")}}}
	if got := brief(small); got != error(small) { //nolint:errorlint // the same one, not one like it
		t.Errorf("a short error is another one: %v", got)
	}
}

// attemptErr is how attempt i ended, if it is remembered.
func (r *CallRecord) attemptErr(i int) error {
	if i >= len(r.Attempts) {
		return nil
	}
	return r.Attempts[i].Err
}

package hull

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// What a client remembers of its calls.
const (
	keptFailures = 32
	keptSlowest  = 16
	// slowestFor is after how long the slowest calls are looked for anew; those of the time before are still shown.
	slowestFor = 5 * time.Minute
	// keptAttempts is how many attempts of one call are remembered.
	keptAttempts = 8
	// keptText is how many bytes of an error's words are remembered: servers may write as much as a message can hold.
	keptText = 8 << 10
)

// CallRecord is a call that a client remembers.
type CallRecord struct {
	// Ended is when.
	Ended time.Time
	CallInfo
}

// Recent are the calls that a client remembers, for people who ask what went wrong lately.
type Recent struct {
	// Failures are the last ones, the latest first. Calls that failed while another was being remembered may be missing.
	Failures []CallRecord
	// Slowest are the calls that took longest in the last five to ten minutes, the slowest first, whatever their result.
	Slowest []CallRecord
	// Failed counts all failures since the client was made.
	Failed int64
}

// Recent returns the calls that the client remembers: its last 32 failures and its 16 slowest calls.
func (c *Client) Recent() Recent { return c.recorder.read() }

// recorder is a policy.Observer that remembers some calls. A call that succeeds and is not among the slowest costs it a look at two words.
type recorder struct {
	next policy.Observer // the user's; nil = none

	failed atomic.Int64
	bar    atomic.Int64 // a call that took less, in nanoseconds, is not one of the slowest
	turn   atomic.Int64 // when the slowest are looked for anew

	mu       sync.Mutex
	failures [keptFailures]record
	at       int // where the next failure goes
	slowest  [2][]record
}

// record is a remembered call. Its attempts' room is used again and again.
type record struct {
	at   policy.Time
	info CallInfo
}

// Wants implements policy.Selective.
func (r *recorder) Wants(now policy.Time, c *policy.Call, class policy.Class, took time.Duration) bool {
	return r.next != nil || isFailure(class) || r.isSlow(now, c, took)
}

// isFailure reports whether calls of a class are kept as failures: it was somebody's.
func isFailure(c policy.Class) bool {
	switch c {
	case policy.ClassOK, policy.ClassCaller, policy.ClassAborted, policy.ClassCancelled:
		return false
	}
	return true
}

// isSlow reports whether a call may be one of the slowest. A stream that runs on is not slow; what has no deadline is one.
func (r *recorder) isSlow(now policy.Time, c *policy.Call, took time.Duration) bool {
	return c.Deadline != 0 && (int64(took) >= r.bar.Load() || int64(now) >= r.turn.Load())
}

// Call implements policy.Observer.
func (r *recorder) Call(now policy.Time, c *policy.Call, s *policy.Story) {
	if r.next != nil {
		r.next.Call(now, c, s)
	}
	if isFailure(s.Class) {
		r.failed.Add(1)
		// Whoever fails in masses must not wait for a place in the list as well.
		if r.mu.TryLock() {
			r.failures[r.at].fill(now, c, s)
			r.at = (r.at + 1) % keptFailures
			r.mu.Unlock()
		}
	}
	if r.isSlow(now, c, s.Took) {
		r.slow(now, c, s)
	}
}

// fellBack notes with the latest failure of such a call, since the call began, what answered instead: it was remembered when it had failed.
func (r *recorder) fellBack(began policy.Time, c *policy.Call, instead string) {
	if !r.mu.TryLock() {
		return
	}
	defer r.mu.Unlock()
	for k := range r.failures {
		f := &r.failures[(r.at+keptFailures-1-k)%keptFailures]
		if i := &f.info; f.at >= began && i.Method == c.Method && i.Service == c.Service && i.Fallback == "" {
			i.Fallback = instead
			return
		}
	}
}

// refused remembers a call that no policy was asked about.
func (r *recorder) refused(i *CallInfo) {
	r.failed.Add(1)
	if r.mu.TryLock() {
		r.failures[r.at] = record{policy.Now(), *i}
		r.failures[r.at].shorten()
		r.at = (r.at + 1) % keptFailures
		r.mu.Unlock()
	}
}

func (r *record) fill(now policy.Time, c *policy.Call, s *policy.Story) {
	r.at = now
	clear(r.info.Attempts) // they hold errors
	r.info = CallInfo{Attempts: r.info.Attempts, Verdicts: r.info.Verdicts}
	if len(s.Attempts) > keptAttempts {
		t := *s
		t.Attempts = t.Attempts[:keptAttempts]
		s = &t
	}
	r.info.fill(now, c, s)
	if s.Err == nil && len(r.info.Attempts) > 0 {
		if n, ok := s.Attempts[len(r.info.Attempts)-1].Node.(*balance.Node); ok {
			r.info.answeredBy(n)
		}
	}
	r.shorten()
}

// shorten bounds what the errors of a call hold in memory.
func (r *record) shorten() {
	whole := r.info.Err
	r.info.Err = brief(whole)
	for i := range r.info.Attempts {
		if a := &r.info.Attempts[i]; a.Err == whole { //nolint:errorlint // the same one, not one like it
			a.Err = r.info.Err
		} else {
			a.Err = brief(a.Err)
		}
	}
}

// brief is err, or the beginning of its words if these and its details are long.
func brief(err error) error {
	size, e := 0, err
	for ; e != nil && size <= keptText; e = errors.Unwrap(e) {
		s, ok := e.(*status.Error) //nolint:errorlint // the loop unwraps
		if !ok {
			size += len(e.Error())
			break
		}
		size += len(s.Message)
		for _, d := range s.Details {
			size += len(d.Value)
		}
	}
	if size <= keptText {
		return err
	}
	words := err.Error()
	words = strings.ToValidUTF8(words[:min(keptText, len(words))], "") + "…"
	s, ok := errors.AsType[*status.Error](err)
	if !ok {
		return errors.New(words)
	}
	short := *s
	short.Message = strings.TrimPrefix(words, (&status.Error{Code: s.Code, Kind: s.Kind}).Error()+": ")
	short.Details, short.Cause = nil, nil
	return &short
}

// slow puts a call among the slowest if it is one.
func (r *recorder) slow(now policy.Time, c *policy.Call, s *policy.Story) {
	if !r.mu.TryLock() {
		return
	}
	defer r.mu.Unlock()
	if int64(now) >= r.turn.Load() {
		r.slowest[0], r.slowest[1] = r.slowest[1][:0], r.slowest[0]
		r.turn.Store(int64(now.Add(slowestFor)))
		r.bar.Store(0)
	}
	list := r.slowest[0]
	at := len(list)
	if at < keptSlowest {
		list = append(list, record{})
	} else {
		at = 0
		for i := range list {
			if list[i].info.Took < list[at].info.Took {
				at = i
			}
		}
		if s.Took < list[at].info.Took {
			return
		}
	}
	list[at].fill(now, c, s)
	r.slowest[0] = list
	if len(list) == keptSlowest {
		least := list[0].info.Took
		for i := range list {
			least = min(least, list[i].info.Took)
		}
		r.bar.Store(int64(least) + 1)
	}
}

func (r *recorder) read() Recent {
	out := Recent{Failed: r.failed.Load()}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range keptFailures {
		if f := &r.failures[(r.at+2*keptFailures-1-i)%keptFailures]; f.at != 0 {
			out.Failures = append(out.Failures, f.copy())
		}
	}
	for _, list := range r.slowest {
		for i := range list {
			out.Slowest = append(out.Slowest, list[i].copy())
		}
	}
	slices.SortStableFunc(out.Slowest, func(a, b CallRecord) int { return int(b.Took - a.Took) })
	out.Slowest = out.Slowest[:min(len(out.Slowest), keptSlowest)]
	return out
}

func (r *record) copy() CallRecord {
	c := CallRecord{Ended: r.at.Clock(), CallInfo: r.info}
	c.Attempts, c.Verdicts = slices.Clone(c.Attempts), slices.Clone(c.Verdicts)
	return c
}

// MarshalJSON implements json.Marshaler, like CallInfo's.
func (r *CallRecord) MarshalJSON() ([]byte, error) {
	return json.Marshal(recordJSON{r.Ended, r.story()})
}

package stats

import (
	"maps"
	"sync"
	"time"
)

// Sizes of a Recorder.
const (
	// Window is what Snapshot's Window covers.
	Window = 10 * time.Second
	// History is how many seconds Snapshot's History goes back.
	History = 120

	windowSlots = int(Window / time.Second)
	// maxReasons bounds how many different errors are told apart.
	maxReasons = 8
)

// Result is how a call ended.
type Result uint8

// The results. The zero value is a failure: nothing is good unless someone said so.
const (
	Failed Result = iota
	OK
	// Fallback: the call failed and something older or simpler was given instead.
	Fallback
	// Maybe: the call failed and nobody knows whether it was done. Counted with the failures, and apart.
	Maybe
)

// Call is one finished call, as a Recorder wants to know it.
type Call struct {
	Result Result
	// Unsafe: the call is not idempotent, so its failures are counted apart.
	Unsafe bool
	// Node is who answered; empty = nobody.
	Node string
	// Attempts is how many tries it took; those after the first are the retries.
	Attempts int
	// Took is the time from when the call was due to its end.
	Took time.Duration
	// Reason is a few words on what went wrong.
	Reason string
}

// Counts are sums over calls.
type Counts struct {
	OK       int64 `json:"ok"`
	Failed   int64 `json:"failed"`
	Fallback int64 `json:"fallback"`
	// Retried is how many calls took more than one attempt, Attempts how many attempts there were.
	Retried  int64 `json:"retried"`
	Attempts int64 `json:"attempts"`
	// UnsafeOK, UnsafeFailed and UnsafeMaybe are the calls that are not idempotent; they are in none of the numbers above
	// but Attempts. A Maybe is not in UnsafeFailed.
	UnsafeOK     int64 `json:"unsafeOK"`
	UnsafeFailed int64 `json:"unsafeFailed"`
	UnsafeMaybe  int64 `json:"unsafeMaybe"`
}

// Calls is how many idempotent calls have ended.
func (c Counts) Calls() int64 { return c.OK + c.Failed + c.Fallback }

// Sub returns what was counted since an earlier c.
func (c Counts) Sub(old Counts) Counts {
	return Counts{
		OK: c.OK - old.OK, Failed: c.Failed - old.Failed, Fallback: c.Fallback - old.Fallback, Retried: c.Retried - old.Retried,
		Attempts: c.Attempts - old.Attempts, UnsafeOK: c.UnsafeOK - old.UnsafeOK,
		UnsafeFailed: c.UnsafeFailed - old.UnsafeFailed, UnsafeMaybe: c.UnsafeMaybe - old.UnsafeMaybe,
	}
}

func (c *Counts) add(call Call) {
	c.Attempts += int64(call.Attempts)
	if call.Unsafe {
		switch call.Result {
		case OK:
			c.UnsafeOK++
		case Maybe:
			c.UnsafeMaybe++
		default:
			c.UnsafeFailed++
		}
		return
	}
	if call.Attempts > 1 {
		c.Retried++
	}
	switch call.Result {
	case OK:
		c.OK++
	case Fallback:
		c.Fallback++
	default:
		c.Failed++
	}
}

// second is what happened within one second.
type second struct {
	at     int64 // seconds since the recorder began
	counts Counts
	took   histogram
	nodes  map[string]int64
}

// Recorder counts calls. It is safe for concurrent use.
type Recorder struct {
	begin time.Time

	mu      sync.Mutex
	total   Counts
	waiting int64
	slots   [History + 1]*second
	reasons map[string]int64
}

// NewRecorder returns an empty Recorder that begins now.
func NewRecorder() *Recorder {
	return &Recorder{begin: time.Now(), reasons: map[string]int64{}}
}

// Begin says that a call has begun. Each Begin is followed by one End.
func (r *Recorder) Begin() {
	r.mu.Lock()
	r.waiting++
	r.mu.Unlock()
}

// End counts a call.
func (r *Recorder) End(c Call) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting--
	r.total.add(c)
	s := r.slot(int64(now.Sub(r.begin) / time.Second))
	s.counts.add(c)
	s.took.add(c.Took)
	if c.Node != "" {
		s.nodes[c.Node]++
	}
	if c.Reason != "" {
		if _, known := r.reasons[c.Reason]; !known && len(r.reasons) >= maxReasons {
			c.Reason = "other"
		}
		r.reasons[c.Reason]++
	}
}

// slot returns the second at, emptied if it still holds an older one. r.mu is held.
func (r *Recorder) slot(at int64) *second {
	p := &r.slots[at%int64(len(r.slots))]
	if *p == nil || (*p).at != at {
		*p = &second{at: at, nodes: map[string]int64{}}
	}
	return *p
}

// Point is one second of the history.
type Point struct {
	OK       int64 `json:"ok"`
	Failed   int64 `json:"failed"`
	Fallback int64 `json:"fallback"`
	// P99 is in milliseconds.
	P99 float64 `json:"p99"`
}

// WindowStats is what happened in the last Window; the second that is still running does not count.
type WindowStats struct {
	// Seconds is how long the window is: less than Window after the start.
	Seconds int    `json:"seconds"`
	Counts  Counts `json:"counts"`
	// Goodput is OK calls per second.
	Goodput float64 `json:"goodput"`
	// P50 and P99 are in milliseconds.
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	// Nodes is who answered how many calls.
	Nodes map[string]int64 `json:"nodes"`
}

// Snapshot is what a Recorder knows at a moment.
type Snapshot struct {
	Total Counts `json:"total"`
	// Waiting is how many calls have begun and not ended.
	Waiting int64       `json:"waiting"`
	Window  WindowStats `json:"window"`
	// History is one Point per second, the oldest first.
	History []Point `json:"history"`
	// Reasons counts why calls failed since the start.
	Reasons map[string]int64 `json:"reasons"`
}

// Snapshot returns what is known now.
func (r *Recorder) Snapshot() Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := int64(time.Since(r.begin) / time.Second)
	s := Snapshot{Total: r.total, Waiting: r.waiting, Reasons: maps.Clone(r.reasons)}
	first := max(now-History, 0)
	s.History = make([]Point, 0, now-first)
	for at := first; at < now; at++ {
		var p Point
		if sec := r.past(at); sec != nil {
			p = Point{OK: sec.counts.OK, Failed: sec.counts.Failed, Fallback: sec.counts.Fallback,
				P99: ms(quantile([]*histogram{&sec.took}, 0.99))}
		}
		s.History = append(s.History, p)
	}
	s.Window = r.window(now)
	return s
}

// window sums up the last seconds before now. r.mu is held.
func (r *Recorder) window(now int64) WindowStats {
	first := max(now-int64(windowSlots), 0)
	w := WindowStats{Seconds: int(now - first), Nodes: map[string]int64{}}
	var took []*histogram
	for at := first; at < now; at++ {
		sec := r.past(at)
		if sec == nil {
			continue
		}
		w.Counts = sum(w.Counts, sec.counts)
		took = append(took, &sec.took)
		for n, c := range sec.nodes {
			w.Nodes[n] += c
		}
	}
	if w.Seconds > 0 {
		w.Goodput = float64(w.Counts.OK) / float64(w.Seconds)
	}
	w.P50, w.P99 = ms(quantile(took, 0.50)), ms(quantile(took, 0.99))
	return w
}

// past returns the second at if it is known. r.mu is held.
func (r *Recorder) past(at int64) *second {
	if s := r.slots[at%int64(len(r.slots))]; s != nil && s.at == at {
		return s
	}
	return nil
}

func sum(a, b Counts) Counts {
	return a.Sub(Counts{}.Sub(b))
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

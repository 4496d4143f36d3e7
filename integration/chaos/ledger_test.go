package chaos_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
)

// started is what a node writes when a handler begins. It is written at once: nodes are killed.
type started struct {
	Call uint64
	At   policy.Time
	// Over is the deadline, if the handler's context had ended when it began for that reason.
	Over policy.Time
	// Read is when its request was read, which is before the server's last look at whether anybody waits.
	Read policy.Time
	// Known: the context had ended when the handler began, for whatever reason.
	Known bool
	// Once: the call must not run twice. Keyed: nor must it, because of its key. Astray: it was meant for another service.
	Once, Keyed, Astray bool
	Node                uint16
}

// called is what a caller writes when a call has ended, or when it stood still (then ID is 0, from At to End).
type called struct {
	ID                   uint64
	At, Deadline, End    policy.Time
	Outcome, Class, Fate uint8
	Kind, Criticality    uint8
	Attempts             uint8
	// Answered is the node that the client believes has answered, Replied the one that did.
	Answered, Replied uint16
	Nodes             [policy.MaxAttempts]uint16
	Classes           [policy.MaxAttempts]uint8
	// Began is when each attempt did, in microseconds after At.
	Began [policy.MaxAttempts]uint32
}

// The kinds of calls, and the methods that they are for.
const (
	kindGet  = iota // idempotent
	kindPut         // not
	kindPay         // with a key, so that it may be tried again
	kindSick        // fails while sickAt says so
)

var methods = [...]string{kindGet: methodGet, kindPut: methodPut, kindPay: methodPay, kindSick: methodSick}

// The outcomes of called.
const (
	outcomeOK = iota
	outcomeRefused
	outcomeFailed
)

// ledger is a file of records of one kind.
type ledger struct {
	mu sync.Mutex
	w  *bufio.Writer // nil = every record is written at once
	f  *os.File
	b  []byte
}

func openLedger(path string, buffered bool) (*ledger, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	l := &ledger{f: f}
	if buffered {
		l.w = bufio.NewWriterSize(f, 1<<16)
	}
	return l, nil
}

func (l *ledger) write(record any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	if l.b, err = binary.Append(l.b[:0], binary.LittleEndian, record); err != nil {
		panic(err)
	}
	if l.w != nil {
		_, err = l.w.Write(l.b)
	} else {
		_, err = l.f.Write(l.b)
	}
	if err != nil {
		panic(err) // the test cannot go on without
	}
}

func (l *ledger) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.w != nil {
		if err := l.w.Flush(); err != nil {
			return err
		}
	}
	return l.f.Close()
}

// records reads a ledger. A record that a dying process did not write to its end is none.
func records[R any](t testing.TB, path string) []R {
	t.Helper()
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	all := make([]R, len(b)/binary.Size(*new(R)))
	if err := binary.Read(bytes.NewReader(b), binary.LittleEndian, all); err != nil {
		t.Fatal(err)
	}
	return all
}

// sample is what a process says of itself now and then, a line of JSON each.
type sample struct {
	At         policy.Time
	Heap       uint64 // live, after a collection
	Goroutines int
	InFlight   int
	// Accepted is how many connections a node has taken.
	Accepted int `json:",omitempty"`
	// Conns is how many connections a caller has.
	Conns int `json:",omitempty"`
	// Done is how many calls a node has worked on, Took the time that its workers spent on them.
	Done int64         `json:",omitempty"`
	Took time.Duration `json:",omitempty"`
	// Of a caller: the nodes it knows, the breakers of its methods, how many tokens its budget has room for, and how many nodes are disbelieved to have gone.
	Nodes       []balance.NodeState         `json:",omitempty"`
	Breakers    map[string]breaker.Snapshot `json:",omitempty"`
	Capacity    int64                       `json:",omitempty"`
	Disbelieved int                         `json:",omitempty"`
}

// measure fills in what every process has.
func (s *sample) measure() {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.At, s.Heap, s.Goroutines = policy.Now(), m.HeapAlloc, runtime.NumGoroutine()
}

// sampling writes samples until ctx ends, and one more.
func sampling(ctx context.Context, path string, every time.Duration, take func(*sample)) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		over := false
		select {
		case <-tick.C:
		case <-ctx.Done():
			over = true
		}
		var s sample
		take(&s)
		b, err := json.Marshal(&s)
		if err != nil {
			return err
		}
		if _, err := f.Write(append(b, '\n')); err != nil {
			return err
		}
		if over {
			return nil
		}
	}
}

func samples(t testing.TB, path string) (all []sample) {
	t.Helper()
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for d := json.NewDecoder(f); ; {
		var s sample
		if err := d.Decode(&s); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return all // the last one of a process that was killed may be cut off
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
}

// watchStalls tells of the times in which this process stood still, until ctx ends.
func watchStalls(ctx context.Context, tell func(from, to policy.Time)) {
	const every = 5 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	for last := policy.Now(); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := policy.Now()
		if now.Sub(last) > 2*every {
			tell(last, now)
		}
		last = now
	}
}

// watchWaits tells of the times in which threads of this process waited for a processor, as the kernel counts them, until ctx ends: who gets one by bits is late, and does not stand
// still. Where the kernel does not count there are none.
func watchWaits(ctx context.Context, tell func(from, to policy.Time)) {
	const every, least = 25 * time.Millisecond, 5 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	was := map[string]time.Duration{}
	for first := true; ; first = false {
		tasks, err := filepath.Glob("/proc/self/task/*/schedstat")
		if err != nil {
			return
		}
		waits := make(map[string]time.Duration, len(tasks))
		now := policy.Now()
		for _, task := range tasks {
			b, err := os.ReadFile(task)
			if err != nil {
				continue // it has ended
			}
			var ran, waited int64
			if _, err := fmt.Sscan(string(b), &ran, &waited); err != nil {
				continue
			}
			waits[task] = time.Duration(waited)
			if d := waits[task] - was[task]; d >= least && !first {
				tell(now.Add(-d), now)
			}
		}
		was = waits
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// outcomeOf is how a call ended, as its caller sees it.
func outcomeOf(info *hull.CallInfo, err error) uint8 {
	switch {
	case err == nil:
		return outcomeOK
	case info.Class == policy.ClassRefused || info.Class == policy.ClassShed:
		return outcomeRefused
	}
	return outcomeFailed
}

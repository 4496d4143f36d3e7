package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/hull-go/hull/bench/echopb"
	"github.com/hull-go/hull/bench/echovt"
)

// newMsg returns the message of one worker: five fields, size bytes in
// protobuf while n is below 2^41. Under 64 bytes there is no room for all
// fields, so that is the least.
func newMsg(worker, size int) *echopb.Msg {
	m := &echopb.Msg{
		Id:   fmt.Sprintf("order-%08d", worker),
		Text: "a few words to read",
		// All numbers of all workers are different and equally long.
		N:    1<<35 + int64(worker)<<24,
		Ok:   true,
		Data: []byte{0},
	}
	// Twice, because the length of the length grows with the data.
	for range 2 {
		if missing := size - proto.Size(m); missing > 0 {
			m.Data = append(m.Data, strings.Repeat("x", missing)...)
		} else if missing < 0 {
			m.Data = m.Data[:max(len(m.Data)+missing, 1)]
		}
	}
	return m
}

// An answer is a message of whatever kind.
type answer interface {
	GetN() int64
	GetData() []byte
	GetText() string
}

// A keeper is a Caller whose messages are of another kind: a worker keeps one
// of those, so that none has to be copied for each call.
type keeper interface {
	Caller
	// Keep returns what makes a worker's calls, with m's content as it is at
	// first and its number as it is then.
	Keep(m *echopb.Msg) func(ctx context.Context) (answer, error)
}

// A worker calls, waits for the answer and calls again.
type worker struct {
	msg  *echopb.Msg
	hist histogram
	// calls and last are the number of answers and the end of the last one,
	// since the start of the run.
	calls uint64
	last  time.Duration
	err   error
}

// run works for d from start. Between two calls it does the same for each
// rival: one reading of the clock, one count, one comparison. It stops at the
// first error or wrong answer.
func (w *worker) run(caller Caller, start time.Time, d time.Duration) {
	// No deadline or cancellation here: those are the rival's own work.
	ctx := context.Background()
	call := func(ctx context.Context) (answer, error) { return caller.Call(ctx, w.msg) }
	if k, ok := caller.(keeper); ok {
		call = k.Keep(w.msg)
	}
	for w.last < d {
		w.msg.N++
		answer, err := call(ctx)
		now := time.Since(start)
		if err == nil {
			err = check(answer, w.msg)
		}
		if err != nil {
			w.err = err
			return
		}
		w.hist.add(now - w.last)
		w.calls++
		w.last = now
	}
}

// count counts what has taken since the last count, or the start.
func (w *worker) count(start time.Time) {
	now := time.Since(start)
	w.hist.add(now - w.last)
	w.calls++
	w.last = now
}

// check compares in nanoseconds what tells answers apart: the number is the
// call's own. The tests compare whole messages.
func check(got answer, want *echopb.Msg) error {
	if got.GetN() != want.GetN() || len(got.GetData()) != len(want.GetData()) || len(got.GetText()) != len(want.GetText()) {
		return fmt.Errorf("wrong answer: sent n=%d with %d bytes, got n=%d with %d bytes",
			want.GetN(), len(want.GetData()), got.GetN(), len(got.GetData()))
	}
	return nil
}

// A load is c workers that share one caller.
type load struct {
	caller  Caller
	workers []*worker
	shape   string
	streams grpc.ClientConnInterface // nil for shapeUnary
	kind    kind                     // of their messages
	bulk    int64                    // bytes that came beside the calls of the last run
}

func newLoad(caller Caller, c, size int) *load {
	l := &load{caller: caller, workers: make([]*worker, c)}
	for i := range l.workers {
		l.workers[i] = &worker{msg: newMsg(i, size)}
	}
	return l
}

// as makes l a load of another shape than shapeUnary. It fails if the caller does not stream.
func (l *load) as(shape string) error {
	if l.shape = shape; shape == shapeUnary {
		return nil
	}
	s, ok := l.caller.(Streamer)
	if !ok {
		return errors.New("it does not stream here")
	}
	l.streams = s.Streams()
	if k, ok := s.(kindStreamer); ok {
		l.kind = k.Kind()
	}
	return nil
}

// work is what one worker does.
func (l *load) work(w *worker, start time.Time, d time.Duration) {
	switch l.shape {
	case "", shapeUnary, shapeBesideCalls, shapeBesideStreams:
		w.run(l.caller, start, d)
	default:
		switch l.kind {
		case kindProto:
			w.err = stream[echopb.Msg](w, l.streams, l.shape, start, d)
		case kindVT:
			w.err = stream[echovt.Msg](w, l.streams, l.shape, start, d)
		case kindRaw:
			w.err = stream[rawMsg](w, l.streams, l.shape, start, d)
		}
	}
}

// startBulk starts what gets large messages beside the workers.
func (l *load) startBulk() *bulk {
	switch l.kind {
	case kindVT:
		return startBulk[echovt.Msg](l.streams, l.shape)
	case kindRaw:
		return startBulk[rawMsg](l.streams, l.shape)
	}
	return startBulk[echopb.Msg](l.streams, l.shape)
}

// run lets all workers work for d, after forgetting what they counted before.
// It returns how long that took, to the end of the last call.
func (l *load) run(d time.Duration) (time.Duration, error) {
	for _, w := range l.workers {
		*w = worker{msg: w.msg}
	}
	var beside *bulk
	if hasBulk(l.shape) {
		beside = l.startBulk()
	}
	var wg sync.WaitGroup
	start := time.Now()
	for _, w := range l.workers {
		wg.Go(func() { l.work(w, start, d) })
	}
	wg.Wait()
	if beside != nil {
		var err error
		if l.bulk, err = beside.stop(); err != nil {
			return 0, err
		}
	}
	var took time.Duration
	for i, w := range l.workers {
		if w.err != nil {
			return 0, fmt.Errorf("worker %d after %d calls: %w", i, w.calls, w.err)
		}
		took = max(took, w.last)
	}
	return took, nil
}

// calls returns the number of answers of the last run.
func (l *load) calls() uint64 {
	var n uint64
	for _, w := range l.workers {
		n += w.calls
	}
	return n
}

// quantiles returns those of the latency of the last run's calls.
func (l *load) quantiles(qs ...float64) []time.Duration {
	hs := make([]*histogram, len(l.workers))
	for i, w := range l.workers {
		hs[i] = &w.hist
	}
	return quantiles(hs, qs...)
}

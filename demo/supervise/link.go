package supervise

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// ErrLinkClosed says that the process on the other side has gone away.
var ErrLinkClosed = errors.New("the other process has ended")

// maxFrame bounds one line of a Link.
const maxFrame = 1 << 20

// Handler answers what the other side asks. arg and the answer are JSON.
type Handler func(ctx context.Context, op string, arg json.RawMessage) (any, error)

// Link is a conversation of two processes over a pair of pipes: lines of JSON, requests and answers in both directions. It
// is safe for concurrent use.
type Link struct {
	r       io.Reader
	handler Handler

	wmu sync.Mutex
	w   io.Writer

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan frame
	closed  bool
}

type frame struct {
	// ID numbers a request; Re is the request that this is the answer to.
	ID  uint64          `json:"id,omitempty"`
	Re  uint64          `json:"re,omitempty"`
	Op  string          `json:"op,omitempty"`
	Arg json.RawMessage `json:"arg,omitempty"`
	Err string          `json:"err,omitempty"`
}

// NewLink returns a Link that reads r and writes w, and answers with h. Run has to be called for anything to happen.
func NewLink(r io.Reader, w io.Writer, h Handler) *Link {
	return &Link{r: r, w: w, handler: h, waiting: map[uint64]chan frame{}}
}

// Run reads until the other side is gone, which is no error. It returns when every handler that it started has.
func (l *Link) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	defer l.hangUp()
	sc := bufio.NewScanner(l.r)
	sc.Buffer(nil, maxFrame)
	for sc.Scan() {
		var f frame
		if err := json.Unmarshal(sc.Bytes(), &f); err != nil {
			return fmt.Errorf("the other process speaks no JSON: %q: %w", sc.Bytes()[:min(len(sc.Bytes()), 100)], err)
		}
		if f.Op != "" {
			wg.Go(func() { l.answer(ctx, f) })
			continue
		}
		l.mu.Lock()
		ch := l.waiting[f.Re]
		delete(l.waiting, f.Re)
		l.mu.Unlock()
		if ch != nil {
			ch <- f
		}
	}
	return sc.Err()
}

// Call asks the other side and decodes its answer into reply, unless that is nil.
func (l *Link) Call(ctx context.Context, op string, arg, reply any) error {
	b, err := json.Marshal(arg)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	ch := make(chan frame, 1)
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return fmt.Errorf("%s: %w", op, ErrLinkClosed)
	}
	l.next++
	id := l.next
	l.waiting[id] = ch
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.waiting, id)
		l.mu.Unlock()
	}()
	if err := l.write(frame{ID: id, Op: op, Arg: b}); err != nil {
		return fmt.Errorf("%s: %w (%w)", op, ErrLinkClosed, err)
	}
	select {
	case <-ctx.Done():
		return fmt.Errorf("%s: no answer: %w", op, context.Cause(ctx))
	case f, ok := <-ch:
		switch {
		case !ok:
			return fmt.Errorf("%s: %w", op, ErrLinkClosed)
		case f.Err != "":
			return errors.New(f.Err)
		case reply == nil:
			return nil
		}
		return json.Unmarshal(f.Arg, reply)
	}
}

func (l *Link) answer(ctx context.Context, f frame) {
	rep, err := l.handler(ctx, f.Op, f.Arg)
	out := frame{Re: f.ID}
	if err == nil {
		out.Arg, err = json.Marshal(rep)
	}
	if err != nil {
		out.Err = err.Error()
	}
	// If this fails nobody is left to be told, and Run ends by itself.
	_ = l.write(out)
}

func (l *Link) write(f frame) error {
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	l.wmu.Lock()
	defer l.wmu.Unlock()
	_, err = l.w.Write(append(b, '\n'))
	return err
}

// hangUp fails what still waits.
func (l *Link) hangUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, ch := range l.waiting {
		close(ch)
	}
	clear(l.waiting)
}

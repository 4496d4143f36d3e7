package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

// pair returns two ends of a conversation that run until the test ends.
func pair(t *testing.T, h Handler) (a, b *Link, cut func()) {
	t.Helper()
	ar, bw := io.Pipe()
	br, aw := io.Pipe()
	a, b = NewLink(ar, aw, h), NewLink(br, bw, h)
	var wg sync.WaitGroup
	wg.Go(func() { _ = a.Run(t.Context()) })
	wg.Go(func() { _ = b.Run(t.Context()) })
	cut = func() { ar.Close(); br.Close(); aw.Close(); bw.Close() }
	t.Cleanup(func() { cut(); wg.Wait() })
	return a, b, cut
}

func TestLink(t *testing.T) {
	a, b, cut := pair(t, func(ctx context.Context, op string, arg json.RawMessage) (any, error) {
		switch op {
		case "hang":
			<-ctx.Done()
			return nil, ctx.Err()
		case "fail":
			return nil, errors.New("no such thing")
		}
		return arg, nil
	})
	for _, l := range []*Link{a, b} {
		var got string
		if err := l.Call(t.Context(), "echo", "hello", &got); err != nil || got != "hello" {
			t.Errorf("echo = %q, %v", got, err)
		}
		if err := l.Call(t.Context(), "fail", nil, nil); err == nil || err.Error() != "no such thing" {
			t.Errorf("fail = %v", err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := a.Call(ctx, "hang", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("hang = %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- a.Call(t.Context(), "hang", nil, nil) }()
	cut()
	if err := <-done; !errors.Is(err, ErrLinkClosed) {
		t.Errorf("a call that was under way when the link was cut: %v", err)
	}
	if err := a.Call(t.Context(), "echo", nil, nil); !errors.Is(err, ErrLinkClosed) {
		t.Errorf("a call after that: %v", err)
	}
}

func TestLinkGarbage(t *testing.T) {
	for name, in := range map[string]string{
		"text": "hello\n", "cut": `{"id":1`, "long": strings.Repeat("x", maxFrame+1), "answer to nothing": `{"re":7}` + "\nx",
	} {
		l := NewLink(strings.NewReader(in), io.Discard, nil)
		if err := l.Run(t.Context()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

package hull_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/status"
)

// lockedBuffer is a buffer that several goroutines write to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestChangesOfStateAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		var broken atomic.Bool
		w.Serve("greeter", "a", func(s *hull.Server) {
			hull.Handle(s, "greeter.Greeter/Hello", func(context.Context, *helloRequest) (*helloReply, error) {
				if broken.Load() {
					return nil, status.Errorf(status.Unavailable, "out of order")
				}
				return &helloReply{}, nil
			})
		})
		var out lockedBuffer
		c := w.Client("caller", hull.WithLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo}))))
		var l load
		l.run(t, c, 50, 3*time.Second)
		l.allOK(t, "while nothing is wrong")
		if s := out.String(); strings.Contains(s, "breaker") {
			t.Errorf("nothing has happened, and it says:\n%s", s)
		}
		broken.Store(true)
		l.run(t, c, 50, 5*time.Second)
		broken.Store(false)
		l.run(t, c, 50, 40*time.Second)
		s := out.String()
		for _, want := range []string{
			`level=WARN msg="breaker open" key=greeter/greeter.Greeter/Hello from=closed why="too many calls failed" retry_after=`,
			`level=INFO msg="breaker closed" key=greeter/greeter.Greeter/Hello`,
		} {
			if !strings.Contains(s, want) {
				t.Errorf("no line has %s:\n%s", want, s)
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		n := len(out.String())
		time.Sleep(5 * time.Second)
		if len(out.String()) != n {
			t.Error("a client that is closed goes on logging")
		}
	})
}

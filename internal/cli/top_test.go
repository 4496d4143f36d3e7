package cli_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hull-go/hull/internal/cli"
)

// screen is a terminal's side of a program's output. It tells of each picture.
type screen struct {
	mu       sync.Mutex
	all      strings.Builder
	pictures chan string
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all.Write(b)
	if text, ok := strings.CutPrefix(string(b), "\x1b[H"); ok {
		s.pictures <- text
	}
	return len(b), nil
}

// visible removes what takes no room on a terminal.
func visible(line string) string {
	for {
		before, after, ok := strings.Cut(line, "\x1b[")
		if !ok {
			return line
		}
		line = before + after[strings.IndexAny(after, "mKJ")+1:]
	}
}

// TestTopOnATerminal: the picture fits into the terminal, whatever its size is, and stays while the program is away.
func TestTopOnATerminal(t *testing.T) {
	var nodes, services []string
	for i := range 30 {
		nodes = append(nodes, fmt.Sprintf(`{"id":"n%d","address":"127.0.0.1:%d","state":"ejected","why":"it failed several times in a row"}`, i, 1000+i))
	}
	services = append(services, fmt.Sprintf(`{"name":"echo","nodes":[%s],"methods":[{"name":"test.Echo/Say","calls":3,"breaker":{"state":"closed"}}]}`, strings.Join(nodes, ",")))
	state := fmt.Sprintf(`{"at":"2026-01-02T03:04:05Z","clients":[{"services":[%s]}]}`, strings.Join(services, ","))
	var away atomic.Bool
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if away.Load() {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprint(w, state)
	}))
	defer page.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var columns, lines atomic.Int64
	columns.Store(60)
	lines.Store(10)
	out := &screen{pictures: make(chan string, 100)}
	done := make(chan int)
	var bad strings.Builder
	go func() {
		done <- cli.Run(ctx, []string{"top", "--admin", page.URL + "/hull/"}, cli.Options{Stdout: out, Stderr: &bad, Terminal: true,
			Size: func() (int, int) { return int(columns.Load()), int(lines.Load()) }})
	}()
	look := func(columns, lines int) (text string) {
		t.Helper()
		picture := strings.Split(<-out.pictures, "\n")
		if lines > 0 && len(picture) > lines {
			t.Errorf("%d lines on a terminal of %d", len(picture), lines)
		}
		for _, l := range picture {
			l = visible(l)
			if n := utf8.RuneCountInString(l); columns > 0 && n > columns {
				t.Errorf("%d columns on a terminal of %d: %s", n, columns, l)
			}
			text += l + "\n"
		}
		return text
	}
	if text := look(60, 10); !strings.Contains(text, "test.Echo/Say") || !strings.Contains(text, "n0 ") || !strings.Contains(text, "more lines, in a larger window") || !strings.Contains(text, "…\n") {
		t.Errorf("a small terminal:\n%s", text)
	}
	columns.Store(0)
	lines.Store(0)
	if text := look(0, 0); !strings.Contains(text, "n29") || !strings.Contains(text, "in a row\n") || strings.Contains(text, "…") {
		t.Errorf("a terminal of unknown size:\n%s", text)
	}
	away.Store(true)
	if text := look(0, 0); !strings.Contains(text, "no answer since 03:04:05: ") || !strings.Contains(text, "n29") {
		t.Errorf("away:\n%s", text)
	}
	away.Store(false)
	if text := look(0, 0); strings.Contains(text, "no answer") || !strings.Contains(text, "n29") {
		t.Errorf("back:\n%s", text)
	}
	cancel()
	select {
	case code := <-done:
		if code != 0 || bad.String() != "" {
			t.Errorf("interrupted: exit %d: %s", code, bad.String())
		}
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
	if all := out.all.String(); !strings.HasPrefix(all, "\x1b[?1049h\x1b[?25l") || !strings.HasSuffix(all, "\x1b[?25h\x1b[?1049l") {
		t.Error("the terminal is not as it was")
	}
}

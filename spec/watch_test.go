package spec

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// watched is a file under Watch, in virtual time.
type watched struct {
	t    *testing.T
	path string
	stop func()

	mu      sync.Mutex
	applied []string // timeouts of the documents that were applied
	told    []error
	refuse  error
	log     bytes.Buffer
}

func (w *watched) start(content string) {
	w.path = filepath.Join(w.t.TempDir(), "policies.yaml")
	if content != "missing" {
		w.write(content)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Watch(ctx, w.path, func(s *Spec) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.refuse != nil {
				return w.refuse
			}
			w.applied = append(w.applied, s.Defaults.Timeout.String())
			return nil
		}, WatchOptions{Logger: slog.New(slog.NewTextHandler(&w.log, nil)), Notify: func(err error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.told = append(w.told, err)
		}})
	}()
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Watch returned %v", err)
		}
	}
	synctest.Wait()
}

func (w *watched) write(content string) {
	w.t.Helper()
	if err := os.WriteFile(w.path, []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *watched) refuses(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse = err
}

// pass lets so many readings happen.
func (w *watched) pass(readings int) {
	time.Sleep(time.Duration(readings) * time.Second)
	synctest.Wait()
}

func (w *watched) want(what string, applied string, faults ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := strings.Join(w.applied, " "); got != applied {
		w.t.Errorf("%s: applied %q, want %q", what, got, applied)
	}
	var told []error
	for _, err := range w.told {
		if err != nil {
			told = append(told, err)
		}
	}
	for i, f := range faults {
		if i >= len(told) || !strings.Contains(told[i].Error(), f) {
			w.t.Errorf("%s: message %d of %v is not about %q", what, i, told, f)
		}
	}
	if len(told) != len(faults) {
		w.t.Errorf("%s: told %d faults, want %d: %v", what, len(told), len(faults), told)
	}
}

const oneSecond, twoSeconds = "defaults: {timeout: 1s}\n", "defaults: {timeout: 2s}\n"

func TestWatch(t *testing.T) {
	tests := []struct {
		name  string
		first string
		story func(w *watched)
	}{
		{"a change is applied once", oneSecond, func(w *watched) {
			w.want("at once", "1s")
			w.pass(5)
			w.write(twoSeconds)
			w.pass(2)
			w.want("changed", "1s 2s")
			w.pass(10)
			w.want("and no more", "1s 2s")
		}},
		{"an invalid document keeps the old one", oneSecond, func(w *watched) {
			w.write("defaults: {timeuot: 2s}\n")
			w.pass(10)
			w.want("broken", "1s", "did you mean timeout?")
			w.write("defaults: {timeout: 3s}\n")
			w.pass(2)
			w.want("mended", "1s 3s", "did you mean timeout?")
		}},
		{"back to the same document after a broken one", oneSecond, func(w *watched) {
			w.write("nonsense")
			w.pass(3)
			w.write(oneSecond)
			w.pass(3)
			w.want("back", "1s 1s", "policies.yaml")
		}},
		{"deleted and written again", oneSecond, func(w *watched) {
			if err := os.Remove(w.path); err != nil {
				w.t.Fatal(err)
			}
			w.pass(10)
			w.want("deleted", "1s", "no such file")
			w.write(twoSeconds)
			w.pass(2)
			w.want("back", "1s 2s", "no such file")
		}},
		{"truncated before it is written", oneSecond, func(w *watched) {
			w.write("")
			w.pass(1)
			w.write(twoSeconds)
			w.pass(2)
			w.want("written", "1s 2s")
			w.write("\n")
			w.pass(5)
			w.want("left empty", "1s 2s", "is empty: write {} for the defaults")
			w.write("{}")
			w.pass(2)
			w.want("defaults", "1s 2s 0s", "is empty")
		}},
		{"half of it is valid too", oneSecond, func(w *watched) {
			for _, part := range []string{"defaults: {timeout: 2s}", "defaults: {timeout: 2s}\nservices:\n", "defaults: {timeout: 2s}\nservices:\n  a: {timeout: 9s}\n"} {
				w.write(part)
				w.pass(1)
			}
			w.want("being written", "1s")
			w.pass(1)
			w.want("written", "1s 2s")
		}},
		{"replaced by renaming", oneSecond, func(w *watched) {
			next := w.path + ".new"
			if err := errors.Join(os.WriteFile(next, []byte(twoSeconds), 0o600), os.Rename(next, w.path)); err != nil {
				w.t.Fatal(err)
			}
			w.pass(2)
			w.want("renamed", "1s 2s")
		}},
		{"missing at first", "missing", func(w *watched) {
			w.pass(3)
			w.want("missing", "", "no such file")
			w.write(oneSecond)
			w.pass(2)
			w.want("there", "1s", "no such file")
		}},
		{"invalid at first", "defaults: 7", func(w *watched) {
			w.pass(5)
			w.want("invalid", "", "defaults")
		}},
		{"being written at first", "defaults: {timeout", func(w *watched) {
			w.write(oneSecond)
			w.pass(2)
			w.want("written", "1s")
		}},
		{"a folder in its place", oneSecond, func(w *watched) {
			if err := errors.Join(os.Remove(w.path), os.Mkdir(w.path, 0o700)); err != nil {
				w.t.Fatal(err)
			}
			w.pass(3)
			w.want("folder", "1s", "no regular file")
		}},
		{"too large", oneSecond, func(w *watched) {
			w.write(strings.Repeat("#", 2*MaxSize))
			w.pass(3)
			w.want("large", "1s", "it is larger than")
		}},
		{"a refusal is tried again", oneSecond, func(w *watched) {
			w.refuses(errors.New("not now"))
			w.write(twoSeconds)
			w.pass(4)
			w.want("refused", "1s", "not now")
			w.refuses(nil)
			w.pass(1)
			w.want("taken", "1s 2s", "not now")
		}},
		{"another fault is told too", oneSecond, func(w *watched) {
			w.write("a: 1")
			w.pass(3)
			w.write("b: 1")
			w.pass(3)
			w.want("two faults", "1s", "a: there is no such field", "b: there is no such field")
			if n := strings.Count(w.log.String(), "level=ERROR"); n != 2 {
				w.t.Errorf("%d lines in the log, want 2:\n%s", n, w.log.String())
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &watched{t: t}
				w.start(tt.first)
				tt.story(w)
				w.stop()
			})
		})
	}
}

func TestWatchIntoABook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "p.json")
		if err := os.WriteFile(path, []byte(`{"defaults": {"timeout": "3s"}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		b := mustBook(t, "{}")
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			if err := Watch(ctx, path, b.Apply, WatchOptions{Every: time.Minute}); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		if got := b.Spec().Defaults.Timeout.String(); got != "3s" {
			t.Errorf("timeout %s, want 3s", got)
		}
		cancel()
		synctest.Wait()
	})
}

func TestWatchRefusesWhatCannotWork(t *testing.T) {
	if err := Watch(t.Context(), "x", nil, WatchOptions{}); err == nil {
		t.Error("nothing to apply with was accepted")
	}
	if err := Watch(t.Context(), "x", func(*Spec) error { return nil }, WatchOptions{Every: -1}); err == nil {
		t.Error("a negative interval was accepted")
	}
}

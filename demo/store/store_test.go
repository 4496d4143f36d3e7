package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/demo/board"
)

// The test binary is also the second process.
func TestMain(m *testing.M) {
	if path := os.Getenv("STORE_TEST_WRITER"); path != "" {
		if err := write(path, os.Getenv("STORE_TEST_NAME"), 200); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func write(path, name string, n int) error {
	ctx := context.Background()
	s, err := Open(ctx, path, 10*time.Second)
	if err != nil {
		return err
	}
	for i := range n {
		if _, err := s.Save(ctx, board.Message{ID: fmt.Sprintf("%s-%d", name, i), Room: board.Wall, Author: name, Text: "x"}); err != nil {
			return err
		}
	}
	return s.Close()
}

func open(t *testing.T) (*Store, string) {
	t.Helper()
	// A name that a careless data source name would trip over.
	path := filepath.Join(t.TempDir(), "a b?c#%20.db")
	s, err := Open(t.Context(), path, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, path
}

func TestSaveTwiceIsHarmless(t *testing.T) {
	s, path := open(t)
	m := board.Message{ID: "a", Room: board.Wall, Author: "Ada", Text: "hello"}
	first, err := s.Save(t.Context(), m)
	if err != nil || first.Created == 0 {
		t.Fatalf("Save = %+v, %v", first, err)
	}
	again, err := s.Save(t.Context(), m)
	if err != nil || again != first {
		t.Errorf("the second Save = %+v, %v, want %+v", again, err, first)
	}
	for name, other := range map[string]board.Message{
		"text":   {ID: "a", Room: board.Wall, Author: "Ada", Text: "bye"},
		"author": {ID: "a", Room: board.Wall, Author: "Bob", Text: "hello"},
		"room":   {ID: "a", Room: "attic", Author: "Ada", Text: "hello"},
	} {
		if _, err := s.Save(t.Context(), other); !errors.Is(err, ErrConflict) {
			t.Errorf("another %s under the same id: %v, want ErrConflict", name, err)
		}
	}
	list, err := s.List(t.Context(), board.Wall, 10)
	if err != nil || len(list) != 1 || list[0] != first {
		t.Errorf("List = %+v, %v", list, err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the file is not where it should be: %v", err)
	}
}

func TestListAndGet(t *testing.T) {
	s, _ := open(t)
	for i := range 5 {
		if _, err := s.Save(t.Context(), board.Message{ID: fmt.Sprint(i), Room: board.Wall, Author: "a", Text: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	list, err := s.List(t.Context(), board.Wall, 3)
	if err != nil || len(list) != 3 || list[0].ID != "4" || list[2].ID != "2" {
		t.Errorf("List = %+v, %v; want 4, 3, 2", list, err)
	}
	if list, err := s.List(t.Context(), "empty", 3); err != nil || list == nil || len(list) != 0 {
		t.Errorf("List of an empty room = %#v, %v", list, err)
	}
	if m, err := s.Get(t.Context(), "3"); err != nil || m.ID != "3" {
		t.Errorf("Get = %+v, %v", m, err)
	}
	if _, err := s.Get(t.Context(), "9"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get of nothing = %v", err)
	}
	if err := s.Prune(t.Context(), board.Wall, 2); err != nil {
		t.Fatal(err)
	}
	if list, _ := s.List(t.Context(), board.Wall, 10); len(list) != 2 || list[1].ID != "3" {
		t.Errorf("after Prune: %+v", list)
	}
	a, err := s.Audit(t.Context(), board.Wall)
	if err != nil || !a.IDs["4"] || len(a.IDs) != 2 || a.Texts["x"] != 2 {
		t.Errorf("Audit = %+v, %v", a, err)
	}
}

func TestPragmas(t *testing.T) {
	s, _ := open(t)
	got, err := s.Pragmas(t.Context())
	if err != nil || got["journal_mode"] != "wal" || got["synchronous"] != "0" || got["busy_timeout"] != "2000" {
		t.Errorf("Pragmas = %v, %v", got, err)
	}
}

// Several processes that open the file at the same moment and write to it lose nothing.
func TestProcessesShareTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shared.db")
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), "STORE_TEST_WRITER="+path, fmt.Sprintf("STORE_TEST_NAME=w%d", i))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("writer %d: %v: %s", i, err, out)
			}
		})
	}
	wg.Wait()
	s, err := Open(t.Context(), path, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a, err := s.Audit(t.Context(), board.Wall)
	if err != nil || len(a.IDs) != 600 {
		t.Errorf("%d messages are stored, want 600 (%v)", len(a.IDs), err)
	}
}

func TestHoldKeepsWritersOut(t *testing.T) {
	s, _ := open(t)
	if err := s.Hold(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Save(ctx, board.Message{ID: "a", Room: board.Wall, Author: "a", Text: "x"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Save during Hold = %v", err)
	}
	if _, err := s.List(t.Context(), board.Wall, 1); err != nil {
		t.Errorf("List during Hold = %v", err)
	}

	other, _ := open(t)
	if err := other.Hold(t.Context(), time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Save(t.Context(), board.Message{ID: "a", Room: board.Wall, Author: "a", Text: "x"}); err != nil {
		t.Errorf("Save after Hold = %v", err)
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "no", "such", "dir.db")
	if _, err := Open(t.Context(), path, 0); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("Open = %v", err)
	}
	garbage := filepath.Join(t.TempDir(), "garbage.db")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("not a database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), garbage, 0); err == nil || !strings.Contains(err.Error(), "not a database") {
		t.Errorf("Open of garbage = %v", err)
	}
}

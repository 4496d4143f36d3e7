package main

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/hull-go/hull/bench/echopb"
)

// start serves r in this process and returns a caller to it. Both end with the
// test.
func start(t testing.TB, r Rival) Caller {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- r.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-served:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(2 * callTimeout):
			t.Error("Serve did not end with its context")
		}
	})
	caller, err := r.Dial(ctx, ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caller.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return caller
}

// callAndCompare makes one call and fails the test unless the answer is equal
// in every field.
func callAndCompare(t testing.TB, caller Caller, m *echopb.Msg) {
	t.Helper()
	got, err := caller.Call(context.Background(), m)
	if err != nil {
		t.Fatalf("Call: %v", err)
	}
	if got == m {
		t.Fatal("the answer is the request itself, not a message of its own")
	}
	// Field by field: the -vt rivals' answers are of another type underneath.
	if got.GetId() != m.GetId() || got.GetText() != m.GetText() || got.GetN() != m.GetN() || got.GetOk() != m.GetOk() ||
		!bytes.Equal(got.GetData(), m.GetData()) {
		t.Fatalf("sent %.200v, got %.200v", m, got)
	}
}

// callKept makes calls as a measured worker does.
func callKept(t *testing.T, k keeper) {
	m := newMsg(1, 100)
	call := k.Keep(m)
	for range 3 {
		m.N++
		got, err := call(context.Background())
		if err != nil {
			t.Fatalf("Call: %v", err)
		}
		if err := check(got, m); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEveryRivalEchoes(t *testing.T) {
	messages := map[string]*echopb.Msg{
		"empty":   {},
		"100 B":   newMsg(1, 100),
		"1 KiB":   newMsg(2, 1024),
		"64 KiB":  newMsg(3, 64<<10),
		"strange": {Id: "é\x00\"\\", Text: strings.Repeat("\n", 300), N: -1, Data: []byte{0, 255, 10, 13}},
	}
	for _, r := range rivals() {
		t.Run(r.Info().Name, func(t *testing.T) {
			t.Parallel()
			caller := start(t, r)
			for name, m := range messages {
				t.Run(name, func(t *testing.T) { callAndCompare(t, caller, m) })
			}
			if k, ok := caller.(keeper); ok {
				t.Run("kept", func(t *testing.T) { callKept(t, k) })
			}
		})
	}
}

// Workers share one caller, and each must get its own answers.
func TestEveryRivalKeepsCallsApart(t *testing.T) {
	const workers, calls = 32, 50
	for _, r := range rivals() {
		t.Run(r.Info().Name, func(t *testing.T) {
			t.Parallel()
			caller := start(t, r)
			var wg sync.WaitGroup
			for i := range workers {
				wg.Go(func() {
					m := newMsg(i, 100)
					for range calls {
						m.N++
						got, err := caller.Call(context.Background(), m)
						if err != nil || !proto.Equal(got, m) {
							t.Errorf("worker %d: sent %v, got %v, %v", i, m, got, err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

func TestRivalsAreDescribed(t *testing.T) {
	names := make(map[string]bool)
	for _, r := range rivals() {
		i := r.Info()
		if names[i.Name] {
			t.Errorf("two rivals are called %q", i.Name)
		}
		names[i.Name] = true
		if i.Name != strings.ToLower(i.Name) || strings.ContainsAny(i.Name, " ,") || i.Name == "" {
			t.Errorf("%q is not a lower-case word", i.Name)
		}
		if !strings.Contains(i.Setup, "deadline") {
			t.Errorf("%s: Setup says nothing about deadlines: %q", i.Name, i.Setup)
		}
		// Test binaries carry versions of modules too.
		if version(i.Module) == "" {
			t.Errorf("%s: module %q has no version in this program", i.Name, i.Module)
		}
	}
}

func TestPick(t *testing.T) {
	all := rivals()
	for _, c := range []struct{ names, want, err string }{
		{names: "netrpc, grpc", want: "grpc,netrpc"},
		{names: "nobody", err: `no rival is called "nobody"; there are grpc,`},
	} {
		got, err := pick(all, c.names)
		if c.err != "" {
			if err == nil || !strings.HasPrefix(err.Error(), c.err) {
				t.Errorf("pick(%q): error %v, want %s…", c.names, err, c.err)
			}
			continue
		}
		var names []string
		for _, r := range got {
			names = append(names, r.Info().Name)
		}
		if s := strings.Join(names, ","); err != nil || s != c.want {
			t.Errorf("pick(%q) = %s, %v, want %s", c.names, s, err, c.want)
		}
	}
	if got, err := pick(all, ""); err != nil || len(got) != len(all) {
		t.Errorf("no names: %d rivals, %v, want all %d", len(got), err, len(all))
	}
}

// BenchmarkEcho calls each rival from one goroutine, in one process. It shows
// that each works and costs about what it should; to compare rivals, run the
// program.
func BenchmarkEcho(b *testing.B) {
	for _, r := range rivals() {
		b.Run(r.Info().Name, func(b *testing.B) {
			caller := start(b, r)
			m := newMsg(0, 100)
			callAndCompare(b, caller, m)
			b.ReportAllocs()
			for b.Loop() {
				m.N++
				got, err := caller.Call(b.Context(), m)
				if err == nil {
					err = check(got, m)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

package main

import (
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The runtime of the Go that is used reads the clock as count expects it.
func TestSlowClock(t *testing.T) {
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := slowClock(filepath.Join(strings.TrimSpace(string(root)), "src", "runtime"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Error("no file is changed")
	}
	if _, err := slowClock(t.TempDir()); err == nil {
		t.Error("a runtime without a clock is taken")
	}
}

func TestReadCachegrind(t *testing.T) {
	const good = `desc: I1 cache: 32768 B
cmd: ./bench serve
events: Ir I1mr ILmr Dr D1mr DLmr Dw D1mw DLmw 
fl=/a/b.go
fn=example.org/a.F
10 5 1 0 2 1 0 1 1 1
fi=/a/inlined.go
3 5 0 0 0 0 0 0 0 0
fn=runtime.(*p).get
1 7 0 0 0 0 0 0 0 0
fl=/a/c.go
fn=example.org/a.F
11 1 0 0 0 0 0 0 0 0
summary: 18 1 0 2 1 0 1 1 1
`
	total, err := readCachegrind(strings.NewReader(good))
	if err != nil {
		t.Fatal(err)
	}
	f := total["example.org/a.F"]
	if len(total) != 2 || f.instructions() != 11 || f.code() != 1 || f.data() != 2 || f.second() != 1 || total["runtime.(*p).get"].instructions() != 7 {
		t.Errorf("read %v", total)
	}
	for name, bad := range map[string]string{
		"other events":     strings.Replace(good, "DLmw \n", "DLmw Bc \n", 1),
		"a figure missing": strings.Replace(good, "10 5 1", "10 5", 1),
		"no number":        strings.Replace(good, "1 7 0", "1 x 0", 1),
		"no events":        strings.Replace(good, "events: ", "event: ", 1),
	} {
		if _, err := readCachegrind(strings.NewReader(bad)); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestPackageOf(t *testing.T) {
	for fn, want := range map[string]string{
		"runtime.mallocgc":                      "runtime",
		"github.com/hull-go/hull.(*Conn).unary": "github.com/hull-go/hull",
		"github.com/hull-go/hull/policy.Do[go.shape.*example.org/x.T].func1": "github.com/hull-go/hull/policy",
		"internal/runtime/maps.(*Map).getWithoutKeySmallFastStr":             "internal/runtime/maps",
		"gcWriteBarrier": "(assembly and libraries)",
	} {
		if got := packageOf(fn); got != want {
			t.Errorf("%s is of %q, not %q", fn, got, want)
		}
	}
}

func TestCountRefusesWrongFlags(t *testing.T) {
	for _, args := range [][]string{
		{"more"}, {"-only", "nobody"}, {"-only", "grpc,hull"}, {"-shape", "bidi,up"}, {"-side", "middle"}, {"-by", "file"}, {"-n", "0"}, {"-d", "0s"},
	} {
		if err := runCount(t.Context(), rivals(), args, io.Discard, io.Discard); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}

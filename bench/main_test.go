package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/hull-go/hull/bench/echopb"
)

// testRivals are what children of the tests can be asked for: the real ones
// and two that misbehave.
func testRivals() []Rival { return append(rivals(), liarRival{}, brokenRival{}) }

// TestMain lets the test program be started again as a client or server.
func TestMain(m *testing.M) {
	if args := os.Args[1:]; isRole(args) {
		exit(runRole(context.Background(), testRivals(), args, os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

// liarRival answers with the wrong number.
type liarRival struct{ rawTCPRival }

func (liarRival) Info() Info { return Info{Name: "liar", Module: "std"} }

func (liarRival) Dial(ctx context.Context, addr string) (Caller, error) {
	c, err := rawTCPRival{}.Dial(ctx, addr)
	return callerFunc(func(m *echopb.Msg) (*echopb.Msg, error) {
		m = proto.CloneOf(m)
		m.N++
		return c.Call(ctx, m)
	}), err
}

// brokenRival does not serve.
type brokenRival struct{ rawTCPRival }

func (brokenRival) Info() Info { return Info{Name: "broken", Module: "std"} }

func (brokenRival) Serve(context.Context, net.Listener) error { return errors.New("out of order") }

func TestRunMeasuresInProcesses(t *testing.T) {
	var out bytes.Buffer
	dir := t.TempDir()
	args := strings.Fields("-rounds 2 -d 30ms -warm 10ms -c 1,3 -size 100,1024 -only grpc,raw-tcp -json -profiles")
	if err := run(t.Context(), testRivals(), append(args, dir), &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"grpc-unary-c1-100-client.prof", "raw-tcp-unary-c3-1024-server.prof"} {
		if info, err := os.Stat(filepath.Join(dir, f)); err != nil || info.Size() == 0 {
			t.Errorf("no profile %s: %v", f, err)
		}
	}
	var rep report
	if err := json.Unmarshal(out.Bytes(), &rep); err != nil {
		t.Fatal(err)
	}
	if len(rep.Rows) != 8 {
		t.Fatalf("%d rows, want 2 rivals at 2 × 2 levels", len(rep.Rows))
	}
	for _, r := range rep.Rows {
		if len(r.Rounds) != 2 || r.Median == nil || r.Ratio == nil {
			t.Errorf("%v %s: incomplete: %+v", r.level, r.Rival, r)
			continue
		}
		m := r.Median
		if m.PerSecond <= 0 || m.P50 <= 0 || m.P99 < m.P50 || m.ClientAllocs < 1 || m.ServerAllocs < 1 {
			t.Errorf("%v %s: %+v", r.level, r.Rival, *m)
		}
		if rep.GOOS == "linux" && (m.ClientRSS <= 0 || m.ServerRSS <= 0) {
			t.Errorf("%v %s: no memory: %+v", r.level, r.Rival, *m)
		}
		if r.Rival == "grpc" && *r.Ratio != (ratio{PerSecond: 1, P50: 1, P99: 1, CPU: r.Ratio.CPU}) {
			t.Errorf("%v: ratio of the base to itself is %+v", r.level, *r.Ratio)
		}
	}
}

func TestRunReportsWhoFails(t *testing.T) {
	for _, c := range []struct{ rival, want string }{
		{"liar", "wrong answer"},
		{"broken", "out of order"},
	} {
		t.Run(c.rival, func(t *testing.T) {
			var out bytes.Buffer
			err := run(t.Context(), testRivals(),
				strings.Fields("-rounds 1 -d 20ms -warm 10ms -c 2 -base raw-tcp -only raw-tcp,"+c.rival), &out, io.Discard)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.rival) {
				t.Errorf("error %v, want one that names %s and says %q", err, c.rival, c.want)
			}
			if s := out.String(); !strings.Contains(s, "failed") || !strings.Contains(s, "1.00") {
				t.Errorf("the table misses the failure or the other rival:\n%s", s)
			}
		})
	}
}

func TestRunRefusesWrongFlags(t *testing.T) {
	for args, want := range map[string]string{
		"-only nobody":   "-only: no rival is called",
		"-base nobody":   "-base: no rival is called",
		"-c 0":           `-c: "0" is not a number from 1`,
		"-c 1,,2":        `-c: ""`,
		"-size 10":       `-size: "10" is not a number from 64`,
		"-rounds 0":      "-rounds and -d must be positive",
		"-d 0s":          "-rounds and -d must be positive",
		"grpc":           `unexpected argument "grpc"`,
		"-no-such-thing": "flag provided but not defined",
	} {
		err := run(t.Context(), testRivals(), strings.Fields(args), io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", args, err, want)
		}
	}
}

func TestRunLists(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), testRivals(), []string{"-list"}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, r := range rivals() {
		if i := r.Info(); !strings.Contains(out.String(), i.Name) || !strings.Contains(out.String(), i.Setup) {
			t.Errorf("%s is missing or not described:\n%s", i.Name, out.String())
		}
	}
}

func TestRatioIsTheMedianOfRounds(t *testing.T) {
	at := func(rps, cpu float64) *measure {
		return &measure{PerSecond: rps, P50: 1 / rps, P99: 2 / rps, ClientCPU: cpu / 2, ServerCPU: cpu / 2}
	}
	// The machine slows down by the round; the second round of the base and
	// the fourth of the other failed.
	base := []*measure{at(100, 8), nil, at(50, 16), at(20, 40), at(10, 80)}
	other := []*measure{at(400, 2), at(999, 1), at(100, 8), nil, at(30, 40)}
	got := medianRatio(other, base)
	if got == nil || got.PerSecond != 3 || got.CPU != 0.5 || got.P50 < 0.33 || got.P50 > 0.34 {
		t.Errorf("ratio %+v, want 3 times the speed for half the CPU", got)
	}
	if got := medianRatio([]*measure{nil}, []*measure{at(1, 1)}); got != nil {
		t.Errorf("ratio without a common round: %+v", got)
	}
	if got := medianMeasure(base); got.PerSecond != 35 {
		t.Errorf("median of 100, 50, 20, 10 is %g", got.PerSecond)
	}
}

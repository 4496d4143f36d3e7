//go:build unix

package supervise

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hull-go/hull/demo/faults"
)

// The test binary is also the node, and the parent that is killed.
func TestMain(m *testing.M) {
	switch os.Getenv("SUPERVISE_TEST_ROLE") {
	case "node":
		if err := runNode(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "parent":
		if err := runParent(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		os.Exit(m.Run())
	}
}

// runNode is a node that accepts connections and says "hello" on them.
func runNode() error {
	ctx := context.Background()
	l := NewLink(os.Stdin, os.Stdout, func(_ context.Context, op string, arg json.RawMessage) (any, error) {
		switch op {
		case OpStart:
			var r StartRequest
			if err := json.Unmarshal(arg, &r); err != nil {
				return nil, err
			}
			if r.Config == "refuse" {
				return nil, errors.New("this node refuses to start")
			}
			l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", r.Addr)
			if err != nil {
				return nil, err
			}
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = c.Write([]byte("hello"))
					c.Close()
				}
			}()
			return StartReply{Addr: l.Addr().String()}, nil
		case OpFault, OpHeal, OpHold:
			return nil, nil
		}
		return nil, errors.New(op)
	})
	return l.Run(ctx)
}

// runParent starts three nodes, freezes one, tells who they are, and waits to be killed.
func runParent() error {
	ctx := context.Background()
	f, err := newFleet(ctx, nil)
	if err != nil {
		return err
	}
	if err := f.Inject(ctx, FaultRequest{Node: "n2", Fault: FaultHang}); err != nil {
		return err
	}
	for _, s := range f.Status() {
		fmt.Println(s.PID)
	}
	fmt.Println("ready")
	select {}
}

func newFleet(ctx context.Context, config any) (*Fleet, error) {
	if err := os.Setenv("SUPERVISE_TEST_ROLE", "node"); err != nil { // this process has its role already
		return nil, err
	}
	l, err := NewLauncher([]string{os.Args[0]}, os.Stderr, nil)
	if err != nil {
		return nil, err
	}
	return NewFleet(ctx, FleetOptions{Launcher: l, Nodes: []string{"n1", "n2", "n3"}, Config: config, Restart: time.Hour})
}

// fleet starts three nodes for a test and sees to it that nothing is left of them.
func fleet(t *testing.T) *Fleet {
	t.Helper()
	t.Setenv("SUPERVISE_TEST_ROLE", "node")
	l, err := NewLauncher([]string{os.Args[0]}, os.Stderr, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := NewFleet(t.Context(), FleetOptions{Launcher: l, Nodes: []string{"n1", "n2", "n3"}, Restart: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		var pids []int
		for _, s := range f.Status() {
			if s.PID > 0 {
				pids = append(pids, s.PID)
			}
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		l.Close()
		for _, pid := range pids {
			if !gone(pid) {
				t.Errorf("process %d is left behind", pid)
			}
		}
	})
	return f
}

// gone reports whether a process has ended; one that nobody has waited for yet has.
func gone(pid int) bool {
	if b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat")); err == nil {
		_, rest, _ := strings.Cut(string(b), ") ")
		return strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
	}
	return !alive(pid)
}

// eventually waits for something that other processes do.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("after a minute still not: %s", what)
		}
	}
}

// greets reports whether the node says hello within d.
func greets(t *testing.T, addr string, d time.Duration) bool {
	t.Helper()
	c, err := (&net.Dialer{Timeout: d}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		return false
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(d)); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	return err == nil && string(b) == "hello"
}

func TestCrashAndHeal(t *testing.T) {
	f := fleet(t)
	before := f.Status()[0]
	if before.State != Up || before.PID == 0 || before.Starts != 1 || !greets(t, before.Address, 5*time.Second) {
		t.Fatalf("at first: %+v", before)
	}
	if err := f.Inject(t.Context(), FaultRequest{Node: "n1", Fault: FaultCrash, Seconds: -1}); err != nil {
		t.Fatal(err)
	}
	if !gone(before.PID) || greets(t, before.Address, time.Second) {
		t.Error("the node lives after its crash")
	}
	eventually(t, "the node is known to be down", func() bool { return f.Status()[0].State == Down })
	if s := f.Status()[0]; s.BackIn != 0 || s.PID != 0 {
		t.Errorf("down until it is healed: %+v", s)
	}
	if err := f.Inject(t.Context(), FaultRequest{Node: "n1", Fault: FaultHang}); err == nil || !strings.Contains(err.Error(), "heal it first") {
		t.Errorf("freezing a dead node: %v", err)
	}
	if err := f.Inject(t.Context(), FaultRequest{Node: "n1", Fault: Heal}); err != nil {
		t.Fatal(err)
	}
	after := f.Status()[0]
	if after.State != Up || after.Address != before.Address || after.PID == before.PID || after.Starts != 2 || !greets(t, after.Address, 5*time.Second) {
		t.Errorf("healed: %+v, before the crash: %+v", after, before)
	}
}

// Whoever heals a node the moment its crash is over finds it down, and starts it.
func TestHealRightAfterCrash(t *testing.T) {
	f := fleet(t)
	for i := range 10 {
		for _, fault := range []string{FaultCrash, Heal} {
			if err := f.Inject(t.Context(), FaultRequest{Node: "n1", Fault: fault, Seconds: -1}); err != nil {
				t.Fatalf("%s: %v", fault, err)
			}
		}
		if s := f.Status()[0]; s.State != Up || s.Starts != i+2 || !greets(t, s.Address, time.Minute) {
			t.Fatalf("%+v", s)
		}
	}
}

func TestCrashedNodeComesBack(t *testing.T) {
	f := fleet(t)
	if err := f.Inject(t.Context(), FaultRequest{Node: All, Fault: FaultCrash, Seconds: 0.05}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all nodes are back", func() bool {
		return !slices.ContainsFunc(f.Status(), func(s NodeStatus) bool { return s.State != Up || s.Starts != 2 })
	})
}

// A node that dies without having been told to is restarted too.
func TestNodeThatDiesByItself(t *testing.T) {
	f := fleet(t)
	pid := f.Status()[2].PID
	p, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a restart is planned", func() bool { s := f.Status()[2]; return s.State == Down && s.BackIn > 3000 })
}

func TestHangAndHeal(t *testing.T) {
	f := fleet(t)
	addr := f.Status()[1].Address
	if err := f.Inject(t.Context(), FaultRequest{Node: "n2", Fault: FaultHang}); err != nil {
		t.Fatal(err)
	}
	if s := f.Status()[1]; s.State != Frozen || !slices.Equal(s.Faults, []string{FaultHang}) {
		t.Errorf("frozen: %+v", s)
	}
	if greets(t, addr, 100*time.Millisecond) {
		t.Error("a frozen node answers")
	}
	if err := f.Inject(t.Context(), FaultRequest{Node: "n2", Fault: faults.NameSlow}); err == nil {
		t.Error("a frozen node takes a fault")
	}
	if err := f.Inject(t.Context(), FaultRequest{Node: "n2", Fault: Heal}); err != nil {
		t.Fatal(err)
	}
	if s := f.Status()[1]; s.State != Up || len(s.Faults) != 0 || !greets(t, addr, 5*time.Second) {
		t.Errorf("healed: %+v", s)
	}
	// Frozen again, it is ended with the others: see the end of fleet.
	if err := f.Inject(t.Context(), FaultRequest{Node: "n2", Fault: FaultHang}); err != nil {
		t.Fatal(err)
	}
}

func TestFaultThatPasses(t *testing.T) {
	f := fleet(t)
	if err := f.Inject(t.Context(), FaultRequest{Node: "n3", Fault: faults.NameErrors, Seconds: 0.05}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the fault has passed", func() bool { return len(f.Status()[2].Faults) == 0 })
}

func TestWrongRequests(t *testing.T) {
	f := fleet(t)
	tests := map[string]struct {
		r    FaultRequest
		want string
	}{
		"no node":       {FaultRequest{Fault: FaultHang}, "node is missing"},
		"unknown node":  {FaultRequest{Node: "n9", Fault: FaultHang}, "n1, n2, n3, or all"},
		"no fault":      {FaultRequest{Node: "n1"}, "fault is missing"},
		"unknown fault": {FaultRequest{Node: "n1", Fault: "meteor"}, "slow"},
		"too long":      {FaultRequest{Node: "n1", Fault: FaultHang, Seconds: 1e9}, "3600"},
		"percent":       {FaultRequest{Node: "n1", Fault: faults.NameErrors, Setting: faults.Setting{Percent: 300}}, "percent"},
	}
	for name, tt := range tests {
		if err := f.Inject(t.Context(), tt.r); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// If one node does not start, none is left.
func TestFleetThatCannotStart(t *testing.T) {
	t.Setenv("SUPERVISE_TEST_ROLE", "node")
	l, err := NewLauncher([]string{os.Args[0]}, os.Stderr, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := NewFleet(t.Context(), FleetOptions{Launcher: l, Nodes: []string{"n1"}, Config: "refuse"}); err == nil || !strings.Contains(err.Error(), "refuses to start") {
		t.Errorf("NewFleet = %v", err)
	}
	bad, err := NewLauncher([]string{"/no/such/program"}, os.Stderr, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer bad.Close()
	if _, err := NewFleet(t.Context(), FleetOptions{Launcher: bad, Nodes: []string{"n1"}}); err == nil {
		t.Error("a fleet of nothing starts")
	}
}

// kill -9 of the parent leaves no child behind, also not one that is frozen.
func TestParentKilled(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "SUPERVISE_TEST_ROLE=parent")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	for sc := bufio.NewScanner(out); sc.Scan() && sc.Text() != "ready"; {
		pid, err := strconv.Atoi(sc.Text())
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	if len(pids) != 3 {
		t.Fatalf("the parent has started %d nodes", len(pids))
	}
	for _, pid := range pids {
		if gone(pid) {
			t.Errorf("process %d is gone before its parent", pid)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for _, pid := range pids {
		eventually(t, fmt.Sprintf("process %d is gone", pid), func() bool { return gone(pid) })
	}
}

func TestMakeDir(t *testing.T) {
	parent := t.TempDir()
	dead := filepath.Join(parent, dirPrefix+"999999999-x")
	other := filepath.Join(parent, dirPrefix+"notes")
	for _, d := range []string{dead, other} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	dir, remove, err := MakeDir(parent)
	if err != nil {
		t.Fatal(err)
	}
	second, removeSecond, err := MakeDir(parent)
	if err != nil {
		t.Fatal(err)
	}
	defer removeSecond()
	for d, want := range map[string]bool{dead: false, other: true, dir: true, second: true} {
		if _, err := os.Stat(d); (err == nil) != want {
			t.Errorf("%s exists: %v, want %v", filepath.Base(d), err == nil, want)
		}
	}
	remove()
	if _, err := os.Stat(dir); err == nil {
		t.Error("the directory is still there")
	}
}

package engine

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// role is the variable that says which server a test binary is to be.
	role = "HULL_ENGINE"
	// sayAddr is what a server prints before its address, on a line of its own, once it can be reached.
	sayAddr = "engine listens on "
	// startTimeout bounds the start of a server on a busy machine.
	startTimeout = 2 * time.Minute
)

// Main runs the tests, or a server if this process has been started as one. Call it from TestMain. A server runs until
// its process ends; it calls listening when it can be reached.
func Main(m *testing.M, servers map[string]func(args []string, listening func(addr string)) error) {
	if s := servers[os.Getenv(role)]; s != nil {
		err := s(os.Args[1:], func(addr string) { fmt.Println(sayAddr + addr) })
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// Process is a server that can be killed, frozen and started again. It dies with the test.
type Process struct {
	t       testing.TB
	command func() *exec.Cmd

	mu   sync.Mutex
	addr chan string // what it said
	cmd  *exec.Cmd
	done chan struct{}
	log  *tail
}

// Self returns a process that is the test binary in the role of a server of Main. args makes the arguments anew for
// each start.
func Self(t testing.TB, server string, args func() []string) *Process {
	t.Helper()
	return New(t, func() *exec.Cmd { return Role(server, args()...) })
}

// Role returns the command that runs the test binary in the role of a server of Main.
func Role(server string, args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	cmd := exec.CommandContext(context.Background(), self, args...) // New ends it
	cmd.Env = append(os.Environ(), role+"="+server)
	return cmd
}

// New returns a process of what command returns for each start. It is not started yet.
func New(t testing.TB, command func() *exec.Cmd) *Process {
	p := &Process{t: t, command: command}
	t.Cleanup(p.Kill)
	return p
}

// Start starts the server and returns the address it says it listens on, as Main's do.
func (p *Process) Start() string {
	p.t.Helper()
	p.Launch()
	return p.Await()
}

// Launch starts the server without waiting for it.
func (p *Process) Launch() {
	p.t.Helper()
	addr := make(chan string, 1)
	p.addr = addr
	p.start(func(line string) {
		if a, ok := strings.CutPrefix(line, sayAddr); ok {
			addr <- a
		}
	})
}

// Await waits for a server that was launched, and returns its address.
func (p *Process) Await() string {
	p.t.Helper()
	select {
	case a := <-p.addr:
		return a
	case <-p.done:
		p.t.Fatalf("the server ended at once:\n%s", p.log)
	case <-time.After(startTimeout):
		p.t.Fatalf("the server did not start:\n%s", p.log)
	}
	return ""
}

// StartUntil starts the server and waits until ready returns nil.
func (p *Process) StartUntil(ready func(ctx context.Context) error) {
	p.t.Helper()
	p.Launch()
	p.Until(ready)
}

// Until waits until ready returns nil for a server that was launched.
func (p *Process) Until(ready func(ctx context.Context) error) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), startTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-p.done:
			p.t.Fatalf("the server ended at once:\n%s", p.log)
		case <-ctx.Done():
			p.t.Fatalf("the server did not start: %v\n%s", err, p.log)
		}
	}
}

func (p *Process) start(line func(string)) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	cmd := p.command()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = attributes()
	}
	log := &tail{}
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	done, err := spawn(cmd, func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			fmt.Fprintln(log, s.Text())
			line(s.Text())
		}
		_ = cmd.Wait()
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.cmd, p.done, p.log = cmd, done, log
}

// spawn starts a command and calls wait, which returns at its end, on a goroutine that then closes done. The command
// is to die with its parent, which to the kernel is the thread that started it: that thread stays until then.
func spawn(cmd *exec.Cmd, wait func()) (done chan struct{}, err error) {
	started := make(chan error)
	done = make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			wait()
		}
	}()
	return done, <-started
}

// Kill ends the server without a warning, frozen or not, and waits for its end.
func (p *Process) Kill() { p.end(syscall.SIGKILL) }

// Stop ends it in good order.
func (p *Process) Stop() { p.end(syscall.SIGTERM) }

func (p *Process) end(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(s)
	<-p.done
	p.cmd = nil
}

// Freeze stops the server's time: it answers nothing, and the kernel goes on accepting for it.
func (p *Process) Freeze() { p.Signal(syscall.SIGSTOP) }

// Thaw undoes Freeze.
func (p *Process) Thaw() { p.Signal(syscall.SIGCONT) }

// Signal sends the server a signal.
func (p *Process) Signal(s syscall.Signal) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		p.t.Fatal("the server does not run")
	}
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// Log returns the end of what the server has said.
func (p *Process) Log() string { return p.log.String() }

// tail keeps the last of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	const most = 16 << 10
	t.b = append(t.b, b...)
	if len(t.b) > most {
		t.b = append([]byte(nil), t.b[len(t.b)-most:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}

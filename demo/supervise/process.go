package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"
)

// grace is how long a child may take to end when it is asked to.
const grace = 2 * time.Second

// Launcher starts child processes. All of them are started from one thread that lives as long as the Launcher, because
// Linux takes the death of a parent's thread for the death of the parent.
type Launcher struct {
	command []string
	stderr  io.Writer
	log     *slog.Logger
	starts  chan func()
	done    chan struct{}
}

// NewLauncher returns a Launcher whose children run command followed by their own arguments. What they write to standard
// error goes to stderr. Close ends it, not its children.
func NewLauncher(command []string, stderr io.Writer, log *slog.Logger) (*Launcher, error) {
	if len(command) == 0 {
		return nil, errors.New("supervise: there is no command to start children with")
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	l := &Launcher{command: command, stderr: stderr, log: log, starts: make(chan func()), done: make(chan struct{})}
	go func() {
		defer close(l.done)
		// Never unlocked: the thread ends with the goroutine, and no sooner.
		runtime.LockOSThread()
		for f := range l.starts {
			f()
		}
	}()
	return l, nil
}

// Close ends the Launcher's thread. Linux kills the children that are left.
func (l *Launcher) Close() {
	close(l.starts)
	<-l.done
}

// Process is a child that runs or has run.
type Process struct {
	// Link talks with the child. It may be used as soon as the child runs.
	Link *Link

	name  string
	cmd   *exec.Cmd
	stdin io.Closer
	done  chan struct{}

	mu      sync.Mutex
	stopped bool
	err     error
}

// Start starts a child. h answers what it asks.
func (l *Launcher) Start(name string, h Handler, args ...string) (*Process, error) {
	//nolint:noctx // a child ends by Stop and Kill; a context would kill it without asking
	cmd := exec.Command(l.command[0], append(append([]string{}, l.command[1:]...), args...)...)
	cmd.Stderr = l.stderr
	cmd.SysProcAttr = attributes()
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		in.Close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	started := make(chan error)
	l.starts <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Process{Link: NewLink(out, in, h), name: name, cmd: cmd, stdin: in, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		if err := p.Link.Run(context.Background()); err != nil && !errors.Is(err, os.ErrClosed) {
			l.log.Warn("a child's pipe broke", "child", name, "error", err)
		}
		in.Close()
		err := cmd.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
	}()
	return p, nil
}

// PID is the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended and nothing of it is left.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how the child ended, nil for an orderly end. Valid once Done is closed.
func (p *Process) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Frozen reports whether Freeze is in force.
func (p *Process) Frozen() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stopped
}

// Freeze stops the child as SIGSTOP does: it is there, its ports are open, and it does nothing at all.
func (p *Process) Freeze() error {
	if err := freeze(p.cmd.Process); err != nil {
		return fmt.Errorf("freeze %s: %w", p.name, err)
	}
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	return nil
}

// Thaw lets a frozen child go on.
func (p *Process) Thaw() error {
	if err := thaw(p.cmd.Process); err != nil {
		return fmt.Errorf("thaw %s: %w", p.name, err)
	}
	p.mu.Lock()
	p.stopped = false
	p.mu.Unlock()
	return nil
}

// Kill ends the child at once, as kill -9 does, and waits until it is gone.
func (p *Process) Kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.name, err)
	}
	<-p.done
	return nil
}

// Stop asks the child to end, by closing its standard input, and kills it if it is frozen or does not end in time.
func (p *Process) Stop() error {
	if p.Frozen() {
		return p.Kill()
	}
	p.stdin.Close()
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-p.done:
		return nil
	case <-t.C:
		return p.Kill()
	}
}

// String returns the child's name and process id.
func (p *Process) String() string { return fmt.Sprintf("%s (pid %d)", p.name, p.PID()) }

package hull_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hull-go/hull"
)

// systemd listens as systemd does. await waits until it is told something.
func systemd(t *testing.T) (socket string, await func(want string)) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	told, done := make(chan string, 100), make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 4096)
		for {
			n, err := l.Read(b)
			if err != nil {
				return
			}
			select {
			case told <- string(b[:n]):
			case <-t.Context().Done(): // nobody wants to know any more
				return
			}
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done }) // it has been read from
	return socket, func(want string) {
		t.Helper()
		for {
			select {
			case got := <-told:
				if strings.Contains(got, want) {
					return
				}
			case <-time.After(time.Minute):
				t.Fatalf("systemd was not told: %s", want)
			}
		}
	}
}

// TestServeEndsBySignal: the first signal has servers leave gently, the second ends them at once. systemd is told.
func TestServeEndsBySignal(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // a process cannot send itself these signals there
	}
	socket, await := systemd(t)
	s, err := hull.NewServer("plant", hull.WithRegistry(memory(t)), hull.Systemd(socket), hull.Drain(time.Hour, time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	hanging(make(chan struct{}), new(atomic.Int64))(s)
	ended := make(chan error, 1)
	go func() { ended <- hull.Serve(t.Context(), s) }()
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	await("READY=1")
	for _, want := range []string{"STOPPING=1\nSTATUS=leaving", "STATUS=closed"} {
		if err := self.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		await(want)
	}
	if err := <-ended; err != nil {
		t.Log(err) // what was cut off: it may say so, though nothing was under way
	}
}

// TestSystemdWatchdog: systemd hears that a server lives for as long as it does, also while a call hangs and while it leaves.
func TestSystemdWatchdog(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // there are no such sockets
	}
	socket, await := systemd(t)
	s, err := hull.NewServer("plant", hull.WithRegistry(memory(t)), hull.Systemd(socket), hull.SystemdWatchdog(socket, "20000"), hull.Drain(time.Hour, time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	hanging(make(chan struct{}), new(atomic.Int64))(s)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	for _, phase := range []string{"READY=1", "STOPPING=1"} {
		await(phase)
		for range 5 {
			await("WATCHDOG=1")
		}
		stop()
	}
	_ = s.Close()
	await("STATUS=closed")
	if err := <-ended; err != nil {
		t.Log(err) // what was cut off: it may say so, though nothing was under way
	}
	for _, usec := range []string{"soon", "-1", "0", "1e99", "99999999999999999"} {
		if _, err := hull.NewServer("plant", hull.SystemdWatchdog(socket, usec)); err == nil {
			t.Errorf("%q is taken for a time", usec)
		}
	}
	if _, err := hull.NewServer("plant", hull.SystemdWatchdog("", "soon"), hull.SystemdWatchdog(socket, "")); err != nil {
		t.Error(err)
	}
}

package muxtransport_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/muxtransport"
)

// stopServer, in the environment, makes this test program a server that prints its address and ends with its input.
const stopServer = "MUXTRANSPORT_TEST_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(stopServer) == "" {
		os.Exit(m.Run())
	}
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	s, err := muxtransport.NewServer(new(startedHandler), muxtransport.Options{})
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				panic(err)
			}
			go s.ServeConn(c)
		}
	}()
	fmt.Println(ln.Addr())
	_, _ = bufio.NewReader(os.Stdin).ReadString(0)
}

// startedHandler remembers the requests that it was started for, and lists them.
type startedHandler struct {
	mu      sync.Mutex
	started []string
}

func (h *startedHandler) Unary(_ context.Context, in *transport.Incoming) transport.Outgoing {
	h.mu.Lock()
	defer h.mu.Unlock()
	if in.Method == "list" {
		return transport.Outgoing{Codec: codec.Bytes{}, Message: []byte(strings.Join(h.started, " "))}
	}
	h.started = append(h.started, string(in.Payload[:min(len(in.Payload), 20)]))
	return transport.Outgoing{Codec: codec.Bytes{}, Message: []byte(nil)}
}

func (*startedHandler) Stream(context.Context, *transport.Incoming, transport.ServerStream) transport.Outgoing {
	return transport.Outgoing{}
}

// A server process that was stopped and goes on starts no handler for calls that were given up meanwhile, by their deadline
// or by their caller, and serves those that somebody still waits for.
func TestServerStopped(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), stopServer+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	d, err := muxtransport.NewDialer(muxtransport.Options{KeepaliveTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	c, serr := d.Dial(context.Background(), strings.TrimSpace(addr))
	if serr != nil {
		t.Fatal(serr)
	}
	defer c.Close()
	call := func(ctx context.Context, method, msg string, timeout time.Duration) (string, *status.Error) {
		var rep []byte
		err := c.Call(ctx, &transport.Request{Method: method, Codec: codec.Bytes{}, Message: []byte(msg), Deadline: policy.Now().Add(timeout),
			PathAttempt: 1}, &transport.Reply{Message: &rep})
		return string(rep), err
	}
	list := func() string {
		started, err := call(context.Background(), "list", "", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return started
	}
	for range 100 { // long enough for the method to be known as quick
		if _, err := call(context.Background(), "m", "before", time.Minute); err != nil {
			t.Fatal(err)
		}
	}

	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var state syscall.WaitStatus
	if _, err := syscall.Wait4(cmd.Process.Pid, &state, syscall.WUNTRACED, nil); err != nil || !state.Stopped() {
		t.Fatalf("the server did not stop: %v, %v", state, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	const each = 100
	for i := range each {
		wg.Go(func() { _, _ = call(context.Background(), "m", fmt.Sprintf("late-%d", i), 100*time.Millisecond) })
		wg.Go(func() { _, _ = call(ctx, "m", fmt.Sprintf("cancelled-%d", i), time.Hour) })
		wg.Go(func() {
			_, _ = call(ctx, "m", fmt.Sprintf("large-%d", i)+strings.Repeat(" ", 50<<10), time.Hour)
		})
	}
	patient := make(chan *status.Error, 1)
	go func() {
		_, err := call(context.Background(), "m", "patient", time.Hour)
		patient <- err
	}()
	time.AfterFunc(300*time.Millisecond, cancel)
	wg.Wait()
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := <-patient; err != nil {
		t.Error(err)
	}
	for range 100 { // whatever was to start has started
		list()
	}
	started := strings.Fields(list())
	for _, s := range started {
		if s != "before" && s != "patient" {
			t.Errorf("a handler ran for %s", s)
		}
	}
	if len(started) != 101 {
		t.Errorf("%d handlers ran, want 101", len(started))
	}
}

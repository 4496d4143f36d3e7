package chaos_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	_ "modernc.org/sqlite" // the driver of the keys' store

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/idempotency"
	"github.com/hull-go/hull/idempotency/sqlitestore"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/natsregistry"
	"github.com/hull-go/hull/status"
)

const (
	service   = "work"
	methodGet = "chaos.Work/Get" // idempotent
	methodPut = "chaos.Work/Put"
	methodPay = "chaos.Work/Pay" // with a key
	// methodSick fails when it is told to.
	methodSick = "chaos.Work/Sick"
)

// request is what nodes are asked.
type request struct {
	ID   uint64
	For  string // the service that is meant
	Ms   int    // how long it takes
	Fill string `json:",omitempty"`
	// Poison kills the process that runs it, Panic only the handler.
	Poison, Panic bool `json:",omitempty"`
	// Sick has the handler say that the service is unavailable.
	Sick bool `json:",omitempty"`
	// Reply is how large the answer is.
	Reply int `json:",omitempty"`
	// Burn is how much time of a processor it takes.
	Burn time.Duration `json:",omitempty"`

	read policy.Time // when UnmarshalJSON began
}

// UnmarshalJSON implements json.Unmarshaler, to know when the server reads the request.
func (r *request) UnmarshalJSON(b []byte) error {
	type plain request
	now := policy.Now()
	err := json.Unmarshal(b, (*plain)(r))
	r.read = now
	return err
}

type reply struct {
	Node uint16
	Fill string `json:",omitempty"`
}

// nodeConfig is what a node's process is told, as JSON.
type nodeConfig struct {
	Registry string
	Service  string
	Number   uint16
	Addr     string
	Ledger   string
	TTL      time.Duration
	// Drain is how long leaving waits for callers; 0 = the default.
	Drain time.Duration
	// Descriptors bounds the files of the process; 0 = as many as it may have.
	Descriptors uint64
	// Cert and Key are files; empty = no TLS. They are read again for each handshake.
	Cert, Key string
	// Sample is how often the node says how it is.
	Sample time.Duration
	// DrainPanic: handlers that run when the node leaves panic.
	DrainPanic bool
	// Workers is how many calls are worked on at a time, whatever the server lets in; 0 = all.
	Workers int
	// Keys is a file that nodes share keys through; empty = they share none.
	Keys string
	// Admin: the node has an admin page, and prints where.
	Admin bool
	// Busy is how much time of a processor the node uses every second beside its calls.
	Busy time.Duration
}

// keysTTL is how long nodes believe that another lives which runs a call with a key: for less than a call's time, so that calls hear that they are in doubt before it is up.
const keysTTL = 2 * time.Second

// sayAdmin is what a node prints before where its admin page is, sayTaken before how many descriptors it has taken.
const sayAdmin, sayTaken = "admin ", "taken "

// serveNode is the role of a server's process. SIGUSR1 has it reset its connections, SIGUSR2 take all descriptors that it may have, and give them back the next time.
func serveNode(args []string, listening func(string)) error {
	fmt.Println(sayPID, os.Getpid())
	var c nodeConfig
	if err := json.Unmarshal([]byte(args[0]), &c); err != nil {
		return err
	}
	if c.Descriptors > 0 {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: c.Descriptors, Max: c.Descriptors}); err != nil {
			return err
		}
	}
	r, err := openRegistry(c.Registry, c.TTL)
	if err != nil {
		return err
	}
	l, err := openLedger(c.Ledger, false)
	if err != nil {
		return err
	}
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", c.Addr)
	if err != nil {
		return err
	}
	kept := &keeper{Listener: ln}
	leaving := make(chan struct{})
	opts := []hull.ServerOption{hull.WithRegistry(r), hull.NodeID(nodeID(c.Number)), hull.Listener(kept), hull.WithLogger(logger(slog.LevelWarn)),
		hull.OnPhase(func(p hull.PhaseChange) {
			if p.Phase == hull.Leaving {
				close(leaving)
			}
		})}
	if c.Drain > 0 {
		opts = append(opts, hull.Drain(c.Drain, hull.DefaultDrainTimeout))
	}
	if c.Cert != "" {
		opts = append(opts, hull.ServeTLS(tlsOf(c.Cert, c.Key)))
	}
	if c.Admin {
		opts = append(opts, hull.WithAdmin("127.0.0.1:0"))
	}
	if c.Keys != "" {
		db, err := sql.Open("sqlite", "file:"+c.Keys+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)&_pragma=synchronous(normal)")
		if err != nil {
			return err
		}
		defer db.Close()
		store, err := sqlitestore.New(context.Background(), db)
		if err != nil {
			return err
		}
		opts = append(opts, hull.WithIdempotency(idempotency.Options{Store: store, Keep: time.Minute, TTL: keysTTL}))
	}
	s, err := hull.NewServer(c.Service, opts...)
	if err != nil {
		return err
	}
	n := &node{nodeConfig: c, ledger: l, leaving: leaving}
	if c.Workers > 0 {
		n.workers = make(chan struct{}, c.Workers)
	}
	hull.Handle(s, methodGet, n.serve(kindGet), hull.Idempotent())
	hull.Handle(s, methodPut, n.serve(kindPut))
	hull.Handle(s, methodPay, n.serve(kindPay))
	hull.Handle(s, methodSick, n.serve(kindSick))

	resets := make(chan os.Signal, 1)
	signal.Notify(resets, syscall.SIGUSR1)
	go func() {
		for range resets {
			kept.reset()
		}
	}()
	if c.Busy > 0 {
		go beBusy(c.Busy)
	}
	takes := make(chan os.Signal, 1)
	signal.Notify(takes, syscall.SIGUSR2)
	go takeDescriptors(takes)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	if c.Sample > 0 {
		wg.Go(func() {
			if err := sampling(ctx, c.Ledger+".samples", c.Sample, func(at *sample) {
				at.measure()
				at.InFlight, at.Accepted = int(s.Snapshot().InFlight), kept.count()
				at.Done, at.Took = n.done.Load(), time.Duration(n.took.Load())
			}); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		})
	}
	go func() {
		<-s.Ready()
		if c.Admin {
			fmt.Println(sayAdmin + s.AdminAddr())
		}
		listening(s.Addr())
	}()
	err = hull.Serve(context.Background(), s)
	fmt.Println("left:", err)
	cancel()
	wg.Wait()
	return errors.Join(err, r.Close(), l.close())
}

// takeDescriptors opens files until no more can be, at every other signal, and closes them at the others.
func takeDescriptors(signals <-chan os.Signal) {
	var taken []*os.File
	for range signals {
		if taken == nil {
			for f, err := os.Open(os.DevNull); err == nil; f, err = os.Open(os.DevNull) {
				taken = append(taken, f)
			}
		} else {
			for _, f := range taken {
				_ = f.Close()
			}
			taken = nil
		}
		fmt.Println(sayTaken, len(taken))
	}
}

// node is a server under way.
type node struct {
	nodeConfig
	ledger  *ledger
	leaving chan struct{}

	workers    chan struct{} // nil = everybody is one
	done, took atomic.Int64
}

func (n *node) serve(kind int) func(context.Context, *request) (*reply, error) {
	return func(ctx context.Context, r *request) (*reply, error) {
		st := started{Call: r.ID, At: policy.Now(), Read: r.read, Once: kind == kindPut, Keyed: kind == kindPay, Astray: r.For != n.Service, Node: n.Number}
		if err := ctx.Err(); err != nil {
			st.Known = true
			if d, ok := ctx.Deadline(); ok && errors.Is(err, context.DeadlineExceeded) {
				st.Over = policy.At(d)
			}
		}
		n.ledger.write(&st)
		if r.Poison {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		if r.Panic {
			panic("asked to")
		}
		if r.Sick {
			return nil, status.Errorf(status.Unavailable, "as it was told to be")
		}
		burn(r.Burn)
		if err := n.work(ctx, time.Duration(r.Ms)*time.Millisecond); err != nil {
			return nil, err
		}
		if n.DrainPanic {
			select {
			case <-n.leaving:
				panic("leaving")
			default:
			}
		}
		return &reply{n.Number, strings.Repeat("x", r.Reply)}, nil
	}
}

// burn uses so much time of a processor, however long that takes.
func burn(d time.Duration) {
	if d == 0 {
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for end := threadTime() + d; threadTime() < end; {
	}
}

// beBusy uses so much time of a processor every second.
func beBusy(d time.Duration) {
	for tick := time.NewTicker(time.Second); ; <-tick.C {
		burn(d)
	}
}

// threadTime is what this thread has used of processors.
func threadTime() time.Duration {
	const thread = 1 // RUSAGE_THREAD
	var u syscall.Rusage
	if err := syscall.Getrusage(thread, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// work takes so long, once there is a worker for it.
func (n *node) work(ctx context.Context, d time.Duration) error {
	if n.workers != nil {
		select {
		case n.workers <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		began := time.Now()
		defer func() {
			n.done.Add(1)
			n.took.Add(int64(time.Since(began)))
			<-n.workers
		}()
	}
	if d > 0 {
		select {
		case <-time.After(d):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// keeper is a listener that can reset the connections that it accepted last.
type keeper struct {
	net.Listener
	mu    sync.Mutex
	conns []*net.TCPConn
	n     int
}

// count is how many connections there have been.
func (k *keeper) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.n
}

func (k *keeper) Accept() (net.Conn, error) {
	c, err := k.Listener.Accept()
	if t, ok := c.(*net.TCPConn); ok {
		const most = 32 // what is older has long been closed, or is spared
		k.mu.Lock()
		k.n++
		if k.conns = append(k.conns, t); len(k.conns) > most {
			k.conns = append([]*net.TCPConn(nil), k.conns[1:]...)
		}
		k.mu.Unlock()
	}
	return c, err
}

// reset has the kernel answer with RST on every connection.
func (k *keeper) reset() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.conns {
		_ = c.SetLinger(0) // those that are closed do not mind
		_ = c.Close()
	}
	k.conns = nil
}

func openRegistry(at string, ttl time.Duration) (*registry.Registry, error) {
	u, err := url.Parse(at)
	if err != nil {
		return nil, err
	}
	d, err := natsregistry.FromURL(u)
	if err != nil {
		return nil, err
	}
	return registry.New(d, registry.Options{TTL: ttl, Interval: ttl / 4})
}

func logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

func nodeID(n uint16) string { return "n" + strconv.Itoa(int(n)) }

// nodeNumber undoes nodeID; 0 for what is no node's.
func nodeNumber(id string) uint16 {
	n, err := strconv.ParseUint(strings.TrimPrefix(id, "n"), 10, 16)
	if err != nil {
		return 0
	}
	return uint16(n)
}

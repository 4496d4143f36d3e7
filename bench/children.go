package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"time"
)

// Client and server are processes of their own: this program started again
// with one of these as its first argument. They are told what to do by lines
// on their standard input, answer with JSON lines on their standard output,
// and end when the input does, so none outlives the one who started them.
const (
	roleServe = "serve"
	roleLoad  = "load"
)

// Words on the standard input of the children.
const (
	wordBegin = "begin" // server: collect garbage, then tell the usage
	wordEnd   = "end"   // server: tell the usage
	wordRest  = "rest"  // server: give unused memory back to the system, then tell the usage
	wordGo    = "go"    // client: measure
	wordOpen  = "open"  // idle client: open the other connections
)

// hello is the first line of a child: a server's address, or that a client is
// warm.
type hello struct {
	Addr string `json:"addr,omitempty"`
}

// loadResult is the client's part of a measurement.
type loadResult struct {
	Calls  uint64        `json:"calls"`
	Bulk   int64         `json:"bulk"`
	Took   time.Duration `json:"took_ns"`
	P50    time.Duration `json:"p50_ns"`
	P99    time.Duration `json:"p99_ns"`
	Before usage         `json:"before"`
	After  usage         `json:"after"`
}

// isRole tells whether args, without the program's name, start a child.
func isRole(args []string) bool {
	return len(args) > 0 && (args[0] == roleServe || args[0] == roleLoad || args[0] == roleIdle)
}

// runRole is the main function of a child.
func runRole(ctx context.Context, all []Rival, args []string, in io.Reader, out io.Writer) error {
	fs := flag.NewFlagSet(args[0], flag.ContinueOnError)
	name := fs.String("rival", "", "name of the rival")
	addr := fs.String("addr", "", "address to call")
	c := fs.Int("c", 1, "workers")
	size := fs.Int("size", 100, "bytes of a message")
	d := fs.Duration("d", time.Second, "how long to measure")
	warm := fs.Duration("warm", time.Second, "how long to warm up")
	shape := fs.String("shape", shapeUnary, "shape of the load")
	profile := fs.String("profile", "", "file for a CPU profile of the measurement")
	heap := fs.String("heap", "", "file for a heap profile of the server at rest")
	if err := fs.Parse(args[1:]); err != nil {
		return err
	}
	picked, err := pick(all, *name)
	if err != nil {
		return err
	}
	if len(picked) != 1 {
		return fmt.Errorf("-rival: one name is needed")
	}
	if args[0] == roleServe {
		return serveRole(ctx, picked[0], *profile, *heap, in, out)
	}
	if args[0] == roleIdle {
		return idleRole(ctx, picked[0].Info().Name, *addr, *c, *d, in, out)
	}
	caller, err := picked[0].Dial(ctx, *addr)
	if err != nil {
		return err
	}
	l := newLoad(caller, *c, *size)
	if err := l.as(*shape); err != nil {
		return err
	}
	return loadRole(l, *warm, *d, *profile, in, out)
}

func serveRole(ctx context.Context, r Rival, profile, heap string, in io.Reader, out io.Writer) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- r.Serve(ctx, ln) }()
	words := lines(in)
	enc := json.NewEncoder(out)
	if err := enc.Encode(hello{Addr: ln.Addr().String()}); err != nil {
		return err
	}
	stop := func() error { return nil }
	for {
		select {
		case err := <-served:
			return fmt.Errorf("server ended: %w", err)
		case word, ok := <-words:
			if !ok {
				return nil
			}
			switch word {
			case wordBegin:
				runtime.GC()
				if stop, err = startProfile(profile); err != nil {
					return err
				}
			case wordEnd:
				if err := stop(); err != nil {
					return err
				}
			case wordRest:
				debug.FreeOSMemory()
				if err := writeHeap(heap); err != nil {
					return err
				}
			}
			if err := enc.Encode(takeUsage()); err != nil {
				return err
			}
		}
	}
}

func loadRole(l *load, warm, d time.Duration, profile string, in io.Reader, out io.Writer) error {
	if _, err := l.run(warm); err != nil {
		return err
	}
	runtime.GC()
	words := lines(in)
	enc := json.NewEncoder(out)
	if err := enc.Encode(hello{}); err != nil {
		return err
	}
	if _, ok := <-words; !ok {
		return nil
	}
	go func() {
		<-words // nothing follows, so this is the end of the input
		os.Exit(1)
	}()
	stop, err := startProfile(profile)
	if err != nil {
		return err
	}
	res := loadResult{Before: takeUsage()}
	if res.Took, err = l.run(d); err != nil {
		return err
	}
	res.After = takeUsage()
	if err := stop(); err != nil {
		return err
	}
	res.Calls, res.Bulk = l.calls(), l.bulk
	q := l.quantiles(0.50, 0.99)
	res.P50, res.P99 = q[0], q[1]
	return enc.Encode(res)
}

// startProfile writes a CPU profile to file until stop is called. An empty name
// means none.
func startProfile(file string) (stop func() error, err error) {
	if file == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}

// writeHeap writes a heap profile to file. An empty name means none.
func writeHeap(file string) error {
	if file == "" {
		return nil
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(pprof.WriteHeapProfile(f), f.Close())
}

// lines sends each line of in, and closes the channel at its end. It reads
// until then, so it is for processes that end with their input.
func lines(in io.Reader) <-chan string {
	ch := make(chan string)
	go func() {
		defer close(ch)
		sc := bufio.NewScanner(in)
		for sc.Scan() {
			ch <- sc.Text()
		}
	}()
	return ch
}

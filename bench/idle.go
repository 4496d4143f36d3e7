package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"strconv"
	"text/tabwriter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/hull-go/hull/bench/echopb"
	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/muxtransport"
)

// roleIdle is a child that opens connections and leaves them alone, but for a few.
const roleIdle = "idle"

// fewConns is how many connections carry calls beside those that are idle. The first child opens these first.
const fewConns = 10

// idleResult is what a server cost with its connections open. What is counted
// in bytes is for each connection.
type idleResult struct {
	Rival   string  `json:"rival"`
	Conns   int     `json:"conns"`
	PerConn float64 `json:"rss_bytes"`
	// Heap, Stacks and Runtime are parts of it: what lives on the heap, the
	// stacks of goroutines, and what else the runtime has from the system.
	Heap       float64 `json:"heap_bytes"`
	Stacks     float64 `json:"stack_bytes"`
	Runtime    float64 `json:"runtime_bytes"`
	Goroutines float64 `json:"goroutines"`
	// Before and After are calls on a few connections, when there are no others and when there are all.
	Before, After loadResult
}

// runIdle measures what idle connections cost a server: its resident memory
// with n of them, opened by several processes, less that with a few. Both are
// taken when the runtime has given back what it does not use. It fails if one
// of the calls that are made meanwhile does.
func runIdle(ctx context.Context, exe string, args []string, out, progress io.Writer) error {
	fs := flag.NewFlagSet("bench idle-cost", flag.ContinueOnError)
	fs.SetOutput(progress)
	n := fs.Int("n", 19000, "how many `connections`")
	procs := fs.Int("procs", 4, "how many client `processes` open them")
	settle := fs.Duration("settle", 5*time.Second, "how long to leave them alone before measuring")
	only := fs.String("only", "hull", "`names` of rivals: hull, grpc")
	heap := fs.String("heap", "", "`file` for a heap profile of the server with its connections")
	if err := parse(fs, args); err != nil {
		return err
	}
	if *n < 2*fewConns || *procs < 1 {
		return fmt.Errorf("-n must be at least %d, -procs at least 1", 2*fewConns)
	}
	picked, err := pick(rivals(), *only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tconnections\tserver RSS each\theap\tstacks\truntime\tgoroutines\tcalls beside them\tp50\tp99\tfailed\twithout them: p50\tp99\t")
	for _, rv := range picked {
		r := &runner{exe: exe, d: time.Second, heap: *heap}
		res, err := r.idle(ctx, rv.Info().Name, *n, *procs, *settle)
		if err != nil {
			return fmt.Errorf("%s: %w", rv.Info().Name, err)
		}
		fmt.Fprintf(w, "%s\t%d\t%.0f B\t%.0f B\t%.0f B\t%.0f B\t%.2f\t%d\t%.0f µs\t%.0f µs\t0\t%.0f µs\t%.0f µs\t\n", res.Rival, res.Conns, res.PerConn,
			res.Heap, res.Stacks, res.Runtime, res.Goroutines, res.After.Calls, micros(res.After.P50), micros(res.After.P99),
			micros(res.Before.P50), micros(res.Before.P99))
	}
	return w.Flush()
}

func (r *runner) idle(ctx context.Context, rival string, n, procs int, settle time.Duration) (idleResult, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	srv, err := r.start(ctx, nil, roleServe, "-rival", rival, "-heap", r.heap)
	if err != nil {
		return idleResult{}, err
	}
	defer srv.stop()
	var h hello
	if err := srv.read(&h); err != nil {
		return idleResult{}, err
	}
	res := idleResult{Rival: rival, Conns: n}
	var few *child
	var without, with usage
	for i := range procs {
		share := (n - fewConns) / procs
		if i == 0 {
			share += (n - fewConns) % procs
		}
		cl, err := r.start(ctx, nil, roleIdle, "-rival", rival, "-addr", h.Addr, "-c", strconv.Itoa(share), "-d", r.d.String())
		if err != nil {
			return idleResult{}, err
		}
		defer cl.stop()
		var ready hello
		if i == 0 {
			few = cl
			if err := cl.ask(wordGo, &res.Before); err != nil {
				return idleResult{}, err
			}
			if err := srv.ask(wordRest, &without); err != nil {
				return idleResult{}, err
			}
		}
		if err := cl.ask(wordOpen, &ready); err != nil {
			return idleResult{}, err
		}
	}
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return idleResult{}, ctx.Err()
	}
	if err := srv.ask(wordRest, &with); err != nil {
		return idleResult{}, err
	}
	if err := few.ask(wordGo, &res.After); err != nil {
		return idleResult{}, err
	}
	each := func(with, without int64) float64 { return float64(with-without) / float64(n-fewConns) }
	res.PerConn = each(with.RSS, without.RSS)
	res.Heap, res.Stacks = each(with.Heap, without.Heap), each(with.Stacks, without.Stacks)
	res.Runtime, res.Goroutines = each(with.Runtime, without.Runtime), each(with.Goroutines, without.Goroutines)
	return res, nil
}

// idleRole opens a few connections to addr, makes calls on each of them when it is told to, opens n more when it is told
// to, and keeps all until its input ends.
func idleRole(ctx context.Context, rival, addr string, n int, d time.Duration, in io.Reader, out io.Writer) error {
	open := openHull
	if rival == "grpc" {
		open = openGRPC
	}
	enc := json.NewEncoder(out)
	loads := make([]*load, fewConns)
	opened := 0
	begin := func() (Caller, error) {
		c, err := open(ctx, addr)
		if err != nil {
			return nil, fmt.Errorf("connection %d: %w", opened+1, err)
		}
		opened++
		return c, nil
	}
	for word := range lines(in) {
		switch word {
		case wordOpen:
			for range n {
				c, err := begin()
				if err != nil {
					return err
				}
				defer c.Close()
			}
			if err := enc.Encode(hello{}); err != nil {
				return err
			}
		case wordGo:
			for i := range loads {
				if loads[i] != nil {
					continue
				}
				c, err := begin()
				if err != nil {
					return err
				}
				defer c.Close()
				loads[i] = newLoad(c, 1, 100)
			}
			res, err := runFew(loads, d)
			if err != nil {
				return err
			}
			if err := enc.Encode(res); err != nil {
				return err
			}
		}
	}
	return nil
}

// runFew makes calls on each load's connection.
func runFew(loads []*load, d time.Duration) (loadResult, error) {
	errs := make(chan error, len(loads))
	for _, l := range loads {
		go func() {
			_, err := l.run(d)
			errs <- err
		}()
	}
	var failed []error
	for range loads {
		failed = append(failed, <-errs)
	}
	if err := errors.Join(failed...); err != nil {
		return loadResult{}, err
	}
	var res loadResult
	var hists []*histogram
	for _, l := range loads {
		res.Calls += l.calls()
		hists = append(hists, &l.workers[0].hist)
	}
	q := quantiles(hists, 0.50, 0.99)
	res.P50, res.P99 = q[0], q[1]
	return res, nil
}

func openHull(ctx context.Context, addr string) (Caller, error) {
	d, err := muxtransport.NewDialer(muxtransport.Options{})
	if err != nil {
		return nil, err
	}
	c, serr := d.Dial(ctx, addr)
	if serr != nil {
		return nil, serr
	}
	return muxCaller{c}, nil
}

// muxCaller is one connection of the native protocol.
type muxCaller struct{ transport.Conn }

// Call implements Caller.
func (c muxCaller) Call(ctx context.Context, m *echopb.Msg) (*echopb.Msg, error) {
	answer := new(echopb.Msg)
	err := c.Conn.Call(ctx, &transport.Request{Method: "hullbench.Echo/Echo", Codec: codec.Proto{}, Message: m, Deadline: policy.Now().Add(callTimeout)},
		&transport.Reply{Message: answer})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

func openGRPC(ctx context.Context, addr string) (Caller, error) {
	cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}))
	if err != nil {
		return nil, err
	}
	c := &grpcCaller{cc: cc, client: echopb.NewEchoClient(cc)}
	// One call, so that the server has answered.
	if _, err := c.Call(ctx, &echopb.Msg{}); err != nil {
		return nil, errors.Join(err, cc.Close())
	}
	return c, nil
}

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"strconv"
	"text/tabwriter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/hull-go/hull/bench/echopb"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/muxtransport"
)

// roleIdle is a child that opens connections and leaves them alone.
const roleIdle = "idle"

// idleResult is what a server cost with its connections open.
type idleResult struct {
	Rival   string  `json:"rival"`
	Conns   int     `json:"conns"`
	PerConn float64 `json:"bytes_per_conn"`
	// P99 of calls that one busy client makes meanwhile, in microseconds, and before.
	P99Before, P99 float64
}

// runIdle measures what idle connections cost a server: its resident memory
// with n of them, opened by several processes, less that without. Both are
// taken when the runtime has given back what it does not use.
func runIdle(ctx context.Context, exe string, args []string, out, progress io.Writer) error {
	fs := flag.NewFlagSet("bench idle-cost", flag.ContinueOnError)
	fs.SetOutput(progress)
	n := fs.Int("n", 19000, "how many `connections`")
	procs := fs.Int("procs", 4, "how many client `processes` open them")
	settle := fs.Duration("settle", 5*time.Second, "how long to leave them alone before measuring")
	only := fs.String("only", "hull", "`names` of rivals: hull, grpc")
	if err := fs.Parse(args); err != nil {
		return err
	}
	picked, err := pick(rivals(), *only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tconnections\tserver RSS per connection\tcalls meanwhile, p99\tbefore\t")
	for _, rv := range picked {
		r := &runner{exe: exe, warm: 300 * time.Millisecond, d: time.Second}
		res, err := r.idle(ctx, rv.Info().Name, *n, *procs, *settle)
		if err != nil {
			return fmt.Errorf("%s: %w", rv.Info().Name, err)
		}
		fmt.Fprintf(w, "%s\t%d\t%.0f B\t%.0f µs\t%.0f µs\t\n", res.Rival, res.Conns, res.PerConn, res.P99, res.P99Before)
	}
	return w.Flush()
}

func (r *runner) idle(ctx context.Context, rival string, n, procs int, settle time.Duration) (idleResult, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	srv, err := r.start(ctx, nil, roleServe, "-rival", rival)
	if err != nil {
		return idleResult{}, err
	}
	defer srv.stop()
	var h hello
	if err := srv.read(&h); err != nil {
		return idleResult{}, err
	}
	before, err := r.busy(ctx, rival, h.Addr)
	if err != nil {
		return idleResult{}, err
	}
	var without, with usage
	if err := srv.ask(wordRest, &without); err != nil {
		return idleResult{}, err
	}
	for i := range procs {
		share := n / procs
		if i == 0 {
			share += n % procs
		}
		cl, err := r.start(ctx, nil, roleIdle, "-rival", rival, "-addr", h.Addr, "-c", strconv.Itoa(share))
		if err != nil {
			return idleResult{}, err
		}
		defer cl.stop()
		var ready hello
		if err := cl.read(&ready); err != nil {
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
	after, err := r.busy(ctx, rival, h.Addr)
	if err != nil {
		return idleResult{}, err
	}
	return idleResult{Rival: rival, Conns: n, PerConn: float64(with.RSS-without.RSS) / float64(n), P99Before: before, P99: after}, nil
}

// busy makes calls from ten workers and returns their p99 in microseconds.
func (r *runner) busy(ctx context.Context, rival, addr string) (float64, error) {
	cl, err := r.start(ctx, nil, roleLoad, "-rival", rival, "-addr", addr, "-c", "10", "-size", "100",
		"-warm", r.warm.String(), "-d", r.d.String())
	if err != nil {
		return 0, err
	}
	defer cl.stop()
	var h hello
	if err := cl.read(&h); err != nil {
		return 0, err
	}
	var res loadResult
	if err := cl.ask(wordGo, &res); err != nil {
		return 0, err
	}
	return micros(res.P99), nil
}

// idleRole opens n connections to addr, says so, and keeps them until its input ends.
func idleRole(ctx context.Context, rival, addr string, n int, in io.Reader, out io.Writer) error {
	open := openHull
	if rival == "grpc" {
		open = openGRPC
	}
	for i := range n {
		c, err := open(ctx, addr)
		if err != nil {
			return fmt.Errorf("connection %d: %w", i+1, err)
		}
		defer c.Close()
	}
	if _, err := fmt.Fprintln(out, `{}`); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, in)
	return err
}

func openHull(ctx context.Context, addr string) (io.Closer, error) {
	d, err := muxtransport.NewDialer(muxtransport.Options{})
	if err != nil {
		return nil, err
	}
	c, serr := d.Dial(ctx, addr)
	if serr != nil {
		return nil, serr
	}
	return closer{c}, nil
}

// closer is a connection that has carried nothing yet.
type closer struct{ transport.Conn }

func openGRPC(ctx context.Context, addr string) (io.Closer, error) {
	cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}))
	if err != nil {
		return nil, err
	}
	// One call, so that the server has answered.
	if _, err := echopb.NewEchoClient(cc).Echo(ctx, &echopb.Msg{}); err != nil {
		return nil, errors.Join(err, cc.Close())
	}
	if cc.GetState() != connectivity.Ready {
		return nil, errors.Join(errors.New("not connected"), cc.Close())
	}
	return cc, nil
}

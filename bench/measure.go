package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A level is one kind of load: so many workers, messages of such a size.
type level struct {
	C     int    `json:"c"`
	Size  int    `json:"size"`
	Shape string `json:"shape"`
}

func (l level) String() string {
	if l.Shape == shapeUnary {
		return fmt.Sprintf("c=%d, %d B", l.C, l.Size)
	}
	return fmt.Sprintf("%s, c=%d, %d B", l.Shape, l.C, l.Size)
}

// pinned reports whether client and server run on different CPUs.
func (l level) pinned() bool { return l.C == 1 && (l.Shape == shapeUnary || l.Shape == shapePingPong) }

// A measure is what one rival did at one level in one round. CPU is processor
// time, Allocs are heap objects, both divided by the number of requests.
type measure struct {
	Requests     uint64  `json:"requests"`
	PerSecond    float64 `json:"per_second"`
	P50          float64 `json:"p50_us"`
	P99          float64 `json:"p99_us"`
	ClientCPU    float64 `json:"client_cpu_us"`
	ServerCPU    float64 `json:"server_cpu_us"`
	ClientAllocs float64 `json:"client_allocs"`
	ServerAllocs float64 `json:"server_allocs"`
	ClientRSS    float64 `json:"client_rss_mib"`
	ServerRSS    float64 `json:"server_rss_mib"`
	// Bulk is what came beside the calls, in MiB per second.
	Bulk float64 `json:"bulk_mib_per_second,omitempty"`
}

// cpu is that of both sides.
func (m measure) cpu() float64 { return m.ClientCPU + m.ServerCPU }

// A runner measures with processes of its own program.
type runner struct {
	exe  string // this program
	warm time.Duration
	d    time.Duration
	// profiles is a directory for CPU profiles of every process; empty means none.
	profiles string
	heap     string // file for a heap profile of an idle server; empty means none
	// under is what a role's program is started with in front of it, see count. It is slow, and is waited for when it ends.
	under map[string][]string
	// clientCPUs and serverCPUs are where the processes of a pinned level run;
	// empty means anywhere.
	clientCPUs, serverCPUs []int
}

// cpus returns where client and server run at a level. With one call in flight
// the kernel's choice, which changes from run to run, between waking the other
// side on the same CPU or on another decides the latency by a factor of five.
// In life they are on different machines, so here they are on different CPUs.
func (r *runner) cpus(lv level) (client, server []int) {
	if lv.pinned() {
		return r.clientCPUs, r.serverCPUs
	}
	return nil, nil
}

// measure starts a server and a client, lets them run, and ends them.
func (r *runner) measure(ctx context.Context, rival string, lv level) (measure, error) {
	// A hung call ends by its deadline; twice that is enough for whatever else
	// may hang.
	patience := r.warm + r.d + 2*callTimeout + 10*time.Second
	if r.under != nil {
		patience = countPatience
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()

	clientCPUs, serverCPUs := r.cpus(lv)
	srv, err := r.start(ctx, serverCPUs, roleServe, "-rival", rival, "-profile", r.profile(rival, lv, "server"))
	if err != nil {
		return measure{}, err
	}
	defer srv.stop()
	var h hello
	if err := srv.read(&h); err != nil {
		return measure{}, fmt.Errorf("server: %w", err)
	}

	cl, err := r.start(ctx, clientCPUs, roleLoad, "-rival", rival, "-addr", h.Addr,
		"-c", strconv.Itoa(lv.C), "-size", strconv.Itoa(lv.Size), "-shape", lv.Shape,
		"-warm", r.warm.String(), "-d", r.d.String(),
		"-profile", r.profile(rival, lv, "client"))
	if err != nil {
		return measure{}, err
	}
	defer cl.stop()
	if err := cl.read(&h); err != nil {
		return measure{}, failure(err, srv)
	}

	var before, after usage
	var res loadResult
	if err := srv.ask(wordBegin, &before); err != nil {
		return measure{}, fmt.Errorf("server: %w", err)
	}
	if err := cl.ask(wordGo, &res); err != nil {
		return measure{}, failure(err, srv)
	}
	if err := srv.ask(wordEnd, &after); err != nil {
		return measure{}, fmt.Errorf("server: %w", err)
	}
	if res.Calls == 0 {
		return measure{}, errors.New("client: no call ended in time")
	}
	n := float64(res.Calls)
	const mib = 1 << 20
	return measure{
		Requests:     res.Calls,
		PerSecond:    n / res.Took.Seconds(),
		P50:          micros(res.P50),
		P99:          micros(res.P99),
		ClientCPU:    micros(res.After.CPU-res.Before.CPU) / n,
		ServerCPU:    micros(after.CPU-before.CPU) / n,
		ClientAllocs: float64(res.After.Allocs-res.Before.Allocs) / n,
		ServerAllocs: float64(after.Allocs-before.Allocs) / n,
		ClientRSS:    float64(res.After.RSS) / mib,
		ServerRSS:    float64(after.RSS) / mib,
		Bulk:         float64(res.Bulk) / mib / res.Took.Seconds(),
	}, nil
}

// profile returns the file for a CPU profile. Each round replaces it.
func (r *runner) profile(rival string, lv level, side string) string {
	if r.profiles == "" {
		return ""
	}
	return filepath.Join(r.profiles, fmt.Sprintf("%s-%s-c%d-%d-%s.prof", rival, lv.Shape, lv.C, lv.Size, side))
}

// failure explains why a client failed, which may be the server's fault. It
// ends the server.
func failure(err error, srv *child) error {
	err = fmt.Errorf("client: %w", err)
	srv.in.Close()
	if werr := srv.cmd.Wait(); werr != nil {
		err = fmt.Errorf("%w; server: %w: %s", err, werr, srv.complaint())
	}
	return err
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// A child is a running process of this program.
type child struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *json.Decoder
	stderr bytes.Buffer
	await  bool // it has something to write when it ends
}

func (r *runner) start(ctx context.Context, cpus []int, args ...string) (*child, error) {
	line := slices.Concat(r.under[args[0]], []string{r.exe}, args)
	c := &child{cmd: exec.CommandContext(ctx, line[0], line[1:]...), await: r.under[args[0]] != nil}
	in, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.in, c.out = in, json.NewDecoder(out)
	c.cmd.Stderr = &c.stderr
	return c, startOn(c.cmd, cpus)
}

// read reads the next line. If the process ended instead, the error is what it
// complained of.
func (c *child) read(v any) error {
	err := c.out.Decode(v)
	if err == nil {
		return nil
	}
	// Wait has collected all of the complaint when it returns.
	if werr := c.cmd.Wait(); werr != nil {
		err = werr
	}
	return fmt.Errorf("%w: %s", err, c.complaint())
}

func (c *child) ask(word string, v any) error {
	if _, err := fmt.Fprintln(c.in, word); err != nil {
		return err
	}
	return c.read(v)
}

// stop ends the process and waits for it. It may have ended before.
func (c *child) stop() {
	c.in.Close()
	if c.cmd.ProcessState == nil {
		if !c.await {
			// Nothing it could still say matters.
			_ = c.cmd.Process.Kill()
		}
		_ = c.cmd.Wait()
	}
}

// complaint returns the first lines of the standard error of a process that
// has ended: a crash prints every goroutine.
func (c *child) complaint() string {
	const most = 5
	lines := strings.SplitN(strings.TrimSpace(c.stderr.String()), "\n", most+1)
	return strings.Join(lines[:min(most, len(lines))], "\n")
}

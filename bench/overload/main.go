//go:build unix

// Overload offers a server more than it can do, over loopback, server and callers in processes of their own, in an open loop: calls come at a rate,
// whether or not earlier ones have been answered.
//
//	go run ./overload
//	go run ./overload -loads 0.8,2,10 -d 10s -work 1ms -spec 'services: {plant: {server_limit: {mode: off}}}'
//
// The handler does its work one call at a time and uses the processor all that time. What it can do in a second on this machine is measured first, by callers that
// wait for their answers; loads are multiples of that. Six tenths of the capacity are offered as critical calls, the rest as sheddable ones. The callers' own policies are off: what is shown is the server's doing.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
	"github.com/hull-go/hull/spec"
	"github.com/hull-go/hull/status"
)

type empty struct{}

type usage struct {
	CPU     time.Duration
	Started int64
}

func main() {
	work := flag.Duration("work", time.Millisecond, "what a call takes of a processor")
	loads := flag.String("loads", "0.5,0.8,1,2,10", "offered, in multiples of the capacity")
	d := flag.Duration("d", 5*time.Second, "how long each load lasts, after as long to get used to it")
	deadline := flag.Duration("deadline", 500*time.Millisecond, "how long callers wait")
	doc := flag.String("spec", "{}", "the server's document")
	free := flag.Bool("free", false, "have the server work on as many calls at a time as it likes, with one processor")
	serve := flag.Bool("serve", false, "be the server")
	flag.Parse()
	var err error
	if *serve {
		err = server(*work, *doc, *free)
	} else {
		err = generate(*loads, *work, *d, *deadline, *doc, *free)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "overload:", err)
		os.Exit(1)
	}
}

// server serves until its standard input ends.
func server(work time.Duration, text string, free bool) error {
	doc, err := spec.Parse("spec", []byte(text))
	if err != nil {
		return err
	}
	reg, err := registry.New(memregistry.New(), registry.Options{})
	if err != nil {
		return err
	}
	defer reg.Close()
	s, err := hull.NewServer("plant", hull.WithRegistry(reg), hull.WithSpec(doc), hull.Drain(0, time.Second))
	if err != nil {
		return err
	}
	var one sync.Mutex
	var started atomic.Int64
	turns := calibrate(work)
	hull.Handle(s, "plant.Plant/Work", func(ctx context.Context, _ *empty) (*empty, error) {
		if !free {
			one.Lock()
			defer one.Unlock()
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		started.Add(1)
		burn(turns)
		return &empty{}, nil
	})
	hull.Handle(s, "plant.Admin/Usage", func(context.Context, *empty) (*usage, error) {
		var r syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
			return nil, err
		}
		return &usage{time.Duration(r.Utime.Nano() + r.Stime.Nano()), started.Load()}, nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-s.Ready()
		fmt.Println(s.Addr())
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return s.Run(ctx)
}

var sink atomic.Uint64

func burn(turns int) {
	x := uint64(turns)
	for range turns {
		x = x*6364136223846793005 + 1442695040888963407
	}
	sink.Store(x)
}

// calibrate finds how many turns of burn take so long.
func calibrate(work time.Duration) int {
	best := time.Hour
	const turns = 1_000_000
	for range 20 {
		began := time.Now()
		burn(turns)
		best = min(best, time.Since(began))
	}
	return int(float64(turns) * float64(work) / float64(best))
}

// tally is how calls of one kind ended.
type tally struct {
	sent, ok, shed, late, other atomic.Int64

	mu   sync.Mutex
	took []time.Duration // of those that were served
}

func (t *tally) count(err error, took time.Duration) {
	switch e := status.From(err); {
	case err == nil:
		t.ok.Add(1)
		t.mu.Lock()
		t.took = append(t.took, took)
		t.mu.Unlock()
	case e.Kind == status.Shed:
		t.shed.Add(1)
	case e.Code == status.DeadlineExceeded:
		t.late.Add(1)
	default:
		t.other.Add(1)
	}
}

func (t *tally) quantile(q float64) time.Duration {
	if len(t.took) == 0 {
		return 0
	}
	slices.Sort(t.took)
	return t.took[min(int(q*float64(len(t.took))), len(t.took)-1)]
}

func generate(loads string, work, d, deadline time.Duration, doc string, free bool) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.CommandContext(context.Background(), self, "-serve", "-work", work.String(), "-spec", doc)
	child.Stderr = os.Stderr
	if free {
		child.Args = append(child.Args, "-free")
		child.Env = append(os.Environ(), "GOMAXPROCS=1") // the other one is the callers'
	}
	in, err := child.StdinPipe()
	if err != nil {
		return err
	}
	out, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	defer func() { _ = in.Close(); _ = child.Wait() }()
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the server does not say where it is: %w", err)
	}
	off := spec.Service{Balancer: "random"}
	off.Throttle.Mode, off.Retry.Mode, off.Breaker.Mode, off.Concurrency.Mode, off.Ejection.Mode = "off", "off", "off", "off", "off"
	off.AttemptTimeout.Mode = "off"
	c, err := hull.NewClient(hull.WithSpec(&spec.Spec{Defaults: off}))
	if err != nil {
		return err
	}
	defer c.Close()
	plant := c.To("hull://" + strings.TrimSpace(addr))
	capacity, err := measure(plant, d)
	if err != nil {
		return err
	}
	fmt.Printf("capacity: %.0f calls/s\n", capacity)

	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "load\toffered/s\tgood/s\tof capacity\tcritical ok\tsheddable ok\tlate\tp50\tp99\tserver CPU/served\tCPU/shed\tstarted\t")
	var served time.Duration // what a served call costs, as seen at the lowest load
	for _, text := range strings.Split(loads, ",") {
		load, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return err
		}
		vital := min(0.6, load)
		run := func() (crit, rest *tally, u usage, err error) {
			crit, rest = new(tally), new(tally)
			before, err := hull.Call[usage](context.Background(), plant, "plant.Admin/Usage", &empty{})
			if err != nil {
				return nil, nil, u, err
			}
			var wg sync.WaitGroup
			offer(&wg, plant, vital*capacity, d, deadline, crit, policy.Critical)
			offer(&wg, plant, (load-vital)*capacity, d, deadline, rest, policy.Sheddable)
			wg.Wait()
			after, err := hull.Call[usage](context.Background(), plant, "plant.Admin/Usage", &empty{})
			if err != nil {
				return nil, nil, u, err
			}
			return crit, rest, usage{after.CPU - before.CPU, after.Started - before.Started}, nil
		}
		if _, _, _, err := run(); err != nil {
			return err
		}
		crit, rest, u, err := run()
		if err != nil {
			return err
		}
		if n := crit.other.Load() + rest.other.Load(); n > 0 {
			err = errors.Join(err, fmt.Errorf("%d calls ended in some other way", n))
		}
		good := crit.ok.Load() + rest.ok.Load()
		shed := crit.shed.Load() + rest.shed.Load()
		if served == 0 && good > 0 {
			served = u.CPU / time.Duration(good)
		}
		perShed := "-"
		if shed > good/10 {
			perShed = ((u.CPU - served*time.Duration(u.Started)) / time.Duration(shed)).Round(100 * time.Nanosecond).String()
		}
		fmt.Fprintf(w, "%s×\t%.0f\t%.0f\t%.2f\t%s\t%s\t%d\t%v\t%v\t%v\t%s\t%d\t\n", text, load*capacity, float64(good)/d.Seconds(), float64(good)/d.Seconds()/capacity,
			part(crit), part(rest), crit.late.Load()+rest.late.Load(), crit.quantile(0.5).Round(10*time.Microsecond),
			crit.quantile(0.99).Round(10*time.Microsecond), (u.CPU / time.Duration(max(good, 1))).Round(time.Microsecond), perShed, u.Started)
		if err != nil {
			_ = w.Flush()
			return err
		}
	}
	return w.Flush()
}

// measure is how many calls are answered in a second when four callers wait for their answers.
func measure(plant *hull.Conn, d time.Duration) (float64, error) {
	var done atomic.Int64
	errs := make([]error, 4)
	var wg sync.WaitGroup
	began := time.Now()
	for i := range errs {
		wg.Go(func() {
			for time.Since(began) < d && errs[i] == nil {
				_, errs[i] = hull.Call[empty](context.Background(), plant, "plant.Plant/Work", &empty{})
				done.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(done.Load()) / time.Since(began).Seconds(), errors.Join(errs...)
}

func part(t *tally) string {
	if t.sent.Load() == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f%%", 100*float64(t.ok.Load())/float64(t.sent.Load()))
}

// offer makes calls at a rate, at random moments.
func offer(wg *sync.WaitGroup, plant *hull.Conn, perSecond float64, d, deadline time.Duration, to *tally, c policy.Criticality) {
	if perSecond <= 0 {
		return
	}
	wg.Go(func() {
		began := time.Now()
		for next := time.Duration(0); ; {
			next += time.Duration(rand.ExpFloat64() / perSecond * float64(time.Second))
			if next > d {
				return
			}
			if early := next - time.Since(began); early > 0 {
				time.Sleep(early)
			}
			to.sent.Add(1)
			wg.Go(func() {
				start := time.Now()
				_, err := hull.Call[empty](context.Background(), plant, "plant.Plant/Work", &empty{}, hull.Timeout(deadline), hull.Criticality(c))
				to.count(err, time.Since(start))
			})
		}
	})
}

package chaos_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/idempotency"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/spec"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport/grpctransport"
	"github.com/hull-go/hull/transport/httptransport"
)

// callerConfig is what a caller's process is told, as JSON.
type callerConfig struct {
	Registry string
	Service  string
	Number   uint16
	Ledger   string
	TTL      time.Duration
	Seed     uint64
	// Rate of calls a second, whatever becomes of them; 0 = Workers call one after the other.
	Rate    float64
	Workers int
	// Count of calls; 0 = until SIGTERM.
	Count int64
	// Timeout of a call. Of Hurry in a thousand it is 1 to 50 ms; Cancel in a thousand are given up by their caller after up to 50 ms.
	Timeout       time.Duration
	Hurry, Cancel int
	// Once in a thousand must not run twice, Keyed have a key, Sick are for the method that fails now and then.
	Once, Keyed, Sick int
	// Ms is how long handlers take, at most; Exactly: always.
	Ms      int
	Exactly bool
	// Sheddable in a thousand are not critical.
	Sheddable int
	// Fill is the size of requests, Reply that of answers, Burn how much time of a processor each takes.
	Fill, Reply int
	Burn        time.Duration
	// Busy is how much time of a processor the caller uses every second beside its calls.
	Busy time.Duration
	// Cold: the first call is one like the others.
	Cold bool
	// Protocol is the only one to use; empty = the best.
	Protocol string
	// Spec is a document to keep in force; empty = none.
	Spec string
	// CA is a file of certificates that nodes are verified by; empty = no TLS.
	CA     string
	Sample time.Duration
	// Strict: also what fails while the machine stands still is a failure, see excuse.
	Strict bool
	// Admin: the caller has an admin page, and prints where.
	Admin bool
}

// A call without an answer in time is excused if this process stood still for so long at once, and its story shows that this was why: under each of its attempts that got no answer,
// or, if it could have been tried again and there was no budget, in the time before: attempts of all calls run out of time together then, which is more than a budget pays for, and
// it takes a while to fill again. No more than one call in excusedMost is, beside a few that one such time costs, nor than one in a hundred.
const (
	excuse      = 100 * time.Millisecond
	refilling   = 2 * time.Second
	excusedMost = 1000
	excusedFew  = 100
)

// summary is what a caller says of itself in the end.
type summary struct {
	Offered, OK, Failed int64
	// OnceFailed of the failed were calls that must not run twice and may have run, KeyedFailed had a key whose effect is in doubt; Sick were for the method that fails now and
	// then, while it did, Impatient in a hurry or given up, and had no time left; Excused got no answer in time because the machine stood still.
	OnceFailed, KeyedFailed, Sick, Impatient, Excused int64
	Took                                              time.Duration
	Stalled                                           time.Duration
	// InFlight is what its connections still had under way.
	InFlight int
	Errors   map[string]int
}

const saySummary = "summary "

// caller is a client under way.
type caller struct {
	callerConfig
	client  *hull.Client
	ledger  *ledger
	view    *registry.View
	began   policy.Time
	offered atomic.Int64
	calls   sync.WaitGroup
	fill    string

	mu  sync.Mutex
	rnd *rand.Rand
	sum summary
	// stalls are the latest of the times in which this process stood still.
	stalls []span
	// stories are of the calls that failed, or would have but for an excuse.
	stories *os.File
}

// serveCaller is the role of a client's process.
func serveCaller(args []string, listening func(string)) error {
	fmt.Println(sayPID, os.Getpid())
	c := &caller{sum: summary{Errors: map[string]int{}}}
	if err := json.Unmarshal([]byte(args[0]), &c.callerConfig); err != nil {
		return err
	}
	c.rnd, c.fill = rand.New(rand.NewPCG(c.Seed, uint64(c.Number))), strings.Repeat("x", c.Fill)
	r, err := openRegistry(c.Registry, c.TTL)
	if err != nil {
		return err
	}
	if c.ledger, err = openLedger(c.Ledger, true); err != nil {
		return err
	}
	if c.stories, err = os.Create(c.Ledger + ".stories"); err != nil {
		return err
	}
	opts := []hull.ClientOption{hull.WithRegistry(r), hull.WithLogger(logger(slog.LevelWarn))}
	switch c.Protocol {
	case "grpc":
		d, err := grpctransport.NewDialer(grpctransport.Options{})
		if err != nil {
			return err
		}
		opts = append(opts, hull.WithDialer(d))
	case "http":
		d, err := httptransport.NewDialer(httptransport.Options{})
		if err != nil {
			return err
		}
		opts = append(opts, hull.WithDialer(d))
	}
	if c.CA != "" {
		opts = append(opts, hull.WithTLS(trusting(c.CA)))
	}
	if c.Admin {
		opts = append(opts, hull.WithAdmin("127.0.0.1:0"))
	}
	if c.client, err = hull.NewClient(opts...); err != nil {
		return err
	}
	if c.Admin {
		fmt.Println(sayAdmin + c.client.AdminAddr())
	}
	c.view = r.Open(c.Service)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	beside, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		watchStalls(beside, func(from, to policy.Time) {
			c.mu.Lock()
			c.sum.Stalled += to.Sub(from)
			c.stalls = append(c.stalls[max(0, len(c.stalls)-1000):], span{from, to})
			c.mu.Unlock()
			c.ledger.write(&called{At: from, End: to})
		})
	})
	wg.Go(func() {
		watchWaits(beside, func(from, to policy.Time) { c.ledger.write(&called{At: from, End: to}) })
	})
	if c.Spec != "" {
		wg.Go(func() {
			_ = spec.Watch(beside, c.Spec, c.client.Apply, spec.WatchOptions{Every: 200 * time.Millisecond, Logger: logger(slog.LevelInfo)})
		})
	}
	if c.Sample > 0 {
		wg.Go(func() {
			if err := sampling(beside, c.Ledger+".samples", c.Sample, c.look); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		})
	}
	if c.Busy > 0 {
		go beBusy(c.Busy)
	}
	if !c.Cold {
		if _, err = hull.Call[reply](ctx, c.client.To(c.Service), methodGet, &request{For: c.Service}, hull.Timeout(time.Minute)); err != nil {
			return fmt.Errorf("the first call: %w", err)
		}
	}
	listening("nowhere")
	c.began = policy.Now()
	if c.Rate > 0 {
		c.open(ctx)
	} else {
		c.closed(ctx)
	}
	c.calls.Wait()
	c.mu.Lock()
	c.sum.Offered, c.sum.Took = c.offered.Load(), policy.Now().Sub(c.began)
	for _, p := range c.client.Connections() {
		c.sum.InFlight += p.InFlight
	}
	for _, n := range c.client.To(c.Service).Explain() {
		c.sum.InFlight += n.InFlight
	}
	b, err := json.Marshal(&c.sum)
	c.mu.Unlock()
	fmt.Println(saySummary + string(b))
	cancel()
	wg.Wait()
	return errors.Join(err, c.ledger.close(), c.stories.Close(), c.view.Close(), c.client.Close(), r.Close())
}

// open calls at a rate, whether answers come or not.
func (c *caller) open(ctx context.Context) {
	every := time.Duration(float64(time.Second) / c.Rate)
	tick := time.NewTicker(max(every, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		// A process that stood still does not make up for all that it has missed.
		due := min(int64(policy.Now().Sub(c.began)/every), c.offered.Load()+int64(c.Rate))
		for c.offered.Load() < due {
			n, ok := c.next()
			if !ok {
				return
			}
			c.calls.Go(func() { c.call(n) })
		}
		if skipped := int64(policy.Now().Sub(c.began)/every) - due; skipped > 0 {
			c.began = c.began.Add(time.Duration(skipped) * every)
		}
	}
}

// closed calls as fast as answers come.
func (c *caller) closed(ctx context.Context) {
	for range c.Workers {
		c.calls.Go(func() {
			for ctx.Err() == nil {
				n, ok := c.next()
				if !ok {
					return
				}
				c.call(n)
			}
		})
	}
}

// next numbers a call, unless there have been enough.
func (c *caller) next() (int64, bool) {
	n := c.offered.Add(1)
	if c.Count > 0 && n > c.Count {
		c.offered.Add(-1)
		return 0, false
	}
	return n, true
}

// wish is what a call is like.
type wish struct {
	kind            int
	impatient       bool
	timeout, cancel time.Duration
	ms              int
	criticality     policy.Criticality
}

func (c *caller) wish() (w wish) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.timeout, w.criticality = c.Timeout, policy.Critical
	if w.ms = c.Ms; c.Ms > 0 && !c.Exactly {
		w.ms = c.rnd.IntN(c.Ms + 1)
	}
	if c.rnd.IntN(1000) < c.Sheddable {
		w.criticality = policy.Sheddable
	}
	for n := c.rnd.IntN(1000); ; w.kind++ {
		share := [...]int{kindGet: 1000 - c.Once - c.Keyed - c.Sick, kindPut: c.Once, kindPay: c.Keyed, kindSick: c.Sick}[w.kind]
		if n < share {
			break
		}
		n -= share
	}
	switch n := c.rnd.IntN(1000); {
	case n < c.Hurry:
		w.impatient, w.timeout = true, time.Duration(1+c.rnd.IntN(50))*time.Millisecond
	case n < c.Hurry+c.Cancel:
		w.impatient, w.cancel = true, time.Duration(1+c.rnd.IntN(50_000))*time.Microsecond
	}
	return w
}

func (c *caller) call(n int64) {
	w := c.wish()
	id := uint64(c.Number)<<40 | uint64(n)
	began := policy.Now()
	deadline := began.Add(w.timeout)
	ctx, cancel := context.WithDeadline(context.Background(), deadline.Clock())
	defer cancel()
	if w.cancel > 0 {
		defer time.AfterFunc(w.cancel, cancel).Stop()
	}
	var info hull.CallInfo
	opts := []hull.CallOption{hull.Info(&info), hull.Criticality(w.criticality)}
	if w.kind == kindPay {
		opts = append(opts, hull.IdempotencyKey(fmt.Sprint("call-", id)))
	}
	req := &request{ID: id, For: c.Service, Ms: w.ms, Fill: c.fill, Reply: c.Reply, Burn: c.Burn, Sick: w.kind == kindSick && sickAt(began)}
	rep, err := hull.Call[reply](ctx, c.client.To(c.Service), methods[w.kind], req, opts...)
	rec := called{ID: id, At: began, Deadline: deadline, End: policy.Now(), Outcome: outcomeOf(&info, err), Class: uint8(info.Class),
		Fate: uint8(status.FateOf(err)), Kind: uint8(w.kind), Criticality: uint8(w.criticality), Answered: nodeNumber(info.Node), Attempts: uint8(len(info.Attempts))}
	if rep != nil {
		rec.Replied = rep.Node
	}
	for i, a := range info.Attempts[:min(len(info.Attempts), len(rec.Nodes))] {
		rec.Nodes[i], rec.Classes[i], rec.Began[i] = nodeNumber(a.Node), uint8(a.Class), uint32(a.Began.Microseconds())
	}
	c.ledger.write(&rec)
	excused, sick := "", false
	if err != nil {
		if !c.Strict {
			<-time.After(20 * time.Millisecond) // who measures may have been the last to be woken
		}
		sick = w.kind == kindSick && c.sick(began, rec.End)
		if !c.Strict && !w.impatient {
			excused = c.excuse(began, &info, err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		c.sum.OK++
	case sick:
		c.sum.Sick++
	case w.impatient && noTimeLeft(&info, err):
		c.sum.Impatient++
	case excused != "":
		c.sum.Excused++
		c.tell(n, began, excused, &info, err)
	default:
		c.sum.Failed++
		switch {
		case (w.kind == kindPut || w.kind == kindSick) && status.FateOf(err) != status.NotSent:
			c.sum.OnceFailed++
		case w.kind == kindPay && idempotency.InDoubt(err):
			c.sum.KeyedFailed++
		}
		c.tell(n, began, "failed", &info, err)
		if what := fmt.Sprintf("%s: %v: %v", methods[w.kind], info.Class, err); len(c.sum.Errors) < 20 || c.sum.Errors[what] > 0 {
			c.sum.Errors[what]++
		}
	}
}

// noTimeLeft reports whether a call that was in a hurry, or given up, failed because of that.
func noTimeLeft(info *hull.CallInfo, err error) bool {
	switch status.CodeOf(err) {
	case status.DeadlineExceeded, status.Canceled:
		return true
	}
	switch info.Stopped {
	case "the deadline would pass before the next attempt", "the next attempt would take longer than is left", "the caller is gone":
		return true
	}
	return false
}

// excuse says why a call may have failed that got no answer in time; "" if it may not.
func (c *caller) excuse(began policy.Time, info *hull.CallInfo, err error) string {
	if status.CodeOf(err) != status.DeadlineExceeded {
		return ""
	}
	late, stood := 0, 0
	for i := range info.Attempts {
		a := &info.Attempts[i]
		if status.CodeOf(a.Err) != status.DeadlineExceeded {
			continue
		}
		late++
		if from := began.Add(a.Began); c.stood(from, from.Add(a.Took)) {
			stood++
		}
	}
	switch {
	case late > 0 && stood == late:
		return "excused, the process stood still under its attempts"
	case info.StoppedBy == "budget" && c.stood(began.Add(-refilling), policy.Now()):
		return "excused, the process had stood still and the budget was empty"
	}
	return ""
}

// stood reports whether the process stood still for long between two times.
func (c *caller) stood(from, to policy.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.stalls, func(s span) bool { return s.to.Sub(s.from) >= excuse && s.from < to && s.to > from })
}

// stoodFor is how long the process stood still between two times.
func (c *caller) stoodFor(from, to policy.Time) (d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.stalls {
		d += max(0, min(s.to, to).Sub(max(s.from, from)))
	}
	return d
}

// sick reports whether a call of the sick method may fail: the method does, or its breaker has not closed again since. While its caller stands still there is
// nobody to try.
func (c *caller) sick(began, end policy.Time) bool {
	if sickAt(began) || sickAt(end) {
		return true
	}
	well := time.Duration(began)%sickEvery - sickFor
	return well-c.stoodFor(began.Add(-well), began) < reopening+time.Second
}

// tell writes the story of a call, unless the service is meant to refuse it. The caller's lock is held.
func (c *caller) tell(n int64, began policy.Time, what string, info *hull.CallInfo, err error) {
	if c.Service != service {
		return
	}
	fmt.Fprintf(c.stories, "%s call %d to %s: %s after %v: %v; stopped by %s: %s; budget %+v\n", began.Clock().Format("15:04:05.000"), n, info.Method, what, info.Took, err, info.StoppedBy,
		info.Stopped, c.client.To(c.Service).Budget())
	for i := range info.Attempts {
		a := &info.Attempts[i]
		fmt.Fprintf(c.stories, "    %8v +%8v at %s: %v: %v\n", a.Began.Round(time.Millisecond), a.Took.Round(time.Millisecond), a.Node, a.Class, a.Err)
	}
	for i := range info.Verdicts {
		v := &info.Verdicts[i]
		fmt.Fprintf(c.stories, "    %8v %s of attempt %d: %v for %v: %s %s\n", v.Began.Round(time.Millisecond), v.Policy, v.Attempt, v.Decision, v.Took.Round(time.Millisecond), v.State, v.Reason)
	}
	for _, s := range c.stalls {
		if s.to > began.Add(-refilling) && s.to.Sub(s.from) >= excuse/2 {
			fmt.Fprintf(c.stories, "    the process stood still from %v to %v\n", s.from.Sub(began).Round(time.Millisecond), s.to.Sub(began).Round(time.Millisecond))
		}
	}
}

// look takes a sample of how the client sees the world.
func (c *caller) look(s *sample) {
	s.measure()
	conn := c.client.To(c.Service)
	s.Nodes = conn.Explain()
	for _, p := range c.client.Connections() {
		s.InFlight += p.InFlight
		s.Conns += len(p.Conns)
	}
	s.Breakers = map[string]breaker.Snapshot{}
	for name, m := range conn.Methods() {
		s.Breakers[name] = m.Breaker
	}
	s.Capacity = conn.Budget().Capacity
	s.Disbelieved = c.view.Snapshot().Disbelieved
}

// The sick method fails for sickFor of each sickEvery, by the clock.
const sickEvery, sickFor = time.Minute, 8 * time.Second

func sickAt(t policy.Time) bool { return time.Duration(t)%sickEvery < sickFor }

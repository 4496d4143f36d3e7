package idempotency

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// Defaults of Options.
const (
	DefaultKeep      = 10 * time.Minute
	DefaultMaxBytes  = 64 << 20
	DefaultMaxResult = 1 << 20
	DefaultLinger    = 5 * time.Second
	DefaultTTL       = 15 * time.Second
)

// Options of a Guard. The zero value keeps keys in memory, with the defaults.
type Options struct {
	// Keep is how long a key is kept after its call has ended; 0 = DefaultKeep.
	Keep time.Duration
	// MaxBytes bounds the memory of keys and answers; 0 = DefaultMaxBytes. New keys are refused while it is full. One scope has at most 7/8 of what the others
	// leave, so that nobody's keys fill it for all. Answers that the Store has not taken yet are kept for it beside those, and have as much again; beyond that it is
	// told no more than that the call has ended.
	MaxBytes int64
	// MaxResult is the largest answer that is kept, in bytes encoded; 0 = DefaultMaxResult. Of an error that is larger, code and beginning are kept.
	MaxResult int
	// Linger is how long a handler may go on after the last of its callers has gone; 0 = DefaultLinger, negative = not at all. While they wait, calls that
	// it makes with its context are given as much beyond the latest deadline of its callers; with 0 not more than those had when they came.
	Linger time.Duration
	// Store is where nodes share keys; nil = this process alone. The Guard does not close it.
	Store Store
	// TTL is how long this process is believed alive by the others after it was last heard of; 0 = DefaultTTL.
	TTL time.Duration
	// Scope says to whom a key belongs: callers of different scopes may use the same keys. nil = the subject of the caller's verified TLS
	// certificate, or "" without one.
	Scope func(ctx context.Context, method string) string
	// Rerun names the methods of which a call in doubt may run again, because they see to their effect themselves, as with InTx: after a panic, after a
	// handler that was given up, and after the death of its process; nil = none.
	Rerun func(method string) bool
	// Logger hears when the store cannot be reached; nil = nobody.
	Logger *slog.Logger
}

// Guard runs calls with keys once. It is safe for concurrent use.
type Guard struct {
	opt   Options
	w     window
	usual bool   // Linger was not asked for
	owner string // this instance, in the store

	stop    context.CancelFunc
	wg      sync.WaitGroup
	pending chan struct{} // one token: results wait to be stored

	mu       sync.Mutex
	unstored [ranks][]late // what the store has not taken yet, see push and pop
	waits    int64         // bytes of results in it
	trying   int           // how many it is asked to take now
	dropped  [ranks]int64
	told     [ranks]bool // that some are dropped
	large    int         // bytes of the smallest result of which the store took only less; 0 = none is known
	cut      int         // of how many it was told less since that was logged, at cutTold
	cutTold  policy.Time // 0 = never
}

// late is a result that the store has not taken yet, or a key that it is to set free.
type late struct {
	key, claim string
	result     []byte // nil = release
	less       []byte // what is stored instead if the store never takes result; nil = nothing
	tries      int    // beside the first, while the store did other things
	until      policy.Time
	// unsure is until when the claim itself may still be under way to the store, which did not answer it: that the store does not know it means nothing
	// before then. It is asked again at next, after pause.
	unsure, next policy.Time
	pause        time.Duration
}

// What the store is still to be told, the worst to lose first, which is the order in which it is told.
const (
	results = iota // of work that was done
	freed          // keys that it has granted
	unsure         // keys that it may have granted: while it is away these are all calls
	ranks
)

// size is how much there is of a result, and of what may be stored instead.
func (l late) size() int64 { return int64(len(l.result) + len(l.less)) }

func (l late) rank() int {
	switch {
	case l.result != nil:
		return results
	case l.unsure == 0:
		return freed
	}
	return unsure
}

// maxLate bounds each of them. Beyond it the one whose turn was longest ago is dropped, and so is what the store has not taken when the key is no longer kept: a result
// stays in this process's memory, and others find it in doubt when this process has gone; until then they wait for it, and for a key that was not set free.
const maxLate = 10_000

// New returns a Guard. It must be closed if it has a Store.
func New(o Options) (*Guard, error) {
	var errs []error
	if o.Keep < 0 || o.MaxBytes < 0 || o.MaxResult < 0 || o.TTL < 0 {
		errs = append(errs, errors.New("none of Keep, MaxBytes, MaxResult and TTL may be negative"))
	}
	o.Keep, o.TTL = or(o.Keep, DefaultKeep), or(o.TTL, DefaultTTL)
	o.MaxBytes, o.MaxResult = or(o.MaxBytes, DefaultMaxBytes), or(o.MaxResult, DefaultMaxResult)
	usual := o.Linger == 0
	if o.Linger = or(o.Linger, DefaultLinger); o.Linger < 0 {
		o.Linger = 0
	}
	if o.TTL >= 0 && o.TTL < time.Second {
		errs = append(errs, fmt.Errorf("a TTL of %v is too short for a store: use a second or more", o.TTL))
	}
	if o.Scope == nil {
		o.Scope = scopeOfTLS
	}
	if o.Rerun == nil {
		o.Rerun = func(string) bool { return false }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("idempotency: %w", errors.Join(errs...))
	}
	g := &Guard{opt: o, usual: usual, owner: rand.Text(), pending: make(chan struct{}, 1)}
	g.w = window{keep: o.Keep, maxBytes: o.MaxBytes, entries: map[string]*entry{}, taken: map[string]int64{}}
	if o.Store != nil {
		ctx, cancel := context.WithCancel(context.Background())
		g.stop = cancel
		g.wg.Go(func() { g.stayAlive(ctx) })
		g.wg.Go(func() { g.storeLate(ctx) })
	}
	return g, nil
}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Close ends what the Guard does in the background. Calls must have ended.
func (g *Guard) Close() {
	if g.stop != nil {
		g.stop()
	}
	g.wg.Wait()
}

// Snapshot is a reading of a Guard's counters.
type Snapshot struct {
	// Keys and Bytes are what is kept now.
	Keys, Bytes int64
	// Started counts calls that ran, Replayed those that got the kept answer of another, Waited those that waited for one,
	// Mismatched keys that came with another request, Full keys refused for want of room, Doubtful calls that nobody knows the effect of,
	// Released calls whose handler said that it had done nothing.
	Started, Replayed, Waited, Mismatched, Full, Doubtful, Released int64
	// Late is how many results the store has not taken yet, and keys that it is still to set free.
	Late int64
	// DroppedResults and DroppedReleases are how many of them it will not hear of, since more had to wait than are kept (10,000 results, as many keys that it has
	// granted, and as many that it may have), or since it took none for as long as a key is kept. Other nodes wait for such keys as long as this process lives and
	// the store keeps them, but for those of results that were kept too long: these are set free when the store is back.
	DroppedResults, DroppedReleases int64
}

// Snapshot reads the counters.
func (g *Guard) Snapshot() Snapshot {
	g.mu.Lock()
	n, dropped := g.waiting(), g.dropped
	g.mu.Unlock()
	g.w.mu.Lock()
	defer g.w.mu.Unlock()
	c := &g.w.n
	return Snapshot{int64(len(g.w.entries)), g.w.bytes, c.started, c.replayed, c.waited, c.mismatched, c.full, c.doubtful, c.released, int64(n),
		dropped[results], dropped[freed] + dropped[unsure]}
}

// key is a call's key, and what belongs to it.
type key struct {
	full    string // of all methods and scopes
	method  string
	request Fingerprint
}

// Call is one call with a key.
type Call struct {
	// Key is the caller's; 1 to MaxKey characters of printable ASCII.
	Key string
	// Method is what gRPC calls pkg.Service/Method, or any name of the work.
	Method string
	// Request is what must be the same for the same key.
	Request Fingerprint
}

// MaxKey is the length of the longest key.
const MaxKey = 255

// Do runs fn if c is the first with its key, and else returns what the first one's fn returned, as a message that encodes to the same: a
// protobuf message of the same type, *json.RawMessage for other Go values, *[]byte for bytes. fn's context ends later than ctx, see the
// package's documentation. What fn returns must not be changed any more. A panic of fn goes on to its caller and leaves the key in doubt.
func (g *Guard) Do(ctx context.Context, c Call, fn func(ctx context.Context) (any, error)) (any, error) {
	if err := validKey(c.Key); err != nil {
		return nil, err
	}
	scope := g.opt.Scope(ctx, c.Method)
	at := key{c.Method + "\x00" + scope + "\x00" + c.Key, c.Method, c.Request}
	for {
		var leave func()
		e, d := g.w.begin(policy.Now(), at.full, scope, c.Request, func() *run {
			r := newRun(ctx, at, g.opt.Linger, g.usual)
			leave = r.join(ctx)
			return r
		})
		switch d {
		case start:
			defer leave()
			return g.first(ctx, at, e, fn)
		case replay:
			return e.result.answer()
		case mismatch:
			return nil, mismatched()
		case noRoom:
			return nil, notStarted(status.ResourceExhausted, reasonFull, "too many keys are remembered already; this one was not begun")
		}
		if err := await(ctx, e); err != nil {
			return nil, err
		}
		if e.result != nil {
			return e.result.answer()
		}
		// It was set free: whoever comes next is the first.
	}
}

func mismatched() error {
	return refusal(status.InvalidArgument, reasonMismatch, "the key was used for another request: make a new key for each thing to be done")
}

func validKey(key string) error {
	if key == "" || len(key) > MaxKey {
		return refusal(status.InvalidArgument, reasonBadKey, fmt.Sprintf("a key of %d characters: use 1 to %d", len(key), MaxKey))
	}
	for i := range len(key) {
		if key[i] < 0x20 || key[i] > 0x7e {
			return refusal(status.InvalidArgument, reasonBadKey, fmt.Sprintf("character %d of the key is not printable ASCII", i+1))
		}
	}
	return nil
}

// await waits for e. Its handler knows that somebody does.
func await(ctx context.Context, e *entry) error {
	if leave := e.run.join(ctx); leave != nil {
		defer leave()
	}
	select {
	case <-e.done:
		return nil
	case <-ctx.Done():
		return status.From(ctx.Err())
	}
}

// first runs the call that came first here, if nobody else has.
func (g *Guard) first(ctx context.Context, at key, e *entry, fn func(context.Context) (any, error)) (rep any, err error) {
	var (
		claim           string // our claim in the store
		res             *Result
		began, returned bool
	)
	defer func() {
		// Also after a panic and Goexit, the handler's or the store's.
		if givenUp, alone := e.run.end(); began {
			switch res = g.resultOf(rep, err, returned, givenUp || alone && ranOut(err)); {
			case res == nil:
				g.w.count(func(n *counters) { n.released++ })
			case res.doubt && g.opt.Rerun(at.method): // whoever comes next runs it again, on whatever node
				g.w.count(func(n *counters) { n.doubtful++ })
				res = nil
			}
			g.settle(at, claim, res)
		}
		g.w.end(policy.Now(), e, res)
	}()
	if g.opt.Store != nil {
		if claim, res, err = g.claim(ctx, at); err != nil {
			return nil, err
		}
		if res != nil {
			return res.answer()
		}
		if ctx.Err() != nil { // the store took its time, and nobody waits any more
			g.settle(at, claim, nil)
			return nil, unbegun(ctx)
		}
	}
	g.w.count(func(n *counters) { n.started++ })
	began = true
	rep, err = fn(e.run)
	returned = true
	return rep, err
}

// ranOut reports whether a handler failed because its time was over, or that of what it called. When nobody waits for it that is no answer: what it has done
// by then is not known.
func ranOut(err error) bool {
	c := status.CodeOf(err)
	return c == status.DeadlineExceeded || c == status.Canceled
}

// unbegun is the error of a call whose time was up before anything was done.
func unbegun(ctx context.Context) error {
	e := status.From(ctx.Err())
	e.Fate = status.NotSent
	return e
}

// resultOf is what is kept of a call that ran; nil sets the key free.
func (g *Guard) resultOf(rep any, err error, returned, givenUp bool) *Result {
	switch {
	case !returned:
		return &Result{err: inDoubt("its handler panicked"), doubt: true}
	case err == nil:
		res, err := encode(rep, g.opt.MaxResult)
		if err != nil {
			g.opt.Logger.Warn("idempotency: an answer cannot be kept for calls with the same key", "error", err)
			return notKept()
		}
		return res
	case nothingDone(err):
		return nil
	case givenUp:
		return &Result{err: inDoubt("its callers gave up and its handler failed: " + cut(err.Error())), doubt: true}
	}
	r := failed(err)
	if r.size() > int64(g.opt.MaxResult) {
		return r.least()
	}
	return r
}

// nothingDone reports whether err is a handler's own word that it has done nothing. That a call further down was not sent, or that a policy refused it, says
// nothing of what was done before.
func nothingDone(err error) bool {
	e, ok := errors.AsType[*status.Error](err)
	return ok && e != nil && e.Fate == status.NotSent && e.Kind == status.Answered && e.Origin == status.Self && e.Refusal == nil
}

package idempotency

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// Waits of a call whose key runs on another node.
const (
	firstPoll = 10 * time.Millisecond
	lastPoll  = 500 * time.Millisecond
)

// claim asks the store for a key until it is ours (a claim's ID), has ended (a result), or cannot be had (an error).
func (g *Guard) claim(ctx context.Context, at key) (id string, done *Result, err error) {
	ask := Claim{Key: at.full, ID: rand.Text(), Owner: g.owner, TTL: g.opt.TTL, Fingerprint: at.request, Keep: g.opt.Keep}
	for poll := firstPoll; ; poll = min(2*poll, lastPoll) {
		rec, err := g.opt.Store.Claim(ctx, ask)
		if err != nil {
			l := g.late(at, ask.ID, nil) // it may have been made all the same, or be made yet
			l.unsure = policy.Now().Add(g.opt.TTL)
			g.later(l)
			if ctx.Err() != nil {
				return "", nil, unbegun(ctx)
			}
			g.opt.Logger.Warn("idempotency: the store of keys cannot be reached", "error", err)
			return "", nil, notStarted(status.Unavailable, reasonStoreDown, "the store of keys cannot be reached, and nothing was begun: "+err.Error())
		}
		if rec.State == Claimed {
			return ask.ID, nil, nil
		}
		if rec.Fingerprint != at.request {
			g.w.count(func(n *counters) { n.mismatched++ })
			return "", nil, mismatched()
		}
		over := ""
		switch {
		case rec.State == Done:
			r, err := unmarshalResult(rec.Result)
			if err != nil {
				return "", nil, refusal(status.FailedPrecondition, reasonNotKept, "a call with this key was done, but "+err.Error())
			}
			g.w.count(func(n *counters) { n.replayed++ })
			return "", r, nil
		case rec.State == Running && rec.Owner == g.owner, rec.State == Doubtful && g.opt.Rerun(at.method):
			// Ours, and not running here: a claim whose answer got lost, and nothing ran under it. Or one that may run again.
			over = rec.ID
		case rec.State == Doubtful:
			g.w.count(func(n *counters) { n.doubtful++ })
			return "", nil, inDoubt("the process that ran it is gone")
		}
		if over == "" || over == ask.Over {
			if pause(ctx, poll) != nil {
				return "", nil, unbegun(ctx)
			}
		}
		ask.Over = over
	}
}

// pause waits for d.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// settleTimeout bounds what a call waits for the store to take its result. The caller is not told of a failure: the work is done.
const settleTimeout = time.Second

// settle stores a result, or sets the key free for nil. What the store does not take at once is tried again later.
func (g *Guard) settle(at key, claim string, r *Result) {
	if g.opt.Store == nil {
		return
	}
	l := g.late(at, claim, r)
	ctx, cancel := context.WithTimeout(context.Background(), settleTimeout)
	defer cancel()
	if g.store(ctx, l) != nil {
		g.later(l)
	}
}

// late is what the store is to be told of a claim.
func (g *Guard) late(at key, claim string, r *Result) late {
	l := late{key: at.full, claim: claim, until: policy.Now().Add(g.opt.Keep)}
	if r != nil {
		l.result = r.marshal()
	}
	return l
}

func (g *Guard) later(l late) {
	rank := l.rank()
	g.mu.Lock()
	q := &g.unstored[rank]
	drop := len(*q) >= maxLate
	tell := drop && !g.told[rank]
	if drop {
		*q = (*q)[1:]
		g.dropped[rank]++
		g.told[rank] = true
	}
	*q = append(*q, l)
	g.mu.Unlock()
	if tell {
		what := "releases"
		if rank == results {
			what = "results"
		}
		g.opt.Logger.Warn("idempotency: too many keys wait for their store, and the oldest are dropped: other nodes wait for them while this process lives", "of", what)
	}
	select {
	case g.pending <- struct{}{}:
	default:
	}
}

// store tells the store of l. That its claim is not there any more (ErrLost) is an error only while the claim may still arrive.
func (g *Guard) store(ctx context.Context, l late) (err error) {
	if l.result == nil {
		err = g.opt.Store.Release(ctx, l.key, l.claim)
	} else {
		err = g.opt.Store.Finish(ctx, l.key, l.claim, l.result, g.opt.Keep)
	}
	switch {
	case !errors.Is(err, ErrLost):
	case policy.Now() >= l.unsure:
		return nil
	default:
		return ErrLost
	}
	if err != nil {
		g.opt.Logger.Warn("idempotency: a result could not be stored; trying again", "error", err)
	}
	return err
}

// storeLate stores what could not be stored at once, until ctx ends.
func (g *Guard) storeLate(ctx context.Context) {
	for {
		select {
		case <-g.pending:
		case <-ctx.Done():
			return
		}
		for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
			if pause(ctx, wait) != nil {
				return
			}
			if g.storeAll(ctx) {
				break
			}
		}
	}
}

// inARow is after how many failures, one after the other, the store is left alone for a while. What it does not take then waits behind the others, so that a
// result which it never takes holds up nobody.
const inARow = 3

// waiting is how many the store has not taken yet. The caller holds mu.
func (g *Guard) waiting() int {
	n := g.trying
	for _, q := range g.unstored {
		n += len(q)
	}
	return n
}

// storeAll tries each that waits once, results first, and reports whether nothing is left to be stored.
func (g *Guard) storeAll(ctx context.Context) bool {
	most, left := inARow, 0 // failures in a row, and results that have had their turn
	for rank := range g.unstored {
		if !g.storeSome(ctx, rank, most, left) {
			most = 1 // what is never taken holds up nobody, and a store that is away is asked little
		}
		if rank == results {
			g.mu.Lock()
			left = len(g.unstored[results])
			g.mu.Unlock()
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting() == 0 {
		g.unstored, g.told = [ranks][]late{}, [ranks]bool{}
		return true
	}
	return false
}

// storeSome tries each of that rank once, until most have failed one after the other, which it reports as false, or more than left results wait, which go first.
func (g *Guard) storeSome(ctx context.Context, rank, most, left int) bool {
	q := &g.unstored[rank]
	g.mu.Lock()
	waiting := len(*q)
	g.mu.Unlock()
	for failed := 0; waiting > 0; waiting-- {
		g.mu.Lock()
		l := (*q)[0]
		*q = (*q)[1:]
		g.trying = 1
		g.mu.Unlock()
		again := true
		if policy.Now() >= l.next {
			try, cancel := context.WithTimeout(ctx, settleTimeout)
			err := g.store(try, l)
			cancel()
			switch {
			case err == nil:
				again, failed = false, 0
			case errors.Is(err, ErrLost):
				failed = 0
				l.pause = max(time.Second, 2*l.pause)
				l.next = min(policy.Now().Add(l.pause), l.unsure)
			default:
				failed++
			}
		}
		again = again && policy.Now() < l.until
		g.mu.Lock()
		if g.trying = 0; again {
			*q = append(*q, l)
		}
		first := rank != results && len(g.unstored[results]) > left
		g.mu.Unlock()
		switch {
		case failed >= most:
			return false
		case first:
			return true
		}
	}
	return true
}

// stayAlive says every third of the TTL that this process lives.
func (g *Guard) stayAlive(ctx context.Context) {
	every := g.opt.TTL / 3
	for ctx.Err() == nil {
		try, cancel := context.WithTimeout(ctx, every)
		if err := g.opt.Store.Alive(try, g.owner, g.opt.TTL); err != nil && ctx.Err() == nil {
			g.opt.Logger.Warn("idempotency: the store of keys cannot be told that this process lives", "error", err)
		}
		cancel()
		if pause(ctx, every) != nil {
			return
		}
	}
}

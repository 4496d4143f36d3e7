package idempotency

import (
	"context"
	"crypto/rand"
	"errors"
	"math"
	"slices"
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
			l.until = max(l.until, l.unsure.Add(g.opt.TTL)) // it is told once more after unsure, also if keys are kept for less
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
		if r != nil {
			if less := r.least().marshal(); len(less) < len(l.result) {
				l.less = less
			}
		}
		g.later(l)
		return
	}
	g.took(len(l.result))
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
	drop := len(g.unstored[rank]) >= maxLate
	tell := drop && !g.told[rank]
	if drop {
		g.pop(rank)
		g.dropped[rank]++
		g.told[rank] = true
	}
	whole := int64(len(l.result))
	shorten := l.less != nil && g.waits+l.size() > g.opt.MaxBytes
	if shorten {
		l.result, l.less = l.less, nil
	}
	g.push(rank, l)
	g.mu.Unlock()
	if shorten {
		g.tellLess(whole)
	}
	if tell {
		g.opt.Logger.Warn("idempotency: too many keys wait for their store, and those whose turn was longest ago are dropped: other nodes wait for them while this process lives", "of", kindOf(rank))
	}
	select {
	case g.pending <- struct{}{}:
	default:
	}
}

// push has l wait, after all others of its rank. The caller holds mu.
func (g *Guard) push(rank int, l late) {
	g.unstored[rank] = append(g.unstored[rank], l)
	g.waits += l.size()
}

// pop takes the first of a rank, whose turn was longest ago. The caller holds mu.
func (g *Guard) pop(rank int) late {
	q := &g.unstored[rank]
	l := (*q)[0]
	(*q)[0] = late{} // what is behind it may stay for long
	*q = (*q)[1:]
	g.waits -= l.size()
	return l
}

// outdated drops the results that have waited for longer than their keys are kept, also the many whose turn does not come while the store takes nothing. What is left of
// them is that the store is to set their keys free when it is back: other nodes would wait for them as long as this process lives.
func (g *Guard) outdated() {
	now, n := policy.Now(), 0
	g.mu.Lock()
	g.unstored[results] = slices.DeleteFunc(g.unstored[results], func(l late) bool {
		if now < l.until {
			return false
		}
		n++
		g.waits -= l.size()
		g.free(l)
		return true
	})
	g.mu.Unlock()
	g.outlived(results, n)
}

// free has the key of a result set free that is not kept any longer. The caller holds mu.
func (g *Guard) free(l late) {
	if len(g.unstored[freed]) < maxLate {
		g.push(freed, late{key: l.key, claim: l.claim, until: math.MaxInt64})
	}
}

// kindOf names what is of a rank.
func kindOf(rank int) string {
	if rank == results {
		return "results"
	}
	return "releases"
}

// outlived notes that n keys are no longer kept of which the store was not told.
func (g *Guard) outlived(rank, n int) {
	if n == 0 {
		return
	}
	g.mu.Lock()
	g.dropped[rank] += int64(n)
	tell := !g.told[rank]
	g.told[rank] = true
	g.mu.Unlock()
	if tell {
		g.opt.Logger.Warn("idempotency: the store took nothing for as long as keys are kept, and what waited for it is dropped; keys of results are set free when it is back", "of", kindOf(rank))
	}
}

// Less is said of a result that the store does not take after so many tries beside the first: it may be too large for it. A store that fails now and then takes it
// sooner, and a try while it is away is none. Of one that is as large as another that was not taken it is said after the next.
const (
	wholeTries = 16
	largeTries = 1
)

// storeLess tells the store of l as little as is of use: that the call was done, or how it failed. It reports whether the store has taken that.
func (g *Guard) storeLess(ctx context.Context, l late) bool {
	g.mu.Lock()
	large := g.large > 0 && len(l.result) >= g.large
	g.mu.Unlock()
	if l.less == nil || l.tries < wholeTries && !(large && l.tries >= largeTries) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	if err := g.opt.Store.Finish(ctx, l.key, l.claim, l.less, g.opt.Keep); err != nil {
		return errors.Is(err, ErrLost)
	}
	g.mu.Lock()
	if g.large == 0 || len(l.result) < g.large {
		g.large = len(l.result)
	}
	g.mu.Unlock()
	g.tellLess(int64(len(l.result)))
	return true
}

// tellLess notes that the store is told less of a result of so many bytes, and logs it now and then.
func (g *Guard) tellLess(size int64) {
	g.mu.Lock()
	g.cut++
	n, now := g.cut, policy.Now()
	tell := g.cutTold == 0 || now >= g.cutTold.Add(cutEvery)
	if tell {
		g.cut, g.cutTold = 0, now
	}
	g.mu.Unlock()
	if tell {
		g.opt.Logger.Warn("idempotency: the store does not take answers, so other nodes know of their keys that the calls have ended, and no more", "answers", n, "bytes of the last", size)
	}
}

// cutEvery is how often it is logged at most that the store was told less.
const cutEvery = time.Minute

// listens reports whether the store, which has not taken a result, does anything else: if not, that says nothing of the result.
func (g *Guard) listens(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	return g.opt.Store.Alive(ctx, g.owner, g.opt.TTL) == nil
}

// mostTriedFirst puts the result first that has been tried most often, of those of which less was not yet offered in vain; the others stay in their order. If many
// wait and each had its turn before any had the next, none would have had enough of them by the time at which its key is no longer kept.
func mostTriedFirst(q []late) {
	first := -1
	for i := range q {
		if q[i].tries <= wholeTries && (first < 0 || q[i].tries > q[first].tries) {
			first = i
		}
	}
	if first > 0 {
		l := q[first]
		copy(q[1:first+1], q[:first])
		q[0] = l
	}
}

// took notes that the store has taken a result of size bytes.
func (g *Guard) took(size int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.large > 0 && size >= g.large { // that was not why
		g.large = 0
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
		for wait := firstWait; ; wait = min(2*wait, lastWait) {
			if pause(ctx, wait) != nil {
				return
			}
			done, told := g.storeAll(ctx)
			if done {
				break
			}
			if told { // there is more to tell a store that listens
				wait = firstWait / 2
			}
		}
	}
}

// Pauses between rounds.
const (
	firstWait = 100 * time.Millisecond
	lastWait  = 2 * time.Second
)

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

// storeAll tries each that waits once, results first. It reports whether nothing is left to be stored, and whether the store has answered.
func (g *Guard) storeAll(ctx context.Context) (done, told bool) {
	most, left := inARow, 0 // failures in a row, and results that have had their turn
	for rank := range g.unstored {
		on, some := g.storeSome(ctx, rank, most, left)
		if !on {
			most = 1 // what is never taken holds up nobody, and a store that is away is asked little
			if rank == results {
				g.outdated()
			}
		}
		told = told || some
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
		return true, told
	}
	return false, told
}

// After an outage there may be as many keys that the store may have granted as calls were refused. It is not flooded with them when it is back: they are told one
// by one with pauses between them, some in each round, and if there are more than a few each is told at once, and once more when its claim can no longer be under
// way.
const (
	unsurePause = 2 * time.Millisecond
	someUnsure  = 250
	fewUnsure   = 100
)

// storeSome tries each of that rank once, until most have failed one after the other, which it reports as not on, or more than left results wait, which go first.
// told reports whether the store has answered.
func (g *Guard) storeSome(ctx context.Context, rank, most, left int) (on, told bool) {
	q := &g.unstored[rank]
	g.mu.Lock()
	waiting := len(*q)
	if rank == results {
		mostTriedFirst(*q)
	}
	g.mu.Unlock()
	for failed, asked := 0, 0; waiting > 0 && (rank != unsure || asked < someUnsure); waiting-- {
		g.mu.Lock()
		l := g.pop(rank)
		g.trying = 1
		g.mu.Unlock()
		again, asks := true, policy.Now() >= l.next
		if asks {
			try, cancel := context.WithTimeout(ctx, settleTimeout)
			err := g.store(try, l)
			cancel()
			switch {
			case err == nil:
				again, failed, told = false, 0, true
				g.took(len(l.result))
			case errors.Is(err, ErrLost):
				failed, told = 0, true
				l.pause = max(time.Second, 2*l.pause)
				if waiting > fewUnsure {
					l.pause = g.opt.TTL
				}
				l.next = min(policy.Now().Add(l.pause), l.unsure)
			default:
				if failed++; rank != results || !g.listens(ctx) {
					break
				}
				if l.tries++; g.storeLess(ctx, l) {
					again, failed, told = false, 0, true
				}
			}
			asked++
		}
		if again && policy.Now() >= l.until {
			again = false
			if rank == results {
				g.mu.Lock()
				g.free(l)
				g.mu.Unlock()
			}
			g.outlived(rank, 1)
		}
		g.mu.Lock()
		if g.trying = 0; again {
			g.push(rank, l)
		}
		first := rank != results && len(g.unstored[results]) > left
		g.mu.Unlock()
		switch {
		case failed >= most, asks && rank == unsure && pause(ctx, unsurePause) != nil:
			return false, told
		case first:
			return true, told
		}
	}
	return true, told
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

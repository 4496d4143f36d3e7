package rate

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/internal/spell"
	"github.com/hull-go/hull/internal/stripe"
	"github.com/hull-go/hull/policy"
)

// Limiter is a policy.Gate and a policy.EventSource, safe for concurrent use.
type Limiter struct {
	opt  Options
	keys *table // nil without keys
	pace atomic.Pointer[pace]
	// Where processors have met in one, without keys; nil = not yet.
	leases atomic.Pointer[[stripe.N]lease]
	choice stripe.Choice

	_   [64]byte
	one atomic.Int64 // tat, without keys
	_   [64]byte

	refused, delayed, returned, forgotten atomic.Int64

	log   policy.EventLog
	spell spell.Spell

	holeCount atomic.Int32
	mu        sync.Mutex // guards what follows, and changes of the pace
	holes     []hole
}

// hole is the nominal time of a call that did not happen after all, with later ones promised behind it.
type hole struct {
	n    int64
	slot uint32
	key  uint64
}

// maxHoles bounds what is remembered of reservations given up. What is not remembered is lost to the callers, not to the limit.
const maxHoles = 256

var (
	_ policy.Gate        = (*Limiter)(nil)
	_ policy.EventSource = (*Limiter)(nil)
)

// New returns a limiter with full buckets. The error names everything that is wrong with o.
func New(o Options) (*Limiter, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	l := &Limiter{opt: o}
	if o.Key.of != nil {
		l.keys = newTable(o.Keys)
		if o.Seed == 0 {
			l.opt.Seed = rand.Uint64() //nolint:forbidigo // a secret of this limiter, drawn once; Options.Seed gives it where runs must repeat
		}
	}
	l.pace.Store(newPace(o, 0))
	l.log.Add(policy.Event{To: stateWithin, Reason: "created", Is: o.Limit})
	l.spell = spell.Spell{Log: &l.log, Calm: stateWithin, Busy: stateEmpty, Begun: whyEmpty, Over: "no call was refused for a while"}
	return l, nil
}

// A permit's Start is the nominal time, its Slot the key's place, its Gen the pace and the moment it was given.
const (
	genBits    = 8
	momentBits = 32 - genBits
)

func permit(p *pace, now policy.Time, n int64, slot uint32) policy.Permit {
	return policy.Permit{Start: policy.Time(n), Gen: p.gen<<momentBits | moment(now), Slot: slot}
}

// moment tells apart the moments of giving and of giving back.
func moment(now policy.Time) uint32 { return uint32(now) & (1<<momentBits - 1) }

// Admit implements policy.Gate: Admit at once, Wait if the call's turn comes within MaxWait, else Refuse with the time at
// which another try can succeed.
func (l *Limiter) Admit(now policy.Time, _ rand.Source, c *policy.Call) policy.Verdict {
	p := l.pace.Load()
	if l.keys != nil {
		return l.admitKey(now, p, l.keyOf(c))
	}
	if leases := l.leases.Load(); leases != nil {
		if permit, ok := l.byLease(now, p, leases); ok {
			return policy.Verdict{Permit: permit}
		}
	}
	for {
		tat := l.one.Load()
		n := max(tat, int64(now))
		if n-p.ahead > int64(now) {
			if v, ok := l.late(now, p, &l.one, tat, 0, 0); ok {
				return v
			}
			continue
		}
		if l.one.CompareAndSwap(tat, n+p.space) {
			return policy.Verdict{Permit: permit(p, now, n, 0)}
		}
		l.met(p)
	}
}

// Pass is Admit for calls that simply go, without keys.
func (l *Limiter) Pass(now, _ policy.Time, _ policy.Criticality) (policy.Permit, bool) {
	p := l.pace.Load()
	if leases := l.leases.Load(); leases != nil {
		return l.byLease(now, p, leases)
	}
	tat := l.one.Load()
	n := max(tat, int64(now))
	if n-p.ahead > int64(now) || !l.one.CompareAndSwap(tat, n+p.space) {
		return policy.Permit{}, false
	}
	return permit(p, now, n, 0), true
}

// Passer returns l, whose own Admit is what Pass stands for, or nil if calls have keys.
func (l *Limiter) Passer() policy.Gate {
	if l.keys != nil {
		return nil
	}
	return l
}

// byLease takes a nominal time from the lease of this processor, which it renews if it must.
func (l *Limiter) byLease(now policy.Time, p *pace, leases *[stripe.N]lease) (policy.Permit, bool) {
	who := stripe.Here()
	i := l.choice.Of(who)
	n, alone, ok := leases[i].take(now, p)
	if !ok {
		n, ok = l.renew(now, p, &leases[i])
	}
	if !alone {
		l.choice.Met(who)
	}
	return permit(p, now, n, uint32(i+1)), ok
}

func (l *Limiter) keyOf(c *policy.Call) uint64 {
	var key uint64
	if c != nil {
		key = l.opt.Key.of(l.opt.Seed, c)
	}
	return max(key, 1)
}

func (l *Limiter) admitKey(now policy.Time, p *pace, key uint64) policy.Verdict {
	s := l.keys.set(key)
	for {
		i := s.find(key)
		if i < 0 {
			var forgot bool
			if i, forgot = s.moveIn(now, key); forgot {
				l.forgotten.Add(1)
			}
		}
		tat := s.tat[i].Load()
		if s.keys[i].Load() != key {
			continue
		}
		n := max(tat, int64(now))
		slot := uint32(key&l.keys.mask)*ways + uint32(i)
		if n-p.ahead > int64(now) {
			if v, ok := l.late(now, p, &s.tat[i], tat, slot, key); ok {
				return v
			}
			continue
		}
		if s.tat[i].CompareAndSwap(tat, n+p.space) {
			return policy.Verdict{Permit: permit(p, now, n, slot)}
		}
	}
}

const (
	stateWithin = "within"
	stateEmpty  = "exhausted"
	whyEmpty    = "the rate limit is used up"
)

// late answers a call that cannot go at once; false means that the bucket has changed meanwhile.
func (l *Limiter) late(now policy.Time, p *pace, bucket *atomic.Int64, tat int64, slot uint32, key uint64) (policy.Verdict, bool) {
	if n, lent, ok := l.left(now, p); ok {
		return policy.Verdict{Permit: permit(p, now, n, lent)}, true
	}
	if l.holeCount.Load() > 0 {
		if n, ok := l.takeHole(now, p, slot, key); ok {
			return l.promise(now, p, n, slot), true
		}
	}
	wait := tat - p.ahead - int64(now)
	if wait <= p.maxWait {
		if !bucket.CompareAndSwap(tat, tat+p.space) {
			return policy.Verdict{}, false
		}
		return l.promise(now, p, tat, slot), true
	}
	// No promise reaches further than maxWait, so the next nominal time is at most a space later.
	if most := p.maxWait + p.space; wait > most+int64(time.Second) {
		if !bucket.CompareAndSwap(tat, int64(now)+p.ahead+most) {
			return policy.Verdict{}, false
		}
		l.endLeases(now, p)
		wait = most
	}
	l.refused.Add(1)
	l.spell.Refused(now, p.limit)
	return policy.Verdict{Decision: policy.Refuse, At: now.Add(time.Duration(wait - p.maxWait)), State: stateEmpty, Reason: whyEmpty}, true
}

// promise lets a call go ahead of its nominal time n, but not before now.
func (l *Limiter) promise(now policy.Time, p *pace, n int64, slot uint32) policy.Verdict {
	v := policy.Verdict{Permit: permit(p, now, n, slot)}
	if at := policy.Time(n - p.ahead); at > now {
		l.delayed.Add(1)
		v.Decision, v.At, v.State, v.Reason = policy.Wait, at, stateEmpty, whyEmpty
	}
	return v
}

// Done implements policy.Gate. policy.Ignored gives the leave back if its moment has not passed; other outcomes do not matter.
func (l *Limiter) Done(now policy.Time, _ rand.Source, permit policy.Permit, o policy.Outcome) {
	if o != policy.Ignored {
		return
	}
	p, n := l.pace.Load(), int64(permit.Start)
	if permit.Gen>>momentBits != p.gen {
		return // its nominal time means nothing at another pace
	}
	if n-p.ahead <= int64(now) && permit.Gen&(1<<momentBits-1) != moment(now) {
		return
	}
	bucket, slot, key := &l.one, permit.Slot, uint64(0)
	switch {
	case l.keys == nil && slot > 0:
		bucket, slot = &l.leases.Load()[(slot-1)%stripe.N].next, 0
	case l.keys != nil:
		s, i := &l.keys.sets[slot/ways], slot%ways
		if bucket, key = &s.tat[i], s.keys[i].Load(); bucket.Load() <= n {
			return // the place has another key by now
		}
	}
	if bucket.CompareAndSwap(n+p.space, n) || l.keepHole(now, hole{n, slot, key}) {
		l.returned.Add(1)
	}
}

func (l *Limiter) keepHole(now policy.Time, h hole) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.n < int64(now) {
		return false
	}
	if len(l.holes) == maxHoles {
		if l.sweep(now); len(l.holes) == maxHoles {
			return false
		}
	}
	l.holes = append(l.holes, h)
	l.holeCount.Store(int32(len(l.holes)))
	return true
}

// sweep forgets holes whose time has passed. The mutex is held.
func (l *Limiter) sweep(now policy.Time) {
	kept := l.holes[:0]
	for _, h := range l.holes {
		if h.n >= int64(now) {
			kept = append(kept, h)
		}
	}
	l.holes = kept
	l.holeCount.Store(int32(len(kept)))
}

// takeHole returns the earliest nominal time that was given back to this bucket, if a call can still have it.
func (l *Limiter) takeHole(now policy.Time, p *pace, slot uint32, key uint64) (int64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep(now)
	best := -1
	for i, h := range l.holes {
		if h.slot == slot && h.key == key && (best < 0 || h.n < l.holes[best].n) {
			best = i
		}
	}
	if best < 0 || l.holes[best].n-p.ahead-int64(now) > p.maxWait {
		return 0, false
	}
	n, last := l.holes[best].n, len(l.holes)-1
	l.holes[best] = l.holes[last]
	l.holes = l.holes[:last]
	l.holeCount.Store(int32(last))
	return n, true
}

// SetLimit changes how many calls may go per Per, and the burst (0 = the default), while calls go on. What was used of each
// bucket stays used, and who was told to wait goes when it was told.
func (l *Limiter) SetLimit(now policy.Time, limit float64, burst int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := l.opt
	o.Limit, o.Burst = limit, burst
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	old := l.pace.Load()
	p := newPace(o, (old.gen+1)%(1<<genBits))
	l.pace.Store(p)
	l.holes = l.holes[:0]
	l.holeCount.Store(0)
	ratio := float64(p.space) / float64(old.space)
	if l.keys == nil {
		l.one.Add(-l.endLeases(now, old))
		stretch(&l.one, now, ratio)
	} else {
		for i := range l.keys.sets {
			for j := range ways {
				stretch(&l.keys.sets[i].tat[j], now, ratio)
			}
		}
	}
	l.spell.Note(now, policy.Event{Reason: "the limit was changed", Was: old.limit, Is: limit})
	return nil
}

// stretch keeps the number of spaces that a bucket is ahead of now.
func stretch(bucket *atomic.Int64, now policy.Time, ratio float64) {
	for {
		tat := bucket.Load()
		ahead := tat - int64(now)
		if ahead <= 0 || bucket.CompareAndSwap(tat, int64(now)+int64(float64(ahead)*ratio)) {
			return
		}
	}
}

// Left returns how many calls like c may go at once at now. It takes nothing.
func (l *Limiter) Left(now policy.Time, c *policy.Call) int {
	p, tat := l.pace.Load(), l.one.Load()
	if l.keys != nil {
		key := l.keyOf(c)
		s := l.keys.set(key)
		i := s.find(key)
		if i < 0 {
			return p.burst
		}
		tat = s.tat[i].Load()
	}
	left := l.spare(now, p)
	if ahead := int64(now) + p.ahead - max(tat, int64(now)); ahead >= 0 {
		left += ahead/p.space + 1
	}
	return int(left)
}

// Events implements policy.EventSource: when calls begin to be refused, of whatever key, when none was for ten seconds, and
// changes of the limit. Is and Was are limits.
func (l *Limiter) Events(now policy.Time, since uint64) []policy.Event {
	l.spell.Settle(now)
	return l.log.Since(since)
}

// Snapshot is a reading of a limiter.
type Snapshot struct {
	// Limit calls per Per, Burst at once.
	Limit float64
	Per   time.Duration
	Burst int
	// Since the limiter was made: Refused calls, those Delayed by a wait, and those among all that were let through whose leave
	// was Returned.
	Refused, Delayed, Returned int64
	// Keys is how many keys have a bucket now, of Places; Forgotten how many lost theirs before it was full again.
	Keys, Places int
	Forgotten    int64
}

// Snapshot reads the limiter. With keys it takes time in proportion to their number.
func (l *Limiter) Snapshot() Snapshot {
	p := l.pace.Load()
	s := Snapshot{Limit: p.limit, Per: l.opt.Per, Burst: p.burst, Refused: l.refused.Load(), Delayed: l.delayed.Load(),
		Returned: l.returned.Load(), Forgotten: l.forgotten.Load()}
	if l.keys == nil {
		return s
	}
	s.Places = len(l.keys.sets) * ways
	for i := range l.keys.sets {
		for j := range ways {
			if l.keys.sets[i].keys[j].Load() != 0 {
				s.Keys++
			}
		}
	}
	return s
}

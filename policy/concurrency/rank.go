package concurrency

import "github.com/hull-go/hull/policy"

// A rank is a class of criticality and, within it, first attempts before retries. Lower numbers go first. Each has a line.
const (
	numClasses = 4
	numRanks   = 2 * numClasses
	listOwed   = numRanks // who is out of the line and has not been told
	numLists   = numRanks + 1
)

// classOrder is the classes by how late they are shed.
var classOrder = [numClasses]uint8{policy.CriticalPlus: 0, policy.Critical: 1, policy.SheddablePlus: 2, policy.Sheddable: 3}

// rank returns the call's rank.
func (l *Limiter) rank(c *policy.Call) int {
	if c == nil || l.opt.Flat {
		return 2 * int(classOrder[policy.Critical])
	}
	r := 2 * int(classOrder[min(c.Criticality, policy.Sheddable)])
	if c.PathAttempt > 1 {
		r++
	}
	return r
}

func classOf(rank int) int { return rank / 2 }

// reserve is the share of places, one in so many, that a class keeps while a higher one waits too: 2 %. It keeps the same share of
// the line.
const reserve = 50

// class is what the line knows of a class.
type class struct {
	waiting int
	credit  int // how much of a place it has saved up, in parts of reserve
}

// standing is CoDel's memory of one line: when it was last seen short and last seen long.
type standing struct {
	short, long policy.Time
	dropping    bool
}

// calmAfter is for how many intervals a line must have been short before CoDel lets waits become long again. RFC 8289 remembers its drop
// rate for as long.
const calmAfter = 16

// judge looks at the line of a rank. A line stands when it was long all through an interval, and no more when it was short
// all through calmAfter of them. The places of a source are part of the line, since there may be far more than are needed: it also stands
// when more than half of them were taken all through an interval and it is long after that, unless lower classes wait, which make room.
// The mutex is held.
func (l *Limiter) judge(now policy.Time, rank int) {
	if l.opt.Order != CoDel {
		return
	}
	s := &l.stand[rank]
	s.short, s.long = min(s.short, now), min(s.long, now) // should the clock have gone back
	if l.shed.absorbed(classOf(rank)) {                   // its line stands for a moment only: lower ones make room
		*s = standing{short: now}
		return
	}
	if !s.dropping && l.rushes(now) {
		s.short = now
		return
	}
	if i := l.line.first(rank); i == none || now.Sub(l.line.seats[i].since) <= l.opt.Target {
		s.short = now
		s.dropping = s.dropping && now.Sub(s.long) <= calmAfter*l.opt.Interval
		return
	}
	s.long = now
	s.dropping = s.dropping || now.Sub(s.short) > l.opt.Interval ||
		l.source != nil && now.Sub(policy.Time(l.quiet.Load())) > l.opt.Interval && l.ranks.Load()>>(2*classOf(rank)+2) == 0
}

// newestFirst says whether who came last is next in the line of a rank. Of those who could not get in for a moment it is who has the time left that the
// service takes.
func (l *Limiter) newestFirst(now policy.Time, rank int) bool {
	return l.opt.Order == LIFO || l.stand[rank].dropping || l.opt.Order == CoDel && l.rushes(now)
}

// over reports whether the wait of seat i is over. The mutex is held.
func (l *Limiter) over(now policy.Time, i int32, rank int) bool {
	s := &l.line.seats[i]
	return now >= s.until || l.stand[rank].dropping && now.Sub(s.since) >= 2*l.opt.Target
}

// pick returns the rank whose turn it is: the highest that waits, unless a lower class has saved up a place. Somebody waits,
// and the mutex is held.
func (l *Limiter) pick() int {
	best, chosen := -1, -1
	for k := range l.classes {
		switch c := &l.classes[k]; {
		case c.waiting == 0:
		case best < 0:
			best = k
		case chosen < 0 && c.credit >= reserve:
			chosen = k
		}
	}
	if chosen < 0 {
		chosen = best
	}
	if r := 2 * chosen; !l.line.empty(r) {
		return r
	}
	return 2*chosen + 1
}

// granted settles the accounts of a place that went to a rank, whose waiter is still counted. The mutex is held.
func (l *Limiter) granted(rank int) {
	higher := false
	for k := range l.classes {
		c := &l.classes[k]
		if c.waiting == 0 {
			continue
		}
		if higher {
			c.credit = min(c.credit+1, reserve)
			if k == classOf(rank) {
				c.credit = max(0, c.credit-reserve)
			}
		}
		higher = true
	}
	l.shed.granted[classOf(rank)]++
}

// victim returns who has to make room in a full line for an arrival of the given rank, or none: of a lower class that is beyond its
// reserve, or a retry of the same class; of any class if the arrival's own is below its reserve. The mutex is held.
func (l *Limiter) victim(now policy.Time, rank, queue int) int32 {
	own, keep := classOf(rank), 0
	if queue >= 2*numClasses {
		keep = max(1, queue/reserve)
	}
	poor := rank%2 == 0 && l.classes[own].waiting < keep
	for k := numClasses - 1; k >= 0; k-- {
		if k == own {
			if r := 2*k + 1; rank%2 == 0 && !l.line.empty(r) {
				return l.expendable(now, r)
			}
			if !poor {
				return none
			}
			continue
		}
		if l.classes[k].waiting > keep && (k > own || poor) {
			if r := 2*k + 1; !l.line.empty(r) {
				return l.expendable(now, r)
			}
			return l.expendable(now, 2*k)
		}
	}
	return none
}

// expendable is who of a rank would be served last.
func (l *Limiter) expendable(now policy.Time, rank int) int32 {
	if l.newestFirst(now, rank) {
		return l.line.first(rank)
	}
	return l.line.last(rank)
}

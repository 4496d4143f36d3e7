package chaos_test

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/internal/invariant"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/status"
)

// verdict is what the ledgers come to, beside the invariants.
type verdict struct {
	// Starts of handlers; Known those whose context had ended when they began, Vain those whose caller had gone by then, whoever knew, and Latest how long before.
	Starts, Known, Vain int
	Latest              time.Duration
}

// late is how long after its caller has given up a handler may begin: only its server could say when it heard of that, and whether it was before its last look.
// A deadline that passes is no news to anybody, and has no such time.
const late = 250 * time.Millisecond

// judge has the checker judge all ledgers, and wants that no invariant is broken.
func (w *world) judge(check *invariant.Checker) (v verdict, r *invariant.Report) {
	w.Helper()
	v = w.hear(check)
	r = check.Report(policy.Now())
	if err := r.Err(); err != nil {
		w.Error(err)
	}
	w.Logf("%d calls: %v; the latest %v after its deadline, beside stalls; judged %v", r.Offered, r.Ended, r.Latest.Round(time.Millisecond), r.Judged)
	w.Logf("%d handlers started; the context of %d had ended at their first instruction, and the callers of %d had gone, %v before at most", v.Starts, v.Known, v.Vain, v.Latest.Round(time.Millisecond))
	return v, r
}

// hear tells the checker what stands in the ledgers.
func (w *world) hear(check *invariant.Checker) (v verdict) {
	w.Helper()
	ends := map[uint64]policy.Time{} // of calls that their callers gave up
	for _, c := range w.callers {
		process := fmt.Sprint("caller ", c.config.Number)
		recs, seen := records[called](w, c.config.Ledger), samples(w, c.config.Ledger+".samples")
		past := newPast(recs, seen)
		for i := range recs {
			rec := &recs[i]
			if rec.ID == 0 {
				check.Stall(process, rec.At, rec.End)
				continue
			}
			w.tell(check, c, process, rec, past)
			if rec.Class == uint8(policy.ClassCancelled) || rec.End > rec.Deadline {
				ends[rec.ID] = min(rec.End, rec.Deadline)
			}
		}
		w.views(check, c, process, seen)
	}
	for _, l := range w.ledgers {
		for _, s := range records[started](w, l.path) {
			v.Starts++
			st := invariant.Start{Call: s.Call, Service: l.service, WantService: l.service, Node: nodeID(s.Node), Once: s.Once, At: s.At}
			if s.Keyed {
				st.Key = fmt.Sprint("call-", s.Call)
			}
			if s.Astray {
				st.WantService = "another"
			}
			end, gone := ends[s.Call]
			if gone = gone && end < s.At; gone {
				v.Vain++
				v.Latest = max(v.Latest, s.At.Sub(end))
			}
			if s.Known {
				v.Known++
				switch {
				case s.Over != 0 && s.Over <= s.Read, s.Over == 0 && gone && s.At.Sub(end)-w.stopped(s.Node, end, s.At) > late:
					st.Over = cmp.Or(s.Over, end)
				}
			}
			check.Start(st)
		}
	}
	for cause, all := range w.causes {
		for _, s := range all {
			check.Caused(cause, s.from, s.to)
		}
	}
	return v
}

// tell tells the checker of one call.
func (w *world) tell(check *invariant.Checker, c *callerProcess, process string, rec *called, past *past) {
	once := rec.Kind == kindPut
	check.Offer(invariant.Call{ID: rec.ID, Service: c.config.Service, Root: true, Once: once, Deadline: rec.Deadline, Criticality: policy.Criticality(rec.Criticality),
		Process: process, At: rec.At})
	var tried []string
	for i := range min(int(rec.Attempts), len(rec.Nodes)) {
		at := rec.At.Add(time.Duration(rec.Began[i]) * time.Microsecond)
		a := invariant.Attempt{Call: rec.ID, N: i, Service: c.config.Service, Node: nodeID(rec.Nodes[i]), At: at, Paid: !past.unpaid[attemptOf{rec.ID, i}], Tried: tried}
		if i > 0 {
			if policy.Class(rec.Classes[i-1]) == policy.ClassDownstream {
				a.Before = &status.Error{Origin: status.Downstream}
			}
			a.Same = rec.Kind == kindPay // where its key is known
			a.Eligible = past.fit(at)
		}
		check.Attempt(a)
		tried = append(tried, a.Node)
	}
	check.End(invariant.End{ID: rec.ID, Outcome: [...]invariant.Outcome{invariant.OK, invariant.Refused, invariant.Failed}[rec.Outcome], Class: policy.Class(rec.Class),
		Key: process + methods[rec.Kind], Fate: status.Fate(rec.Fate), Shed: rec.Outcome == outcomeRefused, At: rec.End})
	if rec.Answered != 0 && rec.Replied != 0 && rec.Kind != kindPay { // a key's first answer is everybody's
		check.Answered(nodeID(rec.Replied), nodeID(rec.Answered), rec.End)
	}
}

// stopped is how long a node had been stopped between two times.
func (w *world) stopped(number uint16, from, to policy.Time) (d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for all := w.stops[number]; len(all) > 0; all = all[min(2, len(all)):] {
		until := to
		if len(all) > 1 {
			until = all[1]
		}
		if a, b := max(all[0], from), min(until, to); b > a {
			d += b.Sub(a)
		}
	}
	return d
}

// What spells come from, and how long they last at most when that is over: half-open and ramping take a breaker two seconds more, and who disbelieves looks at
// who has vanished for as long as they could have announced themselves again.
const (
	causeFault, causeSick = "fault", "sick"
	reopening             = 3 * time.Second
	disbelief             = 3 * ttl
)

// views tells the checker how a caller saw the world, from what it said once in a while: states that came and went between two looks are not judged.
func (w *world) views(check *invariant.Checker, c *callerProcess, process string, seen []sample) {
	spells := invariant.NewSpells()
	opened := map[string]policy.Time{}
	for _, s := range seen {
		in := func(state, key, cause string, since policy.Time, most time.Duration) {
			spells.See(invariant.Spell{State: state, Key: process + ": " + key, Cause: cause, From: since, Max: most}, s.At)
		}
		view := invariant.Nodes{Service: c.config.Service, Known: len(s.Nodes), MaxEjected: len(s.Nodes) / 2, Live: 1, At: s.At} // one node is never killed
		for _, n := range s.Nodes {
			if n.State != balance.Ejected {
				continue
			}
			view.Ejected++
			in("ejected", n.ID, causeFault, n.Since, n.Until.Sub(n.Since))
			if n.Considered {
				view.FailingOpen, view.Said = true, n.Why != ""
			}
		}
		check.Nodes(view)
		for method, b := range s.Breakers {
			cause := causeFault
			if method == methodSick {
				cause = causeSick
			}
			switch b.State {
			case breaker.Open:
				if opened[method] == 0 {
					check.BreakerOpened(process+method, 12*time.Second, b.Since)
				}
				opened[method] = b.Since
				in("open", method, cause, b.Since, b.Until.Sub(b.Since)+reopening)
			case breaker.HalfOpen:
				in("open", method, cause, b.Since, reopening)
			default:
				delete(opened, method)
			}
		}
		if s.Disbelieved > 0 {
			in("disbelieving", c.config.Service, causeFault, s.At, disbelief)
		}
		w.spells(check, spells.Next())
	}
	w.spells(check, spells.Next())
}

func (w *world) spells(check *invariant.Checker, all []invariant.Spell) {
	for _, s := range all {
		if w.causes != nil {
			check.Spell(s)
		}
	}
}

// attemptOf is an attempt of a call, by number.
type attemptOf struct {
	call uint64
	n    int
}

// past is what a caller's ledger proves of what its client could know when it decided.
type past struct {
	// unpaid are the attempts that the successes before them do not pay for.
	unpaid map[attemptOf]bool
	// well is when each node answered a call at once, in order.
	well map[uint16][]policy.Time
	seen []sample
}

// newPast reads a ledger.
func newPast(recs []called, seen []sample) *past {
	p := &past{unpaid: map[attemptOf]bool{}, well: map[uint16][]policy.Time{}, seen: seen}
	type event struct {
		at     policy.Time
		tokens int // spent; earned if it is negative
		of     attemptOf
	}
	var events []event
	capacity := int64(1000)
	for i := range seen {
		capacity = max(capacity, seen[i].Capacity)
	}
	for i := range recs {
		r := &recs[i]
		n := min(int(r.Attempts), len(r.Nodes))
		if n == 0 {
			continue
		}
		if first := policy.Class(r.Classes[0]).Counts(); n == 1 && first.Earn > 0 {
			events = append(events, event{r.End, -first.Earn, attemptOf{}})
		}
		for k := 1; k < n; k++ {
			at := r.At.Add(time.Duration(r.Began[k]) * time.Microsecond)
			events = append(events, event{at, policy.Class(r.Classes[k-1]).Counts().Cost, attemptOf{r.ID, k}})
		}
		last := r.At.Add(time.Duration(r.Began[n-1]) * time.Microsecond)
		if r.Outcome == outcomeOK && r.Replied != 0 && r.End.Sub(last) < wellWithin {
			p.well[r.Replied] = append(p.well[r.Replied], r.End)
		}
	}
	slices.SortFunc(events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	const order = 50 // tokens of calls that end in the same moment, in whatever order they were counted
	lent := int64(0)
	if len(seen) == 0 {
		events = nil // how large the budget was nobody knows
	}
	for _, e := range events {
		if lent = max(0, lent+int64(e.tokens)); lent > capacity+order && e.tokens > 0 {
			p.unpaid[e.of] = true
		}
	}
	for _, all := range p.well {
		slices.Sort(all)
	}
	return p
}

// wellWithin is how soon a node must have answered for it to have been well, and how soon before and after a moment to have been well then.
const wellWithin = 200 * time.Millisecond

// fit are the nodes that were well at a moment and just before and after it, and that the client would have chosen when it was asked before and after it.
func (p *past) fit(at policy.Time) (fit []string) {
	i, _ := slices.BinarySearchFunc(p.seen, at, func(s sample, at policy.Time) int { return cmp.Compare(s.At, at) })
	if i == 0 || i == len(p.seen) {
		return nil
	}
	considered := func(s *sample, id string) bool {
		return slices.ContainsFunc(s.Nodes, func(n balance.NodeState) bool { return n.ID == id && n.State == balance.Ready && n.Considered })
	}
	for number, all := range p.well {
		k, _ := slices.BinarySearch(all, at)
		if k == 0 || k == len(all) || at.Sub(all[k-1]) > wellWithin || all[k].Sub(at) > wellWithin {
			continue
		}
		if id := nodeID(number); considered(&p.seen[i-1], id) && considered(&p.seen[i], id) {
			fit = append(fit, id)
		}
	}
	return fit
}

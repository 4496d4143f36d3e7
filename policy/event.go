package policy

import "sync"

// Event is a change of a policy's state: a breaker opened, a limit doubled, a budget ran empty. The first event of every
// policy is its initial state.
type Event struct {
	// Seq numbers the events of one source from 1.
	Seq uint64
	// At is when it happened. For what happens by itself it is the moment it was due, which may lie before it was noticed. 0 = when
	// the policy was made, which is given no time.
	At Time
	// From and To are the states in one word. From is "" in the first event, and equal to To if only a number changed.
	From, To string
	// Reason is one constant sentence in lower case.
	Reason string
	// Until is when the new state ends by itself, or when the next call has a chance; 0 = not known.
	Until Time
	// Was and Is are the number that the state is about, if it is about one: a limit, a share, seconds. The policy's package says which.
	Was, Is float64
	// Refusing: the new state refuses calls or holds some back.
	Refusing bool
}

// EventSource is a policy whose changes of state can be read. Nothing is pushed: policies call nobody, and whoever wants to know
// asks. EventLogger writes a line for each change; metrics and pages read the same.
type EventSource interface {
	// Events returns the events after number since, oldest first, and takes note of what was due by now. Events(now, 0) begins
	// with the initial state. Only the latest are kept; a gap in Seq tells that some were missed. It is safe for concurrent use.
	Events(now Time, since uint64) []Event
}

// NamedSource is an EventSource and where it belongs.
type NamedSource struct {
	// Key is the pipeline's, Policy the slot's name, or "budget", "timeout" or "hedge".
	Key, Policy string
	Mode        Mode
	Source      EventSource
}

// EventSources returns the pipeline's policies whose changes of state can be read, in the order in which they are asked. Pipelines
// that share a policy each return it.
func (p *Pipeline) EventSources() []NamedSource {
	var out []NamedSource
	add := func(name string, m Mode, policy any) {
		if s, ok := policy.(EventSource); ok {
			out = append(out, NamedSource{p.opt.Key, name, m, s})
		}
	}
	for _, s := range p.gates {
		add(s.Name, s.Mode, s.Gate)
	}
	add("budget", On, innermost(p.opt.Budget))
	add("hedge", On, p.opt.Hedging)
	add(p.opt.Throttle.Name, p.opt.Throttle.Mode, p.opt.Throttle.Gate)
	add(p.opt.Concurrency.Name, p.opt.Concurrency.Mode, p.opt.Concurrency.Gate)
	add("timeout", On, p.opt.Timeouts)
	if p.dry != nil {
		add("hedge", DryRun, p.dry.hedging)
		add("timeout", DryRun, p.dry.timeouts)
	}
	return out
}

// innermost is the budget that is behind others with prices of their own.
func innermost(b Budget) Budget {
	for {
		w, ok := b.(interface{ Unwrap() Budget })
		if !ok {
			return b
		}
		b = w.Unwrap()
	}
}

// keptEvents is how many events an EventLog remembers.
const keptEvents = 64

// EventLog remembers a policy's latest 64 events, for policies that are an EventSource. The zero value is empty and ready; it is safe
// for concurrent use, and may be used with the policy's own lock held.
type EventLog struct {
	mu   sync.Mutex // guards what follows
	seq  uint64
	ring []Event // grows up to keptEvents, since most policies hardly ever change
}

// Add appends e and gives it its number.
func (l *EventLog) Add(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.Seq = l.seq + 1
	if len(l.ring) < keptEvents {
		l.ring = append(l.ring, e)
	} else {
		l.ring[l.seq%keptEvents] = e
	}
	l.seq = e.Seq
}

// Since returns the events after number seq that are still remembered, oldest first.
func (l *EventLog) Since(seq uint64) []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	seq = max(seq, l.seq-uint64(len(l.ring)))
	if seq >= l.seq {
		return nil
	}
	out := make([]Event, 0, l.seq-seq)
	for i := seq; i < l.seq; i++ {
		out = append(out, l.ring[i%keptEvents])
	}
	return out
}

// Seq returns the number of the latest event, 0 if there is none.
func (l *EventLog) Seq() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seq
}

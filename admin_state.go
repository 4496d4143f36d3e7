package hull

import (
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/spec"
)

// adminState is everything that the admin page shows, but for the documents. Times are in milliseconds.
type adminState struct {
	At      time.Time     `json:"at"`
	Server  *serverState  `json:"server,omitempty"`
	Clients []clientState `json:"clients"`
}

type clientState struct {
	Services    []serviceState `json:"services"`
	Connections []connState    `json:"connections"`
	Failed      int64          `json:"failed"`
	Generation  uint64         `json:"generation"` // of the document: it grows with each change
	Origin      originJSON     `json:"origin"`     // of the document
}

type serviceState struct {
	Name      string              `json:"name"`
	Discovery string              `json:"discovery"` // one of the constants, or an error
	Nodes     []balance.NodeState `json:"nodes"`

	// What its methods share. What is off is left out.
	Budget      *budgetJSON   `json:"budget,omitempty"`
	Concurrency *limitJSON    `json:"concurrency,omitempty"`
	Throttle    *throttleJSON `json:"throttle,omitempty"`
	Rate        *rateJSON     `json:"rate,omitempty"`

	Methods []methodState `json:"methods"`
}

type limitJSON struct {
	Mode      string  `json:"mode"`
	InUse     int     `json:"inUse"`
	Limit     int     `json:"limit"`
	Waiting   int     `json:"waiting"`
	Queue     int     `json:"queue"`
	Refused   int64   `json:"refused"`
	Vain      int64   `json:"vain"` // waited in vain
	LongestMS float64 `json:"longestMs,omitempty"`
}

type throttleJSON struct {
	Mode     string      `json:"mode"`
	Shares   []shareJSON `json:"shares"` // that are held back
	Accepted int64       `json:"accepted"`
	Rejected int64       `json:"rejected"`
	Refused  int64       `json:"refused"` // ever; the others are of late
}

type shareJSON struct {
	Class string  `json:"class"`
	Share float64 `json:"share"`
}

type rateJSON struct {
	Mode    string  `json:"mode"`
	Limit   float64 `json:"limit"`
	PerMS   float64 `json:"perMs"`
	Burst   int     `json:"burst"`
	Refused int64   `json:"refused"`
	Delayed int64   `json:"delayed"`
}

type methodState struct {
	Name       string `json:"name"`
	Calls      int64  `json:"calls"`
	Refused    int64  `json:"refused"`
	DryRefused int64  `json:"dryRefused,omitempty"`
	Attempts   int64  `json:"attempts"`
	Retries    int64  `json:"retries"`
	Hedges     int64  `json:"hedges"`
	Fallback   int64  `json:"fallbacks,omitempty"`
	Unpaid     int64  `json:"unpaid,omitempty"` // attempts that the budget could not pay
	Running    int64  `json:"abandoned,omitempty"`

	Breaker *breakerJSON `json:"breaker"`
	Timeout *timeoutJSON `json:"attemptTimeout,omitempty"`
	Hedge   *hedgeJSON   `json:"hedge,omitempty"`
}

type timeoutJSON struct {
	Mode    string  `json:"mode"`
	MS      float64 `json:"ms"`
	Learned bool    `json:"learned"`
	Samples int     `json:"samples,omitempty"`
	P90MS   float64 `json:"p90Ms,omitempty"`
}

type hedgeJSON struct {
	Mode    string  `json:"mode"`
	DelayMS float64 `json:"delayMs,omitempty"` // 0 = not known yet
	Account float64 `json:"account"`           // how many hedges can begin now
	Denied  int64   `json:"denied,omitempty"`
}

type connState struct {
	Address  string   `json:"address"`
	Via      []string `json:"via,omitempty"`
	Up       bool     `json:"up"`
	Conns    int      `json:"conns"`
	InFlight int      `json:"inFlight"`
	Fails    int      `json:"fails,omitempty"`
	Error    string   `json:"error,omitempty"`
}

func (c *Client) adminState() clientState {
	out := clientState{Services: []serviceState{}, Connections: []connState{}, Failed: c.recorder.failed.Load(), Generation: c.book.Generation(), Origin: c.docOrigin()}
	c.mu.Lock()
	services := slices.SortedFunc(maps.Values(c.services), func(a, b *service) int { return strings.Compare(a.name, b.name) })
	c.mu.Unlock()
	for _, s := range services {
		out.Services = append(out.Services, s.adminState())
	}
	for _, n := range c.pool.Snapshot() {
		out.Connections = append(out.Connections, connState{n.Addr, n.Via, n.Up, len(n.Conns), n.InFlight, n.Fails, n.Error})
	}
	return out
}

func (s *service) adminState() serviceState {
	out := serviceState{Name: s.name, Nodes: []balance.NodeState{}, Methods: []methodState{}}
	switch seen := s.seen.Load(); {
	case s.err != nil:
		out.Discovery = s.err.Error()
	case s.resting.Load():
		out.Discovery = discoveryResting
	case seen == nil:
		out.Discovery = discoveryUnasked
	case seen.Stale:
		out.Discovery = discoveryStale
	default:
		out.Discovery = discoveryOK
	}
	now := policy.Now()
	if s.picker != nil {
		out.Nodes = append(out.Nodes, s.picker.Explain(now)...)
	}
	// The book knows what was called through any connection, also one with options of its own.
	if b, ok := s.c.book.State(now, s.name); ok {
		out.fill(&b)
	}
	return out
}

func (s *serviceState) fill(b *spec.ServiceState) {
	if b.Budget != nil {
		s.Budget = viewBudget(*b.Budget)
	}
	if c := b.Concurrency; c != nil {
		s.Concurrency = &limitJSON{string(b.Mode["concurrency"]), c.InUse, c.Limit, c.Waiting, c.Queue, c.Refused, c.Vain, millis(c.LongestWaited)}
	}
	if t := b.Throttle; t != nil {
		s.Throttle = &throttleJSON{Mode: string(b.Mode["throttle"]), Accepted: t.Accepted, Rejected: t.Rejected, Refused: t.RefusedEver}
		for _, c := range classes {
			s.Throttle.Shares = append(s.Throttle.Shares, shareJSON{c.String(), t.Shares[c]})
		}
	}
	if r := b.Rate; r != nil {
		s.Rate = &rateJSON{string(b.Mode["rate"]), r.Limit, millis(r.Per), r.Burst, r.Refused, r.Delayed}
	}
	for i := range b.Methods {
		m := &b.Methods[i]
		u, st := m.Unary, m.Stream
		v := methodState{Name: m.Name, Calls: u.Calls + st.Calls, Refused: u.Refused + st.Refused, DryRefused: u.DryRefused + st.DryRefused,
			Attempts: u.Attempts + st.Attempts, Retries: u.Retries + st.Retries, Hedges: u.Hedges + st.Hedges, Fallback: u.Fallbacks,
			Unpaid: u.BudgetEmpty + st.BudgetEmpty, Running: u.Abandoned + st.Abandoned}
		v.Breaker = viewBreaker(m.Breaker)
		v.Breaker.Mode = string(m.Mode["breaker"])
		if m.Breaker.State != breaker.Closed && m.Breaker.Until > policy.Now() {
			v.Breaker.UntilS = millis(m.Breaker.Until.Sub(policy.Now())) / 1000
		}
		if t := m.Timeout; t != nil {
			v.Timeout = &timeoutJSON{string(m.Mode["attempt_timeout"]), millis(t.Timeout), !t.Cold, t.Samples, millis(t.P90)}
		}
		if h := m.Hedge; h != nil {
			v.Hedge = &hedgeJSON{string(m.Mode["hedge"]), millis(h.Delay), h.Account, h.Denied}
		}
		s.Methods = append(s.Methods, v)
	}
}

// classes are the criticalities, the most important first.
var classes = [...]policy.Criticality{policy.CriticalPlus, policy.Critical, policy.SheddablePlus, policy.Sheddable}

// origin is who said the document that is in force, and when.
type origin struct {
	v atomic.Pointer[originJSON]
}

type originJSON struct {
	Who string    `json:"who"`
	At  time.Time `json:"at,omitzero"`
}

func (o *origin) set(who string) { o.v.Store(&originJSON{who, time.Now()}) }

// get says who it was; given is the document that the program began with.
func (o *origin) get(given *spec.Spec) originJSON {
	if v := o.v.Load(); v != nil {
		return *v
	}
	if given != nil {
		return originJSON{Who: "the program, with WithSpec"}
	}
	return originJSON{Who: builtIn}
}

// docOrigin is who said the document in force.
func (c *Client) docOrigin() originJSON { return c.origin.get(c.opt.spec) }

// docOrigin is who said the document in force.
func (s *Server) docOrigin() originJSON { return s.origin.get(s.opt.spec) }

// builtIn stands for a document that there is not.
const builtIn = "nobody: all values are built in"

// document says where a document is from, if there is one.
func (o originJSON) document() string {
	if o.Who == builtIn {
		return "the built-in ones, without a document"
	}
	return "from " + o.String()
}

func (o originJSON) String() string {
	if o.At.IsZero() {
		return o.Who
	}
	return o.Who + " at " + o.At.Format(time.RFC3339)
}

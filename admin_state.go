package hull

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/admission"
)

// adminState is everything that the admin page shows, but for the documents. Times are in milliseconds.
type adminState struct {
	At      time.Time     `json:"at"`
	Server  *serverState  `json:"server,omitempty"`
	Clients []clientState `json:"clients"`
}

type serverState struct {
	Service   string             `json:"service"`
	Node      string             `json:"node"`
	Address   string             `json:"address"`
	InFlight  int64              `json:"inFlight"`
	Calls     int64              `json:"calls"`
	Failures  int64              `json:"failures"`
	Admission admission.Snapshot `json:"admission"`
	Port      PortSnapshot       `json:"port"`
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
	Discovery string              `json:"discovery"` // "ok", "stale", "not asked yet", "resting"
	Nodes     []balance.NodeState `json:"nodes"`
	Budget    *budgetJSON         `json:"budget,omitempty"`
	Methods   []methodState       `json:"methods"`
}

type methodState struct {
	Name     string       `json:"name"`
	Calls    int64        `json:"calls"`
	Refused  int64        `json:"refused"`
	Attempts int64        `json:"attempts"`
	Retries  int64        `json:"retries"`
	Hedges   int64        `json:"hedges"`
	Fallback int64        `json:"fallbacks,omitempty"`
	Unpaid   int64        `json:"unpaid,omitempty"` // attempts that the budget could not pay
	Running  int64        `json:"abandoned,omitempty"`
	Breaker  *breakerJSON `json:"breaker"`
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

func (s *Server) adminState() *serverState {
	n := s.Snapshot()
	return &serverState{Service: s.service, Node: s.NodeID(), Address: s.Addr(), InFlight: n.InFlight, Calls: n.Calls, Failures: n.Failures,
		Admission: n.Admission, Port: n.Port}
}

func (c *Client) adminState() clientState {
	out := clientState{Services: []serviceState{}, Connections: []connState{}, Failed: c.recorder.failed.Load(), Generation: c.book.Generation(), Origin: c.origin.get()}
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
		out.Discovery = "resting"
	case seen == nil:
		out.Discovery = "not asked yet"
	case seen.Stale:
		out.Discovery = "stale"
	default:
		out.Discovery = "ok"
	}
	if s.picker != nil {
		out.Nodes = append(out.Nodes, s.picker.Explain(policy.Now())...)
	}
	if s.budget != nil {
		out.Budget = viewBudget(s.budget.Snapshot(policy.Now()))
	}
	methods := s.conn.Methods()
	for _, name := range slices.Sorted(maps.Keys(methods)) {
		m := methods[name]
		u, st := m.Unary, m.Stream
		out.Methods = append(out.Methods, methodState{Name: name, Calls: u.Calls + st.Calls, Refused: u.Refused + st.Refused, Attempts: u.Attempts + st.Attempts,
			Retries: u.Retries + st.Retries, Hedges: u.Hedges + st.Hedges, Fallback: u.Fallbacks, Unpaid: u.BudgetEmpty + st.BudgetEmpty,
			Running: u.Abandoned + st.Abandoned, Breaker: viewBreaker(m.Breaker)})
	}
	return out
}

// writeText writes the state for people.
func (s *adminState) writeText(w io.Writer) {
	if v := s.Server; v != nil {
		a := v.Admission
		fmt.Fprintf(w, "server %s, node %s at %s\n", v.Service, v.Node, v.Address)
		fmt.Fprintf(w, "  calls     %d so far, %d failed, %d in flight\n", v.Calls, v.Failures, v.InFlight)
		fmt.Fprintf(w, "  admission %d running of at most %d, %d waiting of at most %d, %d in reserve, %d abandoned\n", a.Running, a.Limit, a.Waiting, a.Queue, a.Reserved, a.Abandoned)
		fmt.Fprintf(w, "  port      %d connections, %d native, %d gRPC, %d HTTP so far\n", v.Port.Conns, v.Port.Native, v.Port.GRPC, v.Port.HTTP)
	}
	for _, c := range s.Clients {
		fmt.Fprintf(w, "client: %d failed calls so far; its document is from %s\n", c.Failed, c.Origin)
		for _, v := range c.Services {
			v.writeText(w, "  ", "")
		}
		for _, n := range c.Connections {
			fmt.Fprintf(w, "  connections to %s", n.Address)
			if len(n.Via) > 0 {
				fmt.Fprintf(w, " (speaks %s)", strings.Join(n.Via, ", "))
			}
			fmt.Fprintf(w, ": %d, %d in flight", n.Conns, n.InFlight)
			if n.Error != "" {
				fmt.Fprintf(w, "; %d failed tries: %s", n.Fails, n.Error)
			}
			fmt.Fprintln(w)
		}
	}
}

// writeText writes a service; method "" = with all its methods.
func (s *serviceState) writeText(w io.Writer, in, method string) {
	fmt.Fprintf(w, "%sservice %s: discovery %s\n", in, s.Name, s.Discovery)
	for _, n := range s.Nodes {
		fmt.Fprintf(w, "%s  node %s\n", in, n)
	}
	if s.Budget != nil {
		fmt.Fprintf(w, "%s  budget %s\n", in, s.Budget)
	}
	for _, m := range s.Methods {
		if method == "" || m.Name == method {
			fmt.Fprintf(w, "%s  method %s: %d calls, %d refused, %d attempts (%d retries, %d hedges)\n", in, m.Name, m.Calls, m.Refused, m.Attempts, m.Retries, m.Hedges)
			fmt.Fprintf(w, "%s    breaker %s\n", in, m.Breaker)
		}
	}
}

// origin is who said the document that is in force, and when.
type origin struct {
	v atomic.Pointer[originJSON]
}

type originJSON struct {
	Who string    `json:"who"`
	At  time.Time `json:"at,omitzero"`
}

func (o *origin) set(who string) { o.v.Store(&originJSON{who, time.Now()}) }

func (o *origin) get() originJSON {
	if v := o.v.Load(); v != nil {
		return *v
	}
	return originJSON{Who: "the program, with WithSpec, or nobody"}
}

func (o originJSON) String() string {
	if o.At.IsZero() {
		return o.Who
	}
	return o.Who + " at " + o.At.Format(time.RFC3339)
}

package hull

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/policy"
)

// writeText writes the state for people: the same facts as its JSON, in whole words.
func (s *adminState) writeText(w io.Writer) {
	if s.Server != nil {
		s.Server.writeText(w, "")
	}
	for _, c := range s.Clients {
		fmt.Fprintf(w, "client: %d failed calls so far; its policies are %s\n", c.Failed, c.Origin.document())
		for i := range c.Services {
			c.Services[i].writeText(w, "  ")
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

// writeText writes a server; method "" = with all its methods.
func (s *serverState) writeText(w io.Writer, method string) {
	fmt.Fprintf(w, "server %s, node %s at %s: %s%s\n", s.Service, s.Node, s.Address, s.Phase, because(s.Why))
	fmt.Fprintf(w, "  policies  %s\n", s.Origin.document())
	fmt.Fprintf(w, "  calls     %d so far, %d failed, %d in flight\n", s.Calls, s.Failures, s.InFlight)
	a := &s.Admission
	fmt.Fprintf(w, "  refused   %s", a.Refused)
	if a.WouldBe.sum() > 0 {
		fmt.Fprintf(w, "; would be in dry-run: %s", a.WouldBe)
	}
	fmt.Fprintf(w, "; %d came to their turn too late\n", a.Late)
	switch {
	case a.Mode == policy.Off.String():
		fmt.Fprintf(w, "  limit     off, %d running\n", a.Running)
	default:
		fmt.Fprintf(w, "  limit     %d running of at most %d, %d of them in reserve%s\n", a.Running, a.Limit, a.Reserved, unlessOn(a.Mode))
		fmt.Fprintf(w, "  line      %d waiting of at most %d, %d had to wait so far, %s at most", a.Waiting, a.Queue, a.Parked, ms(a.LongestMS))
		if a.Dropping {
			fmt.Fprint(w, "; it stands, so who came last is next")
		}
		fmt.Fprintln(w)
		for _, c := range a.Classes {
			if c.Waiting > 0 || c.Lost > 0 || c.Shed > 0 {
				fmt.Fprintf(w, "    %-14s %d waiting, for %d so far it was too long, %s refused before it\n", c.Class, c.Waiting, c.Lost, percent(c.Shed))
			}
		}
	}
	if r := a.Rate; r != nil {
		fmt.Fprintf(w, "  rate      %g per %s for each caller%s\n", r.Limit, ms(r.PerMS), unlessOn(r.Mode))
	}
	p := &a.Pressure
	fmt.Fprintf(w, "  pressure  %s: goroutines wait %s for a processor, throttled %s, memory %s%s\n", p.word(), ms(p.LagMS), percent(p.Throttled), percent(p.Memory), unlessOn(p.Mode))
	if a.Abandoned > 0 || a.Lost > 0 {
		fmt.Fprintf(w, "  abandoned %d handlers run on after their time, %d have so far", a.Abandoned, a.Lost)
		if a.Stuck {
			fmt.Fprint(w, "; as many as there are places, so the server asks callers to go elsewhere")
		}
		fmt.Fprintln(w)
	}
	for _, m := range a.Methods {
		if m.Name == method || method == "" && (m.Running > 0 || m.Abandoned > 0) {
			fmt.Fprintf(w, "  method    %s: %d running, %d of its reserve of %d, %d abandoned\n", m.Name, m.Running, m.Reserved, m.Reserve, m.Abandoned)
		}
	}
	k := &s.Keys
	fmt.Fprintf(w, "  keys      %d kept for %v in %d bytes", k.Kept, time.Duration(k.KeepS*float64(time.Second)), k.Bytes)
	if k.Shared {
		fmt.Fprintf(w, ", shared, %d not stored yet", k.Unstored)
	}
	for _, c := range []struct {
		n    int64
		what string
	}{{k.Started, "calls ran"}, {k.Replayed, "got an earlier answer"}, {k.Waited, "waited for one"}, {k.Doubtful, "in doubt"}, {k.Mismatched, "with another request"},
		{k.Full, "without room"}, {k.Released, "had done nothing"}, {k.DroppedResults, "results were never stored"},
		{k.DroppedReleases, "were never set free in the store"}} {
		if c.n > 0 {
			fmt.Fprintf(w, ", %d %s", c.n, c.what)
		}
	}
	fmt.Fprintln(w)
	s.Port.writeText(w)
}

func (r refusedJSON) String() string {
	return fmt.Sprintf("%d calls (%d for want of a place, %d above their caller's rate, %d under pressure)", r.sum(), r.Limit, r.Rate, r.Pressure)
}

// word says who is refused.
func (p *pressureJSON) word() string {
	switch {
	case p.Mode == policy.Off.String():
		return "off"
	case p.Level <= 0:
		return "none"
	case p.Level <= 1:
		return fmt.Sprintf("level %.2f, %s of sheddable calls are refused", p.Level, percent(p.Level))
	case p.Level <= 2:
		return fmt.Sprintf("level %.2f, %s of sheddable-plus calls and nearly all sheddable ones are refused", p.Level, percent(p.Level-1))
	}
	return fmt.Sprintf("level %.2f, %s of critical calls and nearly all others are refused", p.Level, percent(p.Level-2))
}

// writeText writes a service with its methods.
func (s *serviceState) writeText(w io.Writer, in string) {
	fmt.Fprintf(w, "%sservice %s: discovery %s\n", in, s.Name, discoveryWords(s.Discovery))
	for i := range s.Nodes {
		fmt.Fprintf(w, "%s  node %s\n", in, nodeLine(&s.Nodes[i], policy.Now()))
	}
	if s.Budget != nil {
		fmt.Fprintf(w, "%s  budget %s\n", in, s.Budget)
	}
	if c := s.Concurrency; c != nil {
		fmt.Fprintf(w, "%s  concurrency %d in use of at most %d, %d waiting of at most %d, %d refused, %d waited in vain%s\n", in, c.InUse, c.Limit, c.Waiting, c.Queue,
			c.Refused, c.Vain, unlessOn(c.Mode))
	}
	if t := s.Throttle; t != nil {
		fmt.Fprintf(w, "%s  throttle holds back %s; the service took on %d and turned away %d of late, %d held back so far%s\n", in, t.held(), t.Accepted, t.Rejected,
			t.Refused, unlessOn(t.Mode))
	}
	if r := s.Rate; r != nil {
		fmt.Fprintf(w, "%s  rate %g per %s, %d at once: %d refused, %d delayed so far%s\n", in, r.Limit, ms(r.PerMS), r.Burst, r.Refused, r.Delayed, unlessOn(r.Mode))
	}
	for i := range s.Methods {
		s.Methods[i].writeText(w, in+"  ")
	}
}

// What a service's state says of discovery, if that is not an error.
const (
	discoveryOK      = "ok"
	discoveryStale   = "stale"
	discoveryUnasked = "not asked yet"
	discoveryResting = "resting"
)

// discoveryWords says the same for people.
func discoveryWords(state string) string {
	switch state {
	case discoveryOK:
		return state
	case discoveryStale:
		return "is silent, so what it said last still holds"
	case discoveryUnasked:
		return "has not been asked yet"
	case discoveryResting:
		return "rests until the service is called again"
	}
	return "failed: " + state
}

// held says who is held back.
func (t *throttleJSON) held() string {
	var out []string
	for _, s := range t.Shares {
		if s.Share > 0 {
			out = append(out, percent(s.Share)+" of "+s.Class+" calls")
		}
	}
	if len(out) == 0 {
		return "nothing"
	}
	return strings.Join(out, ", ")
}

func (m *methodState) writeText(w io.Writer, in string) {
	fmt.Fprintf(w, "%smethod %s: %d calls, %d refused, %d attempts (%d retries, %d hedges)", in, m.Name, m.Calls, m.Refused, m.Attempts, m.Retries, m.Hedges)
	for _, c := range []struct {
		n    int64
		what string
	}{{m.Fallback, "answered by a fallback"}, {m.Unpaid, "attempts not paid"}, {m.Running, "attempts run on after their call"}, {m.DryRefused, "would be refused in dry-run"}} {
		if c.n > 0 {
			fmt.Fprintf(w, ", %d %s", c.n, c.what)
		}
	}
	fmt.Fprintf(w, "\n%s  breaker %s\n", in, m.Breaker)
	if t := m.Timeout; t != nil {
		fmt.Fprintf(w, "%s  attempt timeout %s, ", in, ms(t.MS))
		if t.Learned {
			fmt.Fprintf(w, "from %d attempts of late, nine tenths of which took at most %s", t.Samples, ms(t.P90MS))
		} else {
			fmt.Fprint(w, "nothing learned yet")
		}
		fmt.Fprintln(w, unlessOn(t.Mode))
	}
	if h := m.Hedge; h != nil {
		after := "not known yet"
		if h.DelayMS > 0 {
			after = ms(h.DelayMS)
		}
		fmt.Fprintf(w, "%s  hedge after %s, %.1f can begin now, %d were too many%s\n", in, after, h.Account, h.Denied, unlessOn(h.Mode))
	}
}

// nodeLine is a node with the times of its state, as seen now.
func nodeLine(n *balance.NodeState, now policy.Time) string {
	line := n.String()
	if n.Since > 0 && n.Since <= now {
		line += ", for " + now.Sub(n.Since).Round(time.Millisecond).String()
	}
	if n.Until > now {
		line += ", at most " + n.Until.Sub(now).Round(time.Millisecond).String() + " more"
	}
	if n.Probe > now {
		line += ", next probe in " + n.Probe.Sub(now).Round(time.Millisecond).String()
	}
	return line
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return " (" + why + ")"
}

// unlessOn names a mode that is not the usual one.
func unlessOn(mode string) string {
	if mode == policy.On.String() || mode == "" {
		return ""
	}
	return " [" + mode + "]"
}

func percent(share float64) string { return fmt.Sprintf("%.0f%%", 100*share) }

package hull

import (
	"encoding/json"
	"fmt"
	"math"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/peer"

	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// headerExplain asks for a server's side of a call's story, with the value 1, and is the trailer that has it.
const headerExplain = "hull-explain"

// What a server tells of one call, with what the servers below have told.
const (
	maxStory      = 6 << 10 // bytes; headers have room for 16 KiB
	maxStoryCalls = 16
)

// storyJSON is a call as the one who made it saw it.
type storyJSON struct {
	Service  string        `json:"service"`
	Method   string        `json:"method"`
	Class    string        `json:"class"`
	Means    string        `json:"means,omitempty"` // the same for people
	Error    string        `json:"error,omitempty"`
	TookMS   float64       `json:"tookMs"`
	Node     string        `json:"node,omitempty"`
	Address  string        `json:"address,omitempty"`
	Attempts []attemptJSON `json:"attempts,omitempty"`
	Verdicts []verdictJSON `json:"verdicts,omitempty"`
	Stopped  string        `json:"stopped,omitempty"`
	By       string        `json:"stoppedBy,omitempty"`
	Fallback string        `json:"fallback,omitempty"`
	AgeMS    float64       `json:"ageMs,omitempty"`

	Nodes   []balance.NodeState `json:"nodes,omitempty"`
	Breaker *breakerJSON        `json:"breaker,omitempty"`
	Budget  *budgetJSON         `json:"budget,omitempty"`
	Server  json.RawMessage     `json:"server,omitempty"`
	Instead *storyJSON          `json:"instead,omitempty"`
}

type attemptJSON struct {
	Service string  `json:"service,omitempty"`
	Node    string  `json:"node"`
	Address string  `json:"address"`
	Zone    string  `json:"zone,omitempty"`
	Class   string  `json:"class"`
	Means   string  `json:"means,omitempty"`
	BeganMS float64 `json:"beganMs"`
	TookMS  float64 `json:"tookMs"`
	Hedge   bool    `json:"hedge,omitempty"`
	Error   string  `json:"error,omitempty"`
}

type verdictJSON struct {
	Policy  string  `json:"policy"`
	Attempt int     `json:"attempt,omitempty"` // from 1; 0 = the call
	Verdict string  `json:"verdict"`           // "wait", "park", "probe", "refuse"
	DryRun  bool    `json:"dryRun,omitempty"`
	BeganMS float64 `json:"beganMs"`
	TookMS  float64 `json:"tookMs,omitempty"`
	State   string  `json:"state,omitempty"`
	Reason  string  `json:"reason,omitempty"`
}

type breakerJSON struct {
	State   string  `json:"state"`
	Mode    string  `json:"mode,omitempty"`
	SinceS  float64 `json:"sinceS,omitempty"` // how long it has been so, in seconds
	UntilS  float64 `json:"untilS,omitempty"` // how long until calls are let through again, if that is known
	Calls   int64   `json:"calls"`
	Failed  int64   `json:"failed"`
	Slow    int64   `json:"slow,omitempty"`
	Refused int64   `json:"refused,omitempty"`
}

type budgetJSON struct {
	Tokens   int64 `json:"tokens"`
	Capacity int64 `json:"capacity"`
	Refused  int64 `json:"refused,omitempty"`
}

// servedJSON is a call as its server saw it.
type servedJSON struct {
	Service  string  `json:"service"`
	Node     string  `json:"node"`
	WaitedMS float64 `json:"waitedMs"` // before the handler began
	RanMS    float64 `json:"ranMs"`
	Code     string  `json:"code"`
	Refused  string  `json:"refused,omitempty"` // why the handler was not run
	InFlight int64   `json:"inFlight"`
	Limit    int64   `json:"limit,omitempty"`
	Waiting  int64   `json:"waiting,omitempty"`
	Attempt  int     `json:"attempt,omitempty"` // the highest on the path
	LeftMS   float64 `json:"leftMs,omitempty"`  // of the deadline when it arrived

	Calls   []storyJSON `json:"calls,omitempty"`
	Omitted int         `json:"omitted,omitempty"` // calls that there was no room for
}

func millis(d time.Duration) float64 { return float64(d.Round(time.Microsecond).Microseconds()) / 1000 }

func (i *CallInfo) story() storyJSON {
	s := storyJSON{Service: i.Service, Method: i.Method, Class: i.Class.String(), Means: i.Class.Words(), TookMS: millis(i.Took), Node: i.Node, Address: i.Address,
		Stopped: i.Stopped, By: i.StoppedBy, Fallback: i.Fallback, AgeMS: millis(i.Age), Nodes: i.Nodes, Server: i.Server}
	if i.Err != nil {
		s.Error = i.Err.Error()
	}
	for _, a := range i.Attempts {
		said := ""
		if a.Err != nil {
			said = shortened(a.Err.Error())
		}
		s.Attempts = append(s.Attempts, attemptJSON{a.Service, a.Node, a.Address, a.Zone, a.Class.String(), a.Class.Words(), millis(a.Began), millis(a.Took), a.Hedge, said})
	}
	for _, v := range i.Verdicts {
		s.Verdicts = append(s.Verdicts, verdictJSON{v.Policy, v.Attempt, v.Decision.String(), v.DryRun, millis(v.Began), millis(v.Took), v.State, v.Reason})
	}
	if i.Breaker != nil {
		s.Breaker = viewBreaker(*i.Breaker)
	}
	if i.Budget != nil {
		s.Budget = viewBudget(*i.Budget)
	}
	if i.Instead != nil {
		other := i.Instead.story()
		s.Instead = &other
	}
	return s
}

func viewBreaker(b breaker.Snapshot) *breakerJSON {
	v := &breakerJSON{State: b.State.String(), Calls: b.Calls, Failed: b.Failed, Slow: b.Slow, Refused: b.Refused}
	if b.Since != 0 {
		v.SinceS = millis(policy.Now().Sub(b.Since)) / 1000
	}
	return v
}

func viewBudget(b retry.BudgetSnapshot) *budgetJSON {
	return &budgetJSON{Tokens: b.Tokens, Capacity: b.Capacity, Refused: b.Refused}
}

// MarshalJSON implements json.Marshaler: the story for programs, with times in milliseconds.
func (i *CallInfo) MarshalJSON() ([]byte, error) { return json.Marshal(i.story()) }

// String returns the story for people, in as many lines as it takes.
func (i *CallInfo) String() string {
	var b strings.Builder
	s := i.story()
	s.write(&b, "")
	return strings.TrimSuffix(b.String(), "\n")
}

// write writes a call, a line for each attempt and for whoever has something to say.
func (s *storyJSON) write(b *strings.Builder, in string) {
	fmt.Fprintf(b, "%s%s %s: %s after %s", in, s.Service, s.Method, classWords(s.Class), ms(s.TookMS))
	if s.Node != "" {
		fmt.Fprintf(b, ", answered by %s (%s)", s.Node, s.Address)
	}
	if s.Fallback != "" {
		fmt.Fprintf(b, ", then %s", s.Fallback)
	}
	b.WriteByte('\n')
	in += "  "
	if s.Error != "" {
		fmt.Fprintf(b, "%serror     %s\n", in, s.Error)
	}
	verdicts := s.Verdicts
	tell := func(until float64) { // whatever policies said before
		for len(verdicts) > 0 && verdicts[0].BeganMS <= until {
			// A refusal that ended the call stands in its error, or in why nothing followed.
			if v := &verdicts[0]; v.Reason == "" || v.DryRun || !strings.Contains(s.Error, v.Reason) && !strings.Contains(s.Stopped, v.Reason) {
				fmt.Fprintf(b, "%s%s\n", in, v)
			}
			verdicts = verdicts[1:]
		}
	}
	for n, a := range s.Attempts {
		tell(a.BeganMS)
		kind := "attempt"
		if a.Hedge {
			kind = "hedge"
		}
		where := a.Node
		if a.Service != "" {
			where += " of " + a.Service
		}
		if a.Zone != "" {
			where += " in zone " + a.Zone
		}
		fmt.Fprintf(b, "%s%-9s %d at +%s to %s (%s): %s after %s", in, kind, n+1, ms(a.BeganMS), where, a.Address, classWords(a.Class), ms(a.TookMS))
		if a.Error != "" && (n < len(s.Attempts)-1 || a.Error != shortened(s.Error)) { // the last one's is mostly the call's
			fmt.Fprintf(b, ": %s", a.Error)
		}
		b.WriteByte('\n')
	}
	tell(math.Inf(1))
	if s.Stopped != "" {
		fmt.Fprintf(b, "%sstopped   %s", in, s.Stopped)
		if !strings.Contains(s.Stopped, s.By) {
			fmt.Fprintf(b, " (%s)", s.By)
		}
		b.WriteByte('\n')
	}
	for _, n := range s.Nodes {
		fmt.Fprintf(b, "%snode      %s\n", in, n)
	}
	if s.Breaker != nil {
		fmt.Fprintf(b, "%sbreaker   %s\n", in, s.Breaker)
	}
	if s.Budget != nil {
		fmt.Fprintf(b, "%sbudget    %s\n", in, s.Budget)
	}
	var served servedJSON
	if len(s.Server) > 0 && json.Unmarshal(s.Server, &served) == nil {
		served.write(b, in)
	}
	if s.Instead != nil {
		fmt.Fprintf(b, "%sinstead\n", in)
		s.Instead.write(b, in+"  ")
	}
}

// classWords says for people what has become of a call, also of one of which only the name of its class has come here.
func classWords(name string) string {
	for c := policy.ClassOK; c.String() != "invalid"; c++ {
		if c.String() == name {
			return c.Words()
		}
	}
	return name
}

// shortened keeps what an attempt failed with on one line of a sensible length.
func shortened(text string) string {
	const most = 300
	text = strings.ReplaceAll(text, "\n", "; ")
	if r := []rune(text); len(r) > most {
		return string(r[:most]) + "…"
	}
	return text
}

func (v *verdictJSON) String() string {
	text := fmt.Sprintf("%-9s ", v.Policy)
	switch v.Verdict {
	case policy.Wait.String():
		text += fmt.Sprintf("waited %s from +%s on", ms(v.TookMS), ms(v.BeganMS))
	case policy.Park.String():
		text += fmt.Sprintf("waited %s in line from +%s on", ms(v.TookMS), ms(v.BeganMS))
	case policy.Probe.String():
		text += fmt.Sprintf("let it go as a probe at +%s", ms(v.BeganMS))
	default:
		text += fmt.Sprintf("refused at +%s", ms(v.BeganMS))
	}
	if v.DryRun {
		text += " [dry-run]"
	}
	if v.Reason != "" {
		text += ": " + v.Reason
	}
	return text
}

func (v *breakerJSON) String() string {
	state := v.State
	if v.SinceS > 0 && v.State != breaker.Closed.String() {
		state += " for " + ms(1000*v.SinceS)
	}
	if v.UntilS > 0 {
		state += ", tries again in " + ms(1000*v.UntilS)
	}
	return fmt.Sprintf("%s, %d of %d calls failed in its window, %d refused%s", state, v.Failed, v.Calls, v.Refused, unlessOn(v.Mode))
}

func (v *budgetJSON) String() string {
	return fmt.Sprintf("%d of %d tokens left, %d attempts not paid", v.Tokens, v.Capacity, v.Refused)
}

func (s *servedJSON) write(b *strings.Builder, in string) {
	fmt.Fprintf(b, "%sserver    %s of %s: waited %s, ran %s, %s; %d in flight", in, s.Node, s.Service, ms(s.WaitedMS), ms(s.RanMS), s.Code, s.InFlight)
	if s.Limit > 0 {
		fmt.Fprintf(b, " of at most %d, %d waiting", s.Limit, s.Waiting)
	}
	b.WriteByte('\n')
	if s.Refused != "" {
		fmt.Fprintf(b, "%s  refused   %s\n", in, s.Refused)
	}
	for i := range s.Calls {
		s.Calls[i].write(b, in+"  ")
	}
	if s.Omitted > 0 {
		fmt.Fprintf(b, "%s  and %d more calls\n", in, s.Omitted)
	}
}

func ms(v float64) string {
	return time.Duration(v * float64(time.Millisecond)).Round(time.Microsecond).String()
}

// explainOn has a call's servers tell their side, if its caller wants to know the story, or the call that it is made for.
func (p *prepared) explainOn() {
	if p.parent != nil && p.parent.telling() != nil {
		p.explainAll()
	}
	if p.opt.explain {
		p.md = append(p.md, transport.Field{Key: headerExplain, Value: "1"})
	}
}

// explained completes the story of a call that has ended.
func (p *prepared) explained(s *service) {
	now, i := policy.Now(), p.opt.info
	if s.picker != nil {
		i.Nodes = s.picker.Explain(now)
	}
	if s.budget != nil {
		b := s.budget.Snapshot(now)
		i.Budget = &b
	}
	if p.m != nil {
		b := p.m.Breaker.Snapshot(now)
		i.Breaker = &b
	}
	if p.parent != nil {
		if t := p.parent.telling(); t != nil {
			t.add(i)
		}
	}
}

// serverStory is what an answer says of its server's side.
func serverStory(trailer transport.Metadata) json.RawMessage {
	if s := trailer.Get(headerExplain); len(s) > 1 && json.Valid([]byte(s)) {
		return json.RawMessage(s)
	}
	return nil
}

// telling is a served call whose caller wants to know.
type telling struct {
	in      *transport.Incoming
	arrived policy.Time
	began   policy.Time // the handler; 0 = not yet

	mu      sync.Mutex
	calls   []storyJSON
	omitted int
}

// telling returns what is noted of a served call for its caller, nil if that does not ask.
func (c *incoming) telling() *telling {
	if a := c.answer.Load(); a != nil {
		return a.telling
	}
	return nil
}

// add notes a call that the handler made.
func (t *telling) add(i *CallInfo) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.calls) == maxStoryCalls {
		t.omitted++
		return
	}
	s := i.story()
	s.Nodes = nil // many of them, and whoever asks there sees them
	s.plainly()
	t.calls = append(t.calls, s)
}

// plainly leaves out what whoever reads the story can say as well: headers have little room.
func (s *storyJSON) plainly() {
	for ; s != nil; s = s.Instead {
		s.Means = ""
		for i := range s.Attempts {
			s.Attempts[i].Means = ""
		}
	}
}

// explains begins the story of a call whose caller asks for it, and may. Others cost a look at their metadata.
func (s *Server) explains(c *incoming, in *transport.Incoming) *telling {
	if in.Metadata.Get(headerExplain) != "1" {
		return nil
	}
	trusted := s.opt.explainTo
	if trusted == nil {
		trusted = onThisMachine
	}
	if !trusted(peerOf(in.Peer, in.TLS)) || proxied(in.Metadata) {
		return nil
	}
	t := &telling{in: in, arrived: policy.Now()}
	c.says().telling = t
	return t
}

// proxied reports whether a call comes through a proxy, whose address says nothing about the caller.
func proxied(md transport.Metadata) bool {
	return slices.ContainsFunc(md, func(f transport.Field) bool {
		return f.Key == "via" || f.Key == "forwarded" || f.Key == "x-real-ip" || strings.HasPrefix(f.Key, "x-forwarded-")
	})
}

// begin notes that the handler starts.
func (t *telling) begin() {
	if t != nil {
		t.began = policy.Now()
	}
}

// end appends the story to an answer.
func (t *telling) end(s *Server, out *transport.Outgoing) {
	if t == nil {
		return
	}
	now, admission := policy.Now(), s.desk.Snapshot()
	v := servedJSON{Service: s.service, Node: s.NodeID(), Code: status.OK.String(), InFlight: s.inFlight(), Limit: admission.Limit,
		Waiting: admission.Waiting, Attempt: t.in.PathAttempt}
	if t.in.Deadline != 0 {
		v.LeftMS = millis(t.in.Deadline.Sub(t.in.Received))
	}
	if t.began == 0 {
		v.WaitedMS = millis(now.Sub(t.in.Received))
	} else {
		v.WaitedMS, v.RanMS = millis(t.began.Sub(t.in.Received)), millis(now.Sub(t.began))
	}
	if e := out.Status; e != nil {
		if v.Code = e.Code.String(); t.began == 0 {
			v.Refused = e.Message
		}
	}
	t.mu.Lock()
	v.Calls, v.Omitted = t.calls, t.omitted
	t.mu.Unlock()
	addTrailer(out, transport.Field{Key: headerExplain, Value: v.compact()})
}

// compact encodes what fits, in ASCII: the last calls go first, then what the servers below told.
func (s servedJSON) compact() string {
	for {
		b, err := json.Marshal(&s)
		if err != nil {
			return "{}"
		}
		if text := ascii(b); len(text) <= maxStory {
			return text
		}
		switch n := len(s.Calls); {
		case n > 1:
			s.Calls, s.Omitted = s.Calls[:n/2], s.Omitted+n-n/2
		case n == 1:
			s.Calls, s.Omitted = nil, s.Omitted+1
		default:
			s.Refused = ""
			if len(s.Service)+len(s.Node) > maxStory/4 {
				return "{}"
			}
		}
	}
}

// ascii escapes what headers cannot carry.
func ascii(b []byte) string {
	var out strings.Builder
	for _, r := range string(b) {
		switch {
		case r < 0x7f:
			out.WriteRune(r)
		case r < 1<<16:
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			r -= 1 << 16
			fmt.Fprintf(&out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		}
	}
	return out.String()
}

// onThisMachine reports whether a caller is on the loopback interface or a Unix socket.
func onThisMachine(p *peer.Peer) bool {
	switch a := p.Addr.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return false
}

// ExplainTo says to whom a server tells its side of a call's story (see Explained), which names nodes, services and errors behind it. Without it: to
// callers on its own machine. The function must not block.
func ExplainTo(trusted func(*peer.Peer) bool) ServerOption {
	return serverOption(func(o *serverOptions) error { o.explainTo = trusted; return nil })
}

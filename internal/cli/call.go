package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/internal/nearest"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/spec"
)

// maxRequest bounds what is read as a request.
const maxRequest = 64 << 20

// callView is what "hull call --verbose" says of a call.
type callView struct {
	Service  string        `json:"service" doc:"the name in discovery"`
	Method   string        `json:"method" doc:"the full name of the method"`
	Node     string        `json:"node,omitempty" doc:"the node whose answer was taken"`
	Address  string        `json:"address,omitempty" doc:"where it listens"`
	Class    string        `json:"class" doc:"what the call counts for, such as ok or timeout"`
	Means    string        `json:"means" doc:"the same in words"`
	Error    string        `json:"error,omitempty" doc:"what the call failed with"`
	TookMS   float64       `json:"tookMs" doc:"how long it took, in milliseconds, retries included"`
	Attempts []attemptView `json:"attempts" doc:"each attempt, in order"`
	Stopped  string        `json:"stopped,omitempty" doc:"why a failed call was not tried again"`
	By       string        `json:"stoppedBy,omitempty" doc:"the policy that says so"`
	Verdicts []verdictView `json:"verdicts,omitempty" doc:"policies that had the call wait, let it go as a test, or refused it, in order"`

	Nodes  []standingView  `json:"nodes,omitempty" doc:"how the nodes stood when the call had ended"`
	Server json.RawMessage `json:"server,omitempty" doc:"the server's own account of the call, if it gave one: service, node, waitedMs, ranMs, code and the calls that it made"`
}

// attemptView is one attempt of a call.
type attemptView struct {
	Node    string  `json:"node" doc:"the node it went to"`
	Address string  `json:"address" doc:"where that listens"`
	Zone    string  `json:"zone,omitempty" doc:"where that runs"`
	Class   string  `json:"class" doc:"how it ended, such as ok, unsent or timeout"`
	Means   string  `json:"means" doc:"the same in words"`
	Error   string  `json:"error,omitempty" doc:"what it failed with"`
	BeganMS float64 `json:"beganMs" doc:"when it began, in milliseconds after the call"`
	TookMS  float64 `json:"tookMs" doc:"how long it took, in milliseconds"`
	Hedge   bool    `json:"hedge,omitempty" doc:"it was started beside another that took long"`
}

// verdictView is what a policy did to a call.
type verdictView struct {
	Policy  string  `json:"policy" doc:"such as retry, breaker or throttle"`
	Attempt int     `json:"attempt,omitempty" doc:"of which attempt, from 1 on; left out of the whole call"`
	Verdict string  `json:"verdict" doc:"wait, park (wait in line), probe (go as a test) or refuse"`
	BeganMS float64 `json:"beganMs" doc:"when, in milliseconds after the call began"`
	TookMS  float64 `json:"tookMs,omitempty" doc:"how long the call waited, in milliseconds"`
	Reason  string  `json:"reason,omitempty" doc:"why"`
}

// standingView is how a node stood with the caller.
type standingView struct {
	ID         string   `json:"id" doc:"the node's own name"`
	Address    string   `json:"address" doc:"where it listens"`
	State      string   `json:"state" doc:"ready, suspect, ejected, down, draining, absent or unmatched"`
	Considered bool     `json:"considered" doc:"it could have been chosen"`
	Why        string   `json:"why,omitempty" doc:"why it is avoided, or not considered"`
	Lacks      []string `json:"lacks,omitempty" doc:"methods that it has said not to serve"`
}

// call is "hull call".
func (p *program) call() *cobra.Command {
	return &cobra.Command{
		Use:   "call SERVICE METHOD [JSON]",
		Short: "Call a method and print its answer",
		Long: `Call a method with a request in JSON and print the answer, which is JSON as well. It works for
plain Go functions and for generated code, and goes the way every Hull call goes: to a node
that answers well, again on another if that is safe.

METHOD is pkg.Service/Method, or only the part behind the slash where that is unambiguous.
JSON is the request itself, @FILE, or - for standard input; without it {} is sent.`,
		Example: `hull call greeter Hello '{"name":"Ada"}'
hull call greeter greeter.Greeter/Hello @request.json --timeout 300ms -v
echo '{"name":"Ada"}' | hull call greeter Hello - -l version=1.2`,
		Args:              p.arguments(2, "SERVICE", "METHOD", "JSON"),
		ValidArgsFunction: p.completeCall,
		RunE: func(cmd *cobra.Command, args []string) error {
			sel, err := selectorOf(cmd)
			if err != nil {
				return err
			}
			request := []byte("{}")
			if len(args) == 3 {
				if request, err = p.request(args[2]); err != nil {
					return err
				}
			}
			r, err := p.openRegistry(cmd, p.warnings())
			if err != nil {
				return err
			}
			defer r.Close()
			ctx, cancel := context.WithTimeout(cmd.Context(), durationOf(cmd, setTimeout))
			defer cancel()
			s, err := lookup(ctx, r, args[0])
			if err != nil {
				return err
			}
			nodes, err := chosen(s, sel)
			if err != nil {
				return err
			}
			method, err := findMethod(args[0], nodes, args[1])
			if err != nil {
				return err
			}
			client, err := p.client(cmd, r)
			if err != nil {
				return err
			}
			defer client.Close()
			opts := []hull.CallOption{}
			if toggleOf(cmd, setIdempotent) {
				opts = append(opts, hull.Idempotent())
			}
			var info hull.CallInfo
			if toggleOf(cmd, setVerbose) {
				opts = append(opts, hull.Explained(&info))
			}
			conn := client.To(args[0])
			if !sel.Empty() {
				conn = client.To(args[0], hull.Select(sel.String()))
			}
			answer, err := hull.Call[json.RawMessage](ctx, conn, method, json.RawMessage(request), opts...)
			if toggleOf(cmd, setVerbose) {
				p.tellCall(cmd, &info)
			}
			if err != nil {
				return err
			}
			return p.printAnswer(cmd, *answer)
		},
	}
}

// client makes a client that retries as often as the flags say.
func (p *program) client(cmd *cobra.Command, r *registry.Registry) (*hull.Client, error) {
	retry := spec.Retry{Mode: spec.Off}
	if n := wholeOf(cmd, setRetries); n > 0 {
		retry = spec.Retry{Mode: spec.On, Attempts: n + 1}
	}
	return hull.NewClient(hull.WithRegistry(r), hull.WithMaxReply(maxRequest),
		hull.WithSpec(&spec.Spec{Defaults: spec.Service{Policy: spec.Policy{Retry: retry}}}))
}

// request reads the request that an argument names, and checks it.
func (p *program) request(arg string) ([]byte, error) {
	data, where := []byte(arg), "the request"
	switch {
	case arg == "-":
		var err error
		if data, err = io.ReadAll(io.LimitReader(p.Stdin, maxRequest+1)); err != nil {
			return nil, fmt.Errorf("reading the request from standard input: %w", err)
		}
		where = "standard input"
	case strings.HasPrefix(arg, "@"):
		f, err := os.Open(arg[1:])
		if err != nil {
			return nil, usagef("the request cannot be read: %v", err)
		}
		defer f.Close()
		if data, err = io.ReadAll(io.LimitReader(f, maxRequest+1)); err != nil {
			return nil, usagef("the request cannot be read: %v", err)
		}
		where = arg[1:]
	}
	if len(data) > maxRequest {
		return nil, usagef("%s has more than %d MiB", where, maxRequest>>20)
	}
	if err := checkJSON(where, data); err != nil {
		return nil, err
	}
	return data, nil
}

// checkJSON says where data is wrong, if it is not one JSON value.
func checkJSON(where string, data []byte) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return usagef("%s is empty: an empty request is {}", where)
	}
	var v json.RawMessage
	err := json.Unmarshal(data, &v)
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*json.SyntaxError](err)
	if !ok {
		return usagef("%s is not JSON: %v", where, err)
	}
	// The offset is behind the byte that was wrong, or the end of what is not complete.
	at := max(int(e.Offset)-1, 0)
	if strings.Contains(e.Error(), "unexpected end") {
		at = len(data)
	}
	line := 1 + bytes.Count(data[:at], []byte("\n"))
	start := bytes.LastIndexByte(data[:at], '\n') + 1
	text := data[start:]
	if i := bytes.IndexByte(text, '\n'); i >= 0 {
		text = text[:i]
	}
	column := len([]rune(string(data[start:at]))) + 1
	return usagef("%s is not JSON: line %d, column %d: %v\n%s", where, line, column, e, point(string(text), column))
}

// point shows a line of text with a mark below a column, shortened to what is near it.
func point(text string, column int) string {
	const most = 72
	runes := []rune(strings.ReplaceAll(text, "\t", " "))
	from := max(0, min(column-most/2, len(runes)-most))
	runes = runes[from:min(from+most, len(runes))]
	return "  " + plainLine(string(runes)) + "\n  " + strings.Repeat(" ", column-1-from) + "^"
}

// findMethod returns the full name of the method that was asked for, among those the nodes publish.
func findMethod(service string, nodes []*registry.Node, asked string) (string, error) {
	name := strings.TrimPrefix(asked, "/")
	var all, short []string
	silent := false // a node that does not say what it serves may serve anything
	for _, n := range nodes {
		silent = silent || len(n.Methods) == 0
	}
	for _, m := range methodsOf(nodes) {
		if m.Name == name {
			return name, nil
		}
		all = append(all, m.Name)
		if strings.HasSuffix(m.Name, "/"+name) {
			short = append(short, m.Name)
		}
	}
	switch {
	case len(short) == 1:
		return short[0], nil
	case len(short) > 1:
		return "", usagef("%q is ambiguous: %s", asked, strings.Join(short, " or "))
	case silent && strings.Contains(name, "/"):
		return name, nil
	case silent:
		return "", usagef("the nodes of %q do not say which methods they serve: write pkg.Service/Method", service)
	}
	near := nearest.Find(name, all)
	if !strings.Contains(name, "/") {
		near = nearestShort(name, all)
	}
	hint := didYouMean(near)
	if hint == "" {
		hint = fmt.Sprintf("; hull get %s shows all %d", service, len(all))
	}
	return "", &notFoundError{fmt.Sprintf("service %q has no method %s%s", service, asked, hint)}
}

// nearestShort finds names of which the part behind the slash comes near.
func nearestShort(name string, all []string) []string {
	var parts, near []string
	for _, m := range all {
		parts = append(parts, m[strings.LastIndexByte(m, '/')+1:])
	}
	for _, part := range nearest.Find(name, slices.Compact(slices.Sorted(slices.Values(parts)))) {
		for _, m := range all {
			if strings.HasSuffix(m, "/"+part) {
				near = append(near, m)
			}
		}
	}
	return near
}

// printAnswer prints an answer, indented for people and on one line for programs.
func (p *program) printAnswer(cmd *cobra.Command, answer json.RawMessage) error {
	var b bytes.Buffer
	var err error
	if p.wantsJSON(cmd) {
		err = json.Compact(&b, answer)
	} else {
		err = json.Indent(&b, answer, "", "  ")
	}
	if err != nil {
		return fmt.Errorf("the answer is not JSON: %w", err)
	}
	b.WriteByte('\n')
	_, err = p.Stdout.Write(b.Bytes())
	return err
}

// tellCall says on standard error what happened to a call.
func (p *program) tellCall(cmd *cobra.Command, info *hull.CallInfo) {
	if !p.wantsJSON(cmd) {
		// The client was made for this call: how breaker and budget stand says nothing that the call does not, unless they refused something.
		if b := info.Breaker; b != nil && b.Refused == 0 {
			info.Breaker = nil
		}
		if b := info.Budget; b != nil && b.Refused == 0 {
			info.Budget = nil
		}
		for line := range strings.Lines(info.String()) {
			fmt.Fprintln(p.Stderr, plain(strings.TrimSuffix(line, "\n")))
		}
		return
	}
	v := callView{Service: info.Service, Method: info.Method, Node: info.Node, Address: info.Address, Class: info.Class.String(), Means: info.Class.Words(),
		TookMS: millis(info.Took), Stopped: info.Stopped, By: info.StoppedBy, Attempts: []attemptView{}, Server: info.Server}
	if info.Err != nil {
		v.Error = info.Err.Error()
	}
	for _, a := range info.Attempts {
		w := attemptView{Node: a.Node, Address: a.Address, Zone: a.Zone, Class: a.Class.String(), Means: a.Class.Words(), BeganMS: millis(a.Began), TookMS: millis(a.Took), Hedge: a.Hedge}
		if a.Err != nil {
			w.Error = a.Err.Error()
		}
		v.Attempts = append(v.Attempts, w)
	}
	for _, d := range info.Verdicts {
		v.Verdicts = append(v.Verdicts, verdictView{d.Policy, d.Attempt, d.Decision.String(), millis(d.Began), millis(d.Took), d.Reason})
	}
	for _, n := range info.Nodes {
		v.Nodes = append(v.Nodes, standingView{n.ID, n.Address, string(n.State), n.Considered, n.Why, n.Lacks})
	}
	enc := json.NewEncoder(p.Stderr)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(struct { // nobody is left to tell
		Call callView `json:"call"`
	}{v})
}

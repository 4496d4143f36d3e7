package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hull-go/hull/spec"
	"github.com/hull-go/hull/status"
)

// maxPage is the most that an admin page may answer.
const maxPage = 64 << 20

// page is a program's admin page, see hull.WithAdmin.
type page struct {
	addr string
	name string // as the user gave it
	http http.Client
}

// page returns the one that the user names.
func (p *program) page(cmd *cobra.Command) (*page, error) {
	name := textOf(cmd, setAdmin)
	if at, ok := strings.CutPrefix(name, "http://"); ok { // as a browser shows it
		name, _, _ = strings.Cut(at, "/")
	}
	a := &page{addr: name, name: name}
	network, addr := "tcp", a.addr
	switch path, unix := strings.CutPrefix(a.addr, "unix://"); {
	case a.addr == "":
		return nil, usagef("name the program to ask: --admin HOST:PORT, the address that it was given with hull.WithAdmin (AdminAddr, or its log, says which one it chose for port 0)")
	case unix:
		network, addr, a.addr = "unix", path, "localhost"
	default:
		if _, _, err := net.SplitHostPort(a.addr); err != nil {
			return nil, usagef("--admin %q is neither HOST:PORT nor unix:///PATH", a.addr)
		}
	}
	a.http.Timeout = durationOf(cmd, setTimeout)
	a.http.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	return a, nil
}

// ask makes a request. A refusal is an error with the page's own words.
func (a *page) ask(ctx context.Context, method, path string, body []byte, asJSON bool) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+a.addr+"/hull/"+path, bytes.NewReader(body))
	if err != nil {
		return nil, usagef("%v", err)
	}
	if asJSON {
		req.Header.Set("Accept", "application/json")
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/yaml")
	}
	res, err := a.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if u, ok := errors.AsType[*url.Error](err); ok { // the address stands in the message
			if err = u.Err; u.Timeout() {
				return nil, &status.Error{Code: status.DeadlineExceeded, Kind: status.Timeout, Message: fmt.Sprintf("the admin page at %s did not answer within %v", a.name, a.http.Timeout)}
			}
		}
		return nil, &status.Error{Code: status.Unavailable, Kind: status.Dial, Message: "no admin page at " + a.name, Cause: err}
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxPage))
	if err != nil {
		return nil, &status.Error{Code: status.Unavailable, Kind: status.Reset, Message: "the admin page at " + a.name + " broke off", Cause: err}
	}
	switch text := strings.TrimSpace(string(b)); {
	case res.StatusCode == http.StatusNotFound:
		return nil, &notFoundError{text}
	case res.StatusCode == http.StatusUnprocessableEntity, res.StatusCode == http.StatusConflict:
		var said struct {
			Error     string
			TakenBack bool
		}
		if json.Unmarshal(b, &said) == nil && said.Error != "" {
			text = said.Error
		}
		if said.TakenBack {
			return nil, errors.New(text)
		}
		return nil, usagef("%s", text)
	case res.StatusCode != http.StatusOK:
		return nil, errors.New("the admin page at " + a.name + " answers " + res.Status + ": " + text)
	}
	return b, nil
}

// show prints what a page says, as text or as its JSON.
func (p *program) show(cmd *cobra.Command, path string) error {
	a, err := p.page(cmd)
	if err != nil {
		return err
	}
	return p.showFrom(cmd, a, http.MethodGet, path, nil)
}

func (p *program) showFrom(cmd *cobra.Command, a *page, method, path string, body []byte) error {
	b, err := a.ask(cmd.Context(), method, path, body, p.wantsJSON(cmd))
	if err != nil {
		return err
	}
	if p.wantsJSON(cmd) {
		_, err = p.Stdout.Write(b)
		return err
	}
	for line := range strings.Lines(string(b)) {
		fmt.Fprintln(p.Stdout, plain(strings.TrimSuffix(line, "\n")))
	}
	return nil
}

// explain is "hull explain".
func (p *program) explain() *cobra.Command {
	return &cobra.Command{
		Use:   "explain SERVICE[/METHOD]",
		Short: "Say how a program's calls of a service stand, and why",
		Long: `Ask a program how the nodes of a service that it calls stand with it, what it avoids since when and
why, how breaker and budget are, and which policies hold with where each value was said. Of the
service that it serves itself it says what the server goes by.`,
		Example: "hull explain greeter --admin 127.0.0.1:7070\nhull explain greeter/greeter.Greeter/Hello --admin 127.0.0.1:7070 -o json",
		Args:    p.arguments(1, "SERVICE[/METHOD]"),
		RunE:    func(cmd *cobra.Command, args []string) error { return p.show(cmd, "explain/"+args[0]) },
	}
}

// stats is "hull stats".
func (p *program) stats() *cobra.Command {
	return &cobra.Command{
		Use:   "stats [calls]",
		Short: "Show a program's nodes, breakers, limits, budgets, queues and connections",
		Long: `Show what a program's admin page knows: the server's phase, limit and line by class, what it refused
and why, and its window of idempotency keys; for each client its services with their nodes,
budgets, limits, throttles and rates, its methods with their breakers, learned timeouts and
hedges, and its connections. With "calls": the last calls that failed, and the slowest.`,
		Example:   "hull stats --admin 127.0.0.1:7070\nhull stats calls --admin unix:///run/greeter-admin.sock",
		ValidArgs: []string{"calls"},
		Args:      p.arguments(0, "calls"),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return p.show(cmd, "state")
			case args[0] == "calls":
				return p.show(cmd, "calls")
			}
			return usagef("%q is not known: write hull stats, or hull stats calls", args[0])
		},
	}
}

// policyCommand is "hull policy".
func (p *program) policyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "policy get|set|validate|diff [FILE]",
		Short: "Read, check, compare and replace the document that a program's policies come from",
		Long: `get prints the document in force. validate says what is wrong with FILE, without asking anybody.
diff says what FILE would change in a program, field by field. set puts it in force there, at once
and for as long as the program runs; an invalid document changes nothing. FILE may be -, which is
standard input.

With --canary set puts FILE in force on probation: the program counts its calls for five seconds,
then for that time under FILE, and takes it back when they fail more than twice as often. So a
document that is valid but bad harms one program for some seconds; give it to the others afterwards.`,
		Example: "hull policy get --admin 127.0.0.1:7070\nhull policy validate policies.yaml\nhull policy diff policies.yaml --admin 127.0.0.1:7070\n" +
			"hull policy set policies.yaml --admin 127.0.0.1:7070\nhull policy set policies.yaml --canary 30s --admin 127.0.0.1:7070",
		ValidArgs: []string{"get", "set", "validate", "diff"},
		Args:      p.arguments(1, "get, set, validate or diff", "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "get" {
				if len(args) == 2 {
					return usagef("get takes no file")
				}
				return p.show(cmd, "spec")
			}
			path, known := map[string]string{"set": "spec", "validate": "", "diff": "spec?do=diff"}[args[0]]
			switch {
			case !known:
				return usagef("%q is not known: write get, set, validate or diff", args[0])
			case len(args) < 2:
				return usagef("FILE is missing: write hull policy %s FILE", args[0])
			}
			doc, err := p.document(args[1])
			if err != nil {
				return err
			}
			if _, err := spec.Parse(args[1], doc); err != nil {
				return usagef("%v", err)
			}
			if path == "" {
				if p.wantsJSON(cmd) {
					return p.printJSON(map[string]bool{"valid": true})
				}
				fmt.Fprintln(p.Stdout, "valid")
				return nil
			}
			a, err := p.page(cmd)
			if err != nil {
				return err
			}
			if d := durationOf(cmd, setCanary); d != 0 {
				switch {
				case args[0] != "set":
					return usagef("--canary is for set, which has a document on probation for that long; %s puts none in force", args[0])
				case d < 0:
					return usagef("wrong value %q of --canary: a document is on probation for more than 0s", d)
				}
				path = "spec?do=try&for=" + d.String()
				a.http.Timeout += d + canaryBefore
			}
			return p.showFrom(cmd, a, http.MethodPost, path, doc)
		},
	}
}

// canaryBefore is how long a program counts its calls before it puts a document on probation.
const canaryBefore = 5 * time.Second

// document reads a file, or standard input.
func (p *program) document(name string) ([]byte, error) {
	in := p.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, usagef("the document cannot be read: %v", err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, spec.MaxSize+1))
	if err != nil {
		return nil, usagef("the document cannot be read: %v", err)
	}
	return b, nil
}

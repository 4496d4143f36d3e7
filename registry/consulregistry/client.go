package consulregistry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/hull-go/hull/registry"
)

const (
	// maxAnswer bounds what an agent sends at once, maxComplaint what is shown of its errors, in bytes.
	maxAnswer, maxComplaint = 256 << 20, 200
)

var (
	errSilent   = errors.New("the Consul agent does not answer")
	errCrowded  = errors.New("it takes no more connections from this address: raise limits.http_max_conns_per_client")
	errFiltered = errors.New("the token may not see the service, or its nodes")
)

// statusError is an answer other than 200.
type statusError struct {
	code int
	text string
}

// Error implements error.
func (e *statusError) Error() string { return fmt.Sprintf("%d: %s", e.code, e.text) }

func isStatus(err error, code int) bool {
	e, ok := errors.AsType[*statusError](err)
	return ok && e.code == code
}

// service is a service as an agent has it, and as it is registered.
type service struct {
	ID, Name, Service string `json:",omitempty"` // answers have Service for the name
	Tags              []string
	Address           string
	Port              int
	Meta              map[string]string
	Weights           *weights `json:",omitempty"`
	Check             *check   `json:",omitempty"`
	ContentHash       string   `json:",omitempty"`
}

// same reports whether an agent has an entry as it would be registered; the owner is part of it.
func (s *service) same(has *service) bool {
	return has.Address == s.Address && has.Port == s.Port && maps.Equal(has.Meta, s.Meta) && slices.Equal(has.Tags, s.Tags) &&
		has.Weights != nil && *has.Weights == *s.Weights
}

type weights struct{ Passing, Warning int }

// check is a TTL check as it is registered.
type check struct {
	CheckID, Name, TTL, Status     string
	DeregisterCriticalServiceAfter string
}

// entries are those of one service, as many as are taken: what an agent sends beyond that is not even read.
type entries struct {
	after uint64 // of an answer with this index they are known already, 0 = of none
	all   []health
}

// decode reads an answer, entry by entry.
func (e *entries) decode(r io.Reader) error {
	dec := json.NewDecoder(r)
	if open, err := dec.Token(); err != nil || open == nil { // null is as good as none
		return err
	} else if open != json.Delim('[') {
		return errors.New("no list")
	}
	for dec.More() {
		if len(e.all) > maxTold {
			return nil
		}
		var h health
		if err := dec.Decode(&h); err != nil {
			return err
		}
		e.all = append(e.all, h)
	}
	_, err := dec.Token()
	return err
}

// health is one entry of a service's health.
type health struct {
	Node    struct{ Node, Address, Datacenter string }
	Service service
	Checks  []struct{ Status string }
}

// alive reports whether no check is critical.
func (h *health) alive() bool {
	for _, c := range h.Checks {
		if c.Status == "critical" {
			return false
		}
	}
	return true
}

// get asks an agent for something, and returns the index of the answer.
func (d *Driver) get(ctx context.Context, agent, path string, q url.Values, into any) (uint64, error) {
	return d.do(ctx, http.MethodGet, agent, path, q, nil, into)
}

func (d *Driver) put(ctx context.Context, agent, path string, q url.Values, body any) error {
	_, err := d.do(ctx, http.MethodPut, agent, path, q, body, nil)
	return err
}

func (d *Driver) do(ctx context.Context, method, agent, path string, q url.Values, body, into any) (uint64, error) {
	if d.ctx.Err() != nil {
		return 0, registry.ErrClosed
	}
	token, err := d.opt.Token()
	if err != nil {
		return 0, err
	}
	scheme := "http"
	if d.opt.TLS != nil {
		scheme = "https"
	}
	u := url.URL{Scheme: scheme, Host: agent, Path: path, RawQuery: q.Encode()}
	var data io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		data = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), data)
	if err != nil {
		return 0, err
	}
	if token != "" {
		req.Header.Set("X-Consul-Token", token)
	}
	res, err := d.client.Do(req)
	if err != nil {
		if ctx.Err() == nil {
			d.leaveAgent(agent)
		}
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // the address is said anyway
		}
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	d.heard.Store(time.Now().UnixNano())
	answer := io.LimitReader(res.Body, maxAnswer)
	if list, ok := into.(*entries); ok && res.StatusCode == http.StatusOK {
		if index := indexOf(res); index > 0 && index == list.after && !filtered(res) { // nothing has changed, and all of it is sent
			_, err := io.Copy(io.Discard, answer)
			return index, err
		}
		if err := list.decode(answer); err != nil {
			return 0, notConsuls(err)
		}
		if len(list.all) == 0 && filtered(res) {
			return 0, errFiltered
		}
		return indexOf(res), nil
	}
	text, err := io.ReadAll(answer)
	if err != nil {
		return 0, err
	}
	if kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); res.StatusCode == http.StatusTooManyRequests && kind == "text/plain" {
		return 0, errCrowded // the same code as that of a check which warns
	}
	if res.StatusCode != http.StatusOK {
		return 0, &statusError{code: res.StatusCode, text: printable(text)}
	}
	if filtered(res) && len(bytes.TrimSpace(text)) <= len("[]") {
		return 0, errFiltered
	}
	if into == nil {
		return indexOf(res), nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return 0, notConsuls(err)
	}
	return indexOf(res), nil
}

// filtered reports whether something was left out for want of permission. What is empty for that must not look like nothing.
func filtered(res *http.Response) bool {
	return res.Header.Get("X-Consul-Results-Filtered-By-ACLs") == "true"
}

// indexOf returns the index of an answer; 0 = it has none.
func indexOf(res *http.Response) uint64 {
	index, err := strconv.ParseUint(res.Header.Get("X-Consul-Index"), 10, 64)
	if err != nil {
		return 0
	}
	return index
}

// notConsuls is the error for an answer that cannot be read. One that broke off is the connection's fault.
func notConsuls(err error) error {
	if _, syntax := errors.AsType[*json.SyntaxError](err); syntax || errors.Is(err, io.EOF) {
		return fmt.Errorf("an answer that is none of Consul's: %w", err)
	}
	if _, other := errors.AsType[*json.UnmarshalTypeError](err); other {
		return fmt.Errorf("an answer that is none of Consul's: %w", err)
	}
	return err
}

// printable is what an agent complains about, made fit for a line.
func printable(b []byte) string {
	s := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, string(b[:min(len(b), maxComplaint)]))
	return strings.TrimSpace(s)
}

// health asks for all entries of a service. With an index that is known it returns none if the answer has the same.
func (d *Driver) health(ctx context.Context, agent, service string, q url.Values, known uint64) ([]health, uint64, error) {
	e := entries{after: known}
	index, err := d.get(ctx, agent, "/v1/health/service/"+d.serviceName(service), q, &e)
	return e.all, index, err
}

// local asks for what the agent itself has of an ID, nil = nothing, and whether its checks are good.
func (d *Driver) local(ctx context.Context, agent, sid string) (*service, bool, error) {
	var s service
	if _, err := d.get(ctx, agent, "/v1/agent/service/"+sid, nil, &s); isStatus(err, http.StatusNotFound) {
		return nil, false, nil
	} else if err != nil {
		return nil, false, err
	}
	var h struct{ AggregatedStatus string }
	_, err := d.get(ctx, agent, "/v1/agent/health/service/id/"+sid, nil, &h)
	switch {
	case isStatus(err, http.StatusNotFound):
		return nil, false, nil
	case isStatus(err, http.StatusServiceUnavailable):
		return &s, false, nil
	case err == nil, isStatus(err, http.StatusTooManyRequests): // a warning
		return &s, true, nil
	}
	return nil, false, err
}

// explain says what an error of an agent means.
func (d *Driver) explain(agent string, err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, registry.ErrClosed), errors.Is(err, registry.ErrTaken),
		errors.Is(err, registry.ErrLost), errors.Is(err, errSilent):
		return err
	case errors.Is(err, errFiltered), isStatus(err, http.StatusForbidden), isStatus(err, http.StatusUnauthorized):
		return fmt.Errorf("the Consul agent at %s denies the permission: %w; check the token, and what it may do", agent, err)
	case errors.Is(err, errCrowded):
		return fmt.Errorf("the Consul agent at %s: %w", agent, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w at %s in time", errSilent, agent)
	}
	if _, answered := errors.AsType[*statusError](err); answered {
		return fmt.Errorf("the Consul agent at %s: %w", agent, err)
	}
	return fmt.Errorf("%w at %s: %w", errSilent, agent, err)
}

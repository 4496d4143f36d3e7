package ui

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hull-go/hull/demo/board"
	"github.com/hull-go/hull/spec"
)

// Times of the demo's calls.
const (
	// Patience is how long the people behind the calls wait, protected or not. What comes later is worth nothing.
	Patience = 3 * time.Second
	// CallTimeout bounds a protected call, AttemptTimeout each of its attempts.
	CallTimeout    = 2 * time.Second
	AttemptTimeout = 250 * time.Millisecond
)

// Protection says which patterns are on.
type Protection struct {
	Timeout  bool `json:"timeout"`
	Retry    bool `json:"retry"`
	Breaker  bool `json:"breaker"`
	Fallback bool `json:"fallback"`
	Ejection bool `json:"ejection"`
}

// switches is the one table of the patterns: names, what the page says of them, and where they are kept.
var switches = []struct {
	name, title, text string
	field             func(*Protection) *bool
}{
	{"timeout", "Timeout", "an attempt has 250 ms, a call 2 s", func(p *Protection) *bool { return &p.Timeout }},
	{"retry", "Retry", "again on another node, within a budget", func(p *Protection) *bool { return &p.Retry }},
	{"breaker", "Breaker", "no calls while the service is down", func(p *Protection) *bool { return &p.Breaker }},
	{"fallback", "Fallback", "last known messages, and an outbox", func(p *Protection) *bool { return &p.Fallback }},
	{"ejection", "Ejection", "no calls to a node that is sick", func(p *Protection) *bool { return &p.Ejection }},
}

// FullProtection has every pattern on.
func FullProtection() Protection {
	var p Protection
	p.setAll(true)
	return p
}

func (p *Protection) setAll(on bool) {
	for _, s := range switches {
		*s.field(p) = on
	}
}

// On counts the patterns that are on.
func (p Protection) On() (n int) {
	for _, s := range switches {
		if *s.field(&p) {
			n++
		}
	}
	return n
}

// Change applies a request like {"retry": false} or {"all": true}; what it does not name stays. "all" comes first, so that
// {"all": false, "retry": true} leaves retries alone on.
func (p Protection) Change(request []byte) (Protection, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(request, &m); err != nil {
		return p, fmt.Errorf("the body is no JSON object like {\"retry\": false}: %w", err)
	}
	if len(m) == 0 {
		return p, fmt.Errorf("nothing to change: give one of %s", strings.Join(switchNames(), ", "))
	}
	on := func(name string) (bool, error) {
		var b bool
		if err := json.Unmarshal(m[name], &b); err != nil || string(m[name]) == "null" {
			return false, fmt.Errorf("%s is %s: give true or false", name, m[name])
		}
		return b, nil
	}
	if _, ok := m["all"]; ok {
		b, err := on("all")
		if err != nil {
			return p, err
		}
		p.setAll(b)
		delete(m, "all")
	}
	for _, s := range switches {
		if _, ok := m[s.name]; !ok {
			continue
		}
		b, err := on(s.name)
		if err != nil {
			return p, err
		}
		*s.field(&p) = b
		delete(m, s.name)
	}
	for name := range m {
		return p, fmt.Errorf("there is no switch %q: give one of %s", name, strings.Join(switchNames(), ", "))
	}
	return p, nil
}

func switchNames() []string {
	names := []string{"all"}
	for _, s := range switches {
		names = append(names, s.name)
	}
	slices.Sort(names)
	return names
}

// Spec is the specification that puts p in force. Without any pattern calls are spread in turn and nothing else.
func (p Protection) Spec() *spec.Spec {
	mode := func(on bool) spec.Mode {
		if on {
			return spec.On
		}
		return spec.Off
	}
	s := spec.Service{
		Policy: spec.Policy{
			AttemptTimeout: spec.AttemptTimeout{Mode: mode(p.Timeout), Fixed: spec.Duration(AttemptTimeout)},
			Retry:          spec.Retry{Mode: mode(p.Retry)},
			Breaker:        spec.Breaker{Mode: mode(p.Breaker)},
		},
		Ejection:    spec.Ejection{Mode: mode(p.Ejection)},
		Throttle:    spec.Throttle{Mode: mode(p.Breaker)},
		Concurrency: spec.Concurrency{Mode: mode(p.On() > 0)},
	}
	if p.Timeout {
		s.Timeout = spec.Duration(CallTimeout)
	}
	if !p.Ejection {
		// The default balancer looks away from slow and failing nodes by itself.
		s.Balancer = "round-robin"
	}
	return &spec.Spec{Services: map[string]spec.Service{board.Service: s}}
}

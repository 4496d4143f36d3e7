package spec

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
)

// MaxSize is the largest document that Parse reads, in bytes.
const MaxSize = 1 << 20

// Balancers are the strategies that Service.Balancer can name.
var balancers = []string{"p2c", "round-robin", "random", "least-connections"}

// Parse reads a document in YAML or JSON and validates it. Unknown fields are faults. name appears in errors.
func Parse(name string, doc []byte) (*Spec, error) {
	if len(doc) > MaxSize {
		return nil, fmt.Errorf("spec: %s: %d bytes are more than the %d that are read", name, len(doc), MaxSize)
	}
	s := new(Spec)
	if len(bytes.TrimSpace(doc)) == 0 {
		return s, nil
	}
	var root yaml.Node
	if err := yaml.Unmarshal(doc, &root); err != nil {
		return nil, fmt.Errorf("spec: %s: %s", name, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := unique(&root); err != nil {
		return nil, fmt.Errorf("spec: %s: %w", name, err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(doc))
	dec.KnownFields(true)
	if err := dec.Decode(s); err != nil {
		if t, ok := errors.AsType[*yaml.TypeError](err); ok {
			return nil, fmt.Errorf("spec: %s: %s", name, strings.Join(t.Errors, "; "))
		}
		return nil, fmt.Errorf("spec: %s: %s", name, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("spec: %s: %w", name, err)
	}
	return s, nil
}

// unique reports the first key that stands twice in a mapping. The decoder would report every pair of them, which for a large
// broken document takes minutes.
func unique(n *yaml.Node) error {
	if n.Kind == yaml.MappingNode {
		lines := make(map[string]int, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i]
			if first, ok := lines[k.Value]; ok {
				return fmt.Errorf("line %d: %q stands in line %d already: put both together", k.Line, k.Value, first)
			}
			lines[k.Value] = k.Line
		}
	}
	for _, c := range n.Content {
		if err := unique(c); err != nil {
			return err
		}
	}
	return nil
}

// Validate reports all faults of s, each with the path of its field.
func (s *Spec) Validate() error {
	var v faults
	v.service("defaults", s.Defaults)
	if len(s.Defaults.Methods) > 0 {
		v.add("defaults.methods", "methods belong to a service: put them under services")
	}
	for _, name := range sorted(s.Services) {
		if err := registry.ValidName("service", name); err != nil {
			v.add("services."+name, err.Error())
		}
		v.service("services."+name, s.Services[name])
	}
	return errors.Join(v...)
}

type faults []error

func (v *faults) add(path, format string, args ...any) {
	*v = append(*v, fmt.Errorf("%s: "+format, append([]any{path}, args...)...))
}

func (v *faults) service(path string, s Service) {
	v.policy(path, s.Policy)
	if s.Balancer != "" && !slices.Contains(balancers, s.Balancer) {
		v.add(path+".balancer", "%q is none of %s", s.Balancer, strings.Join(balancers, ", "))
	}
	v.mode(path+".ejection", s.Ejection.Mode)
	v.count(path+".ejection.consecutive", s.Ejection.Consecutive, 1<<20)
	v.positive(path+".ejection.base", s.Ejection.Base)
	v.mode(path+".concurrency", s.Concurrency.Mode)
	v.count(path+".concurrency.limit", s.Concurrency.Limit, 1<<20)
	v.mode(path+".throttle", s.Throttle.Mode)
	for _, m := range sorted(s.Methods) {
		if !strings.Contains(m, "/") || strings.HasPrefix(m, "/") {
			v.add(path+".methods."+m, "a method is named pkg.Service/Method, without a leading slash")
		}
		v.policy(path+".methods."+m, s.Methods[m])
	}
}

func (v *faults) policy(path string, p Policy) {
	v.positive(path+".timeout", p.Timeout)
	v.onOff(path+".attempt_timeout", p.AttemptTimeout.Mode)
	v.positive(path+".attempt_timeout.fixed", p.AttemptTimeout.Fixed)
	v.onOff(path+".retry", p.Retry.Mode)
	v.count(path+".retry.attempts", p.Retry.Attempts, policy.MaxAttempts)
	v.onOff(path+".hedge", p.Hedge.Mode)
	v.positive(path+".hedge.delay", p.Hedge.Delay)
	v.mode(path+".breaker", p.Breaker.Mode)
	if f := p.Breaker.Failures; f < 0 || f > 1 {
		v.add(path+".breaker.failures", "%s is not between 0%% and 100%%", f)
	}
	v.count(path+".breaker.min_calls", p.Breaker.MinCalls, 1<<20)
	v.positive(path+".breaker.open", p.Breaker.Open)
}

func (v *faults) mode(path string, m Mode) {
	switch m {
	case "", On, DryRun, Off:
	default:
		v.add(path+".mode", "%q is none of on, dry-run, off", string(m))
	}
}

// onOff is mode for policies that make attempts rather than refuse them: they have nothing to count without acting.
func (v *faults) onOff(path string, m Mode) {
	switch m {
	case "", On, Off:
	default:
		v.add(path+".mode", "%q is none of on, off", string(m))
	}
}

func (v *faults) positive(path string, d Duration) {
	if d < 0 {
		v.add(path, "%s is negative; leave it out for the default", d)
	}
}

func (v *faults) count(path string, n, most int) {
	if n < 0 || n > most {
		v.add(path, "%d is not between 1 and %d; leave it out for the default", n, most)
	}
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

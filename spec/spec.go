package spec

import (
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/hull-go/hull/policy"
)

// Spec is the whole document. The zero value means the defaults of every policy.
type Spec struct {
	// Defaults hold for every service.
	Defaults Service `yaml:"defaults,omitempty" json:"defaults,omitzero"`
	// Services by discovery name.
	Services map[string]Service `yaml:"services,omitempty" json:"services,omitempty"`
}

// Service is what holds for one service: the policies of its methods, and those that all its methods share.
type Service struct {
	Policy `yaml:",inline"`
	// Balancer: "p2c" (default), "round-robin", "random" or "least-connections".
	Balancer string `yaml:"balancer,omitempty" json:"balancer,omitempty"`
	// Ejection keeps calls away from nodes that fail.
	Ejection Ejection `yaml:"ejection,omitempty" json:"ejection,omitzero"`
	// Concurrency bounds the calls under way from this client.
	Concurrency Concurrency `yaml:"concurrency,omitempty" json:"concurrency,omitzero"`
	// Throttle holds back calls that the service would refuse anyway.
	Throttle Throttle `yaml:"throttle,omitempty" json:"throttle,omitzero"`
	// Methods by name, pkg.Service/Method.
	Methods map[string]Policy `yaml:"methods,omitempty" json:"methods,omitempty"`
}

// Policy is what holds for one method. Every field left out is inherited.
type Policy struct {
	// Timeout bounds the whole call; a caller that has less time left wins. Without it: 5 s, or the caller's own deadline.
	Timeout Duration `yaml:"timeout,omitempty" json:"timeout,omitzero"`
	// Idempotent: the method may be run twice; SideEffectFree: it may be run on two nodes at once. Without them: as the
	// service publishes.
	Idempotent     *bool          `yaml:"idempotent,omitempty" json:"idempotent,omitempty"`
	SideEffectFree *bool          `yaml:"side_effect_free,omitempty" json:"side_effect_free,omitempty"`
	AttemptTimeout AttemptTimeout `yaml:"attempt_timeout,omitempty" json:"attempt_timeout,omitzero"`
	Retry          Retry          `yaml:"retry,omitempty" json:"retry,omitzero"`
	Hedge          Hedge          `yaml:"hedge,omitempty" json:"hedge,omitzero"`
	Breaker        Breaker        `yaml:"breaker,omitempty" json:"breaker,omitzero"`
}

// AttemptTimeout bounds one attempt.
type AttemptTimeout struct {
	Mode Mode `yaml:"mode,omitempty" json:"mode,omitempty"`
	// Fixed replaces the learned timeout.
	Fixed Duration `yaml:"fixed,omitempty" json:"fixed,omitzero"`
}

// Retry repeats what failed, where that is safe.
type Retry struct {
	Mode Mode `yaml:"mode,omitempty" json:"mode,omitempty"`
	// Attempts in total, the first included; 0 = 3.
	Attempts int `yaml:"attempts,omitempty" json:"attempts,omitempty"`
	// Internal repeats idempotent calls that failed with Internal or Unknown, a panic among them, as well. Elsewhere they are
	// taken for a fault of the request, which would fail on every node.
	Internal bool `yaml:"internal,omitempty" json:"internal,omitempty"`
}

// Hedge starts a second attempt when the first takes long, for methods without side effects. Off unless switched on.
type Hedge struct {
	Mode Mode `yaml:"mode,omitempty" json:"mode,omitempty"`
	// Delay replaces the learned p95.
	Delay Duration `yaml:"delay,omitempty" json:"delay,omitzero"`
}

// Breaker stops calls to a method that fails anyway.
type Breaker struct {
	Mode Mode `yaml:"mode,omitempty" json:"mode,omitempty"`
	// Failures is the share that opens it; 0 = 50%.
	Failures Percent `yaml:"failures,omitempty" json:"failures,omitzero"`
	// MinCalls in the window before it opens; 0 = 20.
	MinCalls int `yaml:"min_calls,omitempty" json:"min_calls,omitempty"`
	// Open is how long it stays open the first time; 0 = 1s.
	Open Duration `yaml:"open,omitempty" json:"open,omitzero"`
}

// Ejection keeps calls away from nodes that fail.
type Ejection struct {
	Mode Mode `yaml:"mode,omitempty" json:"mode,omitempty"`
	// Consecutive failures that eject; 0 = 5.
	Consecutive int `yaml:"consecutive,omitempty" json:"consecutive,omitempty"`
	// Base is the first ejection's time; 0 = 5s.
	Base Duration `yaml:"base,omitempty" json:"base,omitzero"`
}

// Concurrency bounds the calls under way.
type Concurrency struct {
	Mode Mode `yaml:"mode,omitempty" json:"mode,omitempty"`
	// Limit; 0 = 1024.
	Limit int `yaml:"limit,omitempty" json:"limit,omitempty"`
}

// Throttle is the client side of overload.
type Throttle struct {
	Mode Mode `yaml:"mode,omitempty" json:"mode,omitempty"`
}

// Mode is on, dry-run or off; empty is inherited.
type Mode string

// The modes.
const (
	On     Mode = "on"
	DryRun Mode = "dry-run"
	Off    Mode = "off"
)

// Slot returns the mode as pipelines have it.
func (m Mode) Slot() policy.Mode {
	switch m {
	case DryRun:
		return policy.DryRun
	case Off:
		return policy.Off
	}
	return policy.On
}

// Duration is a time.Duration that is written as "300ms" or "1m30s".
type Duration time.Duration

// String returns it as it is written.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(strings.TrimSpace(string(b)))
	if err != nil {
		return fmt.Errorf("%q is no duration: write a number with a unit, such as 300ms, 2s or 1m30s", b)
	}
	*d = Duration(v)
	return nil
}

// UnmarshalYAML implements yaml.Unmarshaler, so that errors name the line.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	return atLine(n, d.UnmarshalText([]byte(n.Value)))
}

// atLine puts the line in front of an error, in the form in which the decoder collects them.
func atLine(n *yaml.Node, err error) error {
	if err == nil {
		return nil
	}
	return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: %v", n.Line, err)}}
}

// Percent is a share between 0 and 1 that is written as "50%".
type Percent float64

// String returns it as it is written.
func (p Percent) String() string { return fmt.Sprintf("%g%%", float64(p)*100) }

// MarshalText implements encoding.TextMarshaler.
func (p Percent) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Percent) UnmarshalText(b []byte) error {
	var v float64
	var rest string
	n, _ := fmt.Sscanf(strings.TrimSpace(string(b)), "%g%s", &v, &rest)
	if n != 2 || rest != "%" {
		return fmt.Errorf("%q is no percentage: write a number with a percent sign, such as 50%%", b)
	}
	*p = Percent(v / 100)
	return nil
}

// UnmarshalYAML implements yaml.Unmarshaler, so that errors name the line.
func (p *Percent) UnmarshalYAML(n *yaml.Node) error {
	return atLine(n, p.UnmarshalText([]byte(n.Value)))
}

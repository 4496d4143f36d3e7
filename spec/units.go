package spec

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/hull-go/hull/policy"
)

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

// String returns it as one would write it: "1m" and not "1m0s".
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	s := strings.TrimSpace(string(b))
	v, err := time.ParseDuration(s)
	if err != nil {
		if _, err := strconv.ParseFloat(s, 64); err == nil {
			return fmt.Errorf("%q has no unit: write a number with a unit, such as %sms or %ss", s, s, s)
		}
		return fmt.Errorf("%q is no duration: write a number with a unit, such as 300ms, 2s or 1m30s", s)
	}
	*d = Duration(v)
	return nil
}

// Percent is a share between 0 and 1 that is written as "50%".
type Percent float64

// String returns it as it is written.
func (p Percent) String() string { return fmt.Sprintf("%.15g%%", float64(p)*100) }

// MarshalText implements encoding.TextMarshaler.
func (p Percent) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Percent) UnmarshalText(b []byte) error {
	s := strings.TrimSpace(string(b))
	number, isPercent := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	switch {
	case err != nil || math.IsNaN(v) || math.IsInf(v, 0):
		return fmt.Errorf("%q is no percentage: write a number with a percent sign, such as 50%%", s)
	case !isPercent && v > 0 && v <= 1:
		return fmt.Errorf("%q has no percent sign: write %s or %s%%", s, Percent(v), number)
	case !isPercent:
		return fmt.Errorf("%q has no percent sign: write %s%%", s, number)
	}
	*p = Percent(v / 100)
	return nil
}

// JSON is a value of any kind, kept as JSON text. In a document it is written as the value itself. Empty = not said.
type JSON string

// MarshalJSON implements json.Marshaler.
func (j JSON) MarshalJSON() ([]byte, error) {
	if j == "" {
		return []byte("null"), nil
	}
	return []byte(j), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (j *JSON) UnmarshalJSON(b []byte) error {
	if *j = JSON(b); *j == "null" {
		*j = ""
	}
	return nil
}

// MarshalYAML implements yaml.Marshaler.
func (j JSON) MarshalYAML() (any, error) {
	tree, err := jsonTree([]byte(j))
	if err != nil {
		return nil, fmt.Errorf("spec: %q is no JSON: %w", shorten(string(j)), err)
	}
	return tree, nil
}

// fault says what is wrong with j, or "".
func (j JSON) fault() string {
	switch {
	case len(j) > maxAnswer:
		return fmt.Sprintf("it is larger than the %d bytes that are kept", maxAnswer)
	case !json.Valid([]byte(j)):
		return fmt.Sprintf("%q is no JSON", shorten(string(j)))
	}
	return ""
}

// maxAnswer is the largest JSON value in a document, in bytes.
const maxAnswer = 64 << 10

package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hull-go/hull/demo"
	"github.com/hull-go/hull/internal/nearest"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
)

// kind is what a setting's value is.
type kind int

const (
	text kind = iota
	duration
	whole  // a number
	number // with a fraction
	toggle
	list // a flag that may be repeated
)

// setting is what a user can set by a flag and by the environment.
type setting struct {
	name, short string
	kind        kind
	value       string   // what help calls the value
	def         string   // as one would write it; empty = the zero value
	defText     string   // how help puts the default, where def does not say it
	usage       string   // in lower case
	on          []string // the commands it means something to
	everywhere  bool     // may stand before the command too
	choices     []string // the only values
}

// The settings' names.
const (
	setRegistry   = "registry"
	setTTL        = "register-ttl"
	setInterval   = "register-interval"
	setTimeout    = "timeout"
	setOutput     = "output"
	setRetries    = "retries"
	setSelector   = "selector"
	setIdempotent = "idempotent"
	setVerbose    = "verbose"
	setAddr       = "addr"
	setNodes      = "nodes"
	setRate       = "rate"
	setCheck      = "check"
	setID         = "id"
	setVersion    = "version"
	setZone       = "zone"
	setLabel      = "label"
	setProtocol   = "protocol"
	setService    = "service"
	setAdmin      = "admin"
	setCanary     = "canary"
	setSeeds      = "seeds"
)

const (
	outputTable = "table"
	outputJSON  = "json"
)

// settings is the one table of all flags and variables.
func settings() []setting {
	pages := []string{"explain", "stats", "top", "policy"}
	look := []string{"list", "get", "watch", "call", "health", "register", "deregister", "migrate"}
	return []setting{
		{name: setRegistry, kind: text, value: "URL", def: "file://", everywhere: true, on: look,
			usage: "where services are found"},
		{name: setTimeout, kind: duration, value: "DURATION", def: "5s", everywhere: true, on: append(slices.Clip(look), pages...),
			usage: "how long it may take: a call with its retries, the check of one node, or an answer of the registry or an admin page"},
		{name: setOutput, short: "o", kind: text, value: "FORMAT", def: outputTable, everywhere: true, choices: []string{outputTable, outputJSON},
			on: []string{"demo", "list", "get", "watch", "call", "health", "register", "deregister", "migrate", "version", "explain", "stats", "policy"}, usage: "how to print: table or json"},
		{name: setTTL, kind: duration, value: "DURATION", def: registry.DefaultTTL.String(), everywhere: true, on: look,
			usage: "how long a registration stays known without being renewed"},
		{name: setInterval, kind: duration, value: "DURATION", everywhere: true, on: look, defText: "a third of the TTL",
			usage: "how often a registration is renewed"},

		{name: setSelector, short: "l", kind: text, value: "SELECTOR", on: []string{"get", "watch", "call", "health"},
			usage: "only nodes that match, such as version=1.2,zone!=a"},
		{name: setRetries, kind: whole, value: "N", def: "2", on: []string{"call"},
			usage: "how often a call that failed is tried again on another node, if that is safe"},
		{name: setIdempotent, kind: toggle, on: []string{"call"},
			usage: "the method may be processed twice, so it may be tried again after any failure"},
		{name: setVerbose, short: "v", kind: toggle, on: []string{"call", "demo"},
			usage: "also say what happened on the way"},

		{name: setAddr, kind: text, value: "HOST:PORT", on: []string{"demo"}, defText: demo.DefaultAddr + ", or another port if that is in use",
			usage: "where the page is served"},
		{name: setNodes, kind: whole, value: "N", def: strconv.Itoa(demo.DefaultNodes), on: []string{"demo"},
			usage: "how many backends there are"},
		{name: setRate, kind: number, value: "N", on: []string{"demo"},
			defText: fmt.Sprintf("%v, or %v with --check", demo.DefaultRate, demo.DefaultCheckRate),
			usage:   "the load of each client in calls per second; negative = none"},
		{name: setCheck, kind: toggle, on: []string{"demo"},
			usage: "play the whole story unattended, print a report, and fail if a promise is broken"},

		{name: setID, kind: text, value: "ID", on: []string{"register"}, defText: "a random one",
			usage: "the node's own name"},
		{name: setVersion, kind: text, value: "VERSION", on: []string{"register"}, usage: "the version to publish"},
		{name: setZone, kind: text, value: "ZONE", on: []string{"register"}, usage: "the zone to publish"},
		{name: setLabel, kind: list, value: "KEY=VALUE", on: []string{"register"}, usage: "a label to publish; may be repeated"},
		{name: setProtocol, kind: list, value: "NAME", on: []string{"register"}, defText: "hull/1",
			usage: "a protocol that the address speaks, such as http; may be repeated"},
		{name: setAdmin, kind: text, value: "ADDR", on: pages,
			usage: "the admin page of the program to ask, HOST:PORT or unix:///PATH, as the program was told with hull.WithAdmin"},
		{name: setCanary, kind: duration, value: "DURATION", on: []string{"policy"},
			usage: "with set: how long the document is on probation; it is taken back when calls fail twice as often as before"},
		{name: setSeeds, kind: whole, value: "N", def: strconv.Itoa(defaultSeeds), on: []string{"simulate"},
			usage: "how many runs of each protection are made; some scenarios make a part of them"},
		{name: setService, kind: list, value: "NAME", on: []string{"migrate"}, defText: "all services",
			usage: "only this service; may be repeated"},
	}
}

// env is the name of the setting in the environment. What means something to one command alone is named after it.
func (s *setting) env() string {
	name := strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
	if len(s.on) == 1 && s.on[0] != "call" {
		name = strings.ToUpper(s.on[0]) + "_" + name
	}
	return "HULL_" + name
}

// holdsFor reports whether the setting means something to a command.
func (s *setting) holdsFor(command string) bool { return slices.Contains(s.on, command) }

// defaultText is how help puts the default; empty = none.
func (s *setting) defaultText() string {
	if s.defText != "" {
		return s.defText
	}
	return s.def
}

// find returns the setting of a name.
func find(name string) *setting {
	for _, s := range settings() {
		if s.name == name {
			return &s
		}
	}
	return nil
}

// define makes the flags of all commands.
func (p *program) define(root *cobra.Command) {
	for _, s := range settings() {
		if s.everywhere {
			p.flag(root, root.PersistentFlags(), &s)
			continue
		}
		for _, cmd := range root.Commands() {
			if s.holdsFor(cmd.Name()) {
				p.flag(cmd, cmd.Flags(), &s)
			}
		}
	}
	for _, cmd := range append(root.Commands(), root) {
		cmd.Flags().BoolP("help", "h", false, "show this help")
	}
}

// flag makes one flag of cmd.
func (p *program) flag(cmd *cobra.Command, fs *pflag.FlagSet, s *setting) {
	switch s.kind {
	case text:
		fs.StringP(s.name, s.short, s.def, s.usage)
	case duration:
		d, _ := time.ParseDuration(s.def) // a default is well written or empty: a test looks
		fs.DurationP(s.name, s.short, d, s.usage)
	case whole:
		n, _ := strconv.Atoi(s.def)
		fs.IntP(s.name, s.short, n, s.usage)
	case number:
		f, _ := strconv.ParseFloat(s.def, 64)
		fs.Float64P(s.name, s.short, f, s.usage)
	case toggle:
		fs.BoolP(s.name, s.short, false, s.usage)
	case list:
		fs.StringArrayP(s.name, s.short, nil, s.usage)
	}
	complete := cobra.NoFileCompletions
	if len(s.choices) > 0 {
		complete = cobra.FixedCompletions(s.choices, cobra.ShellCompDirectiveNoFileComp)
	}
	if s.name == setRegistry {
		complete = p.completeRegistry
	}
	_ = cmd.RegisterFlagCompletionFunc(s.name, complete) // fails only for a flag that does not exist
}

// resolve gives the flags that are not set their value from the environment, and checks all of them.
func (p *program) resolve(cmd *cobra.Command) error {
	for _, s := range settings() {
		f := cmd.Flags().Lookup(s.name)
		if f == nil {
			continue
		}
		if !s.holdsFor(cmd.Name()) {
			if f.Changed {
				return usagef("--%s means nothing to %s", s.name, cmd.CommandPath())
			}
			continue
		}
		from := "--" + s.name
		if v, ok := p.Env(s.env()); ok && v != "" && !f.Changed {
			from = s.env()
			if err := setFromEnv(f, &s, v); err != nil {
				return wrongValue(v, from, f, err)
			}
		}
		if err := s.check(f.Value.String()); err != nil {
			return usagef("wrong value %q of %s: %v", f.Value, from, err)
		}
	}
	return nil
}

// setFromEnv sets a flag; a list is separated by commas.
func setFromEnv(f *pflag.Flag, s *setting, v string) error {
	values := []string{v}
	if s.kind == list {
		values = strings.Split(v, ",")
	}
	for _, v := range values {
		if err := f.Value.Set(strings.TrimSpace(v)); err != nil {
			return err
		}
	}
	return nil
}

// check says what is wrong with a value that could be parsed.
func (s *setting) check(v string) error {
	if len(s.choices) > 0 && !slices.Contains(s.choices, v) {
		return fmt.Errorf("it is one of %s%s", strings.Join(s.choices, ", "), didYouMean(nearest.Find(v, s.choices)))
	}
	switch s.name {
	case setTimeout, setTTL, setInterval:
		d, err := time.ParseDuration(v)
		if err != nil {
			return err
		}
		if d < 0 || d == 0 && s.def != "" {
			return fmt.Errorf("it must be positive, such as %s", registry.DefaultTTL)
		}
	case setRetries:
		if n, err := strconv.Atoi(v); err != nil || n < 0 || n >= policy.MaxAttempts {
			return fmt.Errorf("it is a number from 0 to %d", policy.MaxAttempts-1)
		}
	case setNodes:
		if n, err := strconv.Atoi(v); err != nil || n < 1 {
			return fmt.Errorf("it is a positive number")
		}
	}
	return nil
}

// The values of a command's flags, once resolved. Asking for one that the command does not have is a mistake of this
// package and gives the zero value.

func textOf(cmd *cobra.Command, name string) string {
	v, _ := cmd.Flags().GetString(name)
	return v
}

func durationOf(cmd *cobra.Command, name string) time.Duration {
	v, _ := cmd.Flags().GetDuration(name)
	return v
}

func wholeOf(cmd *cobra.Command, name string) int {
	v, _ := cmd.Flags().GetInt(name)
	return v
}

func numberOf(cmd *cobra.Command, name string) float64 {
	v, _ := cmd.Flags().GetFloat64(name)
	return v
}

func toggleOf(cmd *cobra.Command, name string) bool {
	v, _ := cmd.Flags().GetBool(name)
	return v
}

func listOf(cmd *cobra.Command, name string) []string {
	v, _ := cmd.Flags().GetStringArray(name)
	return v
}

// wantsJSON reports whether the output is for programs. It may be asked before the flags are resolved.
func (p *program) wantsJSON(cmd *cobra.Command) bool {
	f := cmd.Flags().Lookup(setOutput)
	if f == nil {
		return false
	}
	if s := find(setOutput); !f.Changed {
		if v, ok := p.Env(s.env()); ok && v != "" {
			return v == outputJSON
		}
	}
	return f.Value.String() == outputJSON
}

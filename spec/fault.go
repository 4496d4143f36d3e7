package spec

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with a document.
type Fault struct {
	// Line is where it stands, from 1; 0 = not known, as in a document that was made in Go.
	Line int `json:"line,omitempty"`
	// Path names the field, such as services.greeter.retry.attempts; empty = the document as a whole.
	Path string `json:"path,omitempty"`
	// Message says what is wrong and what to do.
	Message string `json:"message"`
}

// String returns it on one line.
func (f Fault) String() string {
	s := f.Message
	if f.Path != "" {
		s = f.Path + ": " + s
	}
	if f.Line > 0 {
		s = fmt.Sprintf("line %d: %s", f.Line, s)
	}
	return s
}

// FaultsError is the error of a document: everything that is wrong with it, in the order of lines.
type FaultsError struct {
	// Name is the document's, or empty.
	Name string
	// List has at most MaxFaults entries.
	List []Fault
	// More is how many were left out.
	More int
}

// MaxFaults is how many faults are listed.
const MaxFaults = 100

// Error lists all faults: one on one line, several on a line each.
func (e *FaultsError) Error() string {
	head := "spec: "
	if e.Name != "" {
		head += e.Name + ": "
	}
	if len(e.List) == 1 && e.More == 0 {
		return head + e.List[0].String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s%d faults", head, len(e.List)+e.More)
	for _, f := range e.List {
		b.WriteString("\n  " + f.String())
	}
	if e.More > 0 {
		fmt.Fprintf(&b, "\n  and %d more", e.More)
	}
	return b.String()
}

// faults collects.
type faults struct {
	lines map[string]int // where fields stand; nil = nobody knows
	list  []Fault
	bad   map[string]bool // paths that have a fault
}

func (v *faults) add(path, format string, args ...any) {
	v.addAt(v.line(path), path, format, args...)
}

func (v *faults) addAt(line int, path, format string, args ...any) {
	if v.bad == nil {
		v.bad = map[string]bool{}
	}
	v.bad[path] = true
	v.list = append(v.list, Fault{line, path, fmt.Sprintf(format, args...)})
}

// line is where path stands, or what contains it.
func (v *faults) line(path string) int {
	for {
		if n, ok := v.lines[path]; ok {
			return n
		}
		i := strings.LastIndexByte(path, '.')
		if i < 0 {
			return 0
		}
		path = path[:i]
	}
}

// err is nil if there are none.
func (v *faults) err(name string) error {
	if len(v.list) == 0 {
		return nil
	}
	slices.SortStableFunc(v.list, func(a, b Fault) int { return cmp.Compare(a.Line, b.Line) })
	e := &FaultsError{Name: name, List: v.list}
	if n := len(v.list); n > MaxFaults {
		e.List, e.More = v.list[:MaxFaults], n-MaxFaults
	}
	return e
}

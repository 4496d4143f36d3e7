package spec

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Explanation says what holds for a method and why. It is plain data: its JSON form is for programs.
type Explanation struct {
	Service string  `json:"service"`
	Method  string  `json:"method,omitempty"`
	Fields  []Field `json:"fields"`
}

// Field is one field of an explanation.
type Field struct {
	// Path is the field's, such as "retry.attempts".
	Path string `json:"path"`
	// Value is what holds, as it is written in a document; what is no value there but up to the policy, such as
	// "learned", is in words, and Auto is set.
	Value string `json:"value"`
	Auto  bool   `json:"auto,omitempty"`
	// From is where it was said; At is the path there, and empty if it is built in.
	From From   `json:"from"`
	At   string `json:"at,omitempty"`
}

// Explain tells, for every field of a method, its value and where it comes from. An empty method explains what the methods of
// the service inherit. A service that the document does not name has the defaults.
func (s *Spec) Explain(service, method string) Explanation {
	e := Explanation{Service: service, Method: method}
	ls := s.levels(service, method)
	all := leaves()
	for i := range all {
		l := &all[i]
		f := Field{Path: l.path, Value: l.auto, Auto: true, From: FromBuiltin}
		if v, lv, ok := l.find(ls); ok {
			f.Value, f.Auto, f.From = text(v), false, lv.from
			if lv.from != FromBuiltin {
				f.At = lv.path + "." + l.path
			}
		}
		e.Fields = append(e.Fields, f)
	}
	return e
}

// Field returns the field with that path, or false.
func (e Explanation) Field(path string) (Field, bool) {
	for _, f := range e.Fields {
		if f.Path == path {
			return f, true
		}
	}
	return Field{}, false
}

// WriteText writes it as a table.
func (e Explanation) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FIELD\tVALUE\tFROM")
	for _, f := range e.Fields {
		from := string(f.From)
		if f.At != "" {
			from += " (" + f.At + ")"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", f.Path, f.Value, from)
	}
	return t.Flush()
}

// String returns the table.
func (e Explanation) String() string {
	var b strings.Builder
	_ = e.WriteText(&b) // a Builder takes everything
	return b.String()
}

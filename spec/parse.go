package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/hull-go/hull/internal/nearest"
)

// MaxSize is the largest document that is read, in bytes.
const MaxSize = 1 << 20

// maxNodes is how many values a document can have, those counted that aliases repeat.
const maxNodes = 1 << 18

// Parse reads a document in YAML or JSON and validates it. name appears in errors. The error is a *FaultsError, which lists all
// that is wrong, each with its line. A document in which nothing stands is refused: it is rather a file that was lost than the wish to lose every
// policy. {} stands for the defaults.
func Parse(name string, doc []byte) (*Spec, error) {
	p := reader{faults: faults{lines: map[string]int{}}}
	s := new(Spec)
	if root := p.tree(name, doc); root != nil {
		p.value(root, reflect.ValueOf(s).Elem(), "")
		if p.nodes <= maxNodes {
			p.check(s)
		}
	}
	if err := p.err(name); err != nil {
		return nil, err
	}
	return s, nil
}

// ReadFile is Parse for a file.
func ReadFile(path string) (*Spec, error) {
	doc, err := readDocument(path)
	if err != nil {
		return nil, err
	}
	return Parse(filepath.Base(path), doc)
}

func readDocument(path string) ([]byte, error) {
	if fi, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	} else if !fi.Mode().IsRegular() { // a pipe would never end
		return nil, fmt.Errorf("spec: %s is no regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	}
	defer f.Close()
	doc, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	}
	return doc, nil
}

type reader struct {
	faults
	nodes int
}

// tree returns the document's nodes, or nil.
func (p *reader) tree(name string, doc []byte) *yaml.Node {
	if len(doc) > MaxSize {
		p.addAt(0, "", "it is larger than the %d bytes that are read", MaxSize)
		return nil
	}
	doc = bytes.TrimPrefix(doc, []byte("\ufeff"))
	trimmed := bytes.TrimSpace(doc)
	if len(trimmed) == 0 {
		p.addAt(0, "", empty)
		return nil
	}
	// YAML takes most JSON, but not its tabs and not all its escapes.
	if trimmed[0] == '{' || trimmed[0] == '[' || strings.HasSuffix(name, ".json") {
		root, err := jsonTree(doc)
		if err == nil {
			return p.something(root)
		}
		if strings.HasSuffix(name, ".json") {
			p.list = append(p.list, Fault{err.line, "", "it is no JSON: " + err.Error()})
			return nil
		}
	}
	dec := yaml.NewDecoder(bytes.NewReader(doc))
	var root, second yaml.Node
	if err := dec.Decode(&root); errors.Is(err, io.EOF) { // nothing but comments
		p.addAt(0, "", empty)
		return nil
	} else if err != nil {
		p.syntax(err)
		return nil
	}
	if err := dec.Decode(&second); err == nil {
		p.addAt(second.Line, "", "a second document begins here: put all into one")
	} else if !errors.Is(err, io.EOF) {
		p.syntax(err)
	}
	if len(root.Content) == 0 {
		p.addAt(0, "", empty)
		return nil
	}
	return p.something(root.Content[0])
}

const empty = "it is empty: write {} for the defaults"

// something returns root, or nil if nothing stands there.
func (p *reader) something(root *yaml.Node) *yaml.Node {
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		p.addAt(0, "", empty)
		return nil
	}
	return root
}

// syntax adds an error of the YAML parser, which says the line by itself.
func (p *reader) syntax(err error) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	var line int
	if n, _ := fmt.Sscanf(text, "line %d:", &line); n == 1 {
		_, text, _ = strings.Cut(text, ": ")
	}
	p.addAt(line, "", "it is no YAML: %s", text)
}

// value reads n into v, a struct, a map of structs, or a leaf.
func (p *reader) value(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if p.nodes++; p.nodes > maxNodes {
		if p.nodes == maxNodes+1 {
			p.addAt(n.Line, path, "aliases repeat too much: put what is shared under defaults")
		}
		return
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return // left out
	}
	switch v.Kind() {
	case reflect.Struct:
		p.pairs(n, path, func(k, c *yaml.Node) {
			f, ok := field(v, k.Value)
			switch {
			case ok:
				p.value(c, f, join(path, k.Value))
			case path != "" || k.Value != "$schema": // which editors ask for
				p.addAt(k.Line, join(path, k.Value), "there is no such field%s", hint(v.Type(), path, k.Value))
			}
		})
	case reflect.Map:
		m := reflect.MakeMap(v.Type())
		p.pairs(n, path, func(k, c *yaml.Node) {
			e := reflect.New(v.Type().Elem()).Elem()
			p.value(c, e, join(path, k.Value))
			m.SetMapIndex(reflect.ValueOf(k.Value), e)
		})
		v.Set(m)
	case reflect.Pointer:
		e := reflect.New(v.Type().Elem())
		if p.scalar(n, e.Elem(), path) {
			v.Set(e)
		}
	default:
		if kindOf(v.Type()) == kindJSON {
			v.SetString(string(p.json(n, path)))
			return
		}
		if p.scalar(n, v, path) && v.IsZero() && v.Kind() != reflect.String {
			p.addAt(n.Line, path, "%s is no value for it: leave it out to inherit it", n.Value)
		}
	}
}

// pairs calls each with the keys and values of a mapping, and reports keys that stand twice.
func (p *reader) pairs(n *yaml.Node, path string, each func(k, c *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		p.addAt(n.Line, path, "here stands %s, where fields with values are expected", describe(n))
		return
	}
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, c := n.Content[i], n.Content[i+1]
		if k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		at := join(path, k.Value)
		first, twice := seen[k.Value]
		switch {
		case k.Kind != yaml.ScalarNode:
			p.addAt(k.Line, path, "the name of a field is a word, and not %s", describe(k))
		case k.Tag == "!!merge":
			p.addAt(k.Line, path, "<< is not read: put what is shared under defaults, or use an alias for a whole value")
		case twice:
			p.addAt(k.Line, at, "it stands in line %d already: put both together", first)
		default:
			seen[k.Value] = k.Line
			if _, ok := p.lines[at]; !ok {
				p.lines[at] = k.Line
			}
			each(k, c)
		}
	}
}

func (p *reader) scalar(n *yaml.Node, v reflect.Value, path string) bool {
	if n.Kind != yaml.ScalarNode {
		p.addAt(n.Line, path, "here stands %s, where one value is expected", describe(n))
		return false
	}
	if k := kindOf(v.Type()); n.Tag == "!!str" && (k == kindInt || k == kindFloat || k == kindBool) && scan(reflect.New(v.Type()).Elem(), n.Value) == nil {
		p.addAt(n.Line, path, "%q is a text: write it without quotes", n.Value)
		return false
	}
	if err := scan(v, n.Value); err != nil {
		p.addAt(n.Line, path, "%v", err)
		return false
	}
	return true
}

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	return fmt.Sprintf("%q", shorten(n.Value))
}

// shorten keeps messages on one screen.
func shorten(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}

// field finds a field by its name in documents.
func field(v reflect.Value, name string) (reflect.Value, bool) {
	t := v.Type()
	for i := range t.NumField() {
		if f := t.Field(i); f.Anonymous {
			if found, ok := field(v.Field(i), name); ok {
				return found, true
			}
		} else if fieldName(f) == name {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func fieldNames(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		if f := t.Field(i); f.Anonymous {
			names = append(names, fieldNames(f.Type)...)
		} else {
			names = append(names, fieldName(f))
		}
	}
	return names
}

// hint says what somebody may have meant who wrote name into a t.
func hint(t reflect.Type, path, name string) string {
	if t == reflect.TypeFor[Policy]() && slices.Contains(fieldNames(reflect.TypeFor[Service]()), name) {
		return ": it holds for a whole service, so put it there"
	}
	if near := nearest.Find(name, fieldNames(t)); len(near) > 0 {
		return "; did you mean " + strings.Join(near, " or ") + "?"
	}
	if t == reflect.TypeFor[Spec]() {
		return ": a document has defaults and services"
	}
	var groups []string
	for _, l := range leaves() {
		if l.name == name && l.name != "mode" && (l.method || t != reflect.TypeFor[Policy]()) {
			groups = append(groups, l.path)
		}
	}
	if len(groups) > 0 && len(groups) <= nearest.Max {
		return "; did you mean " + strings.Join(groups, " or ") + "?"
	}
	return ": " + lastName(path) + " has " + strings.Join(fieldNames(t), ", ")
}

func lastName(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

type jsonError struct {
	error
	line int
}

// jsonTree reads JSON into the form that YAML has.
func jsonTree(doc []byte) (*yaml.Node, *jsonError) {
	r := jsonReader{doc: doc, line: 1, dec: json.NewDecoder(bytes.NewReader(doc))}
	r.dec.UseNumber()
	root, err := r.next()
	if err == nil {
		if _, err = r.dec.Token(); errors.Is(err, io.EOF) {
			return root, nil
		}
		err = errors.New("more follows after its end")
	}
	r.count()
	return nil, &jsonError{err, r.line}
}

type jsonReader struct {
	doc  []byte
	dec  *json.Decoder
	at   int64
	line int
	deep int
}

// maxJSONDepth is how deep a JSON document may be nested: the reader's stack is bounded by it. YAML's own bound is as generous.
const maxJSONDepth = 10_000

// count brings line up to where the decoder is.
func (r *jsonReader) count() {
	to := max(r.at, min(r.dec.InputOffset(), int64(len(r.doc))))
	r.line += bytes.Count(r.doc[r.at:to], []byte("\n"))
	r.at = to
}

func (r *jsonReader) next() (*yaml.Node, error) {
	t, err := r.dec.Token()
	if err != nil {
		return nil, err
	}
	r.count()
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Line: r.line}
	switch t := t.(type) {
	case json.Delim:
		n.Kind, n.Tag = yaml.MappingNode, "!!map"
		if t == '[' {
			n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		}
		if r.deep++; r.deep > maxJSONDepth {
			return nil, fmt.Errorf("it is more than %d levels deep", maxJSONDepth)
		}
		for r.dec.More() {
			c, err := r.next()
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, c)
		}
		_, err = r.dec.Token() // the end
		r.count()
		r.deep--
		return n, err
	case nil:
		n.Tag = "!!null"
	case bool:
		n.Tag, n.Value = "!!bool", strconv.FormatBool(t)
	case json.Number:
		n.Tag, n.Value = "!!float", t.String()
	case string:
		n.Value = t
	}
	return n, nil
}

package balance

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hull-go/hull/registry"
)

// Selector is a condition on nodes, read from text such as
//
//	version=1.2, zone!=a, tier in (gold, silver), !canary
//
// Terms are joined by commas, and all must hold: key=value, key!=value, key in (…), key notin (…), key (is set) and
// !key (is not set). The keys id, address, version, zone, region and protocol are the node's own; every other key is a
// label, and so is label.KEY for any KEY. A label that is missing is unequal to every value. Values with blanks, commas
// or brackets go in double quotes, as in Go. The zero value matches every node. Selectors are immutable.
type Selector struct{ terms []term }

type term struct {
	key    string // without "label."
	label  bool
	op     op
	values []string // sorted, for in and notin; one for equality, which is the same with one value
}

type op uint8

const (
	opIn op = iota
	opNotIn
	opSet
	opNotSet
)

// maxSelector bounds the text of a selector.
const maxSelector = 4096

// ParseSelector reads a selector. Blank text is the selector that matches every node.
func ParseSelector(text string) (Selector, error) {
	if len(text) > maxSelector {
		return Selector{}, fmt.Errorf("selector has %d bytes: at most %d", len(text), maxSelector)
	}
	p := parser{text: text}
	var s Selector
	if p.skip(); p.at == len(text) {
		return s, nil
	}
	for {
		t, err := p.term()
		if err != nil {
			return Selector{}, fmt.Errorf("selector %q: %w", text, err)
		}
		s.terms = append(s.terms, t)
		if p.skip(); p.at == len(text) {
			return s, nil
		}
		if !p.take(",") {
			return Selector{}, fmt.Errorf("selector %q: %w", text, p.want("a comma between terms"))
		}
	}
}

// Empty reports whether the selector matches every node.
func (s Selector) Empty() bool { return len(s.terms) == 0 }

// And returns the selector that matches what both do.
func (s Selector) And(t Selector) Selector {
	return Selector{terms: append(slices.Clip(s.terms), t.terms...)}
}

// Match reports whether a node fulfils all terms.
func (s Selector) Match(n *registry.Node) bool {
	for i := range s.terms {
		if !s.terms[i].match(n) {
			return false
		}
	}
	return true
}

// String returns the selector in a form that ParseSelector reads back.
func (s Selector) String() string {
	var b strings.Builder
	for i := range s.terms {
		if i > 0 {
			b.WriteByte(',')
		}
		s.terms[i].write(&b)
	}
	return b.String()
}

// own returns the values of one of the node's own properties, and false if key is none.
func own(n *registry.Node, key string) ([]string, bool) {
	one := func(v string) ([]string, bool) {
		if v == "" {
			return nil, true
		}
		return []string{v}, true
	}
	switch key {
	case "id":
		return one(n.ID)
	case "address":
		return one(n.Address)
	case "version":
		return one(n.Version)
	case "zone":
		return one(n.Zone)
	case "region":
		return one(n.Region)
	case "protocol":
		return n.Protocols, true
	}
	return nil, false
}

// isOwn reports whether key is one of a node's own properties.
func isOwn(key string) bool {
	_, ok := own(&registry.Node{}, key)
	return ok
}

func (t *term) match(n *registry.Node) bool {
	var values []string
	if t.label {
		if v, ok := n.Labels[t.key]; ok {
			values = []string{v}
		}
	} else {
		values, _ = own(n, t.key)
	}
	switch t.op {
	case opSet:
		return len(values) > 0
	case opNotSet:
		return len(values) == 0
	}
	found := slices.ContainsFunc(values, func(v string) bool { return slices.Contains(t.values, v) })
	return found == (t.op == opIn)
}

func (t *term) write(b *strings.Builder) {
	if t.op == opNotSet {
		b.WriteByte('!')
	}
	if t.label && (isOwn(t.key) || strings.HasPrefix(t.key, "label.")) {
		b.WriteString("label.")
	}
	b.WriteString(t.key)
	if t.op == opSet || t.op == opNotSet {
		return
	}
	if len(t.values) == 1 {
		b.WriteString([...]string{opIn: "=", opNotIn: "!="}[t.op])
		b.WriteString(quoted(t.values[0]))
		return
	}
	b.WriteString([...]string{opIn: " in (", opNotIn: " notin ("}[t.op])
	for i, v := range t.values {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(quoted(v))
	}
	b.WriteByte(')')
}

func quoted(v string) string {
	if v != "" && strings.IndexFunc(v, func(r rune) bool { return !plain(r) }) < 0 {
		return v
	}
	return strconv.Quote(v)
}

// plain reports whether a rune may stand in a key or an unquoted value.
func plain(r rune) bool {
	return r > ' ' && r != 0x7f && r != '\uFFFD' && !strings.ContainsRune(`,()=!"`, r) && (r < 0x80 || strconv.IsPrint(r))
}

type parser struct {
	text string
	at   int
}

func (p *parser) skip() {
	for p.at < len(p.text) && (p.text[p.at] == ' ' || p.text[p.at] == '\t') {
		p.at++
	}
}

func (p *parser) take(s string) bool {
	p.skip()
	if !strings.HasPrefix(p.text[p.at:], s) {
		return false
	}
	p.at += len(s)
	return true
}

// word reads a run of plain runes; it may be empty.
func (p *parser) word() string {
	p.skip()
	rest := p.text[p.at:]
	if i := strings.IndexFunc(rest, func(r rune) bool { return !plain(r) }); i >= 0 {
		rest = rest[:i]
	}
	p.at += len(rest)
	return rest
}

func (p *parser) value() (string, error) {
	p.skip()
	if p.at < len(p.text) && p.text[p.at] == '"' {
		q, err := strconv.QuotedPrefix(p.text[p.at:])
		if err != nil {
			return "", p.want("a closing quote")
		}
		p.at += len(q)
		return strconv.Unquote(q)
	}
	if w := p.word(); w != "" {
		return w, nil
	}
	return "", p.want(`a value; the empty one is written ""`)
}

func (p *parser) want(what string) error {
	if p.at == len(p.text) {
		return fmt.Errorf("it ends where %s should be", what)
	}
	return fmt.Errorf("at %.20q: want %s", p.text[p.at:], what)
}

func (p *parser) term() (term, error) {
	not := p.take("!")
	key := p.word()
	if key == "" {
		return term{}, p.want("a key: version, zone, region, protocol, id, address or a label")
	}
	t := term{key: key, label: !isOwn(key)}
	if name, ok := strings.CutPrefix(key, "label."); ok {
		if t.key, t.label = name, true; name == "" {
			return t, fmt.Errorf("%q names no label", key)
		}
	}
	if not {
		t.op = opNotSet
		return t, nil
	}
	switch {
	case p.take("!="):
		t.op = opNotIn
	case p.take("=="), p.take("="):
	default:
		return p.list(t)
	}
	v, err := p.value()
	t.values = []string{v}
	return t, err
}

// list reads what follows a key that no equality sign follows: in (…), notin (…), or nothing.
func (p *parser) list(t term) (term, error) {
	before := p.at
	switch w := p.word(); w {
	case "":
		t.op = opSet
		return t, nil
	case "in":
	case "notin":
		t.op = opNotIn
	default:
		p.at = before
		p.skip()
		return t, p.want("=, !=, in (…), notin (…) or a comma after " + strconv.Quote(t.key))
	}
	if !p.take("(") {
		return t, p.want("a bracket after in or notin")
	}
	for {
		v, err := p.value()
		if err != nil {
			return t, err
		}
		t.values = append(t.values, v)
		if p.take(")") {
			slices.Sort(t.values)
			t.values = slices.Compact(t.values)
			return t, nil
		}
		if !p.take(",") {
			return t, p.want("a comma or a closing bracket")
		}
	}
}

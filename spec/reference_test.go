package spec

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write docs/spec.schema.json and the generated part of docs/spec.md")

const (
	schemaFile    = "../docs/spec.schema.json"
	referenceFile = "../docs/spec.md"
)

// comments are the doc comments of types ("Retry") and fields ("Retry.Attempts") in spec.go.
func comments(t testing.TB) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "spec.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	flat := func(g *ast.CommentGroup) string { return strings.Join(strings.Fields(g.Text()), " ") }
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.TYPE {
			continue
		}
		ts := g.Specs[0].(*ast.TypeSpec)
		found[ts.Name.Name] = flat(g.Doc)
		for _, f := range ts.Type.(*ast.StructType).Fields.List {
			for _, n := range f.Names {
				found[ts.Name.Name+"."+n.Name] = flat(f.Doc)
			}
		}
	}
	return found
}

// reference makes the schema and the page.
type reference struct {
	t    testing.TB
	docs map[string]string
}

// doc is what a field's comment says, under the name that it has in documents.
func (r *reference) doc(t reflect.Type, f reflect.StructField, quote string) string {
	r.t.Helper()
	text := r.docs[t.Name()+"."+f.Name]
	if text == "" {
		r.t.Errorf("%s.%s has no comment", t.Name(), f.Name)
	}
	if rest, ok := strings.CutPrefix(text, f.Name); ok {
		text = quote + fieldName(f) + quote + rest
	}
	return text
}

func (r *reference) leaf(group string, f reflect.StructField) *leaf {
	return leafAt(join(group, fieldName(f)))
}

type object = map[string]any

func (r *reference) schema() []byte {
	defs := object{
		"mode": object{"enum": []string{string(On), string(DryRun), string(Off)}},
		"duration": object{"anyOf": []object{
			{"type": "string", "pattern": `^\s*\+?(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+\s*$|^\s*0\s*$`}, {"const": 0}}},
		"percent":  object{"type": "string", "pattern": `^\s*[0-9]+(\.[0-9]+)?\s*%\s*$`},
		"service":  r.object(reflect.TypeFor[Service](), "", true),
		"defaults": r.object(reflect.TypeFor[Service](), "", false),
		"method":   r.object(reflect.TypeFor[Policy](), "", true),
	}
	groups := reflect.TypeFor[Service]()
	for _, f := range reflect.VisibleFields(groups) {
		if f.Type.Kind() == reflect.Struct && !f.Anonymous {
			defs[fieldName(f)] = r.object(f.Type, fieldName(f), true)
		}
	}
	st := reflect.TypeFor[Spec]()
	doc := func(name string) string {
		f, _ := st.FieldByName(name)
		return r.doc(st, f, "")
	}
	b, err := json.MarshalIndent(object{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"title":   "Hull specification",
		"description": "What holds for calls: timeouts, retries, breakers, limits and balancing, per service and per method. " +
			"What a method does not say it inherits from its service, a service from defaults.",
		"type": "object",
		"properties": object{
			"$schema":  object{"type": "string"},
			"defaults": object{"$ref": "#/$defs/defaults", "description": doc("Defaults")},
			"services": object{"type": "object", "description": doc("Services"), "additionalProperties": object{"$ref": "#/$defs/service"}},
		},
		"additionalProperties": false,
		"$defs":                defs,
	}, "", "  ")
	if err != nil {
		r.t.Fatal(err)
	}
	return append(b, '\n')
}

func (r *reference) object(t reflect.Type, group string, methods bool) object {
	props := object{}
	r.properties(props, t, group, methods)
	return object{"type": "object", "description": r.docs[t.Name()], "properties": props, "additionalProperties": false}
}

func (r *reference) properties(props object, t reflect.Type, group string, methods bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		name := fieldName(f)
		switch {
		case f.Anonymous:
			r.properties(props, f.Type, group, methods)
		case f.Type.Kind() == reflect.Map:
			if methods {
				props[name] = object{"type": "object", "description": r.doc(t, f, ""), "additionalProperties": false,
					"patternProperties": object{"^[^/].*/": object{"$ref": "#/$defs/method"}}}
			}
		case f.Type.Kind() == reflect.Struct:
			props[name] = object{"$ref": "#/$defs/" + name, "description": r.doc(t, f, "")}
		default:
			props[name] = r.property(r.leaf(group, f), r.doc(t, f, ""))
		}
	}
}

func (r *reference) property(l *leaf, doc string) object {
	o := object{"description": doc}
	if l.auto != "" {
		o["description"] = doc + " Left out: " + l.auto + "."
	}
	switch {
	case l.name == "mode":
		o["$ref"] = "#/$defs/mode"
	case len(l.choices) > 0:
		o["enum"] = l.choices
	case l.kind == kindBool:
		o["type"] = "boolean"
	case l.kind == kindWord:
		o["type"] = "string"
	case l.kind == kindJSON:
	case l.kind == kindDuration:
		o["$ref"] = "#/$defs/duration"
	case l.kind == kindPercent:
		o["$ref"] = "#/$defs/percent"
	default:
		o["type"] = "number"
		if l.kind == kindInt {
			o["type"] = "integer"
		}
		o["minimum"], o["maximum"] = l.least, l.most
	}
	if v, ok := l.value(builtin()); ok {
		switch l.kind {
		case kindDuration, kindPercent:
			o["default"] = text(v)
		default:
			o["default"] = v.Interface()
		}
	}
	return o
}

// page is the generated part of the reference.
func (r *reference) page() string {
	var b strings.Builder
	t := reflect.TypeFor[Service]()
	r.table(&b, "Of a method, a service or the defaults", reflect.TypeFor[Policy](), "", "")
	r.table(&b, "Of a service or the defaults", t, "", "")
	for _, f := range reflect.VisibleFields(t) {
		if f.Type.Kind() == reflect.Struct && !f.Anonymous {
			where := "for a service"
			if _, ok := reflect.TypeFor[Policy]().FieldByName(f.Name); ok {
				where = "for each method"
			}
			intro := "`" + fieldName(f) + "`" + strings.TrimPrefix(r.docs[f.Type.Name()], f.Type.Name())
			r.table(&b, fmt.Sprintf("`%s`, %s", fieldName(f), where), f.Type, fieldName(f), intro)
		}
	}
	return b.String()
}

func (r *reference) table(b *strings.Builder, title string, t reflect.Type, group, intro string) {
	fmt.Fprintf(b, "### %s\n\n", title)
	if intro != "" {
		fmt.Fprintf(b, "%s\n\n", intro)
	}
	b.WriteString("| field | value | with nothing configured | meaning |\n|---|---|---|---|\n")
	for i := range t.NumField() {
		f := t.Field(i)
		switch {
		case f.Anonymous:
		case f.Type.Kind() == reflect.Map:
			fmt.Fprintf(b, "| `%s` | mapping | | %s |\n", fieldName(f), r.doc(t, f, "`"))
		case f.Type.Kind() == reflect.Struct:
			fmt.Fprintf(b, "| `%s` | mapping, see below | | %s |\n", fieldName(f), r.doc(t, f, "`"))
		default:
			l := r.leaf(group, f)
			def := l.auto
			if v, ok := l.value(builtin()); ok {
				def = "`" + text(v) + "`"
			}
			fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", l.name, l.values(), def, r.doc(t, f, "`"))
		}
	}
	b.WriteString("\n")
}

// values says in words what a leaf can be.
func (l *leaf) values() string {
	switch {
	case len(l.choices) > 0:
		return "`" + strings.Join(l.choices, "`, `") + "`"
	case l.kind == kindBool:
		return "`true`, `false`"
	case l.kind == kindWord:
		return "text"
	case l.kind == kindJSON:
		return "anything, as in JSON"
	}
	what := map[kind]string{kindDuration: "duration", kindPercent: "percentage", kindInt: "whole number", kindFloat: "number"}[l.kind]
	if l.kind != kindDuration || l.least > 0 {
		what += ", " + l.bound(l.least) + " to " + l.bound(l.most)
	}
	for _, u := range l.upto {
		what += ", at most `" + lastName(u) + "`"
	}
	return what
}

const begin, end = "<!-- begin generated: fields -->\n", "<!-- end generated -->\n"

// TestReferenceIsUpToDate: go test ./spec -run Reference -update writes it anew.
func TestReferenceIsUpToDate(t *testing.T) {
	r := &reference{t, comments(t)}
	page, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(page), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no generated part", referenceFile)
	}
	for name, want := range map[string][]byte{
		schemaFile:    r.schema(),
		referenceFile: []byte(head + begin + "\n" + r.page() + end + tail),
	} {
		if *update {
			if err := os.WriteFile(name, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s does not agree with the structs (%v): run go test ./spec -run Reference -update", name, err)
		}
	}
}

func compileSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	b, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("spec.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("spec.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// against validates a document in YAML or JSON with the schema.
func against(t testing.TB, s *jsonschema.Schema, text string) error {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(doc)
}

// TestExamplesInTheReference: every document on the page is valid, for Parse and for the schema, and can be built.
func TestExamplesInTheReference(t *testing.T) {
	s := compileSchema(t)
	page, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(page), "```yaml\n")[1:]
	if len(blocks) < 2 {
		t.Fatalf("%d examples on the page", len(blocks))
	}
	for i, b := range append(blocks, doc) {
		text, _, _ := strings.Cut(b, "```")
		parsed, err := Parse("spec.md", []byte(text))
		if err != nil {
			t.Errorf("example %d: %v", i+1, err)
			continue
		}
		builds(t, parsed)
		if err := against(t, s, text); err != nil {
			t.Errorf("example %d: the schema refuses it: %v", i+1, err)
		}
	}
	// The full example shows every policy, and something of each kind.
	full, _, _ := strings.Cut(blocks[len(blocks)-1], "```")
	parsed, err := Parse("spec.md", []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	for i := range leaves() {
		if l := &leaves()[i]; l.name == "mode" {
			group := false
			for j := range leaves() {
				if m := &leaves()[j]; m.group == l.group {
					for _, name := range sorted(parsed.Services) {
						sv := parsed.Services[name]
						_, here := m.value(&sv)
						_, there := m.value(&parsed.Defaults)
						group = group || here || there
						for _, p := range sv.Methods {
							_, here = m.value(&Service{Policy: p})
							group = group || here
						}
					}
				}
			}
			if !group {
				t.Errorf("the full example does not show %s", l.group)
			}
		}
	}
}

// TestSchemaAgreesWithParse: on single fields, at and beyond their bounds. Durations and percentages have bounds that a
// schema cannot say; there only their form is compared.
func TestSchemaAgreesWithParse(t *testing.T) {
	s := compileSchema(t)
	check := func(l *leaf, value string) {
		t.Helper()
		name, sub, ok := strings.Cut(l.path, ".")
		text := fmt.Sprintf("defaults: {%s: %s}", name, value)
		if ok {
			text = fmt.Sprintf("defaults: {%s: {%s: %s}}", name, sub, value)
		}
		_, parseErr := Parse("", []byte(text))
		schemaErr := against(t, s, text)
		if formOnly := l.kind == kindDuration || l.kind == kindPercent; formOnly && schemaErr == nil && parseErr != nil {
			return
		}
		if parseErr != nil && (strings.Contains(parseErr.Error(), "than") || strings.Contains(parseErr.Error(), "it needs")) {
			return // a matter between fields
		}
		if (parseErr == nil) != (schemaErr == nil) {
			t.Errorf("%s\nparse: %v\nschema: %v", text, parseErr, schemaErr)
		}
	}
	for i := range leaves() {
		l := &leaves()[i]
		values := append([]string{"[]", "{}", "nonsense", "1.5.2"}, l.choices...)
		switch l.kind {
		case kindDuration:
			values = append(values, "1s", "1m30s", "1.5ms", "300", "-1s", "1 s", "'0'", "1d")
		case kindPercent:
			values = append(values, "50%", "1.5 %", "50", "0.5", "-1%", "'%'")
		case kindBool:
			values = append(values, "true", "false", "1")
		case kindInt, kindFloat:
			values = append(values, l.bound(l.least), l.bound(l.most), l.bound(l.most*2), l.bound(math.Floor(l.least)-1), "'1'")
		case kindWord, kindJSON:
		}
		for _, v := range values {
			check(l, v)
		}
	}
	for _, bad := range []string{"defalts: {}", "defaults: {methods: {a.B/C: {}}}", "services: {a: {methods: {C: {}}}}",
		"services: {a: {methods: {/a.B/C: {}}}}", "services: {a: {methods: {a.B/C: {balancer: p2c}}}}", "services: []", "[]"} {
		if against(t, s, bad) == nil {
			t.Errorf("the schema accepts %s", bad)
		}
	}
}

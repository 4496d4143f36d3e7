package cli

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// Reference returns the parts of docs/cli.md that come from the program's own tables, by name, in Markdown.
func Reference(drivers []Driver) map[string]string {
	return map[string]string{
		"commands":   commandsDoc(drivers),
		"flags":      flagsDoc(),
		"registries": registriesDoc(drivers),
		"exit":       exitDoc(),
		"json":       jsonDoc(),
	}
}

func commandsDoc(drivers []Driver) string {
	var b strings.Builder
	b.WriteString("| command | does |\n|---|---|\n")
	root := (&program{Options: Options{Drivers: drivers, Env: func(string) (string, bool) { return "", false }}}).root()
	for _, c := range root.Commands() {
		if !c.Hidden {
			fmt.Fprintf(&b, "| `hull %s` | %s |\n", strings.ReplaceAll(c.Use, "|", "\\|"), c.Short)
		}
	}
	return b.String()
}

func flagsDoc() string {
	var b strings.Builder
	b.WriteString("| flag | environment | default | meaning | commands |\n|---|---|---|---|---|\n")
	for _, s := range settings() {
		def := ""
		if d := s.defaultText(); d != "" {
			def = "`" + d + "`"
			if s.defText != "" {
				def = d
			}
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | %s |\n", strings.TrimSpace(s.flagText()), s.env(), def, s.usage, strings.Join(s.on, ", "))
	}
	return b.String()
}

func registriesDoc(drivers []Driver) string {
	var b strings.Builder
	b.WriteString("| URL | is |\n|---|---|\n")
	for _, d := range drivers {
		fmt.Fprintf(&b, "| `%s` | %s |\n", d.Form, d.Usage)
	}
	b.WriteString("\n| parameter | of | default | meaning |\n|---|---|---|---|\n")
	for _, d := range drivers {
		for _, q := range d.Parameters {
			def := ""
			if q.Default != "" {
				def = "`" + q.Default + "`"
			}
			fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s |\n", q.Name, d.Scheme, def, q.Usage)
		}
	}
	return b.String()
}

func exitDoc() string {
	var b strings.Builder
	b.WriteString("| code | meaning |\n|---|---|\n")
	for _, c := range ExitCodes() {
		fmt.Fprintf(&b, "| %d | %s |\n", c.Code, c.Meaning)
	}
	return b.String()
}

// jsonDoc documents what -o json prints, from the types that are printed.
func jsonDoc() string {
	var b strings.Builder
	for _, o := range []struct {
		title, about string
		view         any
	}{
		{"hull list", "an array of objects, by name", serviceView{}},
		{"hull get", "one object", detailView{}},
		{"node", "in `get`, `watch` and `register`", nodeView{}},
		{"method", "in `get`", methodView{}},
		{"hull watch", "an object on a line of its own for each change", eventView{}},
		{"hull health", "an array of objects", healthView{}},
		{"hull call", "standard output has the answer, on one line. With `--verbose` standard error has `{\"call\": …}` with", callView{}},
		{"attempt", "in `call`", attemptView{}},
		{"verdict", "in `call`", verdictView{}},
		{"standing", "a node in `call`", standingView{}},
		{"hull register", "one object", registeredView{}},
		{"hull deregister", "one object", deregisteredView{}},
		{"hull migrate", "an object on a line of its own for each event", migratedView{}},
		{"hull version", "one object", versionView{}},
		{"errors", "standard error has `{\"error\": …}`, on one line, with", failure{}},
	} {
		title := o.title
		if strings.HasPrefix(title, "hull ") {
			title = "`" + title + "`"
		}
		fmt.Fprintf(&b, "**%s**: %s\n\n| field | type | meaning |\n|---|---|---|\n", title, o.about)
		t := reflect.TypeOf(o.view)
		for i := range t.NumField() {
			f := t.Field(i)
			name, rest, _ := strings.Cut(f.Tag.Get("json"), ",")
			meaning := f.Tag.Get("doc")
			if strings.HasPrefix(rest, "omit") {
				meaning += "; left out if empty"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, jsonType(f.Type), meaning)
		}
		b.WriteString("\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// jsonType is what a Go type is in JSON.
func jsonType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return jsonType(t.Elem())
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int64, reflect.Float64:
		return "number"
	case reflect.Slice:
		if t == reflect.TypeFor[json.RawMessage]() {
			return "object"
		}
		return "array of " + jsonType(t.Elem()) + "s"
	case reflect.Map:
		return "object of " + jsonType(t.Elem()) + "s"
	case reflect.Struct:
		switch t {
		case reflect.TypeFor[nodeView]():
			return "node"
		case reflect.TypeFor[methodView]():
			return "method"
		case reflect.TypeFor[attemptView]():
			return "attempt"
		case reflect.TypeFor[verdictView]():
			return "verdict"
		case reflect.TypeFor[standingView]():
			return "standing"
		}
		return "time (RFC 3339)"
	}
	return "string"
}

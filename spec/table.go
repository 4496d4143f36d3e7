package spec

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A leaf is one field of a document, as the tags of the structs describe it:
//
//	default:"1s"        what holds with nothing configured
//	auto:"learned"      the same in words, where the policy itself decides
//	choices:"a b"       the words it can be
//	range:"1ms 24h"     the least and the most; durations without it are between 0 and maxDuration
//	upto:"cap"          fields beside it that it must not exceed
//
// The tags are the only place where these facts stand: inheritance, validation, explanations, the JSON Schema and the
// reference page are made of them.
type leaf struct {
	path    string // "retry.attempts"
	group   string // "retry", or ""
	name    string
	index   []int // in Service
	kind    kind
	pointer bool
	method  bool // may stand at a method
	def     reflect.Value
	auto    string
	least   float64
	most    float64
	choices []string
	upto    []string // paths
}

type kind uint8

const (
	kindDuration kind = iota
	kindPercent
	kindInt
	kindFloat
	kindBool
	kindWord
	kindJSON
)

// maxDuration is the longest time that a document can ask for.
const maxDuration = 24 * time.Hour

// leaves lists all fields of Service, in the order in which they are declared.
var leaves = sync.OnceValue(func() []leaf {
	var all []leaf
	addLeaves(&all, reflect.TypeFor[Service](), nil, "", false)
	return all
})

// builtin is what holds with nothing configured, as far as it is not the policies' own decision.
var builtin = sync.OnceValue(func() *Service {
	s := new(Service)
	v := reflect.ValueOf(s).Elem()
	for _, l := range leaves() {
		if l.def.IsValid() {
			v.FieldByIndex(l.index).Set(l.def)
		}
	}
	return s
})

func addLeaves(all *[]leaf, t reflect.Type, index []int, group string, method bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		at := append(append([]int(nil), index...), i)
		name := fieldName(f)
		switch {
		case f.Anonymous:
			addLeaves(all, f.Type, at, group, f.Type == reflect.TypeFor[Policy]())
		case f.Type.Kind() == reflect.Map:
		case f.Type.Kind() == reflect.Struct:
			addLeaves(all, f.Type, at, name, method)
		default:
			*all = append(*all, newLeaf(f, at, group, name, method))
		}
	}
}

// fieldName is a field's name in documents.
func fieldName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return name
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func newLeaf(f reflect.StructField, index []int, group, name string, method bool) leaf {
	l := leaf{path: join(group, name), group: group, name: name, index: index, method: method, auto: f.Tag.Get("auto"),
		choices: strings.Fields(f.Tag.Get("choices")), least: math.Inf(-1), most: math.Inf(1)}
	t := f.Type
	if l.pointer = t.Kind() == reflect.Pointer; l.pointer {
		t = t.Elem()
	}
	l.kind = kindOf(t)
	switch {
	case t == reflect.TypeFor[Mode]():
		l.choices = []string{string(On), string(DryRun), string(Off)}
	case l.kind == kindDuration:
		l.least, l.most = 0, float64(maxDuration)
	}
	if r := strings.Fields(f.Tag.Get("range")); len(r) == 2 {
		l.least, l.most = number(read(t, r[0])), number(read(t, r[1]))
	}
	for _, u := range strings.Fields(f.Tag.Get("upto")) {
		l.upto = append(l.upto, join(group, u))
	}
	if text, ok := f.Tag.Lookup("default"); ok {
		l.def = read(t, text)
		if l.pointer {
			p := reflect.New(t)
			p.Elem().Set(l.def)
			l.def = p
		}
	}
	return l
}

func kindOf(t reflect.Type) kind {
	switch {
	case t == reflect.TypeFor[Duration]():
		return kindDuration
	case t == reflect.TypeFor[Percent]():
		return kindPercent
	case t == reflect.TypeFor[JSON]():
		return kindJSON
	case t.Kind() == reflect.Int:
		return kindInt
	case t.Kind() == reflect.Float64:
		return kindFloat
	case t.Kind() == reflect.Bool:
		return kindBool
	}
	return kindWord
}

// read is scan for texts that stand in tags.
func read(t reflect.Type, text string) reflect.Value {
	v := reflect.New(t)
	if err := scan(v.Elem(), text); err != nil {
		panic(fmt.Sprintf("spec: tag of a %v: %v", t, err))
	}
	return v.Elem()
}

// scan sets v, which is no pointer, to what text says.
func scan(v reflect.Value, text string) error {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch v.Kind() {
	case reflect.Int:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is no whole number", text)
		}
		v.SetInt(n)
	case reflect.Float64:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
			return fmt.Errorf("%q is no number", text)
		}
		v.SetFloat(n)
	case reflect.Bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		v.SetBool(text == "true")
	default:
		v.SetString(text)
	}
	return nil
}

// value returns the leaf in s without its pointer, and whether it is set.
func (l *leaf) value(s *Service) (reflect.Value, bool) {
	v := reflect.ValueOf(s).Elem().FieldByIndex(l.index)
	if l.pointer {
		return v.Elem(), !v.IsNil()
	}
	return v, !v.IsZero()
}

// number is a value as ranges have it.
func number(v reflect.Value) float64 {
	switch {
	case !v.IsValid():
		return 0
	case v.CanInt():
		return float64(v.Int())
	case v.CanFloat():
		return v.Float()
	}
	return 0
}

// text is a value as it is written.
func text(v reflect.Value) string { return fmt.Sprint(v.Interface()) }

// bound is the least or most of a leaf as it is written.
func (l *leaf) bound(n float64) string {
	switch l.kind {
	case kindDuration:
		return Duration(n).String()
	case kindPercent:
		return Percent(n).String()
	}
	return strconv.FormatFloat(n, 'f', -1, 64)
}

package spec

import (
	"slices"
	"strings"
	"time"

	"github.com/hull-go/hull/internal/nearest"
	"github.com/hull-go/hull/registry"
)

// Validate reports all faults of s, each with the path of its field, as a *FaultsError. Parse has done it.
func (s *Spec) Validate() error {
	var v faults
	v.check(s)
	return v.err("")
}

func (v *faults) check(s *Spec) {
	v.values("defaults", &s.Defaults)
	if len(s.Defaults.Methods) > 0 {
		v.add("defaults.methods", "methods belong to a service: put them under services")
	}
	v.together(s.levels("", ""))
	for _, name := range sorted(s.Services) {
		path := "services." + name
		if err := registry.ValidName("service", name); err != nil {
			v.add(path, "%v", err)
		}
		sv := s.Services[name]
		v.values(path, &sv)
		v.together(s.levels(name, ""))
		for _, m := range sorted(sv.Methods) {
			path := path + ".methods." + m
			switch {
			case strings.HasPrefix(m, "/"):
				v.add(path, "a method is named pkg.Service/Method, without a leading slash")
			case !strings.Contains(m, "/"):
				v.add(path, "a method is named pkg.Service/Method, with a slash")
			}
			v.values(path, &Service{Policy: sv.Methods[m]})
			v.together(s.levels(name, m))
		}
	}
	v.budgets(s)
	v.fallbacks(s)
}

// values checks each field by itself.
func (v *faults) values(path string, s *Service) {
	for i := range leaves() {
		l := &leaves()[i]
		val, ok := l.value(s)
		if !ok {
			continue
		}
		at := path + "." + l.path
		switch n := number(val); {
		case len(l.choices) > 0:
			if w := val.String(); !slices.Contains(l.choices, w) {
				v.add(at, "%q is none of %s%s", shorten(w), strings.Join(l.choices, ", "), l.meant(w))
			}
		case l.kind == kindJSON:
			if why := JSON(val.String()).fault(); why != "" {
				v.add(at, "%s", why)
			}
		case l.kind == kindBool || l.kind == kindWord:
		case n < 0 && l.kind == kindDuration:
			v.add(at, "%s is negative; leave it out to inherit it", text(val))
		case n < l.least || n > l.most:
			v.add(at, "%s is not between %s and %s; leave it out to inherit it", text(val), l.bound(l.least), l.bound(l.most))
		}
	}
}

// meant says which choice somebody may have meant.
func (l *leaf) meant(word string) string {
	if l.name == "mode" {
		switch strings.ToLower(word) {
		case "true", "yes", "enabled":
			return "; did you mean on?"
		case "false", "no", "disabled", "none":
			return "; did you mean off?"
		}
	}
	if near := nearest.Find(word, l.choices); len(near) > 0 {
		return "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return ""
}

// together checks fields against each other, wherever each was inherited from. A fault is the nearest one's, and said once.
func (v *faults) together(ls []level) {
	for i := range leaves() {
		l := &leaves()[i]
		for _, path := range l.upto {
			m := leafAt(path)
			a, from, ok := l.find(ls)
			b, other, ok2 := m.find(ls)
			if ok && ok2 && number(a) > number(b) {
				if v.nearer(ls, from, other) {
					v.once(from, l, other, m, "%s is more than %s, which is %s%s", text(a), m.name, text(b), other.said(from))
				} else {
					v.once(other, m, from, l, "%s is less than %s, which is %s%s", text(b), l.name, text(a), from.said(other))
				}
			}
		}
	}
	slow, slowCalls := leafAt("breaker.slow"), leafAt("breaker.slow_calls")
	if _, from, ok := slowCalls.find(ls); ok {
		if _, _, known := slow.find(ls); !known {
			v.once(from, slowCalls, from, slow, "it needs slow: say from how long on a call is slow")
		}
	}
	v.rate(ls, "rate")
	v.rate(ls, "server_rate")
	v.nodes(ls)
	v.fallback(ls)
}

// nodes checks how nodes are chosen.
func (v *faults) nodes(ls []level) {
	balancer, size := leafAt("balancer"), leafAt("subset.size")
	if val, from, ok := balancer.find(ls); ok && val.String() == keyed {
		if _, other, ok := size.find(ls); ok {
			near, l, far, l2 := from, balancer, other, size
			if v.nearer(ls, other, from) {
				near, l, far, l2 = other, size, from, balancer
			}
			v.once(near, l, far, l2, "%s does not go with a subset, in which each client chooses among other nodes: leave one of them out", keyed)
		}
	}
	version, share := leafAt("canary.version"), leafAt("canary.share")
	_, at, named := version.find(ls)
	_, from, shared := share.find(ls)
	switch {
	case named && !shared:
		v.once(at, version, at, share, "it needs share: say which part of the calls the version gets, such as 5%%")
	case shared && !named:
		v.once(from, share, from, version, "it needs version: say which version gets the share")
	}
}

// rate checks that the rate limit of a group can be kept.
func (v *faults) rate(ls []level, group string) {
	limit, burst := leafAt(group+".limit"), leafAt(group+".burst")
	val, from, ok := limit.find(ls)
	if !ok {
		return
	}
	per, _, _ := leafAt(group + ".per").find(ls)
	space := number(per) / number(val) // nanoseconds for each call
	if space < 10 {
		v.once(from, limit, from, limit, "%s per %s is more than 100 million a second", text(val), text(per))
	}
	if val, from, ok := burst.find(ls); ok {
		if group == "rate" {
			if shape, other, _ := leafAt("rate.shape").find(ls); shape.String() == "leaky-bucket" && val.Int() > 1 {
				v.once(from, burst, other, leafAt("rate.shape"), "a leaky bucket lets calls go one by one, so it has no burst")
			}
		}
		if space*number(val) > float64(365*24*time.Hour) {
			v.once(from, burst, from, limit, "at that limit it takes more than a year to come back: want less, or a higher limit")
		}
	}
}

// nearer reports whether a is nearer to the method than b, or the same.
func (v *faults) nearer(ls []level, a, b *level) bool {
	for i := range ls {
		switch &ls[i] {
		case a:
			return true
		case b:
			return false
		}
	}
	return true
}

// once adds a fault of leaf l at lv, unless it or the other one has a fault already.
func (v *faults) once(lv *level, l *leaf, lv2 *level, l2 *leaf, format string, args ...any) {
	if at := lv.path + "." + l.path; !v.bad[at] && !v.bad[lv2.path+"."+l2.path] {
		v.add(at, format, args...)
	}
}

// said tells where a value stands, if it does not stand beside the one that is complained of.
func (l *level) said(other *level) string {
	switch {
	case l == other:
		return ""
	case l.from == FromBuiltin:
		return " with nothing configured"
	}
	return " in " + l.path
}

func leafAt(path string) *leaf {
	all := leaves()
	for i := range all {
		if all[i].path == path {
			return &all[i]
		}
	}
	panic("spec: no field " + path)
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

package spec

import "reflect"

// Effective is what holds for one method once everything is inherited. Fields that are still zero are the policy's own
// decision; the reference says which. It has no Methods.
type Effective struct{ Service }

// level is one place that a field can be inherited from.
type level struct {
	from From
	path string
	s    *Service
}

// From says where the value of a field comes from.
type From string

// The places, the nearest first.
const (
	FromMethod   From = "method"
	FromService  From = "service"
	FromDefaults From = "defaults"
	FromBuiltin  From = "built-in"
)

// levels returns where a method inherits from, the nearest first. method may be empty, and so may service.
func (s *Spec) levels(service, method string) []level {
	ls := make([]level, 0, 4)
	sv, known := s.Services[service]
	if m, ok := sv.Methods[method]; ok {
		ls = append(ls, level{FromMethod, "services." + service + ".methods." + method, &Service{Policy: m}})
	}
	if known {
		ls = append(ls, level{FromService, "services." + service, &sv})
	}
	return append(ls, level{FromDefaults, "defaults", &s.Defaults}, level{FromBuiltin, "", builtin()})
}

// find returns the nearest value of a leaf and where it was found; false: nowhere.
func (l *leaf) find(ls []level) (reflect.Value, *level, bool) {
	for i := range ls {
		if v, ok := l.value(ls[i].s); ok {
			return v, &ls[i], true
		}
	}
	return reflect.Value{}, nil, false
}

func resolve(ls []level) Service {
	var out Service
	o := reflect.ValueOf(&out).Elem()
	for _, l := range leaves() {
		for i := range ls {
			if f := reflect.ValueOf(ls[i].s).Elem().FieldByIndex(l.index); !f.IsZero() {
				o.FieldByIndex(l.index).Set(f)
				break
			}
		}
	}
	return out
}

// Service returns what holds for a service, its methods left out.
func (s *Spec) Service(name string) Service { return resolve(s.levels(name, "")) }

// Method returns what holds for a method of a service.
func (s *Spec) Method(service, method string) Effective {
	return Effective{resolve(s.levels(service, method))}
}

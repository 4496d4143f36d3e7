package spec

import (
	"slices"
	"strings"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
)

// maxFallbacks is how many services may stand in for one another, one after the other.
const maxFallbacks = 8

// declared returns f as it holds for a method of service, or nil if nothing answers in place of its calls.
func (f Fallback) declared(service string) *Fallback {
	if f.Service == service { // from defaults
		f.Service = ""
	}
	if f.Mode == Off || f.Service == "" && f.Stale == 0 && f.Answer == "" && f.Code == "" {
		return nil
	}
	return &f
}

// Request stands for a request in Method.Stale: a hash of all that its answer may depend on, service and method included.
type Request [32]byte

// StaleBytes is how many bytes of answers a Book keeps for fallbacks, and StaleRequests of how many requests.
const (
	StaleBytes    = 64 << 20
	StaleRequests = 10_000
)

// answers is where answers are kept; the mutex is held.
func (b *Book) answers() (*policy.Stale[Request, []byte], error) {
	if b.stale != nil {
		return b.stale, nil
	}
	var err error
	b.stale, err = policy.NewStale[Request](policy.StaleOptions[[]byte]{MaxAge: maxDuration, Keys: StaleRequests, Bytes: StaleBytes,
		Size: func(b []byte) int { return len(b) }})
	return b.stale, err
}

// fallback checks the fields of a fallback against each other.
func (v *faults) fallback(ls []level) {
	answer, code, message := leafAt("fallback.answer"), leafAt("fallback.code"), leafAt("fallback.message")
	_, coded, hasCode := code.find(ls)
	if _, from, ok := answer.find(ls); ok && hasCode {
		near, l, far, l2 := from, answer, coded, code
		if coded != from && v.nearer(ls, coded, from) {
			near, l, far, l2 = coded, code, from, answer
		}
		v.once(near, l, far, l2, "it does not go with %s%s: a call is answered or fails", l2.name, in(far, near))
	}
	if _, from, ok := message.find(ls); ok && !hasCode {
		v.once(from, message, from, code, "it needs code: say what the call fails with")
	}
}

// in says where something else stands.
func in(there, here *level) string {
	if there == here {
		return ""
	}
	return ", which stands in " + there.path
}

// fallbacks checks the services that stand in for others.
func (v *faults) fallbacks(s *Spec) {
	path := "defaults.fallback.service"
	if name := s.Defaults.Fallback.Service; name != "" {
		v.fallbackName(path, name)
	}
	for _, name := range sorted(s.Services) {
		sv := s.Services[name]
		path := "services." + name
		v.fallbackFrom(s, name, "", path, &sv.Fallback)
		for _, m := range sorted(sv.Methods) {
			f := sv.Methods[m].Fallback
			v.fallbackFrom(s, name, m, path+".methods."+m, &f)
		}
	}
}

func (v *faults) fallbackName(path, name string) {
	if err := registry.ValidName("service", name); err != nil {
		v.add(path, "%v", err)
	}
}

// fallbackFrom checks what a service or a method says of its fallback, and follows it.
func (v *faults) fallbackFrom(s *Spec, service, method, path string, f *Fallback) {
	at := path + ".fallback.service"
	if f.Service == service {
		v.add(at, "a service is no fallback of itself")
		return
	}
	if f.Service != "" {
		v.fallbackName(at, f.Service)
	}
	if f.Service == "" && f.Mode == "" && (method != "" || s.Defaults.Fallback.Service == "") || v.bad[at] {
		return // it goes where its service goes, and that is checked there
	}
	if f.Service == "" {
		at = path
	}
	chain := []string{service}
	for next := s.fallbackOf(service, method); next != ""; next = s.fallbackOf(next, method) {
		chain = append(chain, next)
		switch {
		case next == service:
			v.add(at, "it leads back to itself: %s", strings.Join(chain, " → "))
			return
		case slices.Contains(chain[:len(chain)-1], next):
			return // those who go round are told
		case len(chain) > maxFallbacks+1:
			v.add(at, "more than %d services would be called one after the other: %s …", maxFallbacks, strings.Join(chain, " → "))
			return
		}
	}
}

// fallbackOf is the service that stands in for a method of another, or "".
func (s *Spec) fallbackOf(service, method string) string {
	ls := s.levels(service, method)
	if m, _, ok := leafAt("fallback.mode").find(ls); ok && m.String() == string(Off) {
		return ""
	}
	to, _, ok := leafAt("fallback.service").find(ls)
	if !ok || to.String() == service {
		return ""
	}
	return to.String()
}

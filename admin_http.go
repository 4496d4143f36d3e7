package hull

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hull-go/hull/internal/nearest"
	"github.com/hull-go/hull/spec"
)

// adminHandler is what the admin page serves. GET only shows; a change is a POST that no page of a browser can make.
type adminHandler struct {
	group // of those who are shown
	mux   *http.ServeMux
	cross *http.CrossOriginProtection
}

func newAdminHandler(s *Server, clients []*Client) http.Handler {
	h := &adminHandler{group: group{server: s, clients: clients}, mux: http.NewServeMux(), cross: http.NewCrossOriginProtection()}
	h.mux.HandleFunc("GET /", h.nowhere)
	h.mux.HandleFunc("GET /hull/{$}", h.index)
	h.mux.HandleFunc("GET /hull/state", h.state)
	h.mux.HandleFunc("GET /hull/calls", h.calls)
	h.mux.HandleFunc("GET /hull/explain/{service}", h.explain)
	h.mux.HandleFunc("GET /hull/explain/{service}/{method...}", h.explain)
	h.mux.HandleFunc("GET /hull/spec", h.spec)
	h.mux.HandleFunc("POST /hull/spec", h.change)
	return h
}

// ServeHTTP implements http.Handler.
func (h *adminHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Cache-Control", "no-store")
	head.Set("X-Content-Type-Options", "nosniff")
	// A stranger's name can be pointed at this machine, and a page of his then read what is here.
	if !loopbackHost(r.Host) {
		http.Error(w, "ask for this page by an address of this machine, not as "+fmt.Sprintf("%.100q", r.Host), http.StatusForbidden)
		return
	}
	if site := r.Header.Get("Sec-Fetch-Site"); h.cross.Check(r) != nil || site == "cross-site" || site == "same-site" {
		http.Error(w, "a page from elsewhere may neither look here nor change anything", http.StatusForbidden)
		return
	}
	h.mux.ServeHTTP(w, r)
}

// loopbackHost reports whether a request's host is a name of this machine's own.
func loopbackHost(host string) bool {
	if ap, err := netip.ParseAddrPort(host); err == nil {
		return ap.Addr().Unmap().IsLoopback()
	}
	if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return ip.Unmap().IsLoopback()
	}
	name, _, _ := strings.Cut(host, ":")
	return strings.EqualFold(strings.TrimSuffix(name, "."), "localhost") || name == ""
}

// show writes v as JSON if the caller wants that, and else as text.
func show(w http.ResponseWriter, r *http.Request, v any, text func(io.Writer)) {
	asJSON := strings.Contains(r.Header.Get("Accept"), "application/json") || r.URL.Query().Get("format") == "json"
	if !asJSON && text != nil {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		text(w)
		return
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false) // a change is "3 -> 2"
	if err := enc.Encode(v); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b.Bytes()) // whoever asked may be gone
}

func (h *adminHandler) index(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, `This is a Hull program. All of it is text here, and JSON with ?format=json.

GET  /hull/state                     phase, nodes, breakers, limits, budgets, queues, keys, connections
GET  /hull/calls                     the last failures and the slowest calls
GET  /hull/explain/SERVICE           how a service stands, and which policies hold
GET  /hull/explain/SERVICE/METHOD    the same of a method, pkg.Service/Method
GET  /hull/spec                      the document in force
POST /hull/spec                      puts another in force (Content-Type: application/yaml or application/json)
POST /hull/spec?do=validate          says what is wrong with it
POST /hull/spec?do=diff              says what it would change
POST /hull/spec?do=try&for=30s       puts it in force, and takes it back when calls fail twice as often
`)
}

// nowhere answers who has mistaken the address.
func (h *adminHandler) nowhere(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/hull/explain", "/hull/explain/":
		http.Error(w, "name the service, and a method if you like: /hull/explain/SERVICE/METHOD", http.StatusNotFound)
	default:
		http.Error(w, "there is nothing here; /hull/ says what there is", http.StatusNotFound)
	}
}

func (h *adminHandler) state(w http.ResponseWriter, r *http.Request) {
	s := adminState{At: time.Now(), Clients: []clientState{}}
	if h.server != nil {
		s.Server = h.server.adminState()
	}
	for _, c := range h.clients {
		s.Clients = append(s.Clients, c.adminState())
	}
	show(w, r, &s, s.writeText)
}

// recentJSON is Recent for programs.
type recentJSON struct {
	Failed   int64        `json:"failed"`
	Failures []recordJSON `json:"failures"`
	Slowest  []recordJSON `json:"slowest"`
}

type recordJSON struct {
	Ended time.Time `json:"ended"`
	storyJSON
}

func (h *adminHandler) calls(w http.ResponseWriter, r *http.Request) {
	out := recentJSON{Failures: []recordJSON{}, Slowest: []recordJSON{}}
	for _, c := range h.clients {
		recent := c.Recent()
		out.Failed += recent.Failed
		for _, f := range recent.Failures {
			out.Failures = append(out.Failures, recordJSON{f.Ended, f.story()})
		}
		for _, s := range recent.Slowest {
			out.Slowest = append(out.Slowest, recordJSON{s.Ended, s.story()})
		}
	}
	slices.SortStableFunc(out.Failures, func(a, b recordJSON) int { return b.Ended.Compare(a.Ended) })
	slices.SortStableFunc(out.Slowest, func(a, b recordJSON) int { return cmp.Compare(b.TookMS, a.TookMS) })
	show(w, r, out, func(w io.Writer) {
		if out.Failed == 0 {
			fmt.Fprintln(w, "No call has failed so far.")
		} else {
			fmt.Fprintf(w, "%d calls have failed so far. The last:\n", out.Failed)
			writeRecords(w, out.Failures)
		}
		fmt.Fprintln(w, "The slowest of the last minutes:")
		writeRecords(w, out.Slowest)
	})
}

func writeRecords(w io.Writer, list []recordJSON) {
	if len(list) == 0 {
		fmt.Fprintln(w, "  none")
	}
	for i := range list {
		var b strings.Builder
		list[i].write(&b, "  ")
		fmt.Fprintf(w, "  %s%s", list[i].Ended.Format("15:04:05.000"), strings.TrimPrefix(b.String(), " "))
	}
}

// explanation is what the server or one client says of a method, or of what all methods of a service have in common.
type explanation struct {
	Server   *serverState     `json:"server,omitempty"`
	State    *serviceState    `json:"state,omitempty"`
	Origin   originJSON       `json:"origin"`
	Policies spec.Explanation `json:"policies"`
}

func (h *adminHandler) explain(w http.ResponseWriter, r *http.Request) {
	name, method := r.PathValue("service"), r.PathValue("method")
	known := map[string][]string{} // methods, by service
	if s := h.server; s != nil {
		for _, m := range s.adminState().Admission.Methods {
			known[s.service] = append(known[s.service], m.Name)
		}
	}
	var states []*serviceState // of each client, nil if it has not called the service
	for _, c := range h.clients {
		c.mu.Lock()
		services := slices.Collect(maps.Values(c.services))
		c.mu.Unlock()
		states = append(states, nil)
		for _, s := range services {
			st := s.adminState()
			known[s.name] = append(known[s.name], methodsOf(&st)...)
			if s.name == name {
				states[len(states)-1] = &st
			}
		}
	}
	methods, found := known[name]
	if s := h.server; !found && (s == nil || s.service != name) {
		http.Error(w, unknownService(name, method, known), http.StatusNotFound)
		return
	}
	method = wholeMethod(method, methods)
	var out []explanation
	if s := h.server; s != nil && s.service == name {
		st, p := s.adminState(), s.Spec().Explain(name, method)
		if method != "" {
			st.Admission.Methods = slices.DeleteFunc(st.Admission.Methods, func(m servedMethod) bool { return m.Name != method })
		}
		p.Fields = slices.DeleteFunc(p.Fields, func(f spec.Field) bool { return !aboutServer(f.Path) })
		out = append(out, explanation{Server: st, Origin: st.Origin, Policies: p})
	}
	for i, c := range h.clients {
		st := states[i]
		if st == nil {
			continue
		}
		p := c.Spec().Explain(name, method)
		if method != "" {
			st.Methods = slices.DeleteFunc(st.Methods, func(m methodState) bool { return m.Name != method })
		}
		p.Fields = slices.DeleteFunc(p.Fields, func(f spec.Field) bool { return aboutServer(f.Path) })
		out = append(out, explanation{State: st, Origin: c.docOrigin(), Policies: p})
	}
	show(w, r, out, func(w io.Writer) {
		if method != "" && !slices.Contains(methods, method) {
			fmt.Fprintf(w, "method %s: not seen yet%s\n", method, meant(nearMethods(method, methods)))
		}
		for i, e := range out {
			if i > 0 {
				fmt.Fprintln(w)
			}
			if e.Server != nil {
				e.Server.writeText(w, method)
			} else {
				e.State.writeText(w, "")
			}
			fmt.Fprintf(w, "\npolicies, %s\n", e.Origin.document())
			_ = e.Policies.WriteText(w) // whoever asked may be gone
		}
	})
}

func methodsOf(s *serviceState) (names []string) {
	for i := range s.Methods {
		names = append(names, s.Methods[i].Name)
	}
	return names
}

// wholeMethod completes a method's name of which only the part behind the slash was given, if that is unambiguous.
func wholeMethod(name string, known []string) string {
	if name == "" || strings.Contains(name, "/") {
		return name
	}
	whole := ""
	for _, m := range known {
		if strings.HasSuffix(m, "/"+name) {
			if whole != "" && whole != m {
				return name
			}
			whole = m
		}
	}
	return cmp.Or(whole, name)
}

// nearMethods are those that may have been meant by a name, or by the part of one behind the slash.
func nearMethods(name string, known []string) (near []string) {
	if strings.Contains(name, "/") {
		return nearest.Find(name, known)
	}
	var parts []string
	for _, m := range known {
		parts = append(parts, m[strings.LastIndexByte(m, '/')+1:])
	}
	parts = nearest.Find(name, parts)
	for _, m := range known {
		if slices.Contains(parts, m[strings.LastIndexByte(m, '/')+1:]) && !slices.Contains(near, m) {
			near = append(near, m)
		}
	}
	return near
}

// unknownService says what might have been meant, also by whoever leaves out the service before a method's full name.
func unknownService(name, method string, known map[string][]string) string {
	msg := fmt.Sprintf("this program neither serves %q nor has called it", name)
	for _, service := range slices.Sorted(maps.Keys(known)) {
		if slices.Contains(known[service], name+"/"+method) {
			return msg + meant([]string{service + "/" + name + "/" + method})
		}
	}
	return msg + meant(nearest.Find(name, slices.Collect(maps.Keys(known))))
}

func meant(near []string) string {
	if len(near) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(near, " or ") + "?"
}

// aboutServer reports whether a field of a document is for the nodes of the service, and not for those who call it.
func aboutServer(path string) bool { return strings.HasPrefix(path, "server_") }

// specJSON is the document of the server, or of one client.
type specJSON struct {
	Of       string     `json:"of"` // "client", "server NAME"
	Origin   originJSON `json:"origin"`
	Document *spec.Spec `json:"document"`
}

func (h *adminHandler) spec(w http.ResponseWriter, r *http.Request) {
	var out []specJSON
	if s := h.server; s != nil {
		out = append(out, specJSON{"server " + s.service, s.docOrigin(), s.Spec()})
	}
	for _, c := range h.clients {
		out = append(out, specJSON{"client", c.docOrigin(), c.Spec()})
	}
	show(w, r, out, func(w io.Writer) {
		for i, s := range out {
			fmt.Fprintf(w, "# %s, %s\n", s.Of, s.Origin.document())
			b := indented(s.Document)
			if i+1 < len(out) && bytes.Equal(b, indented(out[i+1].Document)) {
				continue // once for all that have the same
			}
			fmt.Fprintf(w, "%s\n", b)
		}
	})
}

// indented is a document as people read it. It was read from such a text, so it can be written.
func indented(s *spec.Spec) []byte {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil
	}
	return b
}

// changeJSON is the answer to a document that was posted.
type changeJSON struct {
	Applied   bool     `json:"applied"`
	TakenBack bool     `json:"takenBack,omitempty"` // after it had been in force for a while
	Error     string   `json:"error,omitempty"`
	Changes   []string `json:"changes"`
}

func (h *adminHandler) change(w http.ResponseWriter, r *http.Request) {
	// A form can be posted by any page without asking first; these cannot.
	switch t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); t {
	case "application/json", "application/yaml", "application/x-yaml":
	default:
		http.Error(w, "say what the document is with Content-Type: application/yaml or application/json", http.StatusUnsupportedMediaType)
		return
	}
	do := r.URL.Query().Get("do")
	var probation spec.Probation
	switch do {
	case "", "validate", "diff":
	case "try":
		var err error
		if probation, err = probationOf(r.URL.Query()); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		rc, most := http.NewResponseController(w), time.Now().Add(probation.Before+probation.For+adminPatience)
		if err = errors.Join(rc.SetReadDeadline(most), rc.SetWriteDeadline(most)); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	default:
		http.Error(w, fmt.Sprintf("do=%.20q is neither validate, diff nor try; without it the document is put in force", do), http.StatusBadRequest)
		return
	}
	doc, err := io.ReadAll(http.MaxBytesReader(w, r.Body, spec.MaxSize))
	if err != nil {
		http.Error(w, fmt.Sprintf("the document did not come, or is larger than %d bytes: %v", spec.MaxSize, err), http.StatusRequestEntityTooLarge)
		return
	}
	out := changeJSON{Changes: []string{}}
	next, err := spec.Parse("the posted document", doc)
	if err == nil {
		if s := h.server; s != nil {
			out.Changes = specChanges(s.Spec(), next, s.service, func(service, path string) bool { return service == s.service && aboutServer(path) })
		}
		for _, c := range h.clients {
			// What is for the nodes of services says nothing to a client; a program that has no server is shown it all the same, since the document
			// is often one for all programs.
			out.Changes = append(out.Changes, specChanges(c.Spec(), next, "", func(_, path string) bool { return h.server == nil || !aboutServer(path) })...)
		}
		slices.Sort(out.Changes)
		out.Changes = slices.Compact(out.Changes)
		const who = "the admin page"
		switch do {
		case "":
			err = h.apply(next, who)
			out.Applied = err == nil
		case "try":
			err = h.try(r.Context(), next, probation, who)
			out.Applied = err == nil
		}
	}
	if err != nil {
		out.Error = err.Error()
		w.Header().Set("Content-Type", "application/json")
		if out.TakenBack = errors.Is(err, spec.ErrTakenBack); out.TakenBack {
			w.WriteHeader(http.StatusConflict)
		} else {
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
		_ = json.NewEncoder(w).Encode(out) // whoever asked may be gone
		return
	}
	show(w, r, out, func(w io.Writer) {
		if out.Applied {
			fmt.Fprintln(w, "in force")
		}
		for _, c := range out.Changes {
			fmt.Fprintln(w, c)
		}
		if len(out.Changes) == 0 {
			fmt.Fprintln(w, "nothing changes")
		}
	})
}

// adminPatience is how long a request may take beside what it is to wait for.
const adminPatience = 30 * time.Second

// maxProbation bounds how long a request waits.
const maxProbation = time.Hour

// probationOf reads how a document is to be tried: for=30s, before=5s, factor=2.
func probationOf(q url.Values) (p spec.Probation, err error) {
	duration := func(key string, d *time.Duration) {
		if v := q.Get(key); v != "" && err == nil {
			if *d, err = time.ParseDuration(v); err != nil || *d <= 0 || *d > maxProbation {
				err = fmt.Errorf("%s=%.20q is no time between 0 and %v, such as 30s", key, v, maxProbation)
			}
		}
	}
	duration("for", &p.For)
	duration("before", &p.Before)
	if v := q.Get("factor"); v != "" && err == nil {
		if p.Factor, err = strconv.ParseFloat(v, 64); err != nil {
			err = fmt.Errorf("factor=%.20q is no number", v)
		}
	}
	if err != nil {
		return p, err
	}
	return p.Complete()
}

// specChanges says what changes from one document to another, a line for each field that matters of each service and method that either names, and of the
// service also, if it is not "".
func specChanges(old, next *spec.Spec, also string, matters func(service, path string) bool) (changes []string) {
	add := func(service, method string) {
		was, is := old.Explain(service, method), next.Explain(service, method)
		for _, f := range is.Fields {
			before, _ := was.Field(f.Path)
			if before.Value != f.Value && matters(service, f.Path) {
				changes = append(changes, fmt.Sprintf("%s: %s: %s -> %s", strings.TrimSuffix(service+" "+method, " "), f.Path, before.Value, f.Value))
			}
		}
	}
	services := maps.Clone(old.Services)
	if services == nil {
		services = map[string]spec.Service{}
	}
	maps.Copy(services, next.Services)
	if also != "" {
		services[also] = spec.Service{}
	}
	if !bytes.Equal(mustJSON(old.Defaults), mustJSON(next.Defaults)) {
		services["(others)"] = spec.Service{}
	}
	for name := range services {
		add(name, "")
		methods := map[string]bool{}
		for _, s := range []*spec.Spec{old, next} {
			for m := range s.Services[name].Methods {
				methods[m] = true
			}
		}
		for m := range methods {
			add(name, m)
		}
	}
	return changes
}

// mustJSON encodes what always encodes.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return b
}

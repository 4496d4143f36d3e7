package ui

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/demo/board"
	"github.com/hull-go/hull/demo/supervise"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/staticregistry"
	"github.com/hull-go/hull/spec"
)

// control is a fleet that only remembers what it was asked.
type control struct {
	mu   sync.Mutex
	got  []supervise.FaultRequest
	fail error
}

func (c *control) Nodes(context.Context) ([]supervise.NodeStatus, error) {
	return []supervise.NodeStatus{
		{ID: "backend-1", Address: "127.0.0.1:1", State: supervise.Up, Faults: []string{}},
		{ID: "backend-2", Address: "127.0.0.1:2", State: supervise.Up, Faults: []string{}},
	}, nil
}

func (c *control) Inject(_ context.Context, r supervise.FaultRequest) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, r)
	return c.fail
}

// server returns a page whose board cannot be reached.
func server(t *testing.T) (*Server, *control, http.Handler) {
	t.Helper()
	driver, err := staticregistry.New([]string{"127.0.0.1:1"}, staticregistry.Options{Services: []string{board.Service}})
	if err != nil {
		t.Fatal(err)
	}
	reg, err := registry.New(driver, registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := &control{}
	s, err := New(t.Context(), Options{Registry: reg, Control: c})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), reg.Close()); err != nil {
			t.Error(err)
		}
	})
	return s, c, s.Handler()
}

func send(t *testing.T, h http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "http://localhost:7700"+path, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestWrongInput(t *testing.T) {
	_, c, h := server(t)
	tests := []struct {
		name, method, path, body string
		code                     int
		want                     string // part of the message
	}{
		{"no body", "POST", "/api/faults", "", 400, "it is empty; its fields are: node, fault"},
		{"no JSON", "POST", "/api/faults", "node=1", 400, "the body is not what is wanted"},
		{"two objects", "POST", "/api/faults", `{"node":"backend-1","fault":"hang"}{}`, 400, "after the JSON object"},
		{"unknown field", "POST", "/api/faults", `{"nod":"backend-1"}`, 400, "factor"},
		{"no fault", "POST", "/api/faults", `{"node":"backend-1"}`, 400, "fault is missing"},
		{"unknown fault", "POST", "/api/faults", `{"node":"backend-1","fault":"meteor"}`, 400, `unknown fault "meteor": give one of`},
		{"no node", "POST", "/api/faults", `{"fault":"hang"}`, 400, "node is missing"},
		{"unknown node", "POST", "/api/faults", `{"node":"backend-9","fault":"hang"}`, 400, "backend-1, backend-2"},
		{"percent", "POST", "/api/faults", `{"node":"backend-1","fault":"errors","percent":200}`, 400, "percent is 200"},
		{"type", "POST", "/api/faults", `{"node":1}`, 400, "node"},
		{"big", "POST", "/api/faults", `{"node":"` + strings.Repeat("x", maxBody) + `"}`, 400, "too large"},
		{"faults by GET", "GET", "/api/faults", "", 405, "does not take GET"},
		{"unknown switch", "POST", "/api/protection", `{"hope":true}`, 400, `there is no switch "hope": give one of all, breaker`},
		{"switch type", "POST", "/api/protection", `{"retry":"yes"}`, 400, "retry is \"yes\": give true or false"},
		{"switch null", "POST", "/api/protection", `{"retry":null}`, 400, "give true or false"},
		{"no switch", "POST", "/api/protection", `{}`, 400, "nothing to change"},
		{"switches as a list", "POST", "/api/protection", `[]`, 400, "no JSON object"},
		{"rate", "POST", "/api/load", `{"rate":-1}`, 400, "give 0 to"},
		{"no rate", "POST", "/api/load", `{}`, 400, "rate is missing"},
		{"empty text", "POST", "/api/messages", `{"text":"  "}`, 400, "text is empty"},
		{"bad id", "POST", "/api/messages", `{"id":"a b","text":"x"}`, 400, "use letters"},
		{"limit", "GET", "/api/messages?limit=many", "", 400, `limit is "many"`},
		{"nothing there", "GET", "/api/nothing", "", 404, "docs/demo.md"},
		{"no such file", "GET", "/static/page.html", "", 404, "no file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := send(t, h, tt.method, tt.path, tt.body)
			var body struct {
				Error struct{ Code, Message string }
			}
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
				t.Fatalf("%d %s: %v", w.Code, w.Body, err)
			}
			if w.Code != tt.code || body.Error.Code == "" || !strings.Contains(body.Error.Message, tt.want) {
				t.Errorf("%d %s, want %d and %q", w.Code, w.Body, tt.code, tt.want)
			}
		})
	}
	if len(c.got) != 0 {
		t.Errorf("wrong requests reached the fleet: %+v", c.got)
	}
}

func TestFaults(t *testing.T) {
	_, c, h := server(t)
	// As curl -d sends it.
	w := send(t, h, "POST", "/api/faults", `{"node":"backend-2","fault":"slow","factor":5,"seconds":3}`, "Content-Type", "application/x-www-form-urlencoded")
	if w.Code != 200 || len(c.got) != 1 || c.got[0].Node != "backend-2" || c.got[0].Factor != 5 || c.got[0].Seconds != 3 {
		t.Errorf("%d %s: %+v", w.Code, w.Body, c.got)
	}
	c.fail = errors.New("backend-2 is down: heal it first")
	if w := send(t, h, "POST", "/api/faults", `{"node":"all","fault":"hang"}`); w.Code != 409 || !strings.Contains(w.Body.String(), "heal it first") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// Another site must not be able to make its visitors' browsers press the buttons.
func TestForeignSites(t *testing.T) {
	_, c, h := server(t)
	const body = `{"node":"backend-1","fault":"hang"}`
	tests := []struct {
		name   string
		header []string
		code   int
	}{
		{"own page", []string{"Origin", "http://localhost:7700", "Sec-Fetch-Site", "same-origin"}, 200},
		{"own page, old browser", []string{"Origin", "http://localhost:7700"}, 200},
		{"curl", nil, 200},
		{"foreign page", []string{"Origin", "http://evil.example", "Sec-Fetch-Site", "cross-site"}, 403},
		{"foreign page, old browser", []string{"Origin", "http://evil.example"}, 403},
		{"sandboxed page", []string{"Origin", "null"}, 403},
		{"other port", []string{"Origin", "http://localhost:9999", "Sec-Fetch-Site", "same-site"}, 403},
		{"rebound name", []string{"Host", "evil.example:7700"}, 403},
		{"rebound name with origin", []string{"Host", "evil.example:7700", "Origin", "http://evil.example:7700"}, 403},
		{"address", []string{"Host", "192.168.1.2:7700"}, 200},
		{"IPv6", []string{"Host", "[::1]:7700"}, 200},
	}
	for _, tt := range tests {
		c.got = nil
		w := send(t, h, "POST", "/api/faults", body, tt.header...)
		if w.Code != tt.code || (tt.code == 200) != (len(c.got) == 1) {
			t.Errorf("%s: %d %s, want %d; %d requests reached the fleet", tt.name, w.Code, w.Body, tt.code, len(c.got))
		}
	}
}

func TestProtection(t *testing.T) {
	s, _, h := server(t)
	w := send(t, h, "POST", "/api/protection", `{"retry":false}`)
	if w.Code != 200 || strings.TrimSpace(w.Body.String()) != `{"timeout":true,"retry":false,"breaker":true,"fallback":true,"ejection":true}` {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if got := s.protected.client.Spec().Services[board.Service].Retry.Mode; got != spec.Off {
		t.Errorf("the client's retry is %q", got)
	}
	if w := send(t, h, "POST", "/api/protection", `{"all":false,"breaker":true}`); !strings.Contains(w.Body.String(), `"retry":false,"breaker":true,"fallback":false`) {
		t.Errorf("%s", w.Body)
	}
	if w := send(t, h, "POST", "/api/protection", `{"all":true}`); s.protected.protection() != FullProtection() {
		t.Errorf("%s", w.Body)
	}
	if send(t, h, "POST", "/api/protection", `{"all":false,"hope":true}`); s.protected.protection() != FullProtection() {
		t.Error("a refused request has changed something")
	}
}

// With no backend in reach people get a page and their messages are kept; without the fallback they get the truth.
func TestBoardIsAway(t *testing.T) {
	s, _, h := server(t)
	w := send(t, h, "POST", "/api/messages", `{"author":"Ada","text":"<b>hello</b>"}`)
	if w.Code != http.StatusAccepted || !strings.Contains(w.Body.String(), `"pending":true`) {
		t.Errorf("a message: %d %s", w.Code, w.Body)
	}
	w = send(t, h, "GET", "/", "")
	for _, want := range []string{`data-fallback="true"`, "&lt;b&gt;hello&lt;/b&gt;", "waits in the outbox", `data-node="backend-2"`, "</html>"} {
		if w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("the page, %d, has no %s", w.Code, want)
		}
	}
	if w := send(t, h, "POST", "/", "id=a-1&author=Bob&text=by+hand", "Content-Type", "application/x-www-form-urlencoded"); w.Code != http.StatusSeeOther {
		t.Errorf("the form: %d", w.Code)
	}
	if w := send(t, h, "POST", "/", "id=a-1&author=Bob&text=", "Content-Type", "application/x-www-form-urlencoded"); w.Code != 400 || !strings.Contains(w.Body.String(), "text is empty") || !strings.Contains(w.Body.String(), `value="Bob"`) {
		t.Errorf("an empty form: %d", w.Code)
	}
	if list, n, _ := s.protected.outbox.state(board.Wall); n != 2 || list[0].ID != "a-1" {
		t.Errorf("the outbox holds %+v", list)
	}
	if st := s.stats(t.Context()); st.Protected.Total.Failed != 0 || st.Protected.Total.Fallback < 3 || st.Protected.Outbox != 2 {
		t.Errorf("the numbers: %+v", st.Protected)
	}

	send(t, h, "POST", "/api/protection", `{"fallback":false}`)
	if w := send(t, h, "GET", "/api/messages", ""); w.Code != http.StatusBadGateway {
		t.Errorf("without fallback: %d %s", w.Code, w.Body)
	}
	if w := send(t, h, "GET", "/", ""); w.Code != http.StatusBadGateway || !strings.Contains(w.Body.String(), "cannot be read") {
		t.Errorf("the page without fallback: %d", w.Code)
	}
}

// Nothing on the page is fetched from anywhere else, and nothing needs a looser policy than the page has.
func TestPageStandsAlone(t *testing.T) {
	_, _, h := server(t)
	page := send(t, h, "GET", "/", "")
	if csp := page.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") {
		t.Errorf("policy: %q", csp)
	}
	for _, path := range []string{"/", "/static/app.css", "/static/app.js", "/static/icon.svg"} {
		w := send(t, h, "GET", path, "")
		if w.Code != 200 {
			t.Errorf("%s: %d", path, w.Code)
		}
		for _, bad := range []string{"https://", "//cdn", " style=", "onclick=", "@import"} {
			if strings.Contains(w.Body.String(), bad) {
				t.Errorf("%s has %q", path, bad)
			}
		}
	}
}

func TestOutboxIsBoundedAndInOrder(t *testing.T) {
	var got []string
	fail := true
	o := newOutbox(func(_ context.Context, m *board.Message) error {
		if fail {
			fail = false
			return errors.New("away")
		}
		got = append(got, m.ID)
		return nil
	})
	for i := range maxOutbox + 1 {
		if ok := o.add(board.Message{ID: "m", Room: board.Wall}); ok != (i < maxOutbox) {
			t.Fatalf("message %d: %v", i, ok)
		}
	}
	o.list = o.list[:0]
	o.add(board.Message{ID: "1"})
	o.add(board.Message{ID: "2"})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for o.deliver(ctx) {
	}
	if _, n, late := o.state(""); n != 0 || late != 2 || strings.Join(got, "") != "12" {
		t.Errorf("delivered %v, %d wait, %d late", got, n, late)
	}
}

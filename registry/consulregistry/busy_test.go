package consulregistry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hull-go/hull/registry"
)

// lateAgent is one that takes a registration and is too busy to say so in time.
type lateAgent struct {
	late func() // is called once it has the first registration

	mu         sync.Mutex
	service    *service
	registered int
	passed     int
}

func (a *lateAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch path := r.URL.Path; {
	case path == "/v1/agent/service/register":
		a.service = &service{}
		if err := json.Unmarshal(body, a.service); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if a.registered++; a.registered == 1 {
			a.late()
			<-r.Context().Done()
		}
	case strings.HasPrefix(path, "/v1/agent/check/pass/"):
		a.passed++
	case strings.HasPrefix(path, "/v1/agent/service/") && a.service == nil:
		http.Error(w, "unknown", http.StatusNotFound)
	case strings.HasPrefix(path, "/v1/agent/service/"):
		_ = json.NewEncoder(w).Encode(a.service)
	case strings.HasPrefix(path, "/v1/agent/health/"):
		_, _ = io.WriteString(w, `{"AggregatedStatus": "passing"}`)
	case strings.HasPrefix(path, "/v1/health/"):
		_, _ = io.WriteString(w, "[]")
	}
}

// A registration whose answer came too late has been made: it is taken over, not made once more.
func TestLateAnswer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	a := &lateAgent{late: cancel}
	s := httptest.NewServer(a)
	defer s.Close()
	d := testDriver(t, Options{}, s.Listener.Addr().String())
	if _, err := d.Announce(ctx, testNode("a"), time.Minute); err == nil {
		t.Fatal("an announcement succeeded without an answer")
	}
	if _, err := d.Announce(t.Context(), testNode("a"), time.Minute); err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	registered, passed := a.registered, a.passed
	a.mu.Unlock()
	if registered != 1 || passed != 1 {
		t.Errorf("%d registrations and %d renewals, want one each", registered, passed)
	}
	// Another process is not taken in, and a node that has changed is registered.
	other := testDriver(t, Options{}, s.Listener.Addr().String())
	if _, err := other.Announce(t.Context(), testNode("a"), time.Minute); !errors.Is(err, registry.ErrTaken) {
		t.Errorf("another announces the same node: %v", err)
	}
}

// The answer of an agent that takes no more connections is not one about a check, though it has the same code.
func TestCrowdedAgent(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v1/agent/service/") {
			_ = json.NewEncoder(w).Encode(&service{ID: "greeter:a"})
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, "Your IP is issuing too many concurrent connections, please rate limit your calls\n")
	}))
	defer s.Close()
	d := testDriver(t, Options{}, s.Listener.Addr().String())
	if _, err := d.Announce(t.Context(), testNode("a"), time.Minute); err == nil || !strings.Contains(err.Error(), "http_max_conns_per_client") {
		t.Errorf("%v, want an error that says what to do", err)
	}
}

// Of a service with a million nodes a hundred thousand are taken, and what is beyond them is not read.
func TestAMillionNodes(t *testing.T) {
	var sent atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "[")
		for i := range 1_000_000 {
			if i > 0 {
				_, _ = io.WriteString(w, ",")
			}
			_, err := fmt.Fprintf(w, `{"Service":{"ID":"n%d"}}`, i)
			if err != nil {
				return // nobody reads on
			}
			sent.Add(1)
		}
		_, _ = io.WriteString(w, "]")
	}))
	defer s.Close()
	d := testDriver(t, Options{}, s.Listener.Addr().String())
	all, _, err := d.health(t.Context(), s.Listener.Addr().String(), "greeter", nil, 0)
	if err != nil || len(all) != maxTold+1 || all[maxTold].Service.ID != fmt.Sprintf("n%d", maxTold) {
		t.Fatalf("%d entries, %v", len(all), err)
	}
	if n := sent.Load(); n > 900_000 { // buffers hold some thousands
		t.Errorf("%d entries were sent", n)
	}
}

// What is no list of entries is an error, and one that broke off is not taken for a short one.
func TestBrokenAnswers(t *testing.T) {
	for text, want := range map[string]string{
		"null": "", "[]": "", ` [{"Service":{}}] `: "", "": "none of Consul's", "{}": "no list", "[": "", "[{}": "", "[{},": "", `["x"]`: "none of Consul's", "[1}": "none of Consul's",
	} {
		var e entries
		err := e.decode(strings.NewReader(text))
		bad := want != "" || strings.HasPrefix(text, "[{") || text == "["
		if (err != nil) != bad || err != nil && !strings.Contains(notConsuls(err).Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// A query whose time is over is answered with all there is. It is not looked at again, unless something is kept back.
func TestNothingNew(t *testing.T) {
	var index, kept atomic.Value
	index.Store("7")
	kept.Store("")
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Consul-Index", index.Load().(string))
		w.Header().Set("X-Consul-Results-Filtered-By-ACLs", kept.Load().(string))
		if kept.Load() == "true" {
			_, _ = io.WriteString(w, "[]")
			return
		}
		_, _ = io.WriteString(w, `[{"Service": {"ID": "greeter:a"}}]`)
	}))
	defer s.Close()
	d := testDriver(t, Options{}, s.Listener.Addr().String())
	for _, tt := range []struct {
		known       uint64
		index, kept string
		entries     int
		err         error
	}{{0, "7", "", 1, nil}, {7, "7", "", 0, nil}, {7, "8", "", 1, nil}, {7, "", "", 1, nil}, {0, "0", "", 1, nil}, {7, "7", "true", 0, errFiltered}} {
		index.Store(tt.index)
		kept.Store(tt.kept)
		all, _, err := d.health(t.Context(), s.Listener.Addr().String(), "greeter", nil, tt.known)
		if len(all) != tt.entries || !errors.Is(err, tt.err) {
			t.Errorf("%+v: %d entries, %v", tt, len(all), err)
		}
	}
}

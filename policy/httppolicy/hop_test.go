package httppolicy_test

import (
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/httppolicy"
	"github.com/hull-go/hull/policy/retry"
)

// passOn makes a handler that passes a request on to the server of w through c, and answers what it is answered.
func passOn(t *testing.T, c *http.Client) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, "http://b:80/", nil)
		if err != nil {
			t.Error(err)
			return
		}
		rep, err := c.Do(req)
		if err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_ = rep.Body.Close()
		w.WriteHeader(rep.StatusCode)
	}
}

// TestCriticality is that requests made for a request are as important as it is, and that nobody promotes himself.
func TestCriticality(t *testing.T) {
	for _, c := range []struct {
		name, sent string
		trusted    bool
		want       policy.Criticality
		passed     string
	}{
		{"nothing said", "", false, policy.Critical, ""},
		{"less", "sheddable", false, policy.Sheddable, "sheddable"},
		{"more, by nobody", "critical-plus", false, policy.Critical, ""},
		{"more, by one who may", "critical-plus", true, policy.CriticalPlus, "critical-plus"},
		{"nonsense", "vital", true, policy.Critical, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			backend := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if got := r.Header.Get("Hull-Criticality"); got != c.passed {
					t.Errorf("passed on as %q, want %q", got, c.passed)
				}
			})
			run(t, backend, func(t *testing.T, w *world) {
				client := &http.Client{Transport: httppolicy.NewTransport(w.base, pipeline(t, policy.Options{}), httppolicy.Options{})}
				h := handler(t, passOn(t, client), pipeline(t, policy.Options{}), httppolicy.HandlerOptions{
					Trusted: func(*http.Request) bool { return c.trusted },
					Call: func(_ *http.Request, call *policy.Call) {
						if call.Criticality != c.want {
							t.Errorf("%v, want %v", call.Criticality, c.want)
						}
					},
				})
				if w := serve(h, "Hull-Criticality", c.sent); w.Code != http.StatusOK {
					t.Errorf("code %d", w.Code)
				}
			})
		})
	}
}

// TestOrigin is that only the layer next to a failure repeats it: three layers with three attempts each make three requests.
func TestOrigin(t *testing.T) {
	var calls atomic.Int64
	backend := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	run(t, backend, func(t *testing.T, w *world) {
		client := func() *http.Client {
			p := pipeline(t, policy.Options{Retries: retries(t, retry.Options{})})
			return &http.Client{Transport: httppolicy.NewTransport(w.base, p, httppolicy.Options{})}
		}
		middle := handler(t, passOn(t, client()), pipeline(t, policy.Options{}), httppolicy.HandlerOptions{})
		rec := serve(middle)
		if rec.Code != http.StatusServiceUnavailable || rec.Header().Get("Hull-Origin") != "downstream" || calls.Load() != 3 {
			t.Errorf("code %d, origin %q, %d requests", rec.Code, rec.Header().Get("Hull-Origin"), calls.Load())
		}
		calls.Store(0)
		p := pipeline(t, policy.Options{Retries: retries(t, retry.Options{})})
		through := roundTripper(func(r *http.Request) (*http.Response, error) { return serve(middle).Result(), nil })
		top := &http.Client{Transport: httppolicy.NewTransport(through, p, httppolicy.Options{})}
		rep, err := top.Get("http://middle/")
		if err != nil {
			t.Fatal(err)
		}
		_ = rep.Body.Close()
		if n := p.Snapshot().Attempts; n != 1 || calls.Load() != 3 {
			t.Errorf("the top made %d attempts and the bottom saw %d requests, want 1 and 3", n, calls.Load())
		}
	})
}

// TestOwnFailure is that a handler whose own calls went well, or that answers in spite of them, passes nothing on.
func TestOwnFailure(t *testing.T) {
	for name, c := range map[string]struct{ backend, answer int }{
		"its own":          {http.StatusOK, http.StatusInternalServerError},
		"not found below":  {http.StatusNotFound, http.StatusInternalServerError},
		"answered anyhow":  {http.StatusServiceUnavailable, http.StatusOK},
		"caller's mistake": {http.StatusServiceUnavailable, http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			backend := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(c.backend) })
			run(t, backend, func(t *testing.T, w *world) {
				client := &http.Client{Transport: httppolicy.NewTransport(w.base, pipeline(t, policy.Options{}), httppolicy.Options{})}
				pass := passOn(t, client)
				h := handler(t, func(w http.ResponseWriter, r *http.Request) {
					pass(nopWriter{}, r)
					w.WriteHeader(c.answer)
				}, pipeline(t, policy.Options{}), httppolicy.HandlerOptions{})
				if rec := serve(h); rec.Code != c.answer || rec.Header().Get("Hull-Origin") != "" {
					t.Errorf("code %d, origin %q", rec.Code, rec.Header().Get("Hull-Origin"))
				}
			})
		})
	}
}

// nopWriter is where an answer goes that nobody wants.
type nopWriter struct{}

func (nopWriter) Header() http.Header         { return http.Header{} }
func (nopWriter) Write(p []byte) (int, error) { return len(p), nil }
func (nopWriter) WriteHeader(int)             {}

// TestRetryControl is that a trusted caller bounds how often requests made on its behalf are repeated, and after what; nobody else does.
func TestRetryControl(t *testing.T) {
	for _, c := range []struct {
		name    string
		trusted bool
		headers []string
		want    int64
	}{
		{"nothing said", true, nil, 3},
		{"never", true, []string{"X-Envoy-Max-Retries", "0"}, 1},
		{"once", true, []string{"X-Envoy-Max-Retries", "1"}, 2},
		{"more than the policies allow", true, []string{"X-Envoy-Max-Retries", "20"}, 3},
		{"after what happens", true, []string{"X-Envoy-Retry-On", "connect-failure,gateway-error"}, 3},
		{"after something else", true, []string{"X-Envoy-Retry-On", "connect-failure,reset"}, 1},
		{"by nobody", false, []string{"X-Envoy-Max-Retries", "0", "X-Envoy-Retry-On", "reset"}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			var calls atomic.Int64
			backend := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				calls.Add(1)
				w.WriteHeader(http.StatusBadGateway)
			})
			run(t, backend, func(t *testing.T, w *world) {
				p := pipeline(t, policy.Options{Retries: retries(t, retry.Options{})})
				client := &http.Client{Transport: httppolicy.NewTransport(w.base, p, httppolicy.Options{})}
				h := handler(t, passOn(t, client), pipeline(t, policy.Options{}), httppolicy.HandlerOptions{Trusted: func(*http.Request) bool { return c.trusted }})
				if rec := serve(h, c.headers...); rec.Code != http.StatusBadGateway || calls.Load() != c.want {
					t.Errorf("code %d after %d requests, want %d", rec.Code, calls.Load(), c.want)
				}
			})
		})
	}
}

package httppolicy_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/policy/hedge"
	"github.com/hull-go/hull/policy/httppolicy"
	"github.com/hull-go/hull/policy/rate"
	"github.com/hull-go/hull/policy/retry"
)

func handler(t *testing.T, next http.HandlerFunc, p *policy.Pipeline, o httppolicy.HandlerOptions) *httppolicy.Handler {
	t.Helper()
	h, err := httppolicy.NewHandler(next, p, o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func serve(h http.Handler, header ...string) *httptest.ResponseRecorder {
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/x", nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	h.ServeHTTP(w, r)
	return w
}

// TestHandlerRate is 429 with the time until the next place.
func TestHandlerRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := rate.New(rate.Options{Limit: 1, Per: 10 * time.Second, Burst: 1})
		if err != nil {
			t.Fatal(err)
		}
		h := handler(t, func(http.ResponseWriter, *http.Request) {}, pipeline(t, policy.Options{Rate: policy.Slot{Name: "rate", Gate: l}}), httppolicy.HandlerOptions{})
		if w := serve(h); w.Code != 200 {
			t.Error(w.Code)
		}
		time.Sleep(500 * time.Millisecond)
		if w := serve(h); w.Code != 429 || w.Header().Get("Retry-After") != "10" || w.Header().Get("X-Envoy-Ratelimited") == "" {
			t.Error(w.Code, w.Header())
		}
	})
}

// TestHandlerQueue is that requests wait for a place, within their deadline, and are refused when the line is full.
func TestHandlerQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var served atomic.Int64
		l := places(t, concurrency.Options{Limit: 1, Queue: 2, MaxWait: time.Minute})
		h := handler(t, func(http.ResponseWriter, *http.Request) {
			time.Sleep(time.Second)
			served.Add(1)
		}, pipeline(t, policy.Options{Concurrency: policy.Slot{Name: "places", Gate: l}}), httppolicy.HandlerOptions{})
		codes := make(chan int, 4)
		begin := func(header ...string) {
			go func() { codes <- serve(h, header...).Code }()
			synctest.Wait()
		}
		begin()                                        // has the place
		begin()                                        // waits a second
		begin("X-Envoy-Upstream-Rq-Timeout-Ms", "500") // waits in vain
		w := serve(h)
		if w.Code != 503 || w.Header().Get("Retry-After") != "1" || w.Header().Get("X-Envoy-Overloaded") == "" {
			t.Error(w.Code, w.Header())
		}
		for _, want := range []int{504, 200, 200} {
			if got := <-codes; got != want {
				t.Errorf("code %d, want %d", got, want)
			}
		}
		if served.Load() != 2 || l.Snapshot().InUse != 0 {
			t.Errorf("%d served, %d places in use", served.Load(), l.Snapshot().InUse)
		}
	})
}

// TestHandlerDeadline is what handlers see of their callers' deadlines.
func TestHandlerDeadline(t *testing.T) {
	tests := []struct {
		name   string
		header []string
		o      httppolicy.HandlerOptions
		want   time.Duration // left; 0 = no deadline, negative = not served
	}{
		{"none", nil, httppolicy.HandlerOptions{}, 0},
		{"grpc", []string{"grpc-timeout", "1500m"}, httppolicy.HandlerOptions{}, 1500 * time.Millisecond},
		{"envoy", []string{"x-envoy-upstream-rq-timeout-ms", "250"}, httppolicy.HandlerOptions{}, 250 * time.Millisecond},
		{"envoy without", []string{"x-envoy-upstream-rq-timeout-ms", "0"}, httppolicy.HandlerOptions{}, 0},
		{"connect", []string{"Connect-Timeout-Ms", "20"}, httppolicy.HandlerOptions{}, 20 * time.Millisecond},
		{"the least", []string{"Connect-Timeout-Ms", "20", "grpc-timeout", "10m"}, httppolicy.HandlerOptions{}, 10 * time.Millisecond},
		{"dead", []string{"grpc-timeout", "0m"}, httppolicy.HandlerOptions{}, -1},
		{"unreadable", []string{"grpc-timeout", "-1m"}, httppolicy.HandlerOptions{}, 0},
		{"at most", []string{"grpc-timeout", "9S"}, httppolicy.HandlerOptions{MaxTimeout: time.Second}, time.Second},
		{"default", nil, httppolicy.HandlerOptions{MaxTimeout: time.Second}, time.Second},
		{"ignored", []string{"grpc-timeout", "0m"}, httppolicy.HandlerOptions{IgnoreTimeouts: true}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := time.Duration(-1)
				h := handler(t, func(_ http.ResponseWriter, r *http.Request) {
					got = 0
					if d, ok := r.Context().Deadline(); ok {
						got = time.Until(d)
					}
				}, pipeline(t, policy.Options{}), tt.o)
				w := serve(h, tt.header...)
				if got != tt.want || (w.Code == 504) != (tt.want < 0) {
					t.Errorf("%v left, code %d, want %v", got, w.Code, tt.want)
				}
			})
		})
	}
}

// TestHandlerEnds is that places come back however a handler ends.
func TestHandlerEnds(t *testing.T) {
	var log bytes.Buffer
	l := places(t, concurrency.Options{Limit: 1})
	classes := new(told)
	p := pipeline(t, policy.Options{Concurrency: policy.Slot{Name: "places", Gate: l}, Observer: classes})
	o := httppolicy.HandlerOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	h := handler(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/panic":
			panic("no luck")
		case "/late":
			_, _ = io.WriteString(w, "begin")
			_ = http.NewResponseController(w).Flush()
			panic("too late")
		case "/abort":
			panic(http.ErrAbortHandler)
		case "/goexit":
			runtime.Goexit()
		case "/hijack":
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
			_ = c.Close()
		case "/copy":
			_, _ = io.Copy(w, strings.NewReader("copied"))
		}
	}, p, o)
	run(t, h, func(t *testing.T, w *world) {
		c := &http.Client{Transport: w.base}
		get := func(path string) (int, string, error) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://b:80"+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			rep, err := c.Do(req)
			if err != nil {
				return 0, "", err
			}
			defer rep.Body.Close()
			b, err := io.ReadAll(rep.Body)
			return rep.StatusCode, string(b), err
		}
		for _, tt := range []struct {
			path  string
			code  int
			body  string
			fails bool
		}{
			{"/panic", 500, "Internal Server Error\n", false},
			{"/late", 200, "begin", true},
			{"/abort", 0, "", true},
			{"/goexit", 0, "", true},
			{"/hijack", 200, "hi", false},
			{"/copy", 200, "copied", false},
		} {
			code, body, err := get(tt.path)
			if code != tt.code || body != tt.body || (err != nil) != tt.fails {
				t.Errorf("%s: %d %q %v, want %d %q", tt.path, code, body, err, tt.code, tt.body)
			}
			synctest.Wait()
			if n := l.Snapshot().InUse; n != 0 {
				t.Errorf("%s: %d places in use", tt.path, n)
			}
		}
	})
	if got, want := classes.all(), []policy.Class{policy.ClassInternal, policy.ClassInternal, policy.ClassInternal, policy.ClassInternal,
		policy.ClassCancelled, policy.ClassOK}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if s := log.String(); strings.Count(s, "handler panicked") != 2 || !strings.Contains(s, "no luck") || !strings.Contains(s, "handler_test.go") {
		t.Error(s)
	}
}

// TestHandlerPath is that a request that serves a repeated one is not repeated again unless it was not sent.
func TestHandlerPath(t *testing.T) {
	var calls atomic.Int64
	backend := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		if got := r.Header.Get("X-Envoy-Attempt-Count"); got != "2" {
			t.Errorf("attempt %q, want 2", got)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	run(t, backend, func(t *testing.T, w *world) {
		p := pipeline(t, policy.Options{Retries: retries(t, retry.Options{})})
		c := &http.Client{Transport: httppolicy.NewTransport(w.base, p, httppolicy.Options{})}
		h := handler(t, func(w http.ResponseWriter, r *http.Request) {
			req, _ := http.NewRequestWithContext(r.Context(), http.MethodGet, "http://b:80/", nil)
			rep, err := c.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			_ = rep.Body.Close()
			w.WriteHeader(rep.StatusCode)
		}, pipeline(t, policy.Options{}), httppolicy.HandlerOptions{})
		if w := serve(h, "X-Envoy-Attempt-Count", "2"); w.Code != 503 || calls.Load() != 1 {
			t.Errorf("code %d, %d calls, want one", w.Code, calls.Load())
		}
	})
}

// TestNewHandler is which pipelines are refused.
func TestNewHandler(t *testing.T) {
	hd, err := hedge.New(hedge.Options{})
	if err != nil {
		t.Fatal(err)
	}
	twice := retries(t, retry.Options{})
	next := http.NotFoundHandler()
	for name, f := range map[string]func() (*httppolicy.Handler, error){
		"no handler": func() (*httppolicy.Handler, error) {
			return httppolicy.NewHandler(nil, pipeline(t, policy.Options{}), httppolicy.HandlerOptions{})
		},
		"no pipeline": func() (*httppolicy.Handler, error) {
			return httppolicy.NewHandler(next, nil, httppolicy.HandlerOptions{})
		},
		"retries": func() (*httppolicy.Handler, error) {
			return httppolicy.NewHandler(next, pipeline(t, policy.Options{Retries: twice}), httppolicy.HandlerOptions{})
		},
		"hedges": func() (*httppolicy.Handler, error) {
			return httppolicy.NewHandler(next, pipeline(t, policy.Options{Retries: retries(t, retry.Options{Attempts: 1}), Hedging: hd}), httppolicy.HandlerOptions{})
		},
		"timeout": func() (*httppolicy.Handler, error) {
			return httppolicy.NewHandler(next, pipeline(t, policy.Options{}), httppolicy.HandlerOptions{MaxTimeout: -1})
		},
	} {
		if h, err := f(); err == nil || h != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

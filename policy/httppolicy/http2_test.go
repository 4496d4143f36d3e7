package httppolicy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/policy/hedge"
	"github.com/hull-go/hull/policy/httppolicy"
	"github.com/hull-go/hull/policy/rate"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/status"
)

// overHTTP2 runs f against a real server on loopback that speaks nothing but HTTP/2, over TLS and in clear.
func overHTTP2(t *testing.T, h http.Handler, f func(t *testing.T, url string, base *http.Transport)) {
	for _, secure := range []bool{true, false} {
		t.Run(map[bool]string{true: "tls", false: "h2c"}[secure], func(t *testing.T) {
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.ProtoMajor != 2 {
					t.Errorf("%s", r.Proto)
				}
				h.ServeHTTP(w, r)
			}))
			base := &http.Transport{Protocols: new(http.Protocols)}
			if secure {
				srv.EnableHTTP2 = true
				srv.StartTLS()
				pool := srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
				base.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
				base.Protocols.SetHTTP2(true)
			} else {
				srv.Config.Protocols = new(http.Protocols)
				srv.Config.Protocols.SetUnencryptedHTTP2(true)
				srv.Start()
				base.Protocols.SetUnencryptedHTTP2(true)
			}
			defer srv.Close()
			defer base.CloseIdleConnections()
			f(t, srv.URL, base)
		})
	}
}

// TestHTTP2Again is that what fails is repeated with its whole body, on one connection, and what cannot be rewound is not.
func TestHTTP2Again(t *testing.T) {
	var calls atomic.Int64
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b, err := io.ReadAll(r.Body); err != nil || len(b) != 100_000 {
			t.Errorf("%d bytes, %v", len(b), err)
		}
		if calls.Add(1)%2 == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = io.WriteString(w, r.RemoteAddr)
	})
	body := bytes.Repeat([]byte("x"), 100_000)
	overHTTP2(t, h, func(t *testing.T, url string, base *http.Transport) {
		calls.Store(0)
		p := pipeline(t, policy.Options{Retries: retries(t, retry.Options{Base: time.Millisecond})})
		c := &http.Client{Transport: httppolicy.NewTransport(base, p, httppolicy.Options{})}
		for _, rewinds := range []bool{true, false} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			want := http.StatusOK
			if !rewinds {
				req.GetBody, want = nil, http.StatusServiceUnavailable
			}
			rep, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(rep.Body); err != nil || rep.StatusCode != want || !strings.Contains(string(b), ":") {
				t.Errorf("rewinds %v: code %d, %q, %v", rewinds, rep.StatusCode, b, err)
			}
			_ = rep.Body.Close()
		}
		if calls.Load() != 3 {
			t.Errorf("%d requests, want two and one", calls.Load())
		}
	})
}

// TestHTTP2Hedge is that the slower of two attempts is cancelled on its stream, and the connection goes on.
func TestHTTP2Hedge(t *testing.T) {
	var calls atomic.Int64
	var gone chan struct{}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			<-r.Context().Done()
			close(gone)
			return
		}
		_, _ = io.WriteString(w, "good")
	})
	overHTTP2(t, h, func(t *testing.T, url string, base *http.Transport) {
		calls.Store(0)
		gone = make(chan struct{})
		hd, err := hedge.New(hedge.Options{Delay: time.Millisecond, Extra: 1})
		if err != nil {
			t.Fatal(err)
		}
		p := pipeline(t, policy.Options{Retries: retries(t, retry.Options{Attempts: 2}), Hedging: hd})
		c := &http.Client{Transport: httppolicy.NewTransport(base, p, httppolicy.Options{})}
		for range 2 {
			rep, err := c.Get(url)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(rep.Body); err != nil || string(b) != "good" {
				t.Errorf("%q, %v", b, err)
			}
			_ = rep.Body.Close()
			<-gone // else the server holds on to what nobody waits for
		}
	})
}

// TestHTTP2Timeout is that a deadline travels, ends both sides, and is what errors.Is takes it for.
func TestHTTP2Timeout(t *testing.T) {
	var began atomic.Bool // a slow machine may be late for the deadline: then nothing reaches the handler
	ended := make(chan error, 2)
	inner := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		began.Store(true)
		<-r.Context().Done()
		ended <- r.Context().Err()
	})
	h, err := httppolicy.NewHandler(inner, pipeline(t, policy.Options{}), httppolicy.HandlerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	overHTTP2(t, h, func(t *testing.T, url string, base *http.Transport) {
		began.Store(false)
		p := pipeline(t, policy.Options{})
		c := &http.Client{Transport: httppolicy.NewTransport(base, p, httppolicy.Options{})}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		rep, err := c.Do(req)
		if err == nil { // the server, which knows the deadline as well, may have been first
			_ = rep.Body.Close()
		} else if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if began.Load() {
			t.Log(<-ended) // else the handler's context lives on
		}
	})
}

// TestHTTP2Refusals is that a handler over its limits says so in the headers that clients heed, stream by stream.
func TestHTTP2Refusals(t *testing.T) {
	began, release := make(chan struct{}), make(chan struct{})
	inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began <- struct{}{}
		<-release
		_, _ = io.WriteString(w, "served")
	})
	limit, err := rate.New(rate.Options{Limit: 2, Per: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for what, o := range map[string]policy.Options{
		"full":     {Concurrency: policy.Slot{Name: "places", Gate: places(t, concurrency.Options{Limit: 1})}},
		"too many": {Rate: policy.Slot{Name: "rate", Gate: limit}},
	} {
		h, err := httppolicy.NewHandler(inner, pipeline(t, o), httppolicy.HandlerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Run(what, func(t *testing.T) {
			overHTTP2(t, h, func(t *testing.T, url string, base *http.Transport) {
				c := &http.Client{Transport: base}
				served := make(chan string)
				go func() {
					rep, err := c.Get(url)
					if err != nil {
						served <- err.Error()
						return
					}
					b, _ := io.ReadAll(rep.Body)
					_ = rep.Body.Close()
					served <- string(b)
				}()
				<-began
				for what == "too many" && limit.Admit(policy.Now(), policy.Source{}, &policy.Call{}).Decision == policy.Admit {
					continue // until nothing is left
				}
				rep, err := c.Get(url)
				if err != nil {
					t.Fatal(err)
				}
				_ = rep.Body.Close()
				want := map[string]int{"full": http.StatusServiceUnavailable, "too many": http.StatusTooManyRequests}[what]
				if rep.StatusCode != want || rep.Header.Get("Retry-After") == "" {
					t.Errorf("code %d, Retry-After %q", rep.StatusCode, rep.Header.Get("Retry-After"))
				}
				if e := httppolicy.Status(rep); e.Code != status.ResourceExhausted || policy.Classify(e) != policy.ClassOverloaded {
					t.Errorf("read as %v", e)
				}
				release <- struct{}{}
				if s := <-served; s != "served" {
					t.Error(s)
				}
				if what == "too many" {
					if err := limit.SetLimit(policy.Now(), 2, 100); err != nil { // for the next protocol
						t.Fatal(err)
					}
				}
			})
		})
	}
}

package httppolicy_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/policy/httppolicy"
	"github.com/hull-go/hull/policy/retry"
)

// BenchmarkTransport is what the transport adds to a request: the base answers at once.
func BenchmarkTransport(b *testing.B) {
	r, err := retry.New(retry.Options{})
	if err != nil {
		b.Fatal(err)
	}
	brk, err := breaker.New(breaker.Options{})
	if err != nil {
		b.Fatal(err)
	}
	p, err := policy.New(policy.Options{Retries: r, Breaker: policy.Slot{Name: "breaker", Gate: brk}})
	if err != nil {
		b.Fatal(err)
	}
	tr := httppolicy.NewTransport(roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(""))}, nil
	}), p, httppolicy.Options{})
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://b/", nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		rep, err := tr.RoundTrip(req)
		if err != nil {
			b.Fatal(err)
		}
		_ = rep.Body.Close()
	}
}

// BenchmarkHandler is what the handler adds to a request.
func BenchmarkHandler(b *testing.B) {
	l, err := concurrency.New(concurrency.Options{})
	if err != nil {
		b.Fatal(err)
	}
	p, err := policy.New(policy.Options{Concurrency: policy.Slot{Name: "places", Gate: l}})
	if err != nil {
		b.Fatal(err)
	}
	h, err := httppolicy.NewHandler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), p, httppolicy.HandlerOptions{})
	if err != nil {
		b.Fatal(err)
	}
	w, req := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(w, req)
	}
}

package httppolicy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/policy/hedge"
	"github.com/hull-go/hull/policy/httppolicy"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/status"
)

// TestAgain is who is tried again, and that the caller gets the last answer when that was not enough.
func TestAgain(t *testing.T) {
	tests := []struct {
		name, method string
		header       http.Header // of the request
		code         int
		answer       http.Header
		want         int
	}{
		{"ok", "GET", nil, 200, nil, 1},
		{"not modified", "GET", nil, 304, nil, 1},
		{"not found", "GET", nil, 404, nil, 1},
		{"conflict", "PUT", nil, 409, nil, 1},
		{"request timeout", "GET", nil, 408, nil, 3},
		{"request timeout, not idempotent", "POST", nil, 408, nil, 1},
		{"unavailable", "GET", nil, 503, nil, 3},
		{"bad gateway", "HEAD", nil, 502, nil, 3},
		{"gateway timeout", "OPTIONS", nil, 504, nil, 3},
		{"put", "PUT", nil, 503, nil, 3},
		{"delete", "DELETE", nil, 503, nil, 3},
		{"post", "POST", nil, 503, nil, 1},
		{"patch", "PATCH", nil, 503, nil, 1},
		{"keyed post", "POST", http.Header{"Idempotency-Key": {"k"}}, 503, nil, 3},
		{"internal", "GET", nil, 500, nil, 1},
		{"not implemented", "POST", nil, 501, nil, 3},
		{"misdirected", "POST", nil, 421, nil, 3},
		{"too early", "POST", nil, 425, nil, 3},
		{"too many", "GET", nil, 429, nil, 3},
		{"too many, in a second", "GET", nil, 429, http.Header{"Retry-After": {"1"}}, 3},
		{"too many, much later", "GET", nil, 429, http.Header{"Retry-After": {"3600"}}, 1},
		{"too many, not readable", "GET", nil, 429, http.Header{"Retry-After": {"soon"}}, 1},
		{"overloaded post", "POST", nil, 503, http.Header{"Retry-After": {"1"}}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var calls atomic.Int64
			h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n := calls.Add(1)
				if got := r.Header.Get("X-Envoy-Attempt-Count"); got != strconv.FormatInt(n, 10) {
					t.Errorf("attempt %d says that it is attempt %q", n, got)
				}
				for k, v := range tt.answer {
					w.Header()[k] = v
				}
				w.WriteHeader(tt.code)
				if tt.code != 304 {
					_, _ = fmt.Fprintf(w, "answer %d", n)
				}
			})
			run(t, h, func(t *testing.T, w *world) {
				p := pipeline(t, policy.Options{Retries: retries(t, retry.Options{})})
				c := &http.Client{Transport: httppolicy.NewTransport(w.base, p, httppolicy.Options{})}
				req, err := http.NewRequestWithContext(t.Context(), tt.method, "http://b:80/", nil)
				if err != nil {
					t.Fatal(err)
				}
				if tt.header != nil {
					req.Header = tt.header
				}
				rep, err := c.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(rep.Body)
				if want := fmt.Sprintf("answer %d", tt.want); err != nil || tt.method != "HEAD" && tt.code != 304 && string(body) != want {
					t.Errorf("%q, %v, want %q", body, err, want)
				}
				if err := rep.Body.Close(); err != nil {
					t.Error(err)
				}
				if rep.StatusCode != tt.code || calls.Load() != int64(tt.want) {
					t.Errorf("%d calls, code %d, want %d, %d", calls.Load(), rep.StatusCode, tt.want, tt.code)
				}
				if n := w.dials.Load(); n != 1 {
					t.Errorf("%d connections: bodies were not drained", n)
				}
			})
		})
	}
}

// TestPushback is that Retry-After is waited for, in both forms.
func TestPushback(t *testing.T) {
	for _, form := range []string{"seconds", "date"} {
		t.Run(form, func(t *testing.T) {
			var calls atomic.Int64
			h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if calls.Add(1) > 1 {
					return
				}
				after := "3"
				if form == "date" { // of a server whose clock is an hour ahead
					now := time.Now().Add(time.Hour).UTC()
					w.Header().Set("Date", now.Format(http.TimeFormat))
					after = now.Add(3 * time.Second).Format(http.TimeFormat)
				}
				w.Header().Set("Retry-After", after)
				w.WriteHeader(http.StatusServiceUnavailable)
			})
			run(t, h, func(t *testing.T, w *world) {
				p := pipeline(t, policy.Options{Retries: retries(t, retry.Options{})})
				c := &http.Client{Transport: httppolicy.NewTransport(w.base, p, httppolicy.Options{})}
				start := time.Now()
				rep, err := c.Get("http://b:80/")
				if err != nil || rep.StatusCode != http.StatusOK {
					t.Fatal(rep, err)
				}
				_ = rep.Body.Close()
				if took := time.Since(start); took < 3*time.Second || took > 3300*time.Millisecond {
					t.Errorf("took %v, want 3 s and a bit", took)
				}
			})
		})
	}
}

// TestRewind is that a body is sent again whole, or the request is not.
func TestRewind(t *testing.T) {
	for _, rewinds := range []bool{true, false} {
		t.Run(fmt.Sprint(rewinds), func(t *testing.T) {
			var calls atomic.Int64
			text := strings.Repeat("hull", 50_000)
			h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if b, err := io.ReadAll(r.Body); string(b) != text {
					t.Errorf("got %d bytes, %v", len(b), err)
				}
				if calls.Add(1) < 3 {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
			})
			run(t, h, func(t *testing.T, w *world) {
				p := pipeline(t, policy.Options{Retries: retries(t, retry.Options{})})
				c := &http.Client{Transport: httppolicy.NewTransport(w.base, p, httppolicy.Options{})}
				body := io.Reader(strings.NewReader(text))
				want, code := int64(3), 200
				if !rewinds {
					body, want, code = struct{ io.Reader }{body}, 1, 503
				}
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://b:80/", body)
				if err != nil {
					t.Fatal(err)
				}
				rep, err := c.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_ = rep.Body.Close()
				if rep.StatusCode != code || calls.Load() != want {
					t.Errorf("%d calls, code %d, want %d, %d", calls.Load(), rep.StatusCode, want, code)
				}
			})
		})
	}
}

// closer tells whether it was closed.
type closer struct {
	io.Reader
	closed atomic.Bool
}

func (c *closer) Close() error {
	c.closed.Store(true)
	return nil
}

// TestFailures is what is proved about failures of the network, for a POST, which is repeated only if it was not sent.
func TestFailures(t *testing.T) {
	tests := []struct {
		name     string
		do       func(w *world)
		body     io.Reader
		kind     status.Kind
		fate     status.Fate
		attempts int64
	}{
		{"refused", func(w *world) { w.net.Pair("a", "b").Refuse(true) }, nil, status.Dial, status.NotSent, 3},
		{"dial hangs", func(w *world) { w.net.Pair("a", "b").Drop(true) }, nil, status.Timeout, status.NotSent, 1},
		{"frozen", func(w *world) { w.b.Freeze() }, nil, status.Timeout, status.Maybe, 1},
		{"cut", func(w *world) { w.net.Link("a", "b").CutAfter(30) }, nil, status.Reset, status.Maybe, 1},
		{"bad body", func(*world) {}, io.MultiReader(strings.NewReader("some"), failing{}), status.Cancelled, status.Maybe, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			run(t, http.NotFoundHandler(), func(t *testing.T, w *world) {
				p := pipeline(t, policy.Options{Retries: retries(t, retry.Options{})})
				c := &http.Client{Transport: httppolicy.NewTransport(w.base, p, httppolicy.Options{})}
				tt.do(w)
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://b:80/", tt.body)
				if err != nil {
					t.Fatal(err)
				}
				rep, err := c.Do(req)
				if err == nil {
					t.Fatal(rep.Status)
				}
				e, ok := errors.AsType[*status.Error](err)
				if !ok || e.Kind != tt.kind || e.Fate != tt.fate {
					t.Errorf("%v: %+v, want %v, %v", err, e, tt.kind, tt.fate)
				}
				if n := p.Snapshot().Attempts; n != tt.attempts {
					t.Errorf("%d attempts, want %d", n, tt.attempts)
				}
				if ue, ok := errors.AsType[*url.Error](err); !ok || ue.Timeout() != (tt.kind == status.Timeout) {
					t.Errorf("%v: Timeout() disagrees", err)
				}
				w.b.Thaw()
				w.net.Pair("a", "b").Drop(false).Refuse(false)
			})
		})
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("disk on fire") }

// TestRefused is that a refusal is a *status.Error inside *url.Error, and that the body is closed.
func TestRefused(t *testing.T) {
	run(t, http.NotFoundHandler(), func(t *testing.T, w *world) {
		b, err := breaker.New(breaker.Options{})
		if err != nil {
			t.Fatal(err)
		}
		b.ForceOpen(policy.Now())
		p := pipeline(t, policy.Options{Key: "b", Breaker: policy.Slot{Name: "breaker", Gate: b}})
		c := &http.Client{Transport: httppolicy.NewTransport(w.base, p, httppolicy.Options{})}
		body := &closer{Reader: strings.NewReader("x")}
		_, err = c.Post("http://b:80/", "text/plain", body)
		var ue *url.Error
		e, ok := errors.AsType[*status.Error](err)
		if !errors.As(err, &ue) || !ok || e.Refusal == nil || e.Refusal.Policy != "breaker" || e.Refusal.Key != "b" {
			t.Errorf("%v", err)
		}
		if !body.closed.Load() {
			t.Error("the request's body is still open")
		}
	})
}

// TestPlace is that an attempt holds its place until its body is read or closed, and its deadline until then too.
func TestPlace(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "begin")
		_ = http.NewResponseController(w).Flush()
		if r.URL.Path == "/hang" {
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, " end")
	})
	for _, how := range []string{"read", "close", "timeout", "call timeout", "head"} {
		t.Run(how, func(t *testing.T) {
			run(t, h, func(t *testing.T, w *world) {
				l := places(t, concurrency.Options{})
				times := &fixed{d: time.Second}
				p := pipeline(t, policy.Options{Retries: retries(t, retry.Options{}), Timeouts: times, Concurrency: policy.Slot{Name: "places", Gate: l}})
				c := &http.Client{Transport: httppolicy.NewTransport(w.base, p, httppolicy.Options{})}
				path, method := "/", "GET"
				switch how {
				case "timeout":
					path = "/hang"
				case "call timeout":
					path, c.Timeout = "/hang", time.Second/2
				case "head":
					method = "HEAD"
				}
				req, err := http.NewRequestWithContext(t.Context(), method, "http://b:80"+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				rep, err := c.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				if n := l.Snapshot().InUse; n != 1 && how != "head" {
					t.Errorf("%d places in use while the body is read", n)
				}
				start, class := time.Now(), policy.ClassOK
				switch how {
				case "read", "head":
					if _, err := io.ReadAll(rep.Body); err != nil {
						t.Error(err)
					}
				case "close":
					_ = rep.Body.Close()
				default:
					_, err := io.ReadAll(rep.Body)
					class = policy.ClassTimeout
					if how == "call timeout" {
						class = policy.ClassDeadlineSoon
					}
					if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took > time.Second {
						t.Errorf("%v after %v, want the attempt's deadline", err, took)
					}
				}
				if n := l.Snapshot().InUse; n != 0 {
					t.Errorf("%d places in use at the end", n)
				}
				if len(times.ended) != 1 || times.ended[0].Class != class {
					t.Errorf("recorded %v, want one of %v", times.ended, class)
				}
				_ = rep.Body.Close()
			})
		})
	}
}

// TestUntilHeader is that a download may take longer than an attempt.
func TestUntilHeader(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range 5 {
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(time.Second)
		}
	})
	run(t, h, func(t *testing.T, w *world) {
		times := &fixed{d: time.Second}
		p := pipeline(t, policy.Options{Timeouts: times})
		c := &http.Client{Transport: httppolicy.NewTransport(w.base, p, httppolicy.Options{UntilHeader: true})}
		rep, err := c.Get("http://b:80/")
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(rep.Body)
		if err != nil || string(b) != "xxxxx" {
			t.Errorf("%q, %v", b, err)
		}
		_ = rep.Body.Close()
		if len(times.ended) != 1 || times.ended[0].Took > time.Second {
			t.Errorf("recorded %v, want the header's time", times.ended)
		}
	})
}

// TestDrain is that responses that nobody gets do not cost their connection if they are small, nor much time if they are not.
func TestDrain(t *testing.T) {
	for _, tt := range []struct {
		name  string
		bytes int
		hang  bool
		conns int64
	}{{"small", 1000, false, 1}, {"large", 1 << 20, false, 2}, {"endless", 1000, true, 2}} {
		t.Run(tt.name, func(t *testing.T) {
			var calls atomic.Int64
			h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if calls.Add(1) > 1 {
					return
				}
				w.WriteHeader(http.StatusServiceUnavailable)
				_, _ = io.WriteString(w, strings.Repeat("x", tt.bytes))
				if tt.hang {
					_ = http.NewResponseController(w).Flush()
					<-r.Context().Done()
				}
			})
			run(t, h, func(t *testing.T, w *world) {
				p := pipeline(t, policy.Options{Retries: retries(t, retry.Options{Backoff: retry.Immediate})})
				c := &http.Client{Transport: httppolicy.NewTransport(w.base, p, httppolicy.Options{})}
				start := time.Now()
				rep, err := c.Get("http://b:80/")
				if err != nil || rep.StatusCode != http.StatusOK {
					t.Fatal(rep, err)
				}
				_ = rep.Body.Close()
				if n := w.dials.Load(); n != tt.conns {
					t.Errorf("%d connections, want %d", n, tt.conns)
				}
				if took := time.Since(start); took > 100*time.Millisecond {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

// TestHedge is that the first good answer wins, with its body, and that the loser is cancelled.
func TestHedge(t *testing.T) {
	for _, first := range []string{"hangs", "fails later"} {
		t.Run(first, func(t *testing.T) {
			var calls, cancelled atomic.Int64
			h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if calls.Add(1) == 1 {
					if first == "hangs" {
						<-r.Context().Done()
						cancelled.Add(1)
						return
					}
					time.Sleep(15 * time.Millisecond)
					w.WriteHeader(http.StatusServiceUnavailable)
					_, _ = io.WriteString(w, "no")
					return
				}
				time.Sleep(20 * time.Millisecond)
				_, _ = io.WriteString(w, "good")
				_ = http.NewResponseController(w).Flush()
				time.Sleep(time.Second)
				_, _ = io.WriteString(w, " answer")
			})
			run(t, h, func(t *testing.T, w *world) {
				hd, err := hedge.New(hedge.Options{Delay: 10 * time.Millisecond, Extra: 1})
				if err != nil {
					t.Fatal(err)
				}
				p := pipeline(t, policy.Options{Retries: retries(t, retry.Options{}), Hedging: hd})
				c := &http.Client{Transport: httppolicy.NewTransport(w.base, p, httppolicy.Options{})}
				rep, err := c.Get("http://b:80/")
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(rep.Body)
				if err != nil || string(b) != "good answer" {
					t.Errorf("%q, %v", b, err)
				}
				_ = rep.Body.Close()
				synctest.Wait()
				if calls.Load() != 2 || first == "hangs" && cancelled.Load() != 1 {
					t.Errorf("%d calls, %d cancelled", calls.Load(), cancelled.Load())
				}
				if n := p.Snapshot(); n.Hedges != 1 || n.Abandoned != 0 {
					t.Errorf("%+v", n)
				}
			})
		})
	}
}

// TestPanic is that a transport that panics leaves nothing behind.
func TestPanic(t *testing.T) {
	l := places(t, concurrency.Options{})
	p := pipeline(t, policy.Options{Concurrency: policy.Slot{Name: "places", Gate: l}})
	tr := httppolicy.NewTransport(roundTripper(func(*http.Request) (*http.Response, error) { panic("no") }), p, httppolicy.Options{})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is gone")
			}
		}()
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://b/", nil)
		_, _ = tr.RoundTrip(req)
	}()
	if n := l.Snapshot().InUse; n != 0 {
		t.Errorf("%d places in use", n)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestUntraced is that a RoundTripper that reports nothing proves nothing.
func TestUntraced(t *testing.T) {
	p := pipeline(t, policy.Options{Retries: retries(t, retry.Options{})})
	tr := httppolicy.NewTransport(roundTripper(func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }), p, httppolicy.Options{})
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://b/", nil)
	_, err := tr.RoundTrip(req)
	if status.FateOf(err) != status.Maybe || p.Snapshot().Attempts != 1 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v, %v, %+v", err, status.FateOf(err), p.Snapshot())
	}
}

// told keeps the classes of calls.
type told struct {
	mu      sync.Mutex
	classes []policy.Class
}

func (o *told) Call(_ policy.Time, _ *policy.Call, s *policy.Story) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.classes = append(o.classes, s.Class)
}

func (o *told) all() []policy.Class {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.classes)
}

// TestEnd is that an attempt's context ends with its body, not before, and what the call then counts for.
func TestEnd(t *testing.T) {
	for _, tt := range []struct {
		code int
		body bool
		want policy.Class
	}{{200, true, policy.ClassOK}, {200, false, policy.ClassOK}, {404, true, policy.ClassCaller}, {404, false, policy.ClassCaller}, {500, true, policy.ClassInternal}} {
		o := new(told)
		p := pipeline(t, policy.Options{Observer: o})
		var ctx context.Context
		tr := httppolicy.NewTransport(roundTripper(func(r *http.Request) (*http.Response, error) {
			ctx = r.Context() //nolint:fatcontext // it is looked at later
			rep := &http.Response{StatusCode: tt.code, Body: http.NoBody}
			if tt.body {
				rep.Body = io.NopCloser(strings.NewReader("x"))
			}
			return rep, nil
		}), p, httppolicy.Options{})
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://b/", nil)
		rep, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if (ctx.Err() == nil) != tt.body {
			t.Errorf("%+v: the context: %v", tt, ctx.Err())
		}
		_ = rep.Body.Close()
		_ = rep.Body.Close()
		if got := o.all(); ctx.Err() == nil || len(got) != 1 || got[0] != tt.want {
			t.Errorf("%+v: %v, the context: %v", tt, got, ctx.Err())
		}
	}
}

// TestHedgedBody is that attempts side by side have a body each.
func TestHedgedBody(t *testing.T) {
	var calls atomic.Int64
	text := strings.Repeat("hull", 50_000)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := calls.Add(1)
		if b, err := io.ReadAll(r.Body); string(b) != text {
			t.Errorf("got %d bytes, %v", len(b), err)
		}
		if n == 1 {
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, "good")
	})
	run(t, h, func(t *testing.T, w *world) {
		hd, err := hedge.New(hedge.Options{Delay: 10 * time.Millisecond, Extra: 1})
		if err != nil {
			t.Fatal(err)
		}
		p := pipeline(t, policy.Options{Retries: retries(t, retry.Options{}), Hedging: hd})
		o := httppolicy.Options{Call: func(_ *http.Request, c *policy.Call) { c.Idempotent, c.SideEffectFree = true, true }}
		c := &http.Client{Transport: httppolicy.NewTransport(w.base, p, o)}
		rep, err := c.Post("http://b:80/search", "text/plain", strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(rep.Body); err != nil || string(b) != "good" {
			t.Errorf("%q, %v", b, err)
		}
		_ = rep.Body.Close()
		if calls.Load() != 2 {
			t.Errorf("%d calls", calls.Load())
		}
		rep, err = c.Post("http://b:80/search", "text/plain", struct{ io.Reader }{strings.NewReader(text)}) // cannot be hedged
		if err != nil {
			t.Fatal(err)
		}
		_ = rep.Body.Close()
		if calls.Load() != 3 {
			t.Errorf("%d calls", calls.Load())
		}
	})
}

// TestUpgrade is that a connection that changes its protocol can be written to, and holds its place until it is closed.
func TestUpgrade(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		b := make([]byte, 2)
		_, _ = io.ReadFull(rw, b)
		_, _ = c.Write(b)
	})
	run(t, h, func(t *testing.T, w *world) {
		l := places(t, concurrency.Options{})
		p := pipeline(t, policy.Options{Concurrency: policy.Slot{Name: "places", Gate: l}})
		tr := httppolicy.NewTransport(w.base, p, httppolicy.Options{})
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://b:80/", nil)
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "echo")
		rep, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		rw, ok := rep.Body.(io.ReadWriteCloser)
		if !ok || rep.StatusCode != http.StatusSwitchingProtocols {
			t.Fatal(rep)
		}
		_, _ = io.WriteString(rw, "hi")
		if b, err := io.ReadAll(io.LimitReader(rw, 2)); err != nil || string(b) != "hi" {
			t.Errorf("%q, %v", b, err)
		}
		if n := l.Snapshot().InUse; n != 1 {
			t.Errorf("%d places in use", n)
		}
		_ = rw.Close()
		if n := l.Snapshot().InUse; n != 0 {
			t.Errorf("%d places in use at the end", n)
		}
	})
}

// TestDeadlineHeader is what servers are told of the time that is left.
func TestDeadlineHeader(t *testing.T) {
	for _, tt := range []struct {
		option, header, want string
	}{
		{"", httppolicy.HeaderGRPC, "1000000u"},
		{httppolicy.HeaderEnvoy, httppolicy.HeaderEnvoy, "1000"},
		{httppolicy.HeaderConnect, httppolicy.HeaderConnect, "1000"},
		{"-", httppolicy.HeaderGRPC, ""},
	} {
		var got string
		h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Get(tt.header) })
		run(t, h, func(t *testing.T, w *world) {
			p := pipeline(t, policy.Options{Timeouts: &fixed{d: time.Second}})
			c := &http.Client{Transport: httppolicy.NewTransport(w.base, p, httppolicy.Options{DeadlineHeader: tt.option}), Timeout: time.Minute}
			rep, err := c.Get("http://b:80/")
			if err != nil {
				t.Fatal(err)
			}
			_ = rep.Body.Close()
		})
		if got != tt.want {
			t.Errorf("%q: %q, want %q", tt.option, got, tt.want)
		}
	}
}

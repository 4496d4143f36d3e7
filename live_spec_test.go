package hull_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/spec"
	"github.com/hull-go/hull/status"
)

// live is a service of three nodes under load while its callers' documents change.
type live struct {
	t       *testing.T
	w       *hulltest.World
	client  *hull.Client
	ok, bad atomic.Int64
	last    atomic.Pointer[error]
}

func newLive(t *testing.T) *live {
	l := &live{t: t, w: hulltest.New(t)}
	for _, name := range []string{"a", "b", "c"} {
		l.w.Serve("greeter", name, func(s *hull.Server) {
			hull.Handle(s, "greeter.Greeter/Hello", func(ctx context.Context, r *helloRequest) (*helloReply, error) {
				select {
				case <-time.After(10 * time.Millisecond):
					return &helloReply{Text: r.Name}, nil
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			})
		})
	}
	l.client = l.w.Client("caller")
	return l
}

// load has the client call until the test is over.
func (l *live) load(c *hull.Client) {
	ctx, cancel := context.WithCancel(context.Background())
	var callers sync.WaitGroup
	for range 2 {
		callers.Go(func() {
			for ctx.Err() == nil {
				_, err := hull.Call[helloReply](context.Background(), c.To("greeter"), "greeter.Greeter/Hello", &helloRequest{Name: "Ada"})
				if err == nil {
					l.ok.Add(1)
				} else {
					l.bad.Add(1)
					l.last.Store(&err)
				}
				time.Sleep(40 * time.Millisecond)
			}
		})
	}
	l.t.Cleanup(func() { cancel(); callers.Wait() })
}

func (l *live) unharmed(when string) {
	l.t.Helper()
	if n := l.bad.Load(); n != 0 {
		l.t.Errorf("%s: %d calls failed, of late with %v", when, n, *l.last.Load())
	}
	if n := l.ok.Swap(0); n == 0 {
		l.t.Errorf("%s: there were no calls", when)
	}
}

// words are what a watcher said.
type words struct {
	mu   sync.Mutex
	said []error
}

func (w *words) add(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, err)
}

func (w *words) take() []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	said := w.said
	w.said = nil
	return said
}

func timeouts(d string) *spec.Spec {
	s, err := spec.Parse("test", []byte("defaults: {timeout: "+d+"}"))
	if err != nil {
		panic(err)
	}
	return s
}

// TestLiveSpecFile is a file of policies that changes under load, for better and for worse: no call fails, what is wrong changes nothing, and is
// said once.
func TestLiveSpecFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLive(t)
		l.load(l.client)
		path := filepath.Join(t.TempDir(), "policies.yaml")
		write := func(text string) {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var said words
		ctx, cancel := context.WithCancel(t.Context())
		watching := make(chan error, 1)
		write("defaults: {timeout: 900ms}")
		go func() {
			watching <- spec.Watch(ctx, path, l.client.Apply, spec.WatchOptions{Notify: said.add})
		}()
		steps := []struct {
			what  string
			do    func()
			want  string // the timeout in force
			fault string // what is said
		}{
			{"the first document", func() {}, "900ms", ""},
			{"a better one", func() { write("defaults: {timeout: 800ms, retry: {attempts: 2}}") }, "800ms", ""},
			{"an invalid one", func() { write("defaults: {timeout: 700ms, retry: {atempts: 2}}") }, "800ms", "atempts"},
			{"one that is half written, for a while", func() {
				write("defaults:\n  timeout: 1")
				time.Sleep(300 * time.Millisecond)
				write("defaults:\n  timeout: 1s\n  retry: {attempts: 3}\n")
			}, "1s", ""},
			{"one that stays half written", func() { write("defaults:\n  timeout: 600ms\n  retry: {atte") }, "1s", "policies.yaml"},
			{"no file", func() { _ = os.Remove(path) }, "1s", "policies.yaml"},
			{"an empty file", func() { write("") }, "1s", "empty"},
			{"a good one at last", func() { write("defaults: {timeout: 600ms}") }, "600ms", ""},
		}
		for _, step := range steps {
			step.do()
			time.Sleep(10 * time.Second)
			synctest.Wait()
			told := said.take()
			if got := l.client.Spec().Defaults.Timeout.String(); got != step.want {
				t.Errorf("%s: the timeout in force is %s, want %s", step.what, got, step.want)
			}
			switch {
			case len(told) != 1:
				t.Errorf("%s: said %d times: %v", step.what, len(told), told)
			case step.fault == "" && told[0] != nil, step.fault != "" && (told[0] == nil || !strings.Contains(told[0].Error(), step.fault)):
				t.Errorf("%s: %v", step.what, told[0])
			}
			l.unharmed(step.what)
		}
		cancel()
		if err := <-watching; err != nil {
			t.Error(err)
		}
	})
}

// TestTry is a document on probation: one that is bad is taken back, and nothing else is.
func TestTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLive(t)
		c := l.client
		if err := c.Try(t.Context(), timeouts("2s"), spec.Probation{}); err != nil || c.Spec().Defaults.Timeout.String() != "2s" {
			t.Errorf("a client that has called nothing yet: %v", err)
		}
		l.load(c)
		time.Sleep(time.Second)
		tried := func(what string, ctx context.Context, s *spec.Spec, p spec.Probation, want error, inForce string, least, most time.Duration) {
			t.Helper()
			began := time.Now()
			err := c.Try(ctx, s, p)
			if took := time.Since(began); took < least || took > most {
				t.Errorf("%s: after %v: %v", what, took, err)
			}
			if !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
			if got := c.Spec().Defaults.Timeout.String(); got != inForce {
				t.Errorf("%s: the timeout in force is %s, want %s", what, got, inForce)
			}
		}
		tried("a good one", t.Context(), timeouts("1s"), spec.Probation{}, nil, "1s", 35*time.Second, 36*time.Second)
		tried("the same again", t.Context(), timeouts("1s"), spec.Probation{}, nil, "1s", 0, 0)
		l.unharmed("good ones")
		tried("a bad one", t.Context(), timeouts("1ms"), spec.Probation{}, spec.ErrTakenBack, "1s", 5*time.Second, 8*time.Second)
		if l.bad.Load() == 0 {
			t.Error("the bad document did no harm: the test shows nothing")
		}
		time.Sleep(10 * time.Second)
		l.bad.Store(0)
		time.Sleep(time.Second)
		l.unharmed("after the bad one")

		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		tried("broken off before", ctx, timeouts("900ms"), spec.Probation{}, context.DeadlineExceeded, "1s", 2*time.Second, 2*time.Second)
		cancel()
		ctx, cancel = context.WithTimeout(t.Context(), 20*time.Second)
		tried("broken off", ctx, timeouts("900ms"), spec.Probation{}, spec.ErrTakenBack, "1s", 20*time.Second, 20*time.Second)
		cancel()
		time.AfterFunc(10*time.Second, func() {
			if err := c.Apply(timeouts("3s")); err != nil {
				t.Error(err)
			}
		})
		began := time.Now()
		if err := c.Try(t.Context(), timeouts("900ms"), spec.Probation{}); err == nil || time.Since(began) > 11*time.Second || c.Spec().Defaults.Timeout.String() != "3s" {
			t.Errorf("somebody else's document: %v, %v in force", err, c.Spec().Defaults.Timeout)
		}
		bad := timeouts("1s")
		bad.Defaults.Retry.Attempts = -1
		if err := c.Try(t.Context(), bad, spec.Probation{}); err == nil || c.Spec().Defaults.Timeout.String() != "3s" {
			t.Errorf("an invalid one: %v", err)
		}
		if err := c.Try(t.Context(), timeouts("1s"), spec.Probation{Factor: -1}); err == nil {
			t.Error("an impossible probation")
		}
		l.unharmed("what was broken off or invalid")
	})
}

// TestWatchOnProbation: a file whose document fails on probation is not tried again until it changes.
func TestWatchOnProbation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLive(t)
		l.load(l.client)
		time.Sleep(time.Second)
		path := filepath.Join(t.TempDir(), "policies.yaml")
		var said words
		ctx, cancel := context.WithCancel(t.Context())
		watching := make(chan error, 1)
		var tries atomic.Int64
		for i, doc := range []string{"defaults: {timeout: 1ms}", "defaults: {timeout: 2s}"} {
			if err := os.WriteFile(path, []byte(doc), 0o600); err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				go func() {
					watching <- spec.Watch(ctx, path, func(s *spec.Spec) error {
						tries.Add(1)
						return l.client.Try(ctx, s, spec.Probation{})
					}, spec.WatchOptions{Notify: said.add})
				}()
			}
			time.Sleep(50 * time.Second)
			synctest.Wait()
			if told := said.take(); tries.Swap(0) != 1 || len(told) != 1 || errors.Is(told[0], spec.ErrTakenBack) != (i == 0) {
				t.Errorf("%s: said %v, of one try", doc, told)
			}
		}
		if got := l.client.Spec().Defaults.Timeout.String(); got != "2s" {
			t.Errorf("%s in force", got)
		}
		cancel()
		if err := <-watching; err != nil {
			t.Error(err)
		}
	})
}

// TestAdminPutsOneDocumentEverywhere: what is posted holds for every client of the program and its server, or for none; on probation, too.
func TestAdminPutsOneDocumentEverywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLive(t)
		other := l.w.Client("other")
		srv := l.w.Node("a").Server
		ln, err := l.w.Network.Host("admin").Listen("admin:80")
		if err != nil {
			t.Fatal(err)
		}
		page := &http.Server{Handler: hull.AdminHandler(srv, l.client, other), ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second}
		go func() { _ = page.Serve(ln) }()
		t.Cleanup(func() { page.Close() })
		tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return l.w.Network.Host("operator").Dial(ctx, "admin:80")
		}}
		t.Cleanup(tr.CloseIdleConnections)
		post := func(query, doc string) (code int, said struct {
			Applied, TakenBack bool
			Error              string
		}) {
			t.Helper()
			res, err := (&http.Client{Transport: tr}).Post("http://localhost/hull/spec"+query+sep(query)+"format=json", "application/yaml", strings.NewReader(doc))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			b, _ := io.ReadAll(res.Body)
			if err := json.Unmarshal(b, &said); err != nil && res.StatusCode != http.StatusBadRequest {
				t.Errorf("%s: %s", res.Status, b)
			}
			return res.StatusCode, said
		}
		inForce := func(want string) {
			t.Helper()
			for name, s := range map[string]*spec.Spec{"client": l.client.Spec(), "other client": other.Spec(), "server": srv.Spec()} {
				if got := s.Defaults.Timeout.String(); got != want {
					t.Errorf("%s: %s in force, want %s", name, got, want)
				}
			}
		}
		l.load(l.client)
		l.load(other)
		time.Sleep(time.Second)
		if code, said := post("", "defaults: {timeout: 1s}"); code != http.StatusOK || !said.Applied {
			t.Errorf("%d %+v", code, said)
		}
		inForce("1s")
		if code, said := post("", "defaults: {timeout: 1h, timeuot: 1s}"); code != http.StatusUnprocessableEntity || said.Applied || !strings.Contains(said.Error, "timeuot") {
			t.Errorf("%d %+v", code, said)
		}
		inForce("1s")
		if code, said := post("?do=try&for=60s", "defaults: {timeout: 900ms}"); code != http.StatusOK || !said.Applied {
			t.Errorf("%d %+v", code, said)
		}
		inForce("900ms")
		l.unharmed("good and invalid documents")
		if code, said := post("?do=try&for=1m&before=10s", "defaults: {timeout: 1ms}"); code != http.StatusConflict || said.Applied || !said.TakenBack || !strings.Contains(said.Error, "calls failed") {
			t.Errorf("%d %+v", code, said)
		}
		inForce("900ms")
		for _, q := range []string{"?do=try&for=-1s", "?do=try&for=x", "?do=try&factor=x", "?do=try&before=3h", "?do=frob"} {
			if code, _ := post(q, "defaults: {timeout: 1s}"); code != http.StatusBadRequest {
				t.Errorf("%s: %d", q, code)
			}
		}
		// Whoever does not wait for the end does not get it.
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/hull/spec?do=try", strings.NewReader("defaults: {timeout: 800ms}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/yaml")
		if res, err := tr.RoundTrip(req); err == nil {
			res.Body.Close()
			t.Error("an answer before its time")
		}
		time.Sleep(time.Second)
		inForce("900ms")
	})
}

// TestProbationsInOneAnother: one that is given up does not blind the one that began before it.
func TestProbationsInOneAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		var broken atomic.Bool
		w.Serve("greeter", "a", func(s *hull.Server) {
			hull.Handle(s, "greeter.Greeter/Hello", func(context.Context, *helloRequest) (*helloReply, error) {
				if broken.Load() {
					return nil, errors.New("broken")
				}
				return &helloReply{}, nil
			})
		})
		l := &live{t: t, w: w, client: w.Client("caller")}
		l.load(l.client)
		time.Sleep(time.Second)
		before := l.client.Spec()
		outer := make(chan error, 1)
		go func() { outer <- l.client.Try(t.Context(), timeouts("3s"), spec.Probation{}) }()
		time.Sleep(7 * time.Second) // it has been in force for two
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := l.client.Try(ctx, timeouts("2s"), spec.Probation{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the inner one: %v", err)
		}
		broken.Store(true)
		if err := <-outer; !errors.Is(err, spec.ErrTakenBack) || !strings.Contains(err.Error(), "calls failed") || l.client.Spec() != before {
			t.Errorf("everything fails: %v, %v in force", err, l.client.Spec().Defaults.Timeout)
		}
	})
}

// TestOvertakenProbation: what somebody puts in force while a file's document is on probation, or about to be, stays until the file changes.
func TestOvertakenProbation(t *testing.T) {
	for what, after := range map[string]time.Duration{"before": 2 * time.Second, "during": 10 * time.Second} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLive(t)
				l.load(l.client)
				time.Sleep(time.Second)
				path := filepath.Join(t.TempDir(), "policies.yaml")
				write := func(doc string) {
					t.Helper()
					if err := os.WriteFile(path, []byte(doc), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				write("defaults: {timeout: 3s}")
				var said words
				ctx, cancel := context.WithCancel(t.Context())
				watching := make(chan error, 1)
				go func() {
					watching <- spec.Watch(ctx, path, func(s *spec.Spec) error { return l.client.Try(ctx, s, spec.Probation{}) }, spec.WatchOptions{Notify: said.add})
				}()
				time.Sleep(after)
				mine := timeouts("2s")
				if err := l.client.Apply(mine); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				if told := said.take(); l.client.Spec() != mine || len(told) != 1 || !errors.Is(told[0], spec.ErrTakenBack) {
					t.Errorf("%v in force: %v", l.client.Spec().Defaults.Timeout, told)
				}
				write("defaults: {timeout: 1s}")
				time.Sleep(time.Minute)
				if got := l.client.Spec().Defaults.Timeout.String(); got != "1s" {
					t.Errorf("%s in force after the file has changed", got)
				}
				l.unharmed(what)
				cancel()
				if err := <-watching; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestServersProbation: answers such as NotFound are no failures of a document, and hide none. What is put in force at the server meanwhile stays.
func TestServersProbation(t *testing.T) {
	for _, tt := range []struct {
		what          string
		before, since error // what every other call ends with
		every         bool  // since is how all of them end
		meanwhile     bool  // another document is put in force
		stays         string
	}{
		{"half NotFound before, and everything fails since", status.Errorf(status.NotFound, "none"), errors.New("broken"), true, false, "1s"},
		{"nothing before, and half NotFound since", nil, status.Errorf(status.NotFound, "none"), false, false, "2s"},
		{"overtaken before", nil, nil, false, true, "3s"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				var calls atomic.Int64
				var now atomic.Bool // the document has been put in force
				n := w.Serve("greeter", "a", func(s *hull.Server) {
					hull.Handle(s, "greeter.Greeter/Hello", func(context.Context, *helloRequest) (*helloReply, error) {
						switch odd := calls.Add(1)%2 == 1; {
						case now.Load() && (odd || tt.every):
							return &helloReply{}, tt.since
						case !now.Load() && odd:
							return &helloReply{}, tt.before
						}
						return &helloReply{}, nil
					})
				}, hull.WithSpec(timeouts("1s")))
				l := &live{t: t, w: w}
				l.load(w.Client("caller"))
				time.Sleep(time.Second)
				time.AfterFunc(5*time.Second, func() { now.Store(true) })
				want := http.StatusOK
				if tt.meanwhile {
					time.AfterFunc(2*time.Second, func() {
						if err := n.Server.Apply(timeouts("3s")); err != nil {
							t.Error(err)
						}
					})
				}
				if tt.stays != "2s" {
					want = http.StatusConflict
				}
				req := httptest.NewRequest(http.MethodPost, "http://localhost/hull/spec?do=try&format=json", strings.NewReader("defaults: {timeout: 2s}"))
				req.Header.Set("Content-Type", "application/yaml")
				rec := &patient{httptest.NewRecorder()}
				hull.AdminHandler(n.Server).ServeHTTP(rec, req)
				if got := n.Server.Spec().Defaults.Timeout.String(); rec.Code != want || got != tt.stays {
					t.Errorf("%d %s, %s in force", rec.Code, rec.Body, got)
				}
			})
		})
	}
}

// patient is an answer that may take its time.
type patient struct{ *httptest.ResponseRecorder }

func (patient) SetReadDeadline(time.Time) error  { return nil }
func (patient) SetWriteDeadline(time.Time) error { return nil }

// sep is what parameters are added with.
func sep(query string) string {
	if query == "" {
		return "?"
	}
	return "&"
}

// TestApplyHoldsForAllMethods: also for those that are called after others have been.
func TestApplyHoldsForAllMethods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		slow := func(context.Context, *helloRequest) (*helloReply, error) {
			time.Sleep(time.Second)
			return &helloReply{}, nil
		}
		w.Serve("greeter", "a", func(s *hull.Server) {
			hull.Handle(s, "greeter.Greeter/Hello", slow)
			hull.Handle(s, "greeter.Greeter/Wait", slow)
		})
		c := w.Client("caller")
		for _, limit := range []time.Duration{2 * time.Second, 300 * time.Millisecond, 3 * time.Second} {
			if err := c.Apply(timeouts(limit.String())); err != nil {
				t.Fatal(err)
			}
			for _, method := range []string{"Hello", "Wait", "Hello"} {
				began := time.Now()
				_, err := hull.Call[helloReply](t.Context(), c.To("greeter"), "greeter.Greeter/"+method, &helloRequest{})
				if took := time.Since(began); took != min(limit, time.Second) || (err == nil) != (limit > time.Second) {
					t.Errorf("%s with %v: %v after %v", method, limit, err, took)
				}
			}
		}
	})
}

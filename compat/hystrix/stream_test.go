package hystrix

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/policy"
)

// response is a ResponseWriter for streams. It is no http.CloseNotifier.
type response struct {
	header http.Header
	mu     sync.Mutex
	status int
	body   strings.Builder
	fail   error
	mute   bool          // it cannot be flushed
	gate   chan struct{} // if not nil, writing waits for its end
}

func newResponse() *response { return &response{header: http.Header{}} }

func (r *response) Header() http.Header { return r.header }

func (r *response) WriteHeader(status int) { r.status = status }

func (r *response) Write(b []byte) (int, error) {
	if r.gate != nil {
		<-r.gate
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.body.Write(b)
	return len(b), r.fail
}

func (r *response) FlushError() error {
	if r.mute {
		return http.ErrNotSupported
	}
	return nil
}

// events are the events so far.
func (r *response) events(t *testing.T) (list []map[string]any) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	rest := r.body.String()
	for rest != "" {
		event, after, ok := strings.Cut(rest, "\n\n")
		data, begins := strings.CutPrefix(event, "data:")
		var m map[string]any
		if err := json.Unmarshal([]byte(data), &m); err != nil || !ok || !begins {
			t.Fatalf("event %q: %v", event, err)
		}
		list, rest = append(list, m), after
	}
	return list
}

// wrapped hides everything of a ResponseWriter but Unwrap, as middleware does.
type wrapped struct{ http.ResponseWriter }

func (w wrapped) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// serve lets sh serve a client until its context ends, and returns when it waits.
func serve(ctx context.Context, sh *StreamHandler, rw http.ResponseWriter) (ended chan struct{}) {
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "/hystrix.stream", http.NoBody)
		sh.ServeHTTP(rw, req)
	}()
	synctest.Wait()
	return ended
}

func TestStream(t *testing.T) {
	bubble(t, func(t *testing.T) {
		circuit(t, "stream b", CommandConfig{})
		circuit(t, "stream a", CommandConfig{RequestVolumeThreshold: 3})
		times(t, 1, "stream a", succeed, nil)
		times(t, 2, "stream a", fail, errRun)
		times(t, 1, "stream a", fail, ErrCircuitOpen)
		sh := NewStreamHandler()
		sh.Start()
		defer sh.Stop()
		out := newResponse()
		ctx, cancel := context.WithCancel(t.Context())
		ended := serve(ctx, sh, wrapped{out})
		if out.header.Get("Content-Type") != "text/event-stream" || out.header.Get("Cache-Control") != "no-cache" {
			t.Error(out.header)
		}
		time.Sleep(2500 * ms)
		synctest.Wait()
		events := out.events(t)
		if len(events) != 8 {
			t.Fatalf("%d events, want two of two circuits, twice", len(events))
		}
		for i, want := range []string{"HystrixCommand stream a", "HystrixThreadPool stream a", "HystrixCommand stream b", "HystrixThreadPool stream b"} {
			if got := events[i]["type"].(string) + " " + events[i]["name"].(string); got != want {
				t.Errorf("event %d is %s, want %s", i, got, want)
			}
		}
		for k, want := range map[string]any{"requestCount": 4.0, "errorCount": 3.0, "errorPercentage": 75.0, "isCircuitBreakerOpen": true,
			"rollingCountSuccess": 1.0, "rollingCountFailure": 2.0, "rollingCountShortCircuited": 1.0, "group": "stream a"} {
			if got := events[0][k]; got != want {
				t.Errorf("%s is %v, want %v", k, got, want)
			}
		}
		if got := events[1]["rollingCountThreadsExecuted"]; got != 3.0 || events[1]["rollingMaxActiveThreads"] != 1.0 || events[1]["currentPoolSize"] != 10.0 {
			t.Error(events[1])
		}
		cancel()
		<-ended
		if sh.watched() {
			t.Error("the client is gone, and still known")
		}
	})
}

// TestStreamFields: the events have the names and kinds of values that dashboards know, no more and no less.
func TestStreamFields(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := circuit(t, "fields", CommandConfig{Timeout: 300, MaxConcurrentRequests: 7, RequestVolumeThreshold: 8, SleepWindow: 900, ErrorPercentThreshold: 25})
		times(t, 1, "fields", func() error { time.Sleep(20 * ms); return nil }, nil)
		if err := Do("fields", func() error { time.Sleep(40 * ms); return errRun }, failToo); err == nil {
			t.Error("no error")
		}
		times(t, 1, "fields", hangs, ErrTimeout)
		c.pool.take(policy.Now())
		command, pool := c.commandEvent(policy.Now()), c.poolEvent(policy.Now())
		if d := time.Since(time.UnixMilli(command.CurrentTime)); d < -time.Second || d > time.Second {
			t.Errorf("currentTime is %v off", d)
		}
		command.CurrentTime = 1234567890123
		var got []byte
		for _, e := range []any{command, pool} {
			b, err := json.MarshalIndent(e, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(append(got, b...), '\n')
		}
		want, err := os.ReadFile("testdata/events.json")
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("events are\n%s", got)
		}
	})
}

func hangs() error { return hang(nil) } //nolint:staticcheck // it does not look at it

// TestStreamHandlerDoesNotPanic: every order of Start, Stop and ServeHTTP, and ResponseWriters of all kinds. hystrix-go panics at most of these.
func TestStreamHandlerDoesNotPanic(t *testing.T) {
	bubble(t, func(t *testing.T) {
		circuit(t, t.Name(), CommandConfig{})
		for _, sh := range []*StreamHandler{NewStreamHandler(), {}} {
			sh.Stop()
			early := newResponse()
			ended := serve(t.Context(), sh, early)
			sh.Start()
			sh.Start()
			time.Sleep(1500 * ms)
			synctest.Wait()
			if n := len(early.events(t)); n != 2 {
				t.Errorf("a client from before Start got %d events", n)
			}
			sh.Stop()
			sh.Stop()
			<-ended
			sh.Start()
			ended = serve(t.Context(), sh, newResponse())
			sh.Stop()
			<-ended

			mute := newResponse()
			mute.mute = true
			<-serve(t.Context(), sh, mute)
			if mute.status != http.StatusInternalServerError || mute.body.String() != "Streaming unsupported!\n" {
				t.Errorf("%d %q", mute.status, mute.body.String())
			}
			sh.Start()
			broken := newResponse()
			broken.fail = errors.New("gone")
			ended = serve(t.Context(), sh, broken)
			<-ended
			sh.Stop()
		}
	})
}

// TestSlowClient misses events; the others and the handler do not wait for it.
func TestSlowClient(t *testing.T) {
	bubble(t, func(t *testing.T) {
		circuit(t, t.Name(), CommandConfig{})
		sh := NewStreamHandler()
		sh.Start()
		slow, quick := newResponse(), newResponse()
		slow.gate = make(chan struct{})
		slowEnded, quickEnded := serve(t.Context(), sh, slow), serve(t.Context(), sh, quick)
		time.Sleep(20_500 * ms)
		close(slow.gate)
		synctest.Wait()
		if n := len(quick.events(t)); n != 40 {
			t.Errorf("the quick client got %d events, want 40", n)
		}
		if n := len(slow.events(t)); n != streamBuffer+1 {
			t.Errorf("the slow client got %d events, want what is buffered and the one it held", n)
		}
		sh.Stop()
		<-slowEnded
		<-quickEnded
	})
}

// TestStreamOverHTTP: over a real connection, ended by Stop.
func TestStreamOverHTTP(t *testing.T) {
	Flush()
	defer Flush()
	circuit(t, t.Name(), CommandConfig{})
	sh := NewStreamHandler()
	sh.Start()
	server := httptest.NewServer(sh)
	defer server.Close()
	res, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	sh.publish()
	lines := bufio.NewScanner(res.Body)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), `data:{"type":"HystrixCommand","name":"TestStreamOverHTTP"`) {
		t.Errorf("%q, %v", lines.Text(), lines.Err())
	}
	sh.Stop()
	for lines.Scan() {
		if s := lines.Text(); s != "" && !strings.HasPrefix(s, "data:") {
			t.Errorf("%q", s)
		}
	}
	if err := lines.Err(); err != nil {
		t.Error(err)
	}
}

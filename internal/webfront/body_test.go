package webfront_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hull-go/hull/internal/webfront"
)

// timed notes which times a request's body was given.
type timed struct {
	*httptest.ResponseRecorder
	times []time.Time
}

func (t *timed) SetReadDeadline(at time.Time) error {
	t.times = append(t.times, at)
	return nil
}

// bodies are requests as each protocol sends them, with a message and without a byte.
var bodies = []struct{ name, contentType, header, body string }{
	{"JSON", "application/json", "", `{"id":"a"}`},
	{"JSON without a body", "application/json", "", ""},
	{"Connect", "application/json", "Connect-Protocol-Version", `{"id":"a"}`},
	{"Connect, an empty message", "application/proto", "Connect-Protocol-Version", ""},
	{"gRPC-Web", "application/grpc-web+json", "", "\x00\x00\x00\x00\x0a" + `{"id":"a"}`},
	{"gRPC-Web without a body", "application/grpc-web+proto", "", ""},
}

// TestTimeForNoBody: a body has its time, which is taken back when it has come. Where there is none, no time is set: net/http reads already for what comes next, and
// a time that has passed would end the context of every later request of the connection.
func TestTimeForNoBody(t *testing.T) {
	for _, tt := range bodies {
		w := &timed{ResponseRecorder: httptest.NewRecorder()}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/echo.Echo/Echo", strings.NewReader(tt.body))
		if tt.body == "" {
			r.Body = http.NoBody
		}
		r.Header.Set("Content-Type", tt.contentType)
		if tt.header != "" {
			r.Header.Set(tt.header, "1")
		}
		r.Header.Set("Connect-Timeout-Ms", "0")
		newHandler(t).ServeHTTP(w, r)
		switch {
		case tt.body == "" && len(w.times) != 0:
			t.Errorf("%s: has a time: %v", tt.name, w.times)
		case tt.body != "" && (len(w.times) != 2 || w.times[0].IsZero() || !w.times[1].IsZero()):
			t.Errorf("%s: %v, want a time that is taken back", tt.name, w.times)
		}
	}
}

// TestLateCallLeavesItsConnection: a call that comes too late fails alone. What comes after it on the same connection, through a proxy perhaps from others, is served.
func TestLateCallLeavesItsConnection(t *testing.T) {
	srv := httptest.NewUnstartedServer(newHandler(t))
	srv.Config.ConnContext = webfront.ConnContext
	srv.Start()
	defer srv.Close()
	for _, tt := range bodies {
		t.Run(tt.name, func(t *testing.T) {
			var c net.Conn
			var answers *bufio.Reader
			ask := func(timeout, contentType, header, body string) int {
				if c == nil {
					var err error
					if c, err = new(net.Dialer).DialContext(t.Context(), "tcp", srv.Listener.Addr().String()); err != nil {
						t.Fatal(err)
					}
					context.AfterFunc(t.Context(), func() { c.Close() })
					answers = bufio.NewReader(c)
				}
				if header != "" {
					header += ": 1\r\n"
				}
				if _, err := fmt.Fprintf(c, "POST /echo.Echo/Echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nConnect-Timeout-Ms: %s\r\n%sContent-Length: %d\r\n\r\n%s",
					contentType, timeout, header, len(body), body); err != nil {
					t.Fatal(err)
				}
				res, err := http.ReadResponse(answers, nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err = io.Copy(io.Discard, res.Body); err != nil {
					t.Fatal(err)
				}
				if res.Close {
					c.Close()
					c = nil
				}
				return res.StatusCode
			}
			for i := range 300 { // without what keeps it from that, the first of three failed after 1, 38 and 206
				ask("0", tt.contentType, tt.header, tt.body)
				if got := ask("60000", "application/json", "", `{"id":"a"}`); got != http.StatusOK {
					t.Fatalf("after %d late calls: the call after one gets %d", i+1, got)
				}
			}
		})
	}
}

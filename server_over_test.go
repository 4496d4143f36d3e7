package hull_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/status"
)

// heavyRequest takes a while to be read.
type heavyRequest struct{ Name string }

// UnmarshalJSON implements json.Unmarshaler.
func (r *heavyRequest) UnmarshalJSON(b []byte) error {
	time.Sleep(300 * time.Millisecond)
	type plain heavyRequest
	return json.Unmarshal(b, (*plain)(r))
}

// What is over when its request has been read does not start, and its place is free again.
func TestOverWhenRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var started atomic.Int64
		w := hulltest.New(t)
		n := w.Serve("heavy", "a", func(s *hull.Server) {
			hull.Handle(s, "heavy.Heavy/Lift", func(context.Context, *heavyRequest) (*helloReply, error) {
				started.Add(1)
				return &helloReply{}, nil
			})
		})
		conn := w.Client("caller").To("heavy")
		for _, tt := range []struct {
			name            string
			timeout, cancel time.Duration
			want            status.Code
			starts          int64
		}{
			{"expired", 200 * time.Millisecond, 0, status.DeadlineExceeded, 0},
			{"cancelled", time.Minute, 200 * time.Millisecond, status.Canceled, 0},
			{"in time", time.Minute, 0, status.OK, 1},
		} {
			began := n.Server.Snapshot()
			started.Store(0)
			ctx, cancel := context.WithTimeout(t.Context(), tt.timeout)
			if tt.cancel > 0 {
				time.AfterFunc(tt.cancel, cancel)
			}
			_, err := hull.Call[helloReply](ctx, conn, "heavy.Heavy/Lift", &plainRequest{"x"})
			if status.CodeOf(err) != tt.want && !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", tt.name, err)
			}
			time.Sleep(2 * time.Second)
			cancel()
			now := n.Server.Snapshot()
			if got := started.Load(); got != tt.starts || now.Calls != began.Calls+1 || now.InFlight != 0 || now.Failures != began.Failures {
				t.Errorf("%s: %d handlers started; %+v", tt.name, got, now)
			}
			if late := now.Admission.Late - began.Admission.Late; late != 1-tt.starts {
				t.Errorf("%s: %d calls were late", tt.name, late)
			}
		}
	})
}

// plainRequest is a heavyRequest for those who write it.
type plainRequest struct{ Name string }

package hull

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// TestDeadOnArrivalNeverStarts: a call or stream that is over when it gets its place does not start, whatever the transport has let through.
func TestDeadOnArrivalNeverStarts(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	past := policy.Now().Add(-time.Millisecond)
	for _, tt := range []struct {
		name     string
		ctx      context.Context
		deadline policy.Time
		want     status.Code
	}{
		{"cancelled", cancelled, 0, status.Canceled},
		{"expired", t.Context(), past, status.DeadlineExceeded},
		{"in time", t.Context(), policy.Now().Add(time.Hour), status.OK},
	} {
		for _, shape := range []string{"unary", "stream"} {
			t.Run(fmt.Sprint(tt.name, " ", shape), func(t *testing.T) {
				s, err := NewServer("plant")
				if err != nil {
					t.Fatal(err)
				}
				started := 0
				Handle(s, "plant.Plant/Work", func(context.Context, *struct{}) (*struct{}, error) {
					started++
					return &struct{}{}, nil
				})
				m := &method{stream: func(grpc.ServerStream) error {
					started++
					return nil
				}}
				m.info.Name = "plant.Plant/Watch"
				s.add(m)
				var out transport.Outgoing
				h := &handler{s}
				if shape == "unary" {
					out = h.Unary(tt.ctx, &transport.Incoming{Method: "plant.Plant/Work", Codec: "json", Payload: []byte("{}"), Deadline: tt.deadline})
				} else {
					out = h.Stream(tt.ctx, &transport.Incoming{Method: "plant.Plant/Watch", Codec: "json", Deadline: tt.deadline}, silent{})
				}
				a, want := s.Snapshot().Admission, 0
				if tt.want == status.OK {
					want = 1
				}
				if started != want || a.Running != 0 || a.Late != int64(1-want) || out.Status != nil != (want == 0) || out.Status != nil && out.Status.Code != tt.want {
					t.Errorf("%d handlers started; %v; %+v", started, out.Status, a)
				}
			})
		}
	}
}

// silent is a stream that nothing comes over.
type silent struct{ transport.ServerStream }

// SetCodec implements transport.ServerStream.
func (silent) SetCodec(codec.Codec) {}

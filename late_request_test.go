package hull_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/status"
)

// TestRequestAskedForTooLate: a handler that keeps the function which decodes its request, and uses it when it has returned, is told so.
func TestRequestAskedForTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		var kept func(any) error
		w.Serve("greeter", "a", func(s *hull.Server) {
			s.RegisterService(&grpc.ServiceDesc{ServiceName: "greeter.Keeper", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{MethodName: "Keep",
				Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
					kept = decode
					return &helloReply{}, decode(new(helloRequest))
				}}}}, struct{}{})
		})
		if _, err := hull.Call[helloReply](t.Context(), w.Client("caller").To("greeter"), "greeter.Keeper/Keep", &helloRequest{Name: "Ada"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := kept(new(helloRequest)); status.CodeOf(err) != status.Internal || !strings.Contains(err.Error(), "after the handler had returned") {
			t.Error(err)
		}
	})
}

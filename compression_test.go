package hull_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/hull-go/hull"
	pb "github.com/hull-go/hull/examples/greeter/greeterpb"
)

// TestCompressionOfOneCall is that grpc's option holds over the native protocol.
func TestCompressionOfOneCall(t *testing.T) {
	s := openShop(t)
	call := func(name string) error {
		_, err := hull.Call[pb.HelloReply](t.Context(), s.client.To("hull://"+s.server.Addr()), "shop.S/Get", &pb.HelloRequest{Name: strings.Repeat("a", 10<<10)},
			grpc.UseCompressor(name), hull.Timeout(30*time.Second))
		return err
	}
	for i, name := range []string{"gzip", "zstd"} {
		if err := call(name); err != nil {
			t.Fatal(err)
		}
		if n := s.server.Snapshot().Native.Decompressed; n != int64(i+1) {
			t.Errorf("%s: %d compressed requests", name, n)
		}
	}
	// A compressor of the program's own, registered with grpc, is for nodes that are called by gRPC.
	if err := call("lzw"); grpcstatus.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "gzip, zstd") {
		t.Errorf("lzw: %v", err)
	}
	if _, err := hull.NewClient(hull.WithCompression("lzw")); err == nil {
		t.Error("lzw is taken")
	}
	c, err := hull.NewClient(hull.WithCompression("zstd"))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

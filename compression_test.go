package hull_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/hull-go/hull"
	pb "github.com/hull-go/hull/examples/greeter/greeterpb"
	"github.com/hull-go/hull/status"
)

// TestCompressionOfOneCall is that grpc's option holds over the native protocol, and that a compressor nobody knows is told of.
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
	if err := call("lzw"); err == nil || status.FateOf(err) != status.NotSent {
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

package hull_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/grpctransport"
	"github.com/hull-go/hull/transport/muxtransport"
)

// teller answers with what it was told, and fails if it is asked to; either way with a header and a trailer.
func teller(s *hull.Server) {
	hull.Handle(s, "tell.Teller/Tell", func(ctx context.Context, r *helloRequest) (*helloReply, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		_ = grpc.SetHeader(ctx, metadata.Pairs("head", "h"))
		_ = grpc.SetTrailer(ctx, metadata.Pairs("trail", "t"))
		if r.Name == "fail" {
			return nil, status.Errorf(status.NotFound, "as told")
		}
		return &helloReply{Text: strings.Join(md.Get("authorization"), ",") + "|" + r.Name}, nil
	})
	hull.HandleStream(s, "tell.Teller/Chat", func(st *hull.ServerStream[helloRequest, helloReply]) error {
		for {
			r, err := st.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := st.Send(&helloReply{Text: r.Name}); err != nil {
				return err
			}
		}
	})
}

// token is a caller's credential.
type token struct {
	text   string
	secure bool
	err    error
}

func (t token) GetRequestMetadata(_ context.Context, uri ...string) (map[string]string, error) {
	return map[string]string{"Authorization": t.text + " for " + strings.Join(uri, " ")}, t.err
}

func (t token) RequireTransportSecurity() bool { return t.secure }

// shouting is a codec of grpc's old and new kind.
type shouting struct{}

func (shouting) Name() string { return "JSON" }
func (shouting) Marshal(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	return []byte(strings.Replace(string(b), "ada", "ADA", 1)), err
}
func (shouting) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

type shoutingV2 struct{ shouting }

func (s shoutingV2) Marshal(v any) (mem.BufferSlice, error) {
	b, err := s.shouting.Marshal(v)
	return mem.BufferSlice{mem.SliceBuffer(b)}, err
}

func (s shoutingV2) Unmarshal(data mem.BufferSlice, v any) error {
	return s.shouting.Unmarshal(data.Materialize(), v)
}

var _ encoding.CodecV2 = shoutingV2{}

// TestGRPCCallOptions is each of grpc's call options, over the native transport and over gRPC.
func TestGRPCCallOptions(t *testing.T) {
	dialers := map[string]func(w *hulltest.World) (transport.Dialer, error){
		"hull": func(w *hulltest.World) (transport.Dialer, error) {
			return muxtransport.NewDialer(muxtransport.Options{Dial: w.Network.Host("caller").Dial})
		},
		"grpc": func(w *hulltest.World) (transport.Dialer, error) {
			return grpctransport.NewDialer(grpctransport.Options{Dial: w.Network.Host("caller").Dial})
		},
	}
	for name, dialer := range dialers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hulltest.New(t)
				w.Serve("teller", "a", teller)
				d, err := dialer(w)
				if err != nil {
					t.Fatal(err)
				}
				conn := w.Client("caller", hull.WithDialer(d)).To("teller")
				tests := []struct {
					name, say string
					opt       grpc.CallOption
					want      string // answer, or the error's text
					code      codes.Code
				}{
					{"none", "ada", grpc.EmptyCallOption{}, "|ada", codes.OK},
					{"static", "ada", grpc.StaticMethod(), "|ada", codes.OK},
					{"credentials", "ada", grpc.PerRPCCredentials(token{text: "me"}), "me for https://teller/tell.Teller|ada", codes.OK},
					{"credentials in the clear", "ada", grpc.PerRPCCredentials(token{secure: true}), "hull.WithTLS", codes.Unauthenticated},
					{"no credentials", "ada", grpc.PerRPCCredentials(token{err: grpcstatus.Error(codes.PermissionDenied, "expired")}), "expired", codes.PermissionDenied},
					{"send limit", strings.Repeat("x", 100), grpc.MaxCallSendMsgSize(50), "limit of 50", codes.ResourceExhausted},
					{"within the send limit", "ada", grpc.MaxCallSendMsgSize(50), "|ada", codes.OK},
					{"receive limit", strings.Repeat("x", 100), grpc.MaxCallRecvMsgSize(50), "", codes.ResourceExhausted},
					{"codec", "ada", grpc.ForceCodec(shouting{}), "|ADA", codes.OK},
					{"codec of the new kind", "ada", grpc.ForceCodecV2(shoutingV2{}), "|ADA", codes.OK},
					{"subtype", "ada", grpc.CallContentSubtype("json"), "|ada", codes.OK},
					{"unknown subtype", "ada", grpc.CallContentSubtype("morse"), "no codec", codes.InvalidArgument},
					{"authority", "ada", grpc.CallAuthority("elsewhere"), "|ada", codes.OK},
					{"patience", "ada", grpc.WaitForReady(true), "|ada", codes.OK},
					{"retry buffer", "ada", grpc.MaxRetryRPCBufferSize(1), "|ada", codes.OK},
				}
				for _, tt := range tests {
					finished := 0
					var rep helloReply
					err := conn.Invoke(t.Context(), "/tell.Teller/Tell", &helloRequest{Name: tt.say}, &rep, tt.opt, grpc.OnFinish(func(error) { finished++ }))
					if grpcstatus.Code(err) != tt.code || err == nil && rep.Text != tt.want || err != nil && !strings.Contains(err.Error(), tt.want) || finished != 1 {
						t.Errorf("%s: %q, %v, finished %d times; want %q, %v", tt.name, rep.Text, err, finished, tt.want, tt.code)
					}
				}
				for _, say := range []string{"ada", "fail"} {
					var header, trailer metadata.MD
					var p peer.Peer
					var rep helloReply
					err := conn.Invoke(t.Context(), "/tell.Teller/Tell", &helloRequest{Name: say}, &rep, grpc.Header(&header), grpc.Trailer(&trailer), grpc.Peer(&p))
					if (err != nil) != (say == "fail") || strings.Join(header["head"], "") != "h" || strings.Join(trailer["trail"], "") != "t" || p.Addr == nil {
						t.Errorf("%s: %v, header %v, trailer %v, peer %v", say, err, header, trailer, p)
					}
				}
				st, err := hull.OpenStream[helloRequest, helloReply](t.Context(), conn, "tell.Teller/Chat", grpc.MaxCallSendMsgSize(50))
				if err != nil {
					t.Fatal(err)
				}
				if err := st.Send(&helloRequest{Name: "ada"}); err != nil {
					t.Error(err)
				}
				if rep, err := st.Recv(); err != nil || rep.Text != "ada" {
					t.Error(rep, err)
				}
				if err := st.Send(&helloRequest{Name: strings.Repeat("x", 100)}); grpcstatus.Code(err) != codes.ResourceExhausted {
					t.Errorf("a message over the stream's limit: %v", err)
				}
			})
		})
	}
}

// TestPatience is that WaitForReady waits for a service that starts late.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		c := w.Client("caller")
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := hello(t.Context(), c, hull.Timeout(10*time.Second)); err == nil {
				t.Error("an impatient call found a service that is not there")
			}
		})
		wg.Go(func() {
			if _, err := hello(t.Context(), c, hull.Timeout(10*time.Second), grpc.WaitForReady(true)); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(3 * time.Second)
		w.Serve("greeter", "a", greeter)
		wg.Wait()
	})
}

// slowToken waits for a server of tokens that does not answer, as long as it may.
type slowToken struct{}

func (slowToken) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(time.Hour):
		return nil, errors.New("no token")
	}
}

func (slowToken) RequireTransportSecurity() bool { return false }

// TestCredentialsHaveTheCallsTime: a call ends at its deadline also while its credentials are being fetched.
func TestCredentialsHaveTheCallsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", greeter)
		c := w.Client("caller")
		for _, tt := range []struct {
			opts []grpc.CallOption
			want time.Duration
		}{
			{nil, 5 * time.Second},
			{[]grpc.CallOption{hull.Timeout(time.Second)}, time.Second},
		} {
			began := time.Now()
			_, err := hello(t.Context(), c, append(tt.opts, grpc.PerRPCCredentials(slowToken{}))...)
			if took := time.Since(began); took != tt.want || status.From(err).Code != status.DeadlineExceeded {
				t.Errorf("after %v: %v, want %v", took, err, tt.want)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		if _, err := hello(ctx, c, grpc.PerRPCCredentials(slowToken{})); status.From(err).Code != status.Canceled {
			t.Errorf("%v, want Canceled", err)
		}
	})
}

// TestOptionsHoldForOneCall: a call's own options are no longer there for the next one, which may use the same memory, and those of the Conn are there still.
func TestOptionsHoldForOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("teller", "a", teller)
		conn := w.Client("caller").To("teller", grpc.PerRPCCredentials(token{text: "conn"}))
		ask := func(whose string, opts ...hull.CallOption) {
			t.Helper()
			var rep helloReply
			want := whose + " for https://teller/tell.Teller|ada"
			if err := conn.Invoke(t.Context(), "tell.Teller/Tell", &helloRequest{Name: "ada"}, &rep, opts...); err != nil || rep.Text != want {
				t.Errorf("got %q, %v; want %q", rep.Text, err, want)
			}
		}
		for range 3 {
			var header metadata.MD
			var info hull.CallInfo
			ask("own", grpc.StaticMethod(), grpc.PerRPCCredentials(token{text: "own"}), grpc.Header(&header), hull.Info(&info))
			if header.Get("head") == nil || info.Service != "teller" {
				t.Errorf("header %v, info %v", header, info)
			}
			header, info = nil, hull.CallInfo{}
			ask("conn")
			ask("conn", grpc.StaticMethod())
			if err := conn.Invoke(t.Context(), "tell.Teller/Tell", &helloRequest{Name: "ada"}, new(helloReply), hull.Timeout(-1)); err == nil {
				t.Error("a call without time succeeded")
			}
			ask("conn")
			if header != nil || info.Service != "" {
				t.Errorf("another call filled in header %v, info %v", header, info)
			}
		}
	})
}

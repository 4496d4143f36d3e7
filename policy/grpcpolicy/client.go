package grpcpolicy

import (
	"context"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/hull-go/hull/internal/hop"
	"github.com/hull-go/hull/policy"
)

// Options describes a Client. Every zero means the default that stands beside it.
type Options struct {
	// Pipeline chooses the pipeline of a call, for instance one for each method: the one given to NewClient. If it returns nil, the
	// call goes without any. method is /pkg.Service/Method.
	Pipeline func(ctx context.Context, method string) *policy.Pipeline
	// Call changes what policies are told about a call. It must not keep it.
	Call func(ctx context.Context, method string, c *policy.Call)
	// MaxPushback is the longest time that a server can make a call wait for its next attempt: 5 s. If it asks for more, the call
	// fails.
	MaxPushback time.Duration
	// NoAttemptCount: do not tell servers the attempt's number (x-envoy-attempt-count).
	NoAttemptCount bool
	// NoCriticality: do not tell servers how important a call is (hull-criticality), if it is not simply critical.
	NoCriticality bool
}

// Client is a pair of interceptors whose calls go through a pipeline. It is safe for concurrent use.
type Client struct {
	p           *policy.Pipeline
	o           Options
	methods     sync.Map // of method to what it declares; bounded by the methods that the program calls
	transparent atomic.Int64
}

// NewClient returns a client. p may be nil if Options.Pipeline chooses.
func NewClient(p *policy.Pipeline, o Options) *Client {
	if o.MaxPushback == 0 {
		o.MaxPushback = 5 * time.Second
	}
	return &Client{p: p, o: o}
}

// DialOptions returns all that a connection needs.
func (c *Client) DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDisableRetry(), grpc.WithStatsHandler(c.Stats()),
		grpc.WithChainUnaryInterceptor(c.Unary), grpc.WithChainStreamInterceptor(c.Stream),
	}
}

// Transparent returns how many attempts grpc-go made by itself, for calls that a server had not begun.
func (c *Client) Transparent() int64 { return c.transparent.Load() }

// Unary is a grpc.UnaryClientInterceptor.
func (c *Client) Unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	p := c.pipeline(ctx, method)
	if p == nil {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	call := c.call(ctx, method)
	u := &unary{c, &call, method, req, reply, cc, invoke, opts}
	var err error
	if p.Concurrent(&call) {
		err = u.hedged(ctx, p)
	} else {
		_, err = p.Drive(ctx, call, u)
	}
	if err != nil {
		hop.From(ctx).Failed(p.Options().Classify(err))
	}
	return outward(err)
}

func (c *Client) pipeline(ctx context.Context, method string) *policy.Pipeline {
	if c.o.Pipeline != nil {
		return c.o.Pipeline(ctx, method)
	}
	return c.p
}

// call describes a call to policies.
func (c *Client) call(ctx context.Context, method string) policy.Call {
	at, declared := hop.From(ctx), c.declared(method)
	call := policy.Call{Method: strings.TrimPrefix(method, "/"), Idempotent: declared.idempotent, SideEffectFree: declared.sideEffectFree,
		PathAttempt: at.Attempt, Attempts: at.Attempts, Criticality: at.Criticality}
	call.Service, _, _ = strings.Cut(call.Method, "/")
	if at.Attempt == 0 { // a handler that no Server stands before
		call.PathAttempt = pathAttempt(ctx)
	}
	if c.o.Call != nil {
		c.o.Call(ctx, method, &call)
	}
	return call
}

// declaration is what a method's .proto says.
type declaration struct{ idempotent, sideEffectFree bool }

// declared returns what the method's .proto declares, if it is linked into the program.
func (c *Client) declared(method string) (d declaration) {
	if v, ok := c.methods.Load(method); ok {
		return v.(declaration)
	}
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", "."))
	if found, err := protoregistry.GlobalFiles.FindDescriptorByName(name); err == nil {
		if o, ok := found.Options().(*descriptorpb.MethodOptions); ok {
			d.idempotent = o.GetIdempotencyLevel() != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN
			d.sideEffectFree = o.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS
		}
	}
	c.methods.Store(method, d)
	return d
}

// unary is one call: the policy.Runner of its attempts.
type unary struct {
	c          *Client
	call       *policy.Call
	method     string
	req, reply any
	cc         *grpc.ClientConn
	invoke     grpc.UnaryInvoker
	opts       []grpc.CallOption
}

// Run implements policy.Runner.
func (u *unary) Run(ctx context.Context, a policy.Attempt) error {
	t := &trace{parent: ctx}
	ctx = u.c.outgoing(ctx, t, u.call, a)
	if a.Deadline != 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, a.Deadline.Clock(), policy.ErrAttemptTimeout)
		defer cancel()
	}
	t.ctx = ctx
	var trailer metadata.MD
	opts := append(u.opts[:len(u.opts):len(u.opts)], grpc.Trailer(&trailer))
	if err := u.invoke(ctx, u.method, u.req, u.reply, u.cc, opts...); err != nil {
		return hop.From(ctx).Narrow(t.failure(err, trailer, u.c.o.MaxPushback))
	}
	return nil
}

const keyPushback = "grpc-retry-pushback-ms"

// outgoing returns the context of an attempt.
func (c *Client) outgoing(ctx context.Context, t *trace, call *policy.Call, a policy.Attempt) context.Context {
	if !c.o.NoAttemptCount {
		ctx = metadata.AppendToOutgoingContext(ctx, hop.Attempt, strconv.Itoa(max(call.PathAttempt, a.N+1)))
	}
	if call.Criticality != policy.Critical && !c.o.NoCriticality {
		ctx = metadata.AppendToOutgoingContext(ctx, hop.Criticality, call.Criticality.String())
	}
	return context.WithValue(ctx, traceKey{}, t)
}

// pathAttempt returns the number of the attempt that the context's handler serves, or 0.
func pathAttempt(ctx context.Context) int {
	for _, s := range metadata.ValueFromIncomingContext(ctx, hop.Attempt) {
		if n, err := strconv.ParseUint(s, 10, 16); err == nil {
			return int(n)
		}
	}
	return 0
}

// pushback reads grpc-retry-pushback-ms; negative = do not retry.
func pushback(trailer metadata.MD, most time.Duration) time.Duration {
	v := trailer.Get(keyPushback)
	if len(v) == 0 {
		return 0
	}
	n, err := strconv.ParseInt(v[0], 10, 64)
	if err != nil || len(v) > 1 || n < 0 || n > math.MaxInt32 {
		return -1
	}
	if d := time.Duration(n) * time.Millisecond; d <= most {
		return d
	}
	return -1
}

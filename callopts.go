package hull

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/registry"
)

// CallOption changes one call. It is grpc's own type, so that Hull's options go through generated code, and grpc's work here too.
// WaitForReady waits for a service's first node until the call's deadline; what happens to a node that cannot be reached is the
// policies' business. UseCompressor matters to nodes that are called by Hull's own protocol or gRPC, CallAuthority to those by gRPC or HTTP.
// MaxRetryRPCBufferSize and StaticMethod mean nothing here.
type CallOption = grpc.CallOption

// HandleOption says what callers may do with a method that is served.
type HandleOption interface{ handle(*registry.Method) }

// MethodOption is both: said by the server it is published in discovery, said by the caller it holds for one call.
type MethodOption interface {
	CallOption
	HandleOption
}

type methodOption struct {
	grpc.EmptyCallOption
	sideEffectFree bool
}

func (o methodOption) handle(m *registry.Method) {
	m.Idempotent, m.SideEffectFree = true, m.SideEffectFree || o.sideEffectFree
}

// Idempotent declares that running the method twice does no more than running it once: it may be repeated when it is not
// known whether it ran.
func Idempotent() MethodOption { return methodOption{} }

// SideEffectFree declares that the method only reads: it may even run on two nodes at the same time.
func SideEffectFree() MethodOption { return methodOption{sideEffectFree: true} }

type timeoutOption struct {
	grpc.EmptyCallOption
	d time.Duration
}

// Timeout bounds one call, retries included. A deadline of the context that comes sooner wins. With 0 it says nothing; with less
// the time is up before the call begins.
func Timeout(d time.Duration) CallOption { return timeoutOption{d: d} }

type selectOption struct {
	grpc.EmptyCallOption
	sel balance.Selector
	err error
}

// Select restricts one call, or given to Client.To all calls of a Conn, to nodes that match, for instance "version=1.2,zone!=a". Nodes of a call have to
// match the selector of its Conn as well. Selectors of single calls are kept for the next ones, some hundred of them: for one that is different with each call, a
// Key may be what is wanted.
func Select(selector string) CallOption {
	sel, err := balance.ParseSelector(selector)
	return selectOption{sel: sel, err: err}
}

type keyOption struct {
	grpc.EmptyCallOption
	hash uint64
}

// Key says what a call belongs to, a user or a session for instance: calls of one key go to the same node as long as it lives and has
// room, if the service is balanced by consistent-hash, and to the same version if it has a canary. Any other balancer does not look at it.
func Key(key string) CallOption { return keyOption{hash: balance.Key(key)} }

type infoOption struct {
	grpc.EmptyCallOption
	info    *CallInfo
	explain bool
}

// Info has info filled in when the call ends, well or not.
func Info(info *CallInfo) CallOption { return infoOption{info: info} }

// Explained is Info with the whole story: how nodes, breaker and budget stood, and the server's side, which servers tell to callers on their own
// machine (see ExplainTo). It costs some microseconds. The story of a stream is told when it has ended. See
// Explain for all calls of a context.
func Explained(info *CallInfo) CallOption { return infoOption{info: info, explain: true} }

// CallInfo is what happened to one call.
type CallInfo struct {
	// Service and Method that were called.
	Service, Method string
	// Node is the ID of the node whose answer was taken, Address where it listens; empty if none answered.
	Node, Address string
	// Class is what the call counts for, Err its error.
	Class policy.Class
	Err   error
	// Took is how long it took, waits and retries included.
	Took time.Duration
	// Attempts in the order in which they began.
	Attempts []AttemptInfo
	// Stopped says why a failed call was not tried again, StoppedBy which policy that was: "retry", "budget", "breaker", …; "" if none.
	Stopped, StoppedBy string
	// Verdicts are what policies said beyond a plain yes, in the order of time: whom the call had to wait for, that it went as a probe, who refused it.
	Verdicts []VerdictInfo
	// Repeated is how often a call with an idempotency key was made again to a node whose connection had broken; each time is part of an attempt.
	Repeated int
	// Fallback says what answered in place of the call, if the document has a fallback for it: "service NAME", "stale answer", "answer" or
	// "code"; empty = nothing did. Class, Err and Stopped are then those of the call that failed, and Attempts include the other
	// service's.
	Fallback string
	// Age is how old a stale answer is.
	Age time.Duration

	// What follows is filled in by Explained and Explain alone. Nodes, Breaker and Budget are as they stood when the call had ended: who was considered,
	// who was not, and why.
	Nodes   []balance.NodeState
	Breaker *breaker.Snapshot
	Budget  *retry.BudgetSnapshot
	// Server is the answering server's side of the story as JSON, with those of the calls that its handler made; nil if the server
	// does not tell.
	Server json.RawMessage
	// Instead is the story of the call to the service that stood in for this one, well or not; nil if there was none.
	Instead *CallInfo
}

// AttemptInfo is what happened to one attempt.
type AttemptInfo struct {
	// Service is the one that the document has stand in for the call's, if the attempt was made there; else empty.
	Service string
	// Node is where it went, Zone where that is, if the node says so.
	Node, Address, Zone string
	Class               policy.Class
	// Began is how long after the call; what is in between are waits. Took is how long it ran.
	Began, Took time.Duration
	Hedge       bool
	// Err is its error, nil if it succeeded.
	Err error
}

// VerdictInfo is one policy's word on a call or on one of its attempts.
type VerdictInfo struct {
	// Policy is which, and Attempt what it was about: an attempt from 1, or 0 for the call. See policy.VerdictStory.
	Policy  string
	Attempt int
	// Decision is Wait or Park (in a line) for a wait, Probe, or Refuse; in DryRun what it would have been.
	Decision policy.Decision
	DryRun   bool
	// Began is how long after the call it was said, Took how long was waited because of it.
	Began, Took time.Duration
	// State and Reason are the policy's own words for a refusal.
	State, Reason string
}

// callOptions are the options of one call, sorted.
type callOptions struct {
	said                       bool // there were any
	idempotent, sideEffectFree bool
	timeout                    time.Duration
	info                       *CallInfo
	explain                    bool    // info is wanted whole
	from                       *failed // the call stands in for one to another service
	sel                        *balance.Selector
	hash                       uint64
	once                       string // its idempotency key
	codec                      codec.Codec
	maxReply, maxSend          int
	authority, compressor      string
	creds                      credentials.PerRPCCredentials
	patient                    bool // for a service's first node
	header, trailer            *metadata.MD
	peer                       *peer.Peer
	onFinish                   func(error)
	criticality                *policy.Criticality
	attempts                   uint8 // at most; 0 = as many as the document says
	err                        error
}

func (c *callOptions) apply(opts []CallOption) {
	for _, o := range opts {
		switch o := o.(type) {
		case methodOption:
			c.idempotent, c.sideEffectFree = true, c.sideEffectFree || o.sideEffectFree
		case timeoutOption:
			c.timeout = o.d
		case selectOption:
			if o.err != nil {
				c.err = o.err
			}
			c.sel = &o.sel
		case keyOption:
			c.hash = o.hash
		case insteadOption:
			*c = o.opt
		case idempotencyOption:
			if c.once = o.key; o.key == "" {
				c.err = errors.New("the idempotency key is empty: give each thing that is to be done once a key of its own, or leave the option out")
			}
		case infoOption:
			c.info, c.explain = o.info, (c.explain || o.explain) && o.info != nil
		case attemptsOption:
			o.set(c)
		case criticalityOption:
			c.criticality = &o.c
		case codecOption:
			c.codec = o.c
		case grpc.HeaderCallOption:
			c.header = o.HeaderAddr
		case grpc.TrailerCallOption:
			c.trailer = o.TrailerAddr
		case grpc.PeerCallOption:
			c.peer = o.PeerAddr
		case grpc.OnFinishCallOption:
			c.onFinish = both(c.onFinish, o.OnFinish)
		case grpc.MaxRecvMsgSizeCallOption:
			c.maxReply = o.MaxRecvMsgSize
		case grpc.MaxSendMsgSizeCallOption:
			c.maxSend = o.MaxSendMsgSize
		case grpc.PerRPCCredsCallOption:
			if c.creds = o.Creds; c.creds == nil {
				c.err = errors.New("the call's credentials are nil")
			}
		case grpc.FailFastCallOption:
			c.patient = !o.FailFast
		case grpc.AuthorityOverrideCallOption:
			c.authority = o.Authority
		case grpc.CompressorCallOption:
			c.compressor = o.CompressorType
		case grpc.ContentSubtypeCallOption:
			if c.codec = codecNamed(o.ContentSubtype); c.codec == nil && o.ContentSubtype != "" {
				c.err = fmt.Errorf("no codec is registered for the content subtype %q: register one with grpc's encoding package", o.ContentSubtype)
			}
		case grpc.ForceCodecCallOption:
			c.codec = grpcCodec{o.Codec.Name(), o.Codec}
		case grpc.CustomCodecCallOption:
			c.codec = grpcCodec{o.Codec.String(), o.Codec}
		case grpc.ForceCodecV2CallOption:
			c.codec = grpcCodecV2{o.CodecV2}
		}
	}
	c.said = c.said || len(opts) > 0
}

// both calls f and g. Either may be nil.
func both(f, g func(error)) func(error) {
	switch {
	case f == nil:
		return g
	case g == nil:
		return f
	}
	return func(err error) { f(err); g(err) }
}

type codecOption struct {
	grpc.EmptyCallOption
	c codec.Codec
}

// WithCodec chooses how a call's messages are encoded. Without it: protobuf for generated messages, JSON for other Go values.
func WithCodec(c codec.Codec) CallOption { return codecOption{c: c} }

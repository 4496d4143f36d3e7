// Package grpcpolicy puts a policy.Pipeline around plain grpc-go: interceptors for clients and servers.
//
// # A client
//
//	c := grpcpolicy.NewClient(pipeline, grpcpolicy.Options{})
//	conn, err := grpc.NewClient(target, append(c.DialOptions(), credentials)...)
//
// DialOptions brings the interceptors and two things they need. grpc.WithDisableRetry, because retries of a service config
// would multiply with the pipeline's, unseen by budget and breaker. And a stats handler, because grpc-go tells it alone how far
// a call came: without an OutHeader event nothing was sent, and anything may be repeated; with an InTrailer event the server
// answered; between the two nobody knows, and only what is idempotent is repeated. Without the stats handler everything
// that fails is taken for such.
//
// grpc-go still repeats by itself, once, what a server has proved not to have begun (REFUSED_STREAM, GOAWAY). Client.Transparent
// counts that.
//
// A method is idempotent if its .proto says so (idempotency_level) or Options.Call does. Servers tell in the trailer
// grpc-retry-pushback-ms how long to stay away; negative or unreadable means for good. A unary call
// whose method is declared free of side effects is hedged if the pipeline has hedging; each attempt has its own reply, and places
// of its own for what grpc.Header, Trailer and Peer ask for.
//
// A stream takes a place in the concurrency limit until it ends: RecvMsg has returned an error (io.EOF too) or the only
// message of a method without server streaming, or the stream's context is over. Only its beginning is repeated, and an attempt's
// time is for the beginning.
//
// Errors are grpc-go's to status.FromError, and *status.Error of Hull to errors.As, with fate and refusal.
//
// # A server
//
//	s, err := grpcpolicy.NewServer(pipeline, grpcpolicy.ServerOptions{})
//	srv := grpc.NewServer(s.ServerOptions()...)
//
// The pipeline's rate limit, gates and concurrency limit, with its line, decide which calls are served. A call whose deadline has
// passed, on the way or waiting, never reaches its handler. Refusals are RESOURCE_EXHAUSTED (rate) or UNAVAILABLE, with
// grpc-retry-pushback-ms if it is known when to come back. A panic becomes INTERNAL.
//
// Calls made with a handler's context through a Client (or an httppolicy.Transport) belong to its call. They are as important as it
// is, as its caller says in hull-criticality: whoever is not trusted can lower that and not raise it. Trusted callers also bound how
// often they are repeated (x-envoy-max-retries) and after which failures (x-envoy-retry-grpc-on). If it is a repeated one
// (x-envoy-attempt-count) they are repeated only if they were not sent. And if one of them fails for good and the handler fails
// too, the trailer hull-origin says that the failure is not its own, so that nobody above repeats it.
package grpcpolicy

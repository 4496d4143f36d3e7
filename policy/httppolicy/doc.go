// Package httppolicy puts a policy.Pipeline around plain net/http: a RoundTripper for clients, a Handler for servers.
//
// # A client
//
//	client := &http.Client{Transport: httppolicy.NewTransport(nil, pipeline, httppolicy.Options{}), Timeout: 5 * time.Second}
//
// What fails is sorted by what is known about it, and the pipeline decides:
//
//	1xx–3xx                             ok
//	4xx                                 the caller's mistake: no failure, not repeated
//	408                                 unavailable
//	421, 425                            not processed: anything may be repeated
//	429, 503 with Retry-After or
//	x-envoy-overloaded                  overloaded; Retry-After (seconds or date) is how long to stay away
//	501                                 no such method here
//	502, 503, 504                       unavailable
//	other 5xx                           internal: repeated only if the retry policy asks for that
//	no connection                       not sent: anything may be repeated
//	no request header written           not sent
//	REFUSED_STREAM                      not processed
//	connection broken later             unknown: only what is idempotent is repeated
//
// A response is handed out whatever its code: when no further attempt is made, the caller gets the last response, not an
// error. Errors are *status.Error (inside http.Client's *url.Error): of the network, of a deadline, or of a policy that
// refused.
//
// Idempotent are GET, HEAD, OPTIONS, TRACE, PUT and DELETE and whatever has an Idempotency-Key header; the first four are
// also free of side effects and may be hedged. A request whose body cannot be rewound (GetBody is nil) is neither
// repeated nor hedged.
//
// An attempt lasts until its response body is read to the end or closed: so long it holds its place in the concurrency
// limit, and so long its deadline counts, unless Options.UntilHeader says otherwise. A body that is not closed keeps its
// place, as it keeps its connection. The winner of a hedged call gives its place back with its header, and its body has what is
// left of the call's deadline. The body of a response that is not handed out is drained, within limits, and closed, so
// that its connection is used again.
//
// A response that says hull-origin: downstream passes on a failure that the layer next to it has dealt with: it is not repeated.
//
// http.Transport repeats some requests by itself, on a new connection, when a reused one turns out to be dead before
// anything came back; no policy is asked about that.
//
// # A server
//
//	h, err := httppolicy.NewHandler(mux, pipeline, httppolicy.HandlerOptions{})
//
// The pipeline's rate limit, gates and concurrency limit, with its line, decide which requests are served. A deadline
// that the caller sent (grpc-timeout, x-envoy-upstream-rq-timeout-ms, Connect-Timeout-Ms) ends the request's context; what is
// dead on arrival, or died waiting, is answered with 504 and never reaches a handler. Refusals are 429 (rate) or 503 with
// Retry-After. A panic is answered with 500.
//
// Requests made with the request's context through a Transport (or a grpcpolicy.Client) belong to it. They are as important as it
// is, as its caller says in hull-criticality: whoever is not trusted can lower that and not raise it. Trusted callers also bound how
// often they are repeated (x-envoy-max-retries) and after which failures (x-envoy-retry-on). If it is a repeated one
// (x-envoy-attempt-count) they are repeated only if they were not sent. And if one of them fails for good and the handler
// answers with 5xx, the answer says that the failure is not its own, so that nobody above repeats it.
package httppolicy

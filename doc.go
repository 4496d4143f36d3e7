// Package hull is the front door: clients and servers whose calls stay afloat.
//
// A server offers services, under one name in discovery, on one port:
//
//	srv, err := hull.NewServer("greeter")
//	hull.Handle(srv, "greeter.Greeter/Hello", hello, hull.Idempotent())
//	err = srv.Run(ctx) // listens, registers, serves; drains when ctx ends
//
// A client calls them by that name:
//
//	client, err := hull.NewClient()
//	rep, err := hull.Call[HelloReply](ctx, client.To("greeter"), "greeter.Greeter/Hello", &HelloRequest{Name: "Ada"})
//
// Code that protoc-gen-go-grpc generates works as it is: a Server is a grpc.ServiceRegistrar, and what Client.To returns a
// grpc.ClientConnInterface.
//
// The same port answers gRPC, gRPC-Web, Connect and plain JSON, so that a service can be called before its callers have heard of Hull:
//
//	curl -d '{"name":"Ada"}' localhost:8080/greeter.Greeter/Hello
//
// # What happens to a call
//
// With nothing configured, every call has a deadline: what its caller has left, or 5 s. It goes to a node that discovery
// knows and that answers well. If the attempt fails, and repeating it is safe, another node gets it, as long as time and the
// retry budget last: repeating is safe if the request was proved not processed, or if the method is declared
// idempotent. A method that fails anyway is cut off by its breaker; a node that fails is left alone for a while. Package
// policy draws the order; package spec is the document that changes any of it, also while the program runs.
//
// A context that a handler was given carries the deadline and the place in the call tree: pass it on. What is left of
// the time then bounds every call further down, and only the layer next to a failure retries it.
package hull

// Package greeterpb holds the generated code of the greeter service: one
// method of each shape a gRPC service can have. Edit greeter.proto and run
// make generate.
package greeterpb

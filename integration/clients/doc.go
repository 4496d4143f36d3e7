// Package clients holds tests of Hull's client, and of other clients of Hull's server, against real peers: the official interop functions
// of gRPC between them.
package clients

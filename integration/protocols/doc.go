// Package protocols holds tests that have foreign programs call a Hull server: curl, grpcurl, grpc-js and
// Google's gRPC-Web client under node, and a client of the native protocol in Python.
package protocols

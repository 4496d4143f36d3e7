// Package protocols holds tests that have foreign programs call a Hull server: curl, grpcurl, and grpc-js and
// Google's gRPC-Web client under node.
package protocols

// Package protocols holds tests that have foreign programs call a Hull server: curl, grpcurl, and grpc-js under node.
package protocols

// Package grpcfront serves the calls of gRPC clients by grpc-go's own server: what grpc-go does on the wire, Hull does. Messages pass through it
// as bytes, so that the same transport.Handler that serves the native protocol decodes them, whatever their codec is.
package grpcfront

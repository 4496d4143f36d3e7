// Package grpctransport calls servers that speak gRPC and know nothing of Hull. Below is the real grpc-go client; what it decides
// by itself elsewhere is switched off: it does not retry, balance, resolve names, read service configurations or go through
// proxies, because the layers above do that for every transport in one way.
//
// # Mental model
//
// One transport.Conn is one HTTP/2 connection. grpc-go would make a new one when it is lost; here it may not: the Conn is done
// then, and the pool dials again, so that back-off and health are known in one place.
//
// # Fate
//
// grpc-go does not say whether a failed call has been processed. What is proved is taken from its statistics: a call is NotSent
// only if no header of it was handed to the connection, or if grpc-go itself found that the server had not looked at it (it then
// tries once more, which Dialer.Transparent counts). It is Processed if the server's trailer has come. All else is Maybe.
//
// # What travels
//
// Metadata, deadline and status details as gRPC has them, pushback as grpc-retry-pushback-ms, attempt number, criticality and
// origin under the names of package transport, which a Hull server understands and others overlook. Order is kept among the values of
// one metadata key only.
package grpctransport

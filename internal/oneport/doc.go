// Package oneport accepts the connections of a port on which several protocols are spoken and hands each to the one that
// its first bytes, or TLS's ALPN, name:
//
//	first byte 0x9e      the native protocol, on the connection itself: nothing of it has been read
//	"PRI * HTTP/2.0…"    HTTP/2; the first request decides between a gRPC server and an HTTP server
//	0x16                 TLS, where it is configured; what is inside is told apart in the same way
//	anything else        HTTP/1.1, whose server says what is wrong with it
//
// # HTTP/2
//
// gRPC and everything else share HTTP/2, so the request itself must be looked at before a server is chosen. Some clients
// send none before they have seen the server's SETTINGS; an empty frame of those is sent to all. What has been read is then given
// to the server that was chosen as if nobody had looked, without the acknowledgement of the frame that it did not send. A
// connection on which no request comes keeps waiting, at the cost of a goroutine and half a KiB.
//
// # Defence
//
// The package bounds what a peer can do before any protocol is responsible: connections in total and per peer, the time for
// handshakes, waiting HTTP/2 connections. Afterwards, on HTTP and gRPC connections, it bounds how long a peer may take nothing of what is
// written to it, how long a request's header may take to come, and how many HTTP/2 streams it resets and control frames it sends per second. Each
// bound has a counter, and so has what the protocols' servers refuse without telling anybody but the peer: headers that are too large, streams beyond the limit.
package oneport

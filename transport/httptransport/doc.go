// Package httptransport calls services that speak JSON over HTTP and know nothing of Hull, with net/http below.
//
// # Mental model
//
// A call is one request: POST /pkg.Service/Method with the message as JSON, unless Options.Routes names another verb and path for the
// method. 2xx is the answer; anything else is an error, of which the code is that of a Connect error body if there is one,
// and else follows from the HTTP status as package httppolicy reads it, Retry-After included. Streams are refused with
// Unimplemented.
//
// One transport.Conn stands for the connections that HTTP needs to carry its calls: one with HTTP/2, one for each call under way
// with HTTP/1.1, up to Options.MaxConns. A server may end one of them for the sake of the call that it carries, as net/http does when a handler
// panics: that is this call's failure only. When the last of them has been closed by the other side the server is looked at again, as when the Conn was made,
// before any other call is sent to it. The Conn is done when that fails, when a connection could not be made, or when the server closes one that
// no call has used yet; the pool then dials again, which tells whether the node lives.
//
// # Fate
//
// A call is NotSent if nothing of its header was written, or if the server says so: 421, 425, HTTP/2's REFUSED_STREAM, a stream above
// GOAWAY's last (which net/http sends again by itself, as it may). Any other answer means Processed. All else is Maybe.
//
// # What travels
//
// Metadata as header fields, those that end in -bin in base64; what is left of the deadline as Connect-Timeout-Ms; attempt number
// and criticality under the names of package transport. Header fields that begin with Trailer- come back as the trailer.
package httptransport

// Package webfront serves calls that come over HTTP/1.1 and net/http's HTTP/2: plain JSON by hand, because that is twice as fast, and
// gRPC-Web, Connect and gRPC by connect-go. Whatever is no call goes to the user's own pages.
//
// # Plain JSON
//
//	curl -d '{"name":"Ada"}' localhost:8080/greeter.Greeter/Hello
//
// A POST to the method's path with a JSON body is a call, the JSON that comes back its answer. A failure has an HTTP status that fits and the
// body of Connect's errors, {"code": "not_found", "message": "…"}; so has everything else that goes wrong, as far as a caller of methods
// sees it. GET on a method's or service's path, and on /hull/methods, describes what is served.
//
// # Browsers
//
// A page from elsewhere must not be able to call methods in the name of whoever looks at it. Browsers say where a request comes from
// (Origin, Sec-Fetch-Site); cross-origin calls are refused unless the origin is allowed. curl's form content type is read as JSON, but not when a
// browser sends it. On a loopback address a browser must also have asked for a loopback name, or a page could give its own name that address.
package webfront

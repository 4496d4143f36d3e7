package transport

import (
	"bytes"
	"errors"
)

// ErrTLS is the cause of a handshake's failure where the server speaks TLS and the client does not.
var ErrTLS = errors.New("the server speaks TLS, and this client does not: give it hull.WithTLS, or Options.TLS of its transport")

// recordAlert begins what TLS servers answer to what is no TLS.
const recordAlert = 0x15

// toldTLS is what common HTTP servers say to clients that speak HTTP in the clear where TLS is spoken.
var toldTLS = [...][]byte{
	[]byte("Client sent an HTTP request to an HTTPS server"),    // net/http
	[]byte("The plain HTTP request was sent to HTTPS port"),     // nginx
	[]byte("speaking plain HTTP to an SSL-enabled server port"), // Apache
	[]byte("Instead use the HTTPS scheme to access this URL"),   // Apache, older
	[]byte("This combination of host and port requires TLS."),   // Tomcat
	[]byte("this port speaks TLS"),                              // Hull
}

// WantsTLS reports whether the beginning of what a server answered to a client without TLS says that it speaks TLS: an alert, or an
// HTTP server's words.
func WantsTLS(answer []byte) bool {
	if len(answer) >= 2 && answer[0] == recordAlert && answer[1] == 3 {
		return true
	}
	for _, s := range toldTLS {
		if bytes.Contains(answer, s) {
			return true
		}
	}
	return false
}

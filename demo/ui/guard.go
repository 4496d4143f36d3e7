package ui

import (
	"fmt"
	"net"
	"net/http"
	"strings"
)

// guard refuses what another site makes a browser send: posts with a foreign origin, and requests under a name that is not
// this machine's own (DNS rebinding). curl and the like send neither and are let through.
func guard(h http.Handler) http.Handler {
	origin := http.NewCrossOriginProtection()
	origin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusForbidden, "cross_site", fmt.Errorf("this request comes from another site (%s): open the demo's own page, or use curl", r.Header.Get("Origin")))
	}))
	inner := origin.Handler(h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("X-Frame-Options", "DENY")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		if !ownName(r) {
			fail(w, http.StatusForbidden, "wrong_host", fmt.Errorf("the demo is not served under the name %q: use localhost or an IP address", r.Host))
			return
		}
		inner.ServeHTTP(w, r)
	})
}

// ownName reports whether the request names this machine in a way that no foreign DNS server can make up.
func ownName(r *http.Request) bool {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || net.ParseIP(host) != nil
}

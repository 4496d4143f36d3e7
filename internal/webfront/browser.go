package webfront

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/hull-go/hull/status"
)

// fromBrowser reports whether a page's browser may have made the request: browsers say where it comes from.
func fromBrowser(r *http.Request) bool {
	return r.Header["Origin"] != nil || r.Header["Sec-Fetch-Site"] != nil
}

// judgeOrigin refuses calls that a page from elsewhere makes with its reader's browser.
func (h *Handler) judgeOrigin(r *http.Request, c net.Conn) *status.Error {
	if h.origins[r.Header.Get("Origin")] {
		return nil
	}
	if fromBrowser(r) {
		call := *r
		call.Method = http.MethodPost // Check lets every GET pass, but here it may be a call
		if h.cross.Check(&call) != nil {
			page := "a page from elsewhere"
			if o := r.Header.Get("Origin"); o != "" {
				page = "a page from " + o
			}
			return denied(page + " may not call this service")
		}
	}
	return h.judgeName(r, c)
}

// judgeName refuses what a page may have sent to a service on its reader's machine, to which a stranger's name can be pointed. Browsers
// say nothing of themselves when a page on plain HTTP gets something from what it takes for its own origin.
func (h *Handler) judgeName(r *http.Request, c net.Conn) *status.Error {
	silent := r.Method == http.MethodGet || r.Method == http.MethodHead
	if c == nil || !(silent || fromBrowser(r)) || loopbackName(r.Host) || h.hosts[r.Host] || !isLoopback(c.LocalAddr()) {
		return nil
	}
	return denied("a page from " + r.Host + " may not call a service on this machine")
}

func denied(why string) *status.Error {
	return &status.Error{Code: status.PermissionDenied, Fate: status.NotSent,
		Message: why + ": allow its origin with hull.AllowOrigins, or serve the page on the service's own port"}
}

func isLoopback(a net.Addr) bool {
	ap, err := netip.ParseAddrPort(a.String())
	return err == nil && ap.Addr().Unmap().IsLoopback()
}

// loopbackName reports whether a host, perhaps with a port, is one that cannot have been pointed here by a stranger: an address, or localhost.
func loopbackName(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// preflight answers a browser's question whether a page from elsewhere may call.
func (h *Handler) preflight(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	if h.allow(w, r) {
		head.Set("Access-Control-Allow-Methods", "GET, POST")
		if want := r.Header.Get("Access-Control-Request-Headers"); want != "" {
			head.Set("Access-Control-Allow-Headers", want)
		}
		head.Set("Access-Control-Max-Age", "600")
	}
	w.WriteHeader(http.StatusNoContent)
}

// allow tells a browser that a page of an allowed origin may see the answer.
func (h *Handler) allow(w http.ResponseWriter, r *http.Request) bool {
	if len(h.origins) == 0 {
		return false
	}
	head := w.Header()
	head.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if !h.origins[origin] {
		return false
	}
	head.Set("Access-Control-Allow-Origin", origin)
	head.Set("Access-Control-Expose-Headers", "*, Grpc-Status, Grpc-Message, Grpc-Status-Details-Bin, Retry-After")
	return true
}

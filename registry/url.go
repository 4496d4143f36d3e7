package registry

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Parameter is one query parameter of a driver's URL. A driver's Parameters are the single source for its checks, for
// help texts and for docs.
type Parameter struct {
	Name    string // as in the URL
	Default string // as one would write it; empty = none
	Usage   string // what it does, in lower case
}

// CheckQuery returns u's query if every parameter in it is known and given once.
func CheckQuery(u *url.URL, known []Parameter) (url.Values, error) {
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("the query of the registry URL cannot be read: write it as ?name=value&name=value")
	}
	for name, values := range q {
		if !slices.ContainsFunc(known, func(p Parameter) bool { return p.Name == name }) {
			var names []string
			for _, p := range known {
				names = append(names, p.Name)
			}
			if len(names) == 0 {
				return nil, fmt.Errorf("unknown parameter %.40q: a %s registry has none", name, u.Scheme)
			}
			return nil, fmt.Errorf("unknown parameter %.40q: a %s registry has %s", name, u.Scheme, strings.Join(names, ", "))
		}
		if len(values) > 1 {
			return nil, fmt.Errorf("parameter %q is given %d times: once is enough", name, len(values))
		}
	}
	return q, nil
}

// ParseURL reads the URL of a registry. Unlike url.Parse it takes several hosts, IPv6 addresses among them:
// etcd://[2001:db8::1]:2379,[2001:db8::2]:2379. Hosts takes them apart. Errors do not show what may be a password.
func ParseURL(raw string) (*url.URL, error) {
	simple, hosts := raw, ""
	if i := strings.Index(raw, "://"); i >= 0 {
		begin := i + len("://")
		end := len(raw)
		if n := strings.IndexAny(raw[begin:], "/?#"); n >= 0 {
			end = begin + n
		}
		begin += strings.LastIndexByte(raw[begin:end], '@') + 1
		if strings.Contains(raw[begin:end], ",") {
			hosts = raw[begin:end]
			simple = raw[:begin] + "host" + raw[end:]
		}
	}
	u, err := url.Parse(simple)
	if err != nil {
		if strings.Contains(raw, "@") {
			return nil, errors.New("the registry URL cannot be read: in a name or password, write / ? # @ % as %2F %3F %23 %40 %25")
		}
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return nil, fmt.Errorf("the registry URL cannot be read: %w", err)
	}
	if hosts != "" {
		if strings.IndexFunc(hosts, func(r rune) bool { return r <= ' ' || r >= 0x7f }) >= 0 {
			return nil, errors.New("the registry URL cannot be read: write its hosts as host:port,host:port, without blanks")
		}
		u.Host = hosts
	}
	return u, nil
}

// Redact returns a URL for messages: without credentials, and without the query, which may hold them by mistake.
func Redact(u *url.URL) string {
	if strings.Contains(u.Host+u.Path+u.Opaque, "@") { // an unescaped slash in a password
		return u.Scheme + "://…"
	}
	c := url.URL{Scheme: u.Scheme, Opaque: u.Opaque, Path: u.Path}
	if u.Opaque != "" {
		return c.String()
	}
	return u.Scheme + "://" + u.Host + c.EscapedPath()
}

// Hosts returns the hosts of a URL that ParseURL has read, each as host:port. port is the one for those that name
// none; empty = each must.
func Hosts(u *url.URL, port string) ([]string, error) {
	var hosts []string
	for h := range strings.SplitSeq(u.Host, ",") {
		if h == "" {
			return nil, errors.New("an empty host: write host:port,host:port")
		}
		if i := strings.LastIndexByte(h, ':'); port != "" && (i < 0 || h[len(h)-1] == ']') {
			h += ":" + port
		}
		name, p, err := net.SplitHostPort(h)
		if n, perr := strconv.ParseUint(p, 10, 16); err != nil || perr != nil || n == 0 || name == "" || strings.ContainsAny(name, "/@ ") {
			return nil, fmt.Errorf("host %.60q: write host:port, and an IPv6 address in brackets", h)
		}
		if !slices.Contains(hosts, h) {
			hosts = append(hosts, h)
		}
	}
	return hosts, nil
}

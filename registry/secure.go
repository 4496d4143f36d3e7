package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// maxSecret bounds a file with credentials, in bytes.
const maxSecret = 64 << 10

// SecureParameters are the query parameters of engines that are reached through a network. TLSConfig and Credentials
// read them.
func SecureParameters() []Parameter {
	return []Parameter{
		{Name: "tls", Default: "false", Usage: "encrypt; a parameter that is about TLS implies it"},
		{Name: "ca", Default: "the system's", Usage: "file with the certificates that vouch for the engine's"},
		{Name: "cert", Usage: "file with one's own certificate; read again for each connection"},
		{Name: "key", Usage: "file with its key"},
		{Name: "server-name", Default: "the host", Usage: "name in the engine's certificate"},
		{Name: "credentials", Usage: "file with user:password, instead of those in the URL; read again when they are refused"},
	}
}

// TLSConfig returns what the query says about TLS; nil = no TLS.
func TLSConfig(q url.Values) (*tls.Config, error) {
	on := false
	for _, name := range []string{"ca", "cert", "key", "server-name"} {
		on = on || q.Get(name) != ""
	}
	if s := q.Get("tls"); s != "" {
		wanted, err := strconv.ParseBool(s)
		if err != nil {
			return nil, fmt.Errorf("tls=%.20q: write true or false", s)
		}
		if on && !wanted {
			return nil, errors.New("tls=false, but there are parameters about TLS: leave one out")
		}
		on = wanted
	}
	if !on {
		return nil, nil //nolint:nilnil // nil is how crypto/tls writes "no TLS"
	}
	c := &tls.Config{ServerName: q.Get("server-name"), MinVersion: tls.VersionTLS12}
	if ca := q.Get("ca"); ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca: no certificate in %s: it must be in PEM form", ca)
		}
	}
	cert, key := q.Get("cert"), q.Get("key")
	if (cert == "") != (key == "") {
		return nil, errors.New("cert and key go together: give both")
	}
	if cert != "" {
		if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
			return nil, fmt.Errorf("cert and key: %w", err)
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(cert, key) // anew: certificates are replaced while programs run
			return &pair, err
		}
	}
	return c, nil
}

// Credentials returns a function that tells the user and password for an engine: those of the URL, or of the file its
// credentials parameter names, as they are now. Without either both are empty.
func Credentials(u *url.URL, q url.Values) (func() (user, password string, err error), error) {
	file := q.Get("credentials")
	if file == "" {
		user := u.User.Username()
		password, _ := u.User.Password()
		return func() (string, string, error) { return user, password, nil }, nil
	}
	if u.User != nil {
		return nil, errors.New("credentials are given twice: in the URL and by a file")
	}
	read := func() (string, string, error) {
		b, err := os.ReadFile(file)
		if err != nil {
			return "", "", fmt.Errorf("credentials: %w", err)
		}
		user, password, _ := strings.Cut(strings.TrimRight(string(b), "\r\n"), ":")
		if len(b) > maxSecret || user == "" || strings.Contains(password, "\n") {
			return "", "", fmt.Errorf("credentials: %s must hold one line, user:password", file)
		}
		return user, password, nil
	}
	if _, _, err := read(); err != nil {
		return nil, err
	}
	return read, nil
}

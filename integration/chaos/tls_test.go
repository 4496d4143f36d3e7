package chaos_test

import (
	"crypto/tls"
	"crypto/x509"
	"os"
)

// tlsOf reads a certificate anew for each handshake, as programs do whose certificates are renewed while they run.
func tlsOf(cert, key string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		c, err := tls.LoadX509KeyPair(cert, key)
		return &c, err
	}}
}

// trusting verifies nodes by the certificates in a file.
func trusting(file string) *tls.Config {
	pool := x509.NewCertPool()
	if b, err := os.ReadFile(file); err == nil {
		pool.AppendCertsFromPEM(b)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
}

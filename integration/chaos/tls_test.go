package chaos_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
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

// certificates are files of an authority and of a node.
type certificates struct {
	ca, cert, key string
	authority     *x509.Certificate
	signer        *ecdsa.PrivateKey
	addrs         []net.IP // of nodes
}

func newCertificates(t testing.TB) *certificates {
	t.Helper()
	dir := t.TempDir()
	c := &certificates{ca: filepath.Join(dir, "ca.pem"), cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem")}
	var err error
	if c.signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, authorityTemplate(), authorityTemplate(), &c.signer.PublicKey, c.signer)
	if err != nil {
		t.Fatal(err)
	}
	if c.authority, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	savePEM(t, c.ca, "CERTIFICATE", der)
	return c
}

func authorityTemplate() *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Unix(0, 0),
		NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
}

// renew makes a certificate for the nodes, and puts it in the place of the one before.
func (c *certificates) renew(t testing.TB, until time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Unix(0, 0), NotAfter: until,
		IPAddresses: c.addrs, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, c.authority, &key.PublicKey, c.signer)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	savePEM(t, c.key+".new", "EC PRIVATE KEY", private)
	savePEM(t, c.cert+".new", "CERTIFICATE", der)
	for _, file := range []string{c.key, c.cert} { // between the two no handshake succeeds, and the next one does
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
}

func savePEM(t testing.TB, file, kind string, der []byte) {
	t.Helper()
	write(t, file, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
}

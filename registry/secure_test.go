package registry

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pair writes a self-signed certificate and its key.
func pair(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write(t, cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: kder})))
	return cert, key
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTLSConfig(t *testing.T) {
	cert, key := pair(t)
	for _, tt := range []struct {
		query string
		on    bool
		err   string
	}{
		{"", false, ""},
		{"tls=false", false, ""},
		{"tls=true", true, ""},
		{"tls=maybe", false, "true or false"},
		{"server-name=x", true, ""},
		{"tls=false&server-name=x", false, "leave one out"},
		{"ca=" + cert, true, ""},
		{"ca=" + key, false, "no certificate"},
		{"ca=/no/such/file", false, "no such file"},
		{"cert=" + cert, false, "go together"},
		{"cert=" + cert + "&key=" + key, true, ""},
		{"cert=" + key + "&key=" + cert, false, "cert and key"},
	} {
		q, err := url.ParseQuery(tt.query)
		if err != nil {
			t.Fatal(err)
		}
		c, err := TLSConfig(q)
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: error %v, want %q", tt.query, err, tt.err)
		}
		if (c != nil) != tt.on {
			t.Errorf("%s: TLS %v, want %v", tt.query, c != nil, tt.on)
		}
		if c != nil && c.GetClientCertificate != nil {
			if got, err := c.GetClientCertificate(nil); err != nil || len(got.Certificate) != 1 {
				t.Errorf("%s: %v, %v", tt.query, got, err)
			}
		}
	}
}

func TestCredentials(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	write(t, file, "me:se:cret\n")
	get := func(raw string) (string, error) {
		u, err := ParseURL(raw)
		if err != nil {
			t.Fatal(err)
		}
		f, err := Credentials(u, u.Query())
		if err != nil {
			return "", err
		}
		user, password, err := f()
		return user + "|" + password, err
	}
	for raw, want := range map[string]string{"x://a": "|", "x://me:pw%40@a,b": "me|pw@", "x://token@a": "token|", "x://a?credentials=" + file: "me|se:cret"} {
		if got, err := get(raw); got != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", raw, got, err, want)
		}
	}
	u, err := ParseURL("x://a?credentials=" + file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Credentials(u, u.Query())
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, "me:other")
	if _, password, err := f(); password != "other" || err != nil {
		t.Errorf("after the file has changed: %q, %v", password, err)
	}
	write(t, file, "\n")
	if _, _, err := f(); err == nil {
		t.Error("an empty file is taken")
	}
	for _, raw := range []string{"x://a?credentials=/no/such/file", "x://me:pw@a?credentials=" + file} {
		if _, err := get(raw); err == nil || strings.Contains(err.Error(), "pw") {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

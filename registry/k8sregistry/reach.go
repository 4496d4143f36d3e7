package k8sregistry

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/hull-go/hull/registry"
)

const (
	// inCluster is where a pod finds the API server, by the cluster's DNS; account holds what it needs there.
	inCluster = "https://kubernetes.default.svc:443"
	account   = "/var/run/secrets/kubernetes.io/serviceaccount"
	// maxFile bounds files with credentials, in bytes.
	maxFile = 4 << 20
)

// reach says where the API server is and who one is there, and in which namespace.
func reach(u *url.URL, q url.Values) (Options, error) {
	file, secure := q.Get("kubeconfig"), false
	for _, name := range []string{"token", "tls", "ca", "cert", "key", "server-name"} {
		secure = secure || q.Get(name) != ""
	}
	switch {
	case file != "" && (u.Host != "" || secure):
		return Options{}, errors.New("a kubeconfig says where the cluster is and who one is: leave out the host, token, ca, cert, key, server-name and tls")
	case file != "":
		return readKubeconfig(file, q.Get("context"))
	case q.Get("context") != "":
		return Options{}, errors.New("a context is one of a kubeconfig: name the file, too")
	case u.Host == "" && secure:
		return Options{}, errors.New("without a host a pod's own account is used: name the API server, or leave out token, ca, cert, key, server-name and tls")
	case u.Host == "":
		return pod(account)
	}
	hosts, err := registry.Hosts(u, "443")
	if err != nil {
		return Options{}, err
	}
	if len(hosts) != 1 {
		return Options{}, errors.New("one API server, please: a cluster has one address for all of them")
	}
	o := Options{Server: "https://" + hosts[0], CA: q.Get("ca")}
	if q.Get("tls") == "" {
		q.Set("tls", "true")
	}
	if o.TLS, err = registry.TLSConfig(q); err != nil {
		return Options{}, err
	}
	if o.TLS == nil {
		o.Server = "http://" + hosts[0]
	}
	if token := q.Get("token"); token != "" {
		if o.Token, err = tokenFile(token); err != nil {
			return Options{}, err
		}
	}
	return o, nil
}

// pod returns what a pod finds in the directory of its account.
func pod(dir string) (Options, error) {
	namespace, err := readFile(filepath.Join(dir, "namespace"))
	if err != nil {
		return Options{}, fmt.Errorf("this is no pod with a service account: name the API server or a kubeconfig: %w", err)
	}
	token, err := tokenFile(filepath.Join(dir, "token"))
	if err != nil {
		return Options{}, err
	}
	return Options{Server: inCluster, CA: filepath.Join(dir, "ca.crt"), Token: token, Namespace: strings.TrimSpace(string(namespace))}, nil
}

// tokenFile returns a function that reads a token, having tried it.
func tokenFile(file string) (func() (string, error), error) {
	read := func() (string, error) {
		b, err := readFile(file)
		if err != nil {
			return "", fmt.Errorf("token: %w", err)
		}
		token := strings.TrimSpace(string(b))
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return "", fmt.Errorf("token: %s must hold one token", file)
		}
		return token, nil
	}
	_, err := read()
	return read, err
}

func readFile(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: it must be a file of at most %d bytes", file, maxFile)
	}
	return os.ReadFile(file)
}

// kubeconfig is what is read of such a file.
type kubeconfig struct {
	Current  string `yaml:"current-context"`
	Contexts []struct {
		Name    string
		Context struct{ Cluster, User, Namespace string }
	}
	Clusters []struct {
		Name    string
		Cluster struct {
			Server     string
			CA         string `yaml:"certificate-authority"`
			CAData     string `yaml:"certificate-authority-data"`
			Insecure   bool   `yaml:"insecure-skip-tls-verify"`
			ServerName string `yaml:"tls-server-name"`
			Proxy      string `yaml:"proxy-url"`
		}
	}
	Users []struct {
		Name string
		User struct {
			Token     string
			TokenFile string `yaml:"tokenFile"`
			Cert      string `yaml:"client-certificate"`
			CertData  string `yaml:"client-certificate-data"`
			Key       string `yaml:"client-key"`
			KeyData   string `yaml:"client-key-data"`
			Exec      any
			Provider  any    `yaml:"auth-provider"`
			User      string `yaml:"username"`
			As        string
		}
	}
}

// readKubeconfig returns what a kubeconfig says of one of its contexts; empty = the current one.
func readKubeconfig(file, name string) (Options, error) {
	b, err := readFile(file)
	if err != nil {
		return Options{}, fmt.Errorf("kubeconfig: %w", err)
	}
	var k kubeconfig
	if err := yaml.Unmarshal(b, &k); err != nil {
		return Options{}, fmt.Errorf("kubeconfig: %s is none that can be read", file) // the error may show a secret
	}
	o, err := k.options(filepath.Dir(file), name)
	if err != nil {
		return Options{}, fmt.Errorf("kubeconfig: %s: %w", file, err)
	}
	return o, nil
}

func (k *kubeconfig) options(dir, name string) (Options, error) {
	if name == "" {
		name = k.Current
	}
	var o Options
	cluster, user, found := "", "", false
	for _, c := range k.Contexts {
		if c.Name == name && !found {
			cluster, user, o.Namespace, found = c.Context.Cluster, c.Context.User, c.Context.Namespace, true
		}
	}
	if !found {
		return o, fmt.Errorf("it has no context %.80q", name)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	o.TLS, found = config, false
	for _, c := range k.Clusters {
		if c.Name != cluster || found {
			continue
		}
		found = true
		switch {
		case c.Cluster.Insecure:
			return o, errors.New("it wants anyone taken for the API server (insecure-skip-tls-verify): give the cluster's certificate-authority")
		case c.Cluster.Proxy != "":
			return o, errors.New("it wants a proxy, which is not supported: use kubectl proxy, and k8s://127.0.0.1:8001?tls=false")
		}
		o.Server, config.ServerName = strings.TrimRight(c.Cluster.Server, "/"), c.Cluster.ServerName
		if c.Cluster.CAData != "" {
			pem, err := base64.StdEncoding.DecodeString(c.Cluster.CAData)
			if config.RootCAs = x509.NewCertPool(); err != nil || !config.RootCAs.AppendCertsFromPEM(pem) {
				return o, errors.New("certificate-authority-data holds no certificate")
			}
		} else if c.Cluster.CA != "" {
			o.CA = under(dir, c.Cluster.CA)
		}
	}
	if !found {
		return o, fmt.Errorf("it has no cluster %.80q", cluster)
	}
	for _, u := range k.Users {
		if u.Name != user {
			continue
		}
		if u.User.Exec != nil || u.User.Provider != nil || u.User.User != "" || u.User.As != "" {
			return o, fmt.Errorf("user %.80q logs in by a program, a password or as another, which is not supported: use kubectl proxy, and k8s://127.0.0.1:8001?tls=false", user)
		}
		var err error
		switch {
		case u.User.TokenFile != "":
			o.Token, err = tokenFile(under(dir, u.User.TokenFile))
		case u.User.Token != "":
			o.Token = func() (string, error) { return u.User.Token, nil }
		}
		if err != nil {
			return o, err
		}
		config.GetClientCertificate, err = certificate(dir, u.User.Cert, u.User.CertData, u.User.Key, u.User.KeyData)
		return o, err
	}
	if user != "" {
		return o, fmt.Errorf("it has no user %.80q", user)
	}
	return o, nil
}

type getCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error)

// certificate returns what presents a client's certificate, or nil. Files are read again for each connection.
func certificate(dir, cert, certData, key, keyData string) (getCertificate, error) {
	load := func(file, data string) ([]byte, error) {
		if data != "" {
			return base64.StdEncoding.DecodeString(data)
		}
		return readFile(under(dir, file))
	}
	if cert == "" && certData == "" {
		return nil, nil //nolint:nilnil // nil is how crypto/tls writes "none"
	}
	get := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		c, err := load(cert, certData)
		if err != nil {
			return nil, errors.New("the client's certificate cannot be read")
		}
		k, err := load(key, keyData)
		if err != nil {
			return nil, errors.New("the client's key cannot be read")
		}
		pair, err := tls.X509KeyPair(c, k)
		if err != nil {
			return nil, errors.New("the client's certificate and key do not fit")
		}
		return &pair, nil
	}
	_, err := get(nil)
	return get, err
}

// under returns a path that a file in dir names.
func under(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// tls returns the configuration of a new connection's TLS.
func (d *Driver) tls() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if d.opt.TLS != nil {
		c = d.opt.TLS.Clone()
	}
	if d.opt.CA == "" {
		return c, nil
	}
	pem, err := readFile(d.opt.CA)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca: no certificate in %s: it must be in PEM form", d.opt.CA)
	}
	return c, nil
}

// host is the API server as messages call it.
func (d *Driver) host() string {
	if h, port, err := net.SplitHostPort(d.base.Host); err == nil && port == "443" {
		return h
	}
	return d.base.Host
}

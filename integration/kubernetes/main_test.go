package kubernetes_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/hull-go/hull/integration/engine"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/k8sregistry"
)

const (
	ttl       = 4 * time.Second
	port      = "6443"
	admin     = "the-admins-token"
	namespace = "shop"
)

func TestMain(m *testing.M) {
	engine.Main(m, map[string]func([]string, func(string)) error{"etcd": serveEtcd})
}

// serveEtcd runs what the API server keeps everything in; its argument is a directory.
func serveEtcd(args []string, listening func(string)) error {
	c := embed.NewConfig()
	c.Dir = args[0]
	c.LogLevel = "error"
	c.UnsafeNoFsync = true // what is tested does not outlive the machine
	c.ListenClientUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	c.AdvertiseClientUrls = c.ListenClientUrls
	c.ListenPeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	c.AdvertisePeerUrls = c.ListenPeerUrls
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	e, err := embed.StartEtcd(c)
	if err != nil {
		return err
	}
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		return err
	}
	listening(e.Clients[0].Addr().String())
	return <-e.Err()
}

// binary builds the API server as a tool of a module of its own, or takes it out of Go's cache.
var binary = sync.OnceValues(func() (string, error) {
	cmd := exec.Command("go", "tool", "-modfile="+filepath.Join("..", "..", "tools", "kubernetes", "go.mod"), "-n", "kube-apiserver")
	cmd.Stderr = os.Stderr
	path, err := cmd.Output()
	return strings.TrimSpace(string(path)), err
})

// cluster is a kube-apiserver behind a proxy, and its etcd.
type cluster struct {
	*engine.Process
	*engine.Proxy
	t      testing.TB
	dir    string
	etcd   *engine.Process
	store  string // where etcd listens
	direct string // past the proxy
	client *http.Client
	logins []string // files with tokens that wiping takes back
}

// start starts an API server with an empty namespace and an account that may read it.
func start(t testing.TB) *cluster {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatalf("build kube-apiserver: %v", err)
	}
	c := &cluster{t: t, dir: t.TempDir(), Proxy: engine.NewProxy(t)}
	host := freeHost(t)
	c.direct = net.JoinHostPort(host, port)
	c.certificates(host)
	c.file("tokens.csv", admin+`,admin,1,"system:masters"`+"\n")
	c.etcd = engine.Self(t, "etcd", func() []string { return []string{filepath.Join(c.dir, "etcd")} })
	c.store = c.etcd.Start()
	c.Process = engine.New(t, func() *exec.Cmd {
		return exec.Command(path,
			"--etcd-servers=http://"+c.store, "--bind-address="+host, "--secure-port="+port, "--advertise-address=192.0.2.1",
			"--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.96.0.0/16",
			"--tls-cert-file="+c.path("server.crt"), "--tls-private-key-file="+c.path("server.key"),
			"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+c.path("server.key"),
			"--service-account-signing-key-file="+c.path("server.key"),
			"--authorization-mode=RBAC", "--token-auth-file="+c.path("tokens.csv"), "--profiling=false")
	})
	c.start()
	return c
}

func (c *cluster) path(name string) string { return filepath.Join(c.dir, name) }

func (c *cluster) file(name, text string) {
	c.t.Helper()
	if err := os.WriteFile(c.path(name), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// certificates makes the server's certificate, which vouches for itself.
func (c *cluster) certificates(host string) {
	c.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kube-apiserver"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.ParseIP("127.0.0.1"), net.ParseIP(host)},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		c.t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		c.t.Fatal(err)
	}
	c.file("server.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
	c.file("server.key", string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})))
	pool := x509.NewCertPool()
	parsed, err := x509.ParseCertificate(cert)
	if err != nil {
		c.t.Fatal(err)
	}
	pool.AddCert(parsed)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}, MaxIdleConnsPerHost: 10}
	c.client = &http.Client{Transport: transport}
	c.t.Cleanup(transport.CloseIdleConnections)
}

// freeHost returns a loopback address where nobody uses the port: the server cannot choose one by itself, but the loopback
// network has sixteen million hosts.
func freeHost(t testing.TB) string {
	t.Helper()
	for {
		h := fmt.Sprintf("127.%d.%d.%d", 1+mathrand.IntN(254), mathrand.IntN(256), 1+mathrand.IntN(254))
		l, err := net.Listen("tcp", net.JoinHostPort(h, port))
		if err != nil {
			continue
		}
		_ = l.Close()
		return h
	}
}

// start starts the API server and returns when it serves, with all that tests need.
func (c *cluster) start() {
	c.StartUntil(func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if err := c.do(ctx, c.direct, http.MethodGet, "/readyz", nil, nil); err != nil {
			return err
		}
		return c.furnish(ctx)
	})
	c.Forward(c.direct)
}

// furnish makes the namespace, and the account of programs, if they are not there.
func (c *cluster) furnish(ctx context.Context) error {
	const core, rbac = "/api/v1/namespaces", "/apis/rbac.authorization.k8s.io/v1/namespaces/" + namespace
	for _, o := range []struct {
		path   string
		object map[string]any
	}{
		{core, object(namespace)},
		{core + "/" + namespace + "/serviceaccounts", object("programs")},
		{rbac + "/roles", with(object("hull"), "rules", []any{
			map[string]any{"apiGroups": []string{"discovery.k8s.io"}, "resources": []string{"endpointslices"}, "verbs": []string{"list", "watch"}}})},
		{rbac + "/rolebindings", binding()},
	} {
		var answer *statusError
		if err := c.do(ctx, c.direct, http.MethodPost, o.path, o.object, nil); err != nil && (!errors.As(err, &answer) || answer.code != http.StatusConflict) {
			return err
		}
	}
	return nil
}

func object(name string) map[string]any {
	return map[string]any{"metadata": map[string]any{"name": name}}
}

func with(o map[string]any, key string, value any) map[string]any {
	o[key] = value
	return o
}

const bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/" + namespace + "/rolebindings"

func binding() map[string]any {
	return with(with(object("hull"), "roleRef", map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "hull"}),
		"subjects", []any{map[string]any{"kind": "ServiceAccount", "name": "programs", "namespace": namespace}})
}

func (c *cluster) kill() {
	c.Forward("")
	c.Kill()
	c.Proxy.Reset()
}

// wipe ends everything and begins with an empty cluster.
func (c *cluster) wipe() {
	c.kill()
	c.etcd.Kill()
	if err := os.RemoveAll(c.path("etcd")); err != nil {
		c.t.Error(err)
	}
	c.store = c.etcd.Start()
	c.start()
	for _, file := range c.logins { // another account of the same name
		c.token(file)
	}
}

type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string { return e.text }

// do sends a request to a host as the admin.
func (c *cluster) do(ctx context.Context, host, method, path string, body, into any) error {
	var data io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		data = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://"+host+path, data)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+admin)
	req.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	res, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return &statusError{code: res.StatusCode, text: fmt.Sprintf("%s %s: %s: %.500s", method, path, res.Status, text)}
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}

// must is do past the proxy, and fails the test.
func (c *cluster) must(method, path string, body, into any) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := c.do(ctx, c.direct, method, path, body, into); err != nil {
		c.t.Error(err)
	}
}

// login writes a token of the programs' account into a file, which stays valid, and returns the file.
func (c *cluster) login(name string) string {
	c.t.Helper()
	c.logins = append(c.logins, name)
	c.token(name)
	return c.path(name)
}

func (c *cluster) token(name string) {
	c.t.Helper()
	var answer struct{ Status struct{ Token string } }
	c.must(http.MethodPost, "/api/v1/namespaces/"+namespace+"/serviceaccounts/programs/token", map[string]any{"spec": map[string]any{}}, &answer)
	c.file(name, answer.Status.Token)
}

// url is how programs find the cluster, with a token of a file.
func (c *cluster) url(token, query string) string {
	return "k8s://" + c.Addr() + "?namespace=" + namespace + "&ca=" + c.path("server.crt") + "&token=" + token + query
}

// open returns a driver as one more process would have it.
func (c *cluster) open(t testing.TB, token, query string) registry.Driver {
	t.Helper()
	u, err := registry.ParseURL(c.url(token, query))
	if err != nil {
		t.Fatal(err)
	}
	d, err := k8sregistry.FromURL(u)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

package k8sregistry

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hull-go/hull/registry"
)

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

const authority = `-----BEGIN CERTIFICATE-----
MIIBPTCB5KADAgECAgEBMAoGCCqGSM49BAMCMA8xDTALBgNVBAMTBHRlc3QwHhcN
-----END CERTIFICATE-----
`

func TestURLs(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"token": "hush\n", "two": "hu sh", "empty": "", "config": config})
	for raw, want := range map[string]string{
		"k8s://h":                      "",
		"k8s://h:6443?token=DIR/token": "",
		"k8s://[::1]:6443?namespace=shop&label=hull.dev/service&selector=a%3Db&port=http&family=6&annotations=true&protocol=grpc,http": "",
		"k8s://127.0.0.1:8001?tls=false":                 "",
		"k8s://127.0.0.1:8001?tls=false&token=DIR/token": "without TLS",
		"k8s://":                                        "this is no pod",
		"k8s://?token=DIR/token":                        "without a host",
		"k8s://h,i":                                     "one API server",
		"k8s://h?token=DIR/none":                        "no such file",
		"k8s://h?token=DIR/two":                         "one token",
		"k8s://h?token=DIR/empty":                       "one token",
		"k8s://h?token=DIR":                             "it must be a file",
		"k8s://h?namespace=No":                          "lower-case",
		"k8s://h?label=a%3Db":                           "its name alone",
		"k8s://h?family=5":                              "choose 4 or 6",
		"k8s://h?family=x":                              "write 4 or 6",
		"k8s://h?annotations=x":                         "true or false",
		"k8s://h?credentials=x":                         "unknown parameter",
		"k8s://h/path":                                  "write the URL as",
		"k8s://me@h":                                    "write the URL as",
		"file://":                                       "write the URL as",
		"k8s://h?ca=DIR/none&tls=false":                 "tls=false",
		"k8s://h?ca=DIR/token":                          "PEM",
		"k8s://h?context=x":                             "name the file",
		"k8s://h?kubeconfig=DIR/config":                 "leave out the host",
		"k8s://?kubeconfig=DIR/none":                    "no such file",
		"k8s://?kubeconfig=DIR/token":                   "none that can be read",
		"k8s://?kubeconfig=DIR/config":                  "",
		"k8s://?kubeconfig=DIR/config&context=other":    "",
		"k8s://?kubeconfig=DIR/config&context=none":     "no context",
		"k8s://?kubeconfig=DIR/config&context=exec":     "kubectl proxy",
		"k8s://?kubeconfig=DIR/config&context=insecure": "certificate-authority",
		"k8s://?kubeconfig=DIR/config&context=proxied":  "proxy",
		"k8s://?kubeconfig=DIR/config&context=stranger": "no user",
		"k8s://?kubeconfig=DIR/config&context=nowhere":  "no cluster",
		"k8s://?kubeconfig=DIR/config&context=badca":    "no certificate",
	} {
		u, err := registry.ParseURL(strings.ReplaceAll(raw, "DIR", dir))
		if err != nil {
			t.Fatal(err)
		}
		d, err := FromURL(u)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one about %q", raw, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: the error shows a secret: %v", raw, err)
		}
		if err == nil {
			_ = d.(*Driver).Close()
		}
	}
}

const config = `
current-context: main
contexts:
- {name: main, context: {cluster: c, user: me, namespace: shop}}
- {name: other, context: {cluster: c, user: file}}
- {name: exec, context: {cluster: c, user: exec}}
- {name: insecure, context: {cluster: insecure, user: me}}
- {name: proxied, context: {cluster: proxied, user: me}}
- {name: stranger, context: {cluster: c, user: nobody}}
- {name: nowhere, context: {cluster: none, user: me}}
- {name: badca, context: {cluster: badca, user: me}}
clusters:
- {name: c, cluster: {server: "https://h:6443/prefix/", certificate-authority: ca.crt, tls-server-name: k}}
- {name: insecure, cluster: {server: "https://h", insecure-skip-tls-verify: true}}
- {name: proxied, cluster: {server: "https://h", proxy-url: "http://p"}}
- {name: badca, cluster: {server: "https://h", certificate-authority-data: c2VjcmV0}}
users:
- {name: me, user: {token: hush}}
- {name: file, user: {tokenFile: token}}
- {name: exec, user: {exec: {command: aws}}}
`

func TestKubeconfig(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"config": config, "token": "one"})
	o, err := readKubeconfig(filepath.Join(dir, "config"), "")
	if err != nil {
		t.Fatal(err)
	}
	if token, err := o.Token(); err != nil || token != "hush" || o.Server != "https://h:6443/prefix" || o.Namespace != "shop" || o.CA != filepath.Join(dir, "ca.crt") || o.TLS.ServerName != "k" {
		t.Errorf("%+v, %q, %v", o, token, err)
	}
	o, err = readKubeconfig(filepath.Join(dir, "config"), "other")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"one", "two"} {
		write(t, dir, map[string]string{"token": want})
		if token, err := o.Token(); err != nil || token != want {
			t.Errorf("token %q, %v", token, err)
		}
	}
}

// A pod has its account in a directory.
func TestPod(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"namespace": "shop", "token": "one", "ca.crt": authority})
	o, err := pod(dir)
	if err != nil {
		t.Fatal(err)
	}
	token, err := o.Token()
	if err != nil || token != "one" || o.Namespace != "shop" || o.Server != inCluster {
		t.Errorf("%+v, %q, %v", o, token, err)
	}
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.http(); err == nil || !strings.Contains(err.Error(), "PEM") { // the one above is cut short
		t.Errorf("a broken authority: %v", err)
	}
}

package etcd_test

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/hull-go/hull/integration/engine"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/etcdregistry"
)

func TestMain(m *testing.M) {
	servers := engine.Program(etcdregistry.FromURL)
	servers["etcd"] = serve
	engine.Main(m, servers)
}

// serve runs etcd: its arguments are a scheme, an address without port, a directory, its name, and all members' names. Members talk through sockets in the
// directory, so that no port has to be known beforehand.
func serve(args []string, listening func(string)) error {
	scheme, host, dir, name, members := args[0], args[1], args[2], args[3], args[4:]
	c := embed.NewConfig()
	c.Dir = filepath.Join(dir, name)
	c.Name = name
	c.LogLevel = "error"
	c.UnsafeNoFsync = true // what is tested does not outlive the machine
	c.BcryptCost = 4       // the race detector makes checking passwords ten times as dear
	c.ListenClientUrls = []url.URL{{Scheme: scheme, Host: net.JoinHostPort(host, "0")}}
	c.AdvertiseClientUrls = c.ListenClientUrls
	c.ClientAutoTLS = scheme == "https"
	c.SelfSignedCertValidity = 1 // years
	peer := func(name string) url.URL { return url.URL{Scheme: "unix", Host: name + ":1"} }
	c.ListenPeerUrls = []url.URL{peer(name)}
	c.AdvertisePeerUrls = c.ListenPeerUrls
	var cluster []string
	for _, m := range members {
		u := peer(m)
		cluster = append(cluster, m+"="+u.String())
	}
	c.InitialCluster = strings.Join(cluster, ",")
	if err := os.Chdir(dir); err != nil {
		return err
	}
	if err := os.Remove(name + ":1"); err != nil && !os.IsNotExist(err) {
		return err
	}
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

// member is one etcd, behind a proxy.
type member struct {
	*engine.Process
	*engine.Proxy
	dir, name string
	direct    string // past the proxy
}

// cluster starts n members and returns when all of them serve.
func cluster(t testing.TB, n int) []*member {
	t.Helper()
	return clusterOf(t, n, "http")
}

func clusterOf(t testing.TB, n int, scheme string) []*member {
	t.Helper()
	dir := t.TempDir()
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("m%d", i))
	}
	var all []*member
	for _, name := range names {
		m := &member{Process: engine.Self(t, "etcd", func() []string { return append([]string{scheme, "127.0.0.1", dir, name}, names...) }),
			Proxy: engine.NewProxy(t), dir: dir, name: name}
		all = append(all, m)
		m.Launch()
	}
	for _, m := range all { // they wait for each other
		m.direct = m.Await()
		m.Forward(m.direct)
	}
	return all
}

func (m *member) start() {
	m.direct = m.Start()
	m.Forward(m.direct)
}

func (m *member) kill() {
	m.Forward("")
	m.Kill()
	m.Reset()
}

func (m *member) wipe(t testing.TB) {
	m.kill()
	if err := os.RemoveAll(filepath.Join(m.dir, m.name)); err != nil {
		t.Error(err)
	}
	m.start()
}

// open returns a driver as one more process would have it.
func open(t testing.TB, query string, members ...*member) registry.Driver {
	t.Helper()
	var hosts []string
	for _, m := range members {
		hosts = append(hosts, m.Addr())
	}
	u, err := registry.ParseURL("etcd://" + strings.Join(hosts, ",") + query)
	if err != nil {
		t.Fatal(err)
	}
	return openURL(t, u)
}

func openURL(t testing.TB, u *url.URL) registry.Driver {
	t.Helper()
	d, err := etcdregistry.FromURL(u)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

const ttl = 4 * time.Second

package zookeeper_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/hull-go/hull/integration/engine"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/zkregistry"
)

const (
	ttl = 4 * time.Second
	// jar is Debian's; it names the other jars it needs.
	jar  = "/usr/share/java/zookeeper.jar"
	port = "2181"
)

func TestMain(m *testing.M) {
	engine.Main(m, engine.Program(zkregistry.FromURL))
}

// server is one ZooKeeper, behind a proxy.
type server struct {
	*engine.Process
	*engine.Proxy
	t      testing.TB
	dir    string
	direct string // past the proxy
}

func start(t testing.TB) *server {
	t.Helper()
	s := newServer(t, address(t), "")
	s.Process = engine.New(t, s.command)
	s.start()
	return s
}

// newServer returns a server that has its configuration and no process.
func newServer(t testing.TB, direct, extra string) *server {
	t.Helper()
	s := &server{t: t, dir: t.TempDir(), direct: direct, Proxy: engine.NewProxy(t)}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	host, _, _ := net.SplitHostPort(s.direct)
	write("zoo.cfg", fmt.Sprintf(`dataDir=%s
clientPortAddress=%s
clientPort=%s
tickTime=500
maxSessionTimeout=60000
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=srvr,cons,mntr
%s
`, filepath.Join(s.dir, "data"), host, port, extra))
	write("log4j.properties", `log4j.rootLogger=WARN, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%p %m%n
`)
	return s
}

// command runs the server.
func (s *server) command() *exec.Cmd {
	return exec.Command("java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
		"-Dzookeeper.forceSync=no", // what is tested does not outlive the machine
		"-cp", s.dir+":"+jar, "org.apache.zookeeper.server.quorum.QuorumPeerMain", filepath.Join(s.dir, "zoo.cfg"))
}

// address returns one that nobody else has: ZooKeeper cannot choose a port by itself.
func address(t testing.TB) string {
	t.Helper()
	return net.JoinHostPort(host(t), port)
}

// host returns an address of this machine whose ports nobody has: the loopback network has sixteen million hosts.
func host(t testing.TB) string {
	t.Helper()
	for {
		h := engine.Loopback()
		l, err := net.Listen("tcp", net.JoinHostPort(h, port))
		if err != nil {
			continue
		}
		_ = l.Close()
		return h
	}
}

func (s *server) start() {
	s.StartUntil(s.serves)
	s.Forward(s.direct)
}

// serves returns nil if the server does.
func (s *server) serves(ctx context.Context) error {
	text, err := s.word(ctx, "srvr")
	if err == nil && !strings.Contains(text, "Mode:") {
		err = errors.New(text)
	}
	return err
}

func (s *server) kill() {
	s.Forward("")
	s.Kill()
	s.Reset()
}

func (s *server) wipe() {
	s.kill()
	if err := os.RemoveAll(filepath.Join(s.dir, "data")); err != nil {
		s.t.Error(err)
	}
	s.start()
}

// word sends one of ZooKeeper's words of four letters and returns the answer.
func (s *server) word(ctx context.Context, word string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", s.direct)
	if err != nil {
		return "", err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	if _, err := io.WriteString(c, word); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(b), err
}

// client returns a connection of the test's own, past the proxy.
func (s *server) client(t testing.TB) *zk.Conn {
	t.Helper()
	c, events, err := zk.Connect([]string{s.direct}, 30*time.Second, zk.WithLogger(quiet{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	for {
		select {
		case e := <-events:
			if e.State == zk.StateHasSession {
				return c
			}
		case <-time.After(time.Minute):
			t.Fatal("no session within a minute")
		}
	}
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}

// open returns a driver as one more process would have it.
func (s *server) open(t testing.TB, who, query string) registry.Driver {
	t.Helper()
	return openURL(t, "zk://"+who+s.Addr()+query)
}

func openURL(t testing.TB, raw string) registry.Driver {
	t.Helper()
	u, err := registry.ParseURL(raw)
	if err != nil {
		t.Fatal(err)
	}
	d, err := zkregistry.FromURL(u)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

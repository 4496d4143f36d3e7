package hull_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hull-go/hull"
	pb "github.com/hull-go/hull/examples/greeter/greeterpb"
	"github.com/hull-go/hull/idempotency"
	"github.com/hull-go/hull/idempotency/storetest"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
	"github.com/hull-go/hull/spec"
	"github.com/hull-go/hull/status"
)

// TestAdminShowsAllConns is that the page knows what was called through connections with options of their own, and counts it together with the rest.
func TestAdminShowsAllConns(t *testing.T) {
	s := openShop(t)
	for range 3 {
		for _, c := range []*hull.Conn{s.client.To("shop"), s.client.To("shop", hull.Timeout(30*time.Second)), s.client.To("shop", hull.Select("version=none"))} {
			_, _ = hull.Call[pb.HelloReply](t.Context(), c, "shop.S/Get", &pb.HelloRequest{Name: "bad"}, hull.Timeout(30*time.Second))
		}
	}
	_, _ = hull.Call[pb.HelloReply](t.Context(), s.client.To("shop", hull.MaxAttempts(1)), "shop.S/Other", &pb.HelloRequest{})
	_, body := s.do(http.MethodGet, "http://"+s.client.AdminAddr()+"/hull/state", "")
	for _, want := range []string{"method shop.S/Get: 9 calls, 3 refused, 6 attempts", "breaker closed, 6 of 6 calls failed in its window", "method shop.S/Other: 1 calls"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in\n%s", want, body)
		}
	}
}

// TestAdminOfAServer is that the page of a program that only serves shows, compares and changes what the server goes by.
func TestAdminOfAServer(t *testing.T) {
	reg, err := registry.New(memregistry.New(), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	const began = "services: {plant: {server_limit: {source: fixed, limit: 50}}}"
	doc, err := spec.Parse("began", []byte(began))
	if err != nil {
		t.Fatal(err)
	}
	s := &shop{t: t}
	srv := s.serve("plant", reg, func(_ context.Context, r *pb.HelloRequest) (*pb.HelloReply, error) {
		return &pb.HelloReply{Message: r.Name}, nil
	},
		hull.WithSpec(doc), hull.WithAdmin("127.0.0.1:0"))
	page := "http://" + srv.AdminAddr() + "/hull/"
	get := func(path string, wants ...string) {
		t.Helper()
		code, body := s.do(http.MethodGet, page+path, "")
		for _, want := range wants {
			if code != http.StatusOK || !strings.Contains(body, want) {
				t.Errorf("%s: %d, no %q in\n%s", path, code, want, body)
			}
		}
	}
	post := func(path, doc string, status int, want string) {
		t.Helper()
		if code, body := s.do(http.MethodPost, page+path, doc, "Content-Type", "application/yaml"); code != status || !strings.Contains(body, want) {
			t.Errorf("%s of %q: %d %s, want %q", path, doc, code, body, want)
		}
	}
	get("spec", "# server plant, from the program, with WithSpec\n", `"limit": 50`)
	get("spec?format=json", `"of": "server plant"`)
	get("explain/plant", "server plant, node plant-1 at ", "policies, from the program, with WithSpec", "server_limit.limit", "50")
	get("explain/plant/plant.S/Get?format=json", `"server"`, `"plant.S/Get"`)
	if code, body := s.do(http.MethodGet, page+"explain/plnat", ""); code != http.StatusNotFound || !strings.Contains(body, "did you mean plant?") {
		t.Errorf("%d %s", code, body)
	}
	const next = "services: {plant: {server_limit: {source: fixed, limit: 60}}}"
	post("spec?do=diff", next, http.StatusOK, "plant: server_limit.limit: 50 -> 60\n")
	post("spec?do=diff", "defaults: {server_limit: {source: fixed, limit: 70}}", http.StatusOK, "plant: server_limit.limit: 50 -> 70\n")
	post("spec?do=diff", strings.Replace(began, "plant:", "plant: {retry: {attempts: 2}}, other:", 1), http.StatusOK, "plant: server_limit.limit: 50 -> ")
	get("spec", `"limit": 50`)
	for _, nothing := range []string{"", "null", "# gone"} {
		post("spec", nothing, http.StatusUnprocessableEntity, "it is empty: write {} for the defaults")
	}
	get("state", "limit     0 running of at most 50,", "policies  from the program, with WithSpec")
	post("spec", next, http.StatusOK, "in force\nplant: server_limit.limit: 50 -> 60\n")
	get("state", "limit     0 running of at most 60,", "policies  from the admin page at ")
	get("spec", "# server plant, from the admin page at ", `"limit": 60`)
	if err := srv.Apply(doc); err != nil {
		t.Fatal(err)
	}
	get("spec", "# server plant, from the program, with Server.Apply at ", `"limit": 50`)
}

// TestAdminShowsServer is what the page says of a server that has had to refuse calls, and of calls with keys.
func TestAdminShowsServer(t *testing.T) {
	reg, err := registry.New(memregistry.New(), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	doc, err := spec.Parse("small", []byte("services: {plant: {server_limit: {source: fixed, limit: 1, queue: 0, reserve: false}, server_rate: {limit: 1000, mode: dry-run}}}"))
	if err != nil {
		t.Fatal(err)
	}
	s := &shop{t: t}
	began, end := make(chan struct{}), make(chan struct{})
	srv := s.serve("plant", reg, func(_ context.Context, r *pb.HelloRequest) (*pb.HelloReply, error) {
		if r.Name == "hold" {
			close(began)
			<-end
		}
		return &pb.HelloReply{Message: r.Name}, nil
	}, hull.WithSpec(doc), hull.WithAdmin("127.0.0.1:0"), hull.WithSignals(func() hull.Signals { return hull.Signals{} }))
	c, err := hull.NewClient(hull.WithRegistry(reg), hull.WithAdmin("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	call := func(name string, opts ...hull.CallOption) error {
		_, err := hull.Call[pb.HelloReply](t.Context(), c.To("plant"), "plant.S/Get", &pb.HelloRequest{Name: name}, append(opts, hull.Timeout(time.Minute), hull.MaxAttempts(1))...)
		return err
	}
	for range 2 {
		if err := call("once", hull.IdempotencyKey("k")); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() { done <- call("hold") }()
	<-began
	var info hull.CallInfo
	if err := call("more", hull.Criticality(policy.Sheddable), hull.Explained(&info)); !errors.As(err, new(*status.Error)) {
		t.Error(err)
	}
	_, body := s.do(http.MethodGet, "http://"+srv.AdminAddr()+"/hull/state", "")
	close(end)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"plant-1 at 127.0.0.1:", ": ready\n", "calls     3 so far, 0 failed, 1 in flight", "refused   1 calls (1 for want of a place, 0 above their caller's rate, 0 under pressure)",
		"limit     1 running of at most 1, 0 of them in reserve\n", "line      0 waiting of at most 0,", "rate      1000 per 1s for each caller [dry-run]", "pressure  none: ",
		"method    plant.S/Get: 1 running,", "keys      1 kept for 10m0s in ", ", 1 calls ran, 1 got an earlier answer\n"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in\n%s", want, body)
		}
	}
	if n := srv.Snapshot().Keys; n.Started != 1 || n.Replayed != 1 {
		t.Errorf("%+v", n)
	}
	// The call that was refused says what its attempt failed with, and whose word it was that nothing followed.
	text := info.String()
	b, err := json.Marshal(&info)
	if !strings.Contains(text, "overloaded") || len(info.Attempts) != 1 || info.Attempts[0].Err == nil || info.StoppedBy != "retry" || !strings.Contains(string(b), `"stoppedBy":"retry"`) {
		t.Errorf("%s\n%s, %v", text, b, err)
	}
}

// TestAdminUnix is an admin page on a Unix socket, which other users cannot open.
func TestAdminUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	reg, err := registry.New(memregistry.New(), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	c, err := hull.NewClient(hull.WithRegistry(reg), hull.WithAdmin("unix://"+path))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.AdminAddr() != "unix://"+path {
		t.Error(c.AdminAddr())
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	hc := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/hull/state", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := hc.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if res.Body.Close(); res.StatusCode != http.StatusOK {
		t.Error(res.Status)
	}
	if _, err := hull.NewClient(hull.WithAdmin("unix://admin.sock")); err == nil {
		t.Error("a path that is not whole is taken")
	}
}

// TestAdminShowsAllOfKeys: whatever a window of keys counts is on the admin page, as JSON and as text.
func TestAdminShowsAllOfKeys(t *testing.T) {
	var k idempotency.Snapshot
	v := reflect.ValueOf(&k).Elem()
	for i := range v.NumField() {
		v.Field(i).SetInt(int64(1000 + i))
	}
	text, b := hull.KeysShown(k, idempotency.Options{Store: storetest.NewMem()})
	for i := range v.NumField() {
		if n := strconv.Itoa(1000 + i); !strings.Contains(text, " "+n+" ") || !strings.Contains(string(b), ":"+n) {
			t.Errorf("%s is not shown in\n%s%s", v.Type().Field(i).Name, text, b)
		}
	}
	if text, _ := hull.KeysShown(idempotency.Snapshot{}, idempotency.Options{}); strings.Contains(text, "never") {
		t.Error(text)
	}
}

// TestAdminShowsAllOfThePort: whatever a port counts is on the admin page, in words and as JSON that is named like the rest of it.
func TestAdminShowsAllOfThePort(t *testing.T) {
	var p hull.PortSnapshot
	v := reflect.ValueOf(&p).Elem()
	for i := range v.NumField() {
		v.Field(i).SetInt(int64(1000 + i))
	}
	text, b := hull.PortShown(p)
	var named map[string]int
	if err := json.Unmarshal(b, &named); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if n := strconv.Itoa(1000 + i); !strings.Contains(text, " "+n+" ") || name != "HTTP" && strings.Contains(text, n+" "+name) {
			t.Errorf("%s is not shown in words in\n%s", name, text)
		}
	}
	for name := range named {
		if name[0] < 'a' || name[0] > 'z' {
			t.Errorf("%q is written otherwise than everything else", name)
		}
	}
	if len(named) != v.NumField() || named["overConnsPerPeer"] == 0 || named["grpc"] == 0 {
		t.Errorf("%s", b)
	}
	if text, _ := hull.PortShown(hull.PortSnapshot{}); text != "  port      0 connections now; 0 native, 0 gRPC, 0 HTTP so far\n" {
		t.Error(text)
	}
}

package k8sregistry

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/registrytest"
)

func TestConformance(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) registrytest.Harness {
		c := newCluster()
		c.put(shop, pods("greeter-1", "greeter", "a 192.0.2.1", "b 192.0.2.2"))
		c.put(shop, pods("greeter-2", "greeter", "c 192.0.2.3 st", "d 192.0.2.4 -"))
		c.put(shop, pods("other-1", "other", "a 192.0.2.1"))
		c.put(shop, pods("nobody-1", "nobody", "e 192.0.2.5 -"))
		return registrytest.Harness{Open: func() registry.Driver { return c.open(t, Options{}) }, ReadOnly: true,
			Present: []registry.Node{{Service: "greeter", ID: "a"}, {Service: "greeter", ID: "b"}, {Service: "greeter", ID: "c"}, {Service: "other", ID: "a"}}}
	})
}

func TestChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		d := c.open(t, Options{})
		f := follow(t, d, "greeter")
		step := func(what, want string, change func()) {
			t.Helper()
			change()
			synctest.Wait()
			if got := strings.TrimSpace(f.says()); got != want {
				t.Errorf("%s: %q, want %q", what, got, want)
			}
		}
		step("nothing", "", func() {})
		step("two pods", "a@192.0.2.1:80 b@192.0.2.2:80", func() { c.put(shop, pods("s1", "greeter", "a 192.0.2.1", "b 192.0.2.2")) })
		step("another's", "a@192.0.2.1:80 b@192.0.2.2:80", func() { c.put(shop, pods("o", "other", "z 192.0.2.9")) })
		step("a second slice", "a@192.0.2.1:80 b@192.0.2.2:80 c@192.0.2.3:80", func() { c.put(shop, pods("s2", "greeter", "c 192.0.2.3")) })
		step("not ready", "a@192.0.2.1:80 c@192.0.2.3:80 -b", func() { c.put(shop, pods("s1", "greeter", "a 192.0.2.1", "b 192.0.2.2 -")) })
		step("terminating", "a@192.0.2.1:80! c@192.0.2.3:80 -b", func() { c.put(shop, pods("s1", "greeter", "a 192.0.2.1 st", "b 192.0.2.2 -")) })
		step("terminating and done", "c@192.0.2.3:80 -a -b", func() { c.put(shop, pods("s1", "greeter", "a 192.0.2.1 t", "b 192.0.2.2 -")) })
		step("a slice less", "-a", func() { c.remove(shop, "s2") }) // the only one that was ready: b is no proof any more
		step("no slice", "", func() { c.remove(shop, "s1") })
		step("garbage", "a@192.0.2.1:80 ?bad", func() {
			c.put(shop, pods("s1", "greeter", "a 192.0.2.1"))
			bad := pods("bad", "greeter", "x 192.0.2.7")
			bad["endpoints"] = "none"
			c.put(shop, bad)
		})
		if got := c.asked(); !slices.Equal(got, []string{"list", "watch 100"}) {
			t.Errorf("asked %q", got)
		}
	})
}

// A watch goes on from where it ended, by bookmarks even if nothing has happened to its service.
func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		f := follow(t, c.open(t, Options{}), "greeter")
		synctest.Wait()
		c.put(shop, pods("o", "other", "z 192.0.2.9"))
		time.Sleep(2 * watchMin)
		c.put(shop, pods("s1", "greeter", "a 192.0.2.1"))
		synctest.Wait()
		if f.says() != "a@192.0.2.1:80" {
			t.Error(f.says())
		}
		if got := c.asked(); len(got) != 3 || got[2] != "watch 101" {
			t.Errorf("asked %q", got)
		}
		time.Sleep(time.Hour)
		if got := c.asked(); len(got) > 15 || slices.Contains(got[1:], "list") {
			t.Errorf("asked in an hour: %q", got)
		}
	})
}

// After any end but the one that was asked for, it lists anew.
func TestListedAnew(t *testing.T) {
	for name, end := range map[string]func(c *cluster){
		"reset":     (*cluster).reset,
		"forgotten": func(c *cluster) { c.do(func() { c.oldest = c.version + 10 }); c.reset() },
		"restored from a backup": func(c *cluster) {
			c.do(func() { c.version, c.history, c.objects = 50, nil, map[string]map[string]any{} })
			c.put(shop, pods("s1", "greeter", "a 192.0.2.1"))
			c.reset()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster()
				c.put(shop, pods("s1", "greeter", "a 192.0.2.1"))
				f := follow(t, c.open(t, Options{}), "greeter")
				synctest.Wait()
				end(c)
				time.Sleep(time.Second)
				c.do(func() { c.oldest = 0 })
				time.Sleep(2 * pauseMax)
				c.put(shop, pods("s2", "greeter", "b 192.0.2.2"))
				synctest.Wait()
				if f.says() != "a@192.0.2.1:80 b@192.0.2.2:80" {
					t.Errorf("%s; asked %q", f.says(), c.asked())
				}
			})
		})
	}
}

// A server that ends each watch at once is not asked all the time, and is not called silent.
func TestWatchesThatDoNotLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		c.oldest = 1000
		f := follow(t, c.open(t, Options{}), "greeter")
		time.Sleep(10 * time.Minute)
		if n := len(c.asked()); n < 300 || n > 1000 {
			t.Errorf("%d requests in ten minutes", n)
		}
		if f.says() != "" {
			t.Error(f.says())
		}
	})
}

func TestFailures(t *testing.T) {
	refused := errors.New("connection refused")
	for name, tt := range map[string]struct {
		begin func(c *cluster)
		says  string
		most  time.Duration
	}{
		"down":      {func(c *cluster) { c.down = refused }, "does not answer at cluster.example", patience + time.Second},
		"silent":    {func(c *cluster) { c.hang = make(chan struct{}) }, "does not answer at cluster.example in time", 2*patience + time.Second},
		"forbidden": {func(c *cluster) { c.answer = http.StatusForbidden }, "denies the permission", patience + time.Second},
		"unknown":   {func(c *cluster) { c.answer = http.StatusUnauthorized }, "check the token", patience + time.Second},
		"sick":      {func(c *cluster) { c.answer = http.StatusServiceUnavailable }, "503: as the test says", patience + time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster()
				c.put(shop, pods("s1", "greeter", "a 192.0.2.1"))
				d := c.open(t, Options{})
				f := follow(t, d, "greeter")
				synctest.Wait()
				// What lasts less than patience is not worth a word.
				c.do(func() { tt.begin(c) })
				c.reset()
				time.Sleep(patience / 4)
				c.well()
				time.Sleep(5 * time.Second)
				if f.says() != "a@192.0.2.1:80" {
					t.Fatalf("after a short failure: %s", f.says())
				}
				c.do(func() { tt.begin(c) })
				c.reset()
				began := time.Now()
				<-f.done
				if took := time.Since(began); took > tt.most || took < patience {
					t.Errorf("noticed after %v", took)
				}
				if !strings.Contains(f.says(), tt.says) {
					t.Errorf("it says %s, want %q", f.says(), tt.says)
				}
				// At first there is no patience.
				g := follow(t, d, "greeter")
				time.Sleep(requestTimeout + time.Millisecond)
				if !strings.Contains(g.says(), tt.says) {
					t.Errorf("a new watch says %s, want %q", g.says(), tt.says)
				}
				if _, err := d.List(t.Context()); err == nil || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("List: %v, want %q", err, tt.says)
				}
			})
		})
	}
}

// A token is replaced while programs run.
func TestTokenIsReadAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		c.token = "one"
		token := "one"
		d := c.open(t, Options{Token: func() (string, error) { return token, nil }})
		f := follow(t, d, "greeter")
		synctest.Wait()
		c.do(func() { c.token, token = "two", "two" })
		c.reset()
		time.Sleep(time.Second)
		c.put(shop, pods("s1", "greeter", "a 192.0.2.1"))
		synctest.Wait()
		if f.says() != "a@192.0.2.1:80" {
			t.Error(f.says())
		}
		c.do(func() { c.token = "three" })
		c.reset()
		<-f.done
		if !strings.Contains(f.says(), "check the token") {
			t.Error(f.says())
		}
	})
}

func TestPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		c.pages = 2
		for _, n := range []string{"1", "2", "3", "4", "5"} {
			c.put(shop, pods("s"+n, "greeter", "p"+n+" 192.0.2."+n))
		}
		f := follow(t, c.open(t, Options{}), "greeter")
		synctest.Wait()
		if want := "p1@192.0.2.1:80 p2@192.0.2.2:80 p3@192.0.2.3:80 p4@192.0.2.4:80 p5@192.0.2.5:80"; f.says() != want {
			t.Error(f.says())
		}
		if got := c.asked(); !slices.Equal(got, []string{"list", "list", "list", "watch 105"}) {
			t.Errorf("asked %q", got)
		}
	})
}

// Names that Kubernetes cannot have are answered as empty, and do not reach it.
func TestNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		c.put("/apis/discovery.k8s.io/v1/namespaces/bank/endpointslices", pods("s1", "greeter", "a 192.0.2.1"))
		d := c.open(t, Options{})
		for name, want := range map[string]string{"greeter.bank": "a@192.0.2.1:80", "greeter": "", "greeter.": "", ".bank": "", "Greeter": "",
			"greeter.bank.svc": "", "gre/eter": "", "x,kubernetes.io/service-name=greeter": ""} {
			f := follow(t, d, name)
			synctest.Wait()
			if f.says() != want || f.count != 1 {
				t.Errorf("%s: %q after %d updates, want %q", name, f.says(), f.count, want)
			}
		}
		if got := c.asked(); len(got) != 4 {
			t.Errorf("asked %q", got)
		}
	})
}

func TestOwnLabel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		for _, v := range []string{"1", "2"} {
			s := pods("s"+v, "greeter-v"+v, "a"+v+" 192.0.2."+v)
			l := s["metadata"].(map[string]any)["labels"].(map[string]any)
			l["hull.dev/service"], l["hull.dev/version"], l["team"], l["service.kubernetes.io/x"] = "greeter", v, "money", "y"
			l["hull.dev/node-id"] = "pod"
			c.put(shop, s)
		}
		d := c.open(t, Options{Label: "hull.dev/service", Selector: "team=money"})
		f := follow(t, d, "greeter")
		synctest.Wait()
		if f.says() != "a1@192.0.2.1:80 a2@192.0.2.2:80" {
			t.Fatal(f.says())
		}
		n := f.nodes["a2"]
		if n.Version != "2" || n.Service != "greeter" || n.Zone != "z1" || !n.Identifies || n.Labels["team"] != "money" || n.Labels["node"] != "machine" || n.Labels["service.kubernetes.io/x"] != "" {
			t.Errorf("%+v", n)
		}
		if names, err := d.List(t.Context()); err != nil || !slices.Equal(names, []string{"greeter"}) {
			t.Errorf("%q, %v", names, err)
		}
	})
}

func TestAnnotations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const services = "/api/v1/namespaces/shop/services"
		service := func(name string, notes map[string]any) map[string]any {
			return map[string]any{"metadata": map[string]any{"name": name, "annotations": notes}}
		}
		c := newCluster()
		c.put(shop, pods("s1", "greeter", "a 192.0.2.1"))
		c.put(services, service("greeter", map[string]any{noteMethods: "g.G/Hello idempotent\n\n  g.G/Pay\ng.G/Get side-effect-free", noteWeight: "7", noteProtocols: "grpc, http"}))
		f := follow(t, c.open(t, Options{Annotations: true}), "greeter")
		synctest.Wait()
		want := []registry.Method{{Name: "g.G/Hello", Idempotent: true}, {Name: "g.G/Pay"}, {Name: "g.G/Get", SideEffectFree: true}}
		if n := f.nodes["a"]; f.count != 1 || n == nil || !slices.Equal(n.Methods, want) || n.Weight != 7 || !n.Speaks("grpc") || n.Speaks("hull/1") {
			t.Errorf("%d updates: %+v", f.count, n)
		}
		c.put(shop, pods("s1", "greeter", "a 192.0.2.1", "b 192.0.2.2"))
		synctest.Wait()
		if n := f.nodes["b"]; n == nil || n.Weight != 7 {
			t.Errorf("a pod that came later: %+v", n)
		}
		c.put(services, service("greeter", map[string]any{noteWeight: "8"}))
		synctest.Wait()
		if n := f.nodes["b"]; n.Weight != 8 || n.Methods != nil {
			t.Errorf("changed: %+v", n)
		}
		for _, notes := range []map[string]any{{noteWeight: "many"}, {noteWeight: "-1"}, {noteMethods: "hello idempotent"}, {noteMethods: "g.G/Hello retry"}} {
			c.put(services, service("greeter", notes))
			synctest.Wait()
			if n := f.nodes["b"]; n == nil || n.Weight != 0 || n.Methods != nil || !strings.HasSuffix(f.says(), " ?greeter") {
				t.Errorf("%v: %s, %+v", notes, f.says(), n)
			}
		}
		c.remove(services, "greeter")
		synctest.Wait()
		if n := f.nodes["a"]; n == nil || n.Weight != 0 || strings.Contains(f.says(), "?") {
			t.Errorf("removed: %s, %+v", f.says(), n)
		}
		c.do(func() { c.answer = http.StatusForbidden })
		c.reset()
		<-f.done
		if !strings.Contains(f.says(), "denies the permission") {
			t.Error(f.says())
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		d := c.open(t, Options{})
		f, g := follow(t, d, "greeter"), follow(t, d, "no such name")
		synctest.Wait()
		for range 2 {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
		<-f.done
		<-g.done
		_, err := d.List(t.Context())
		for _, err := range []error{f.err, g.err, err, d.Watch(t.Context(), "greeter", func(registry.Update) { t.Error("told") })} {
			if !errors.Is(err, registry.ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		}
	})
}

// A fleet that Kubernetes calls unready at once is doubted, and so is one that it empties.
func TestDisbelief(t *testing.T) {
	for name, change := range map[string]func(c *cluster){
		"unready": func(c *cluster) {
			c.put(shop, pods("s1", "greeter", "a 192.0.2.1 -", "b 192.0.2.2 -", "c 192.0.2.3 -", "d 192.0.2.4"))
		},
		"emptied":  func(c *cluster) { c.put(shop, pods("s1", "greeter")) },
		"deleted":  func(c *cluster) { c.remove(shop, "s1") },
		"relisted": func(c *cluster) { c.remove(shop, "s1"); c.reset() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster()
				c.put(shop, pods("s1", "greeter", "a 192.0.2.1", "b 192.0.2.2", "c 192.0.2.3", "d 192.0.2.4"))
				r, err := registry.New(c.open(t, Options{}), registry.Options{})
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				v := r.Open("greeter")
				synctest.Wait()
				change(c)
				time.Sleep(time.Second)
				if s := v.Snapshot(); len(s.Nodes) != 4 || s.Disbelieved < 3 || s.Stale {
					t.Errorf("%+v", s)
				}
				c.put(shop, pods("s1", "greeter", "a 192.0.2.1", "b 192.0.2.2 -", "c 192.0.2.3", "d 192.0.2.4"))
				synctest.Wait()
				if s := v.Snapshot(); len(s.Nodes) != 3 || s.Disbelieved != 0 || s.Node("b") != nil {
					t.Errorf("afterwards: %+v", s)
				}
			})
		})
	}
}

// What a watch that has died without a word did not tell is found when the Registry lists the service anew.
func TestSilentWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		c.put(shop, pods("s1", "greeter", "a 192.0.2.1"))
		r, err := registry.New(c.open(t, Options{}), registry.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		v := r.Open("greeter")
		synctest.Wait()
		c.do(func() { c.mute = true })
		c.put(shop, pods("s2", "greeter", "b 192.0.2.2"))
		synctest.Wait()
		if s := v.Snapshot(); len(s.Nodes) != 1 {
			t.Errorf("it is not mute: %+v", s)
		}
		time.Sleep(2 * registry.DefaultRelist)
		if s := v.Snapshot(); len(s.Nodes) != 2 || s.Stale {
			t.Errorf("%+v; asked %q", s, c.asked())
		}
	})
}

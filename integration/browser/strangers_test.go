package browser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
)

type order struct {
	Item string `json:"item"`
}

type receipt struct {
	Text string `json:"text"`
}

// orders is a server of a method that nobody may call in another's name.
type orders struct {
	addr string
	srv  *hull.Server

	mu     sync.Mutex
	placed []string
}

// took returns what was ordered since it was asked last.
func (o *orders) took() (items []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	items, o.placed = o.placed, nil
	return items
}

func serveOrders(t *testing.T, opts ...hull.ServerOption) *orders {
	t.Helper()
	reg, err := registry.New(memregistry.New(), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o := new(orders)
	if o.srv, err = hull.NewServer("orders", append([]hull.ServerOption{hull.WithRegistry(reg)}, opts...)...); err != nil {
		t.Fatal(err)
	}
	hull.Handle(o.srv, "shop.Orders/Place", func(_ context.Context, r *order) (*receipt, error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.placed = append(o.placed, r.Item)
		return &receipt{Text: "ordered " + r.Item}, nil
	}, hull.SideEffectFree()) // so that GET is served, too
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.srv.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, reg.Close()); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-o.srv.Ready():
	case err := <-done:
		t.Fatalf("the server ended: %v", err)
	}
	o.addr = o.srv.Addr()
	return o
}

// attack does all that a page can do to have a request sent elsewhere without asking, and what it must ask for. %s is the method's address. Each order says how it was made.
const attack = `<!doctype html><meta charset=utf-8><body><script>
const url = %q, order = how => JSON.stringify({item: how});
const settled = [];
function form(how, enctype, name, value) {
	settled.push(new Promise(done => {
		const frame = document.createElement("iframe"), f = document.createElement("form"), i = document.createElement("input");
		frame.name = how;
		f.target = how; f.method = "POST"; f.action = url; f.enctype = enctype;
		i.name = name; i.value = value;
		f.append(i);
		document.body.append(frame, f);
		frame.onload = () => done();
		setTimeout(done, 5000);
		f.submit();
	}));
}
form("form-text", "text/plain", '{"item":"form-text","x":"', '"}');
form("form-urlencoded", "application/x-www-form-urlencoded", '{"item":"form-urlencoded"}', "");
form("form-multipart", "multipart/form-data", "item", "form-multipart");
const send = (how, body, options) => settled.push(fetch(url, {method: "POST", body: body, ...options}).then(r => r.text()).catch(e => String(e)));
const quietly = {mode: "no-cors", credentials: "include"};
send("string", order("string"), quietly);
send("urlencoded", new URLSearchParams(order("urlencoded")), quietly);
send("bytes", new TextEncoder().encode(order("bytes")), quietly);
send("blob", new Blob([order("blob")]), quietly);
send("typed-blob", new Blob([order("typed-blob")], {type: "application/json"}), quietly);
send("text", order("text"), {...quietly, headers: {"Content-Type": "text/plain;charset=UTF-8"}});
send("keepalive", new Blob([order("keepalive")]), {...quietly, keepalive: true});
send("asked", order("asked"), {headers: {"Content-Type": "application/json"}});
send("asked-connect", order("asked-connect"), {headers: {"Content-Type": "application/json", "Connect-Protocol-Version": "1"}});
navigator.sendBeacon(url, order("beacon"));
navigator.sendBeacon(url, new Blob([order("beacon-blob")]));
const get = url + "?connect=v1&encoding=json&message=" + encodeURIComponent(order("get"));
settled.push(fetch(get, quietly).catch(e => e));
settled.push(new Promise(done => { const i = new Image(); i.onload = i.onerror = done; i.src = get.replace("get", "image"); }));
settled.push(new Promise(done => { const s = document.createElement("script"); s.onload = s.onerror = done; s.src = get.replace("get", "script"); document.body.append(s); }));
Promise.all(settled).then(all => { window.answers = all.filter(a => typeof a === "string").join("\n"); setTimeout(() => window.done = true, 300); });
</script>`

// TestPagesFromElsewhere: no page from elsewhere, or from a name that points here, calls a method in a real browser, whatever it tries, though curl may without any header. One of
// an allowed origin can.
func TestPagesFromElsewhere(t *testing.T) {
	var target string
	pages := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, attack, target)
	}))
	defer pages.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(pages.URL, "http://"), ":")
	friend := "http://friend.example:" + port
	o := serveOrders(t, hull.AllowOrigins(friend))
	_, own, _ := strings.Cut(o.addr, ":")
	// What every name of a stranger leads to is this machine.
	ctx := startBrowser(t, "http", "the browser complains", chromedp.Flag("host-resolver-rules", "MAP *.example 127.0.0.1"))
	p := &page{t, ctx}
	visit := func(from, to string) (refused int64) {
		target = to + "/shop.Orders/Place"
		before := o.srv.Snapshot().Port.CrossOrigin
		p.do("opening "+from, chromedp.Navigate(from))
		p.waitFor("it has tried all", "window.done === true")
		return o.srv.Snapshot().Port.CrossOrigin - before
	}
	here := "http://" + o.addr
	for _, tt := range []struct{ name, from, to string }{
		{"another site", "http://evil.example:" + port, here},
		{"another port of this machine", "http://127.0.0.1:" + port, here},
		{"another name of this machine", "http://localhost:" + port, here},
		{"a name that was pointed here", "http://evil.example:" + port, "http://evil.example:" + own},
	} {
		refused := visit(tt.from, tt.to)
		if items := o.took(); len(items) > 0 || refused < 10 {
			t.Errorf("%s: ordered by %q; %d requests were refused", tt.name, items, refused)
		}
	}
	// A page that the name served which now points here: to the browser it is of the server's own origin.
	p.do("opening the server by a stranger's name", chromedp.Navigate("http://evil.example:"+own+"/"))
	answer := value[string](p, `(() => { const r = new XMLHttpRequest(); r.open("POST", "/shop.Orders/Place", false); r.setRequestHeader("Content-Type", "application/json"); r.send('{"item":"rebound"}'); return r.status + r.responseText })()`)
	if items := o.took(); len(items) > 0 || !strings.HasPrefix(answer, "403") {
		t.Errorf("a name that points here ordered %q: %s", items, answer)
	}
	visit(friend, here)
	answers := value[string](p, "window.answers")
	if items := o.took(); !slices.Contains(items, "asked") || !slices.Contains(items, "asked-connect") || !strings.Contains(answers, "ordered asked") {
		t.Errorf("a friend's page ordered %q and read %q", items, answers)
	}
	res, err := http.Post(here+"/shop.Orders/Place", "application/x-www-form-urlencoded", strings.NewReader(`{"item":"curl"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); !strings.Contains(string(b), "ordered curl") {
		t.Errorf("curl got %s %q", res.Status, b)
	}
}

package browser

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/hull-go/hull/demo"
)

// shots names a directory for pictures of the page, for people to look at; without it they are looked at by size alone.
const shots = "HULL_SCREENSHOTS"

// The test binary is also every process of the demo.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == demo.Role {
		if err := demo.RunRole(context.Background(), os.Args[2:], os.Stdin, os.Stdout, slog.Default()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// startDemo runs the demo until the test ends and returns where its page is.
func startDemo(t *testing.T) string {
	t.Helper()
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	dir := t.TempDir() // here, so that it outlives the demo
	go func() {
		done <- demo.Run(ctx, demo.Options{Addr: "127.0.0.1:0", TempDir: dir, Stdout: w, Stderr: os.Stderr})
		w.Close()
	}()
	t.Cleanup(func() {
		cancel()
		go func() { _, _ = io.Copy(io.Discard, r) }()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	var seen []byte
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		seen = append(seen, buf[:n]...)
		if m := regexp.MustCompile(`http://[0-9.:]+`).Find(seen); m != nil {
			go func() { _, _ = io.Copy(io.Discard, r) }()
			return string(m)
		}
		if err != nil {
			t.Fatalf("the demo does not start: %v: %s", <-done, seen)
		}
	}
}

// startBrowser starts Chromium with nothing remembered, and fails the test for anything that the page itself complains
// about or fetches from elsewhere, but for complaints that hold the tolerated text, if there is one.
func startBrowser(t *testing.T, origin, tolerated string, more ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	var program string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			program = p
			break
		}
	}
	if program == "" {
		t.Fatal("Chromium is missing: run scripts/setup, or apt-get install chromium")
	}
	opts := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.Headless, chromedp.DisableGPU,
		chromedp.UserDataDir(filepath.Join(t.TempDir(), "profile")),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("no-proxy-server", true), chromedp.WSURLReadTimeout(60 * time.Second),
	}
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), append(opts, more...)...)
	t.Cleanup(cancel)
	ctx, cancelTab := chromedp.NewContext(ctx)
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Errorf("closing the browser: %v", err)
		}
		cancelTab()
	})
	problems := make(chan string, 100)
	err := chromedp.Listen(ctx, func(ev any) {
		var problem string
		switch e := ev.(type) {
		case *runtime.EventExceptionThrown:
			problem = "the page's script failed: " + e.ExceptionDetails.Text
			if x := e.ExceptionDetails.Exception; x != nil {
				problem += " " + x.Description
			}
		case *log.EventEntryAdded:
			if e.Entry.Level == log.EntryLevelError {
				problem = "the browser complains: " + e.Entry.Text + " " + e.Entry.URL
			}
		case *network.EventRequestWillBeSent:
			if u := e.Request.URL; !strings.HasPrefix(u, origin) && !strings.HasPrefix(u, "data:") && u != "about:blank" {
				problem = "the page fetches " + u
			}
		}
		if problem != "" && (tolerated == "" || !strings.Contains(problem, tolerated)) {
			select {
			case problems <- problem:
			default:
			}
		}
	})
	if err != nil {
		t.Fatalf("starting Chromium: %v", err)
	}
	t.Cleanup(func() {
		for len(problems) > 0 {
			t.Error(<-problems)
		}
	})
	return ctx
}

// page is the demo's page in a browser.
type page struct {
	t   *testing.T
	ctx context.Context
}

// open starts the demo and a browser and opens the page.
func open(t *testing.T, tolerated string) *page {
	t.Helper()
	origin := startDemo(t)
	p := &page{t, startBrowser(t, origin, tolerated)}
	for _, enable := range []func() error{
		func() error { _, err := chromedp.Call(p.ctx, network.Enable, network.EnableParams{}); return err },
		func() error { _, err := chromedp.Call(p.ctx, log.Enable, cdp.Empty{}); return err },
	} {
		if err := enable(); err != nil {
			t.Fatal(err)
		}
	}
	p.do("opening the page", chromedp.EmulateViewport(1400, 900), chromedp.Navigate(origin), chromedp.WaitVisible("#protected .served"))
	return p
}

// do does something within a minute.
func (p *page) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, time.Minute)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatalf("%s: %v", what, err)
	}
}

// waitFor waits until a JavaScript expression is true.
func (p *page) waitFor(what, expression string) {
	p.t.Helper()
	p.do("waiting until "+what, chromedp.Poll[chromedp.Void](expression, chromedp.WithPollingInterval(100*time.Millisecond), chromedp.WithPollingTimeout(45*time.Second)))
}

// click clicks on what a CSS selector finds.
func (p *page) click(what, selector string) {
	p.t.Helper()
	p.do(what, chromedp.Click(chromedp.CSS(selector)))
}

// value evaluates a JavaScript expression.
func value[T any](p *page, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, time.Minute)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// number is what a place of a side's card says, as a JavaScript expression.
func number(side, class string) string {
	return fmt.Sprintf(`Number(document.querySelector("#%s .%s").textContent.replaceAll(/[^0-9.]/g, ""))`, side, class)
}

// picture takes pictures of the page as it looks on a wide and a narrow screen, by day and by night.
func (p *page) picture(name string) {
	p.t.Helper()
	for _, screen := range []struct {
		name          string
		width, height int64
		mobile        bool
	}{{"wide", 1400, 900, false}, {"narrow", 390, 844, true}} {
		for _, scheme := range []string{"light", "dark"} {
			what := fmt.Sprintf("%s-%s-%s", name, screen.name, scheme)
			_, err := chromedp.Call(p.ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
				Width: screen.width, Height: screen.height, DeviceScaleFactor: 1, Mobile: screen.mobile})
			if err != nil {
				p.t.Fatal(err)
			}
			_, err = chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
			if err != nil {
				p.t.Fatal(err)
			}
			if value[bool](p, `document.documentElement.scrollWidth > document.documentElement.clientWidth`) {
				p.t.Errorf("%s: the page is wider than the screen", what)
			}
			ctx, cancel := context.WithTimeout(p.ctx, time.Minute)
			png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
			cancel()
			if err != nil {
				p.t.Fatalf("%s: %v", what, err)
			}
			if len(png) < 20_000 || !bytes.HasPrefix(png, []byte("\x89PNG")) {
				p.t.Errorf("%s: %d bytes are no picture of this page", what, len(png))
			}
			if dir := os.Getenv(shots); dir != "" {
				if err := os.WriteFile(filepath.Join(dir, what+".png"), png, 0o600); err != nil {
					p.t.Fatal(err)
				}
			}
		}
	}
	p.do("back to the wide screen", chromedp.EmulateViewport(1400, 900))
}

const healthy = `["protected", "unprotected"].every((s) => document.querySelector("#" + s + " .served").textContent === "100 %")`

// The page as a newcomer uses it: look, write, crash a backend, watch the numbers stay green.
func TestPage(t *testing.T) {
	p := open(t, "")
	p.waitFor("both clients serve all calls", healthy)

	p.do("writing a message", chromedp.SendKeys("#author", "Ada"), chromedp.SendKeys("#text", "All hands on deck <b>now</b>"))
	p.click("sending it", "#write button[type=submit]")
	p.waitFor("the message is on the board, as it was written", onBoard("All hands on deck <b>now</b>", ""))
	p.waitFor("it says who saved it", `/^Saved by backend-\d\.$/.test(document.querySelector("#said").textContent)`)
	p.waitFor("the chart has something to show", `document.querySelector("#protected .a-ok").getAttribute("d").length > 60`)
	p.picture("calm")

	before := value[float64](p, number("unprotected", "failed"))
	p.click("pressing crash", button("backend-2", "crash"))
	p.waitFor("the node is shown as down", `document.querySelector('[data-node="backend-2"]').dataset.state === "down"`)
	p.waitFor("the unprotected client's failures rise", number("unprotected", "failed")+fmt.Sprintf(" > %v", before+30))
	p.waitFor("the unprotected client's card turns red", `document.querySelector("#unprotected").dataset.health === "hurt"`)
	served, health := value[string](p, `document.querySelector("#protected .served").textContent`), value[string](p, `document.querySelector("#protected").dataset.health`)
	if failed := value[float64](p, number("protected", "failed")); served != "100 %" || failed != 0 || health != "calm" {
		t.Errorf("during the crash the protected client shows %q served, %v failed, health %q; want it green", served, failed, health)
	}
	p.picture("crash")
	p.click("opening the list of rules", ".rules summary")
	p.waitFor("the rules are shown, and none is broken", `document.querySelectorAll('#rules [data-state="kept"]').length > 4 && document.querySelector(".rules").dataset.health === "calm"`)
	p.picture("rules")
	p.waitFor("the node is back by itself", `document.querySelector('[data-node="backend-2"]').dataset.state === "up"`)
}

// Without any pattern the protected client is no better than the other.
func TestSwitches(t *testing.T) {
	p := open(t, "502 (Bad Gateway)") // an unprotected board fails in people's faces
	p.waitFor("both clients serve all calls", healthy)
	p.click("turning all protection off", `[data-switch="all"]`)
	p.waitFor("every switch is off", `[...document.querySelectorAll("[data-switch]")].every((b) => b.getAttribute("aria-checked") === "false")`)
	p.click("injecting errors", button("backend-1", "errors"))
	p.waitFor("the button says that the fault is on", `document.querySelector('`+button("backend-1", "errors")+`').getAttribute("aria-pressed") === "true"`)
	p.waitFor("calls of the protected client fail", number("protected", "failed")+" > 20")
	p.picture("switched-off")
	p.click("turning retries on", `[data-switch="retry"]`)
	p.waitFor("retries alone are on", `document.querySelector('[data-switch="retry"]').getAttribute("aria-checked") === "true" && document.querySelector('[data-switch="breaker"]').getAttribute("aria-checked") === "false"`)
	p.click("turning all on", `[data-switch="all"]`)
	p.waitFor("every switch is on", `[...document.querySelectorAll("[data-switch]")].every((b) => b.getAttribute("aria-checked") === "true")`)
	p.click("healing all", "#heal-all")
	p.waitFor("all nodes are well", `[...document.querySelectorAll("[data-node]")].every((n) => n.dataset.look === "good")`)
}

// With all backends away the page shows what it knows, and a message waits; when they are back it is saved, once.
func TestFallback(t *testing.T) {
	p := open(t, "")
	p.waitFor("both clients serve all calls", healthy)
	p.do("writing a message", chromedp.SendKeys("#text", "written by day"))
	p.click("sending it", "#write button[type=submit]")
	p.waitFor("it is on the board", onBoard("written by day", ":not(.pending)"))
	for _, n := range []string{"backend-1", "backend-2", "backend-3"} {
		p.click("freezing "+n, button(n, "hang"))
	}
	p.waitFor("the fallback banner is there", `!document.querySelector("#banner").hidden && document.querySelector("#banner").dataset.fallback === "true"`)
	p.waitFor("the old message too", onBoard("written by day", ":not(.pending)"))
	p.do("writing while they are away", chromedp.SendKeys("#text", "written in the dark"))
	p.click("sending it", "#write button[type=submit]")
	p.waitFor("the message waits in the outbox", onBoard("written in the dark", ".pending"))
	p.picture("away")
	p.click("healing all", "#heal-all")
	p.waitFor("the message is saved and the banner gone", `document.querySelector("#banner").hidden && `+onBoard("written in the dark", ":not(.pending)"))
	if n := value[int](p, `document.querySelector("#messages").textContent.split("written in the dark").length - 1`); n != 1 {
		t.Errorf("the message is on the board %d times", n)
	}
}

// onBoard is true if a message is on the board, as a JavaScript expression.
func onBoard(text, class string) string {
	return fmt.Sprintf(`[...document.querySelectorAll("#messages li%s p")].some((p) => p.textContent === %q)`, class, text)
}

// button selects what does something to a node.
func button(node, fault string) string {
	return fmt.Sprintf(`[data-node="%s"] [data-fault="%s"]`, node, fault)
}

// What a keyboard and a screen reader need.
func TestPageIsAccessible(t *testing.T) {
	p := open(t, "")
	for _, problem := range value[[]string](p, `(() => {
		const bad = [], name = (e) => (e.getAttribute("aria-label") || e.textContent || "").trim();
		for (const b of document.querySelectorAll("button")) if (!name(b)) bad.push("a button without a name");
		for (const f of document.querySelectorAll("input:not([type=hidden]), textarea, select")) if (!f.labels.length) bad.push("a field without a label: " + f.name);
		for (const i of document.querySelectorAll("img")) if (!i.hasAttribute("alt")) bad.push("an image without alt");
		for (const s of document.querySelectorAll("svg[role=img]")) if (!name(s)) bad.push("a chart without a name");
		if (document.querySelectorAll("h1").length !== 1) bad.push("not one h1");
		if (!document.documentElement.lang) bad.push("no language");
		for (const s of document.querySelectorAll("section")) if (!s.hasAttribute("aria-label") && !s.hasAttribute("aria-labelledby")) bad.push("a section without a name");
		return bad;
	})()`) {
		t.Error(problem)
	}
	const retry = `[data-switch="retry"]`
	p.do("using the keyboard", chromedp.Focus(chromedp.CSS(retry)), chromedp.KeyEvent("\t"))
	if outline := value[string](p, `getComputedStyle(document.activeElement).outlineStyle`); outline == "none" {
		t.Error("what has the focus does not show it")
	}
	p.do("pressing space", chromedp.Focus(chromedp.CSS(retry)), chromedp.KeyEvent(" "))
	p.waitFor("space has turned retries off", `document.querySelector('`+retry+`').getAttribute("aria-checked") === "false"`)
}

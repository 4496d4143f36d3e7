package k8sregistry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/registry"
)

// cluster is an API server as far as the driver needs one. It lives in a bubble.
type cluster struct {
	mu       sync.Mutex
	version  int
	objects  map[string]map[string]any // by path of the collection and name
	history  []change
	oldest   int // versions before it are forgotten
	changed  chan struct{}
	requests []string      // "list" or "watch", and from where
	down     error         // what requests fail with
	hang     chan struct{} // while open requests wait; nil = they do not
	mute     bool          // watches say nothing
	answer   int           // this status instead of an answer; 0 = none
	token    string        // who else asks is not known; empty = anyone
	cut      chan struct{}
	pages    int
}

type change struct {
	version int
	path    string
	kind    string
	object  map[string]any
}

func newCluster() *cluster {
	return &cluster{version: 100, objects: map[string]map[string]any{}, changed: make(chan struct{}), cut: make(chan struct{})}
}

// open returns a driver.
func (c *cluster) open(t testing.TB, o Options) *Driver {
	t.Helper()
	o.Server = "https://cluster.example"
	if o.Namespace == "" {
		o.Namespace = "shop"
	}
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	d.connect = func() (http.RoundTripper, error) { return c, nil }
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// put makes or changes an object.
func (c *cluster) put(path string, object map[string]any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := object["metadata"].(map[string]any)
	name := m["name"].(string)
	if c.objects[path] == nil {
		c.objects[path] = map[string]any{}
	}
	kind := "ADDED"
	if c.objects[path][name] != nil {
		kind = "MODIFIED"
	}
	c.version++
	m["resourceVersion"] = strconv.Itoa(c.version)
	c.objects[path][name] = object
	c.tell(path, kind, object)
}

func (c *cluster) remove(path, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	object, ok := c.objects[path][name].(map[string]any)
	if !ok {
		panic("no such object: " + name)
	}
	delete(c.objects[path], name)
	c.version++
	object["metadata"].(map[string]any)["resourceVersion"] = strconv.Itoa(c.version)
	c.tell(path, "DELETED", object)
}

// tell notes a change; c.mu is held.
func (c *cluster) tell(path, kind string, object map[string]any) {
	text, err := json.Marshal(object)
	if err != nil {
		panic(err)
	}
	var frozen map[string]any
	if err := json.Unmarshal(text, &frozen); err != nil {
		panic(err)
	}
	c.history = append(c.history, change{version: c.version, path: path, kind: kind, object: frozen})
	close(c.changed)
	c.changed = make(chan struct{})
}

// do changes the cluster's state.
func (c *cluster) do(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// reset ends all watches with an error.
func (c *cluster) reset() {
	c.do(func() {
		close(c.cut)
		c.cut = make(chan struct{})
	})
}

// well ends what is wrong with it.
func (c *cluster) well() {
	c.do(func() {
		if c.hang != nil {
			close(c.hang)
		}
		c.down, c.hang, c.answer = nil, nil, 0
	})
}

// asked returns the requests so far.
func (c *cluster) asked() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.requests)
}

func answer(code int, v any) *http.Response {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return &http.Response{StatusCode: code, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(text))}
}

func problem(code int, text string) *http.Response {
	return answer(code, map[string]any{"kind": "Status", "message": text, "code": code})
}

// RoundTrip implements http.RoundTripper.
func (c *cluster) RoundTrip(req *http.Request) (*http.Response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := req.URL.Query()
	watch := q.Get("watch") != ""
	what := "list"
	if watch {
		what = "watch " + q.Get("resourceVersion")
	}
	c.requests = append(c.requests, what)
	switch {
	case c.hang != nil:
		hang := c.hang
		c.mu.Unlock()
		select {
		case <-hang:
		case <-req.Context().Done():
		}
		c.mu.Lock()
		return nil, errors.New("it was too long ago")
	case c.down != nil:
		return nil, c.down
	case c.answer != 0:
		return problem(c.answer, "as the test says"), nil
	case c.token != "" && req.Header.Get("Authorization") != "Bearer "+c.token:
		return problem(http.StatusUnauthorized, "Unauthorized"), nil
	}
	if watch {
		from, err := strconv.Atoi(q.Get("resourceVersion"))
		if err != nil {
			return nil, err
		}
		lasts, err := strconv.Atoi(q.Get("timeoutSeconds"))
		if err != nil {
			return nil, err
		}
		r, w := io.Pipe()
		go c.watch(req.Context(), w, req.URL.Path, q.Get("labelSelector"), q.Get("fieldSelector"), from, time.Duration(lasts)*time.Second, c.cut)
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: r}, nil
	}
	var names []string
	for name, o := range c.objects[req.URL.Path] {
		if fits(o.(map[string]any), q.Get("labelSelector"), q.Get("fieldSelector")) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	size, err := strconv.Atoi(q.Get("limit"))
	if err != nil {
		return nil, err
	}
	if c.pages > 0 {
		size = c.pages
	}
	if from := q.Get("continue"); from != "" {
		names = slices.DeleteFunc(names, func(n string) bool { return n < from })
	}
	next := ""
	if len(names) > size {
		next, names = names[size], names[:size]
	}
	items := []any{}
	for _, n := range names {
		items = append(items, c.objects[req.URL.Path][n])
	}
	return answer(http.StatusOK, map[string]any{"metadata": map[string]any{"resourceVersion": strconv.Itoa(c.version), "continue": next}, "items": items}), nil
}

// fits tells whether an object fits selectors, which are of the form a=b,c.
func fits(o map[string]any, selector, fields string) bool {
	m := o["metadata"].(map[string]any)
	labels := map[string]any{}
	switch l := m["labels"].(type) {
	case map[string]string:
		for k, v := range l {
			labels[k] = v
		}
	case map[string]any:
		labels = l
	}
	for part := range strings.SplitSeq(selector, ",") {
		k, v, equal := strings.Cut(part, "=")
		if part != "" && (labels[k] == nil || equal && labels[k] != v) {
			return false
		}
	}
	return fields == "" || fields == fmt.Sprintf("metadata.name=%v", m["name"])
}

func (c *cluster) watch(ctx context.Context, w *io.PipeWriter, path, selector, fields string, from int, lasts time.Duration, cut chan struct{}) {
	end := time.After(lasts)
	bookmark := time.NewTicker(time.Minute)
	defer bookmark.Stop()
	send := func(kind string, object any) {
		text, err := json.Marshal(map[string]any{"type": kind, "object": object})
		if err != nil {
			panic(err)
		}
		_, _ = w.Write(text) // who has gone does not read
	}
	at := 0
	for {
		c.mu.Lock()
		if from < c.oldest {
			c.mu.Unlock()
			send("ERROR", map[string]any{"kind": "Status", "code": http.StatusGone, "message": "too old resource version"})
			_ = w.Close()
			return
		}
		news, changed, mute, now := c.history[at:], c.changed, c.mute, c.version
		at = len(c.history)
		c.mu.Unlock()
		for _, n := range news {
			if n.version > from && n.path == path && fits(n.object, selector, fields) && !mute {
				send(n.kind, n.object)
			}
		}
		select {
		case <-changed:
		case <-bookmark.C:
			if from = max(from, now); !mute {
				send("BOOKMARK", map[string]any{"kind": "EndpointSlice", "metadata": map[string]any{"resourceVersion": strconv.Itoa(now)}})
			}
		case <-end:
			_ = w.Close()
			return
		case <-cut:
			_ = w.CloseWithError(errors.New("connection reset"))
			return
		case <-ctx.Done():
			_ = w.CloseWithError(ctx.Err())
			return
		}
	}
}

const shop = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"

// pods makes a slice: each pod is "name address conditions", with r, s, t for ready, serving, terminating.
func pods(name, service string, pods ...string) map[string]any {
	var endpoints []any
	family := "IPv4"
	for _, p := range pods {
		f := strings.Fields(p + " r")
		if strings.Contains(f[1], ":") {
			family = "IPv6"
		}
		has := func(c string) bool { return strings.Contains(f[2], c) }
		endpoints = append(endpoints, map[string]any{"addresses": []string{f[1]}, "zone": "z1", "nodeName": "machine",
			"conditions": map[string]any{"ready": has("r"), "serving": has("r") || has("s"), "terminating": has("t")},
			"targetRef":  map[string]any{"kind": "Pod", "name": f[0]}})
	}
	return map[string]any{"metadata": map[string]any{"name": name, "labels": map[string]any{DefaultLabel: service}}, "addressType": family,
		"endpoints": endpoints, "ports": []any{map[string]any{"name": "x", "port": 80, "protocol": "TCP"}}}
}

// show writes an update: nodes, with ! if they drain; what has left, and what is refused.
func show(up registry.Update) string {
	var nodes, left, refused []string
	for _, n := range up.Nodes {
		s := n.ID + "@" + n.Address
		if n.Draining {
			s += "!"
		}
		nodes = append(nodes, s)
	}
	for _, d := range up.Left {
		left = append(left, d.ID)
	}
	for _, r := range up.Refused {
		refused = append(refused, r.Entry)
	}
	slices.Sort(nodes)
	slices.Sort(left)
	slices.Sort(refused)
	s := strings.Join(nodes, " ")
	if len(left) > 0 {
		s += " -" + strings.Join(left, " -")
	}
	if len(refused) > 0 {
		s += " ?" + strings.Join(refused, " ?")
	}
	return s
}

// following is a running watch.
type following struct {
	mu     sync.Mutex
	last   string
	nodes  map[string]*registry.Node
	count  int
	err    error
	cancel context.CancelFunc
	done   chan struct{}
}

func follow(t testing.TB, d *Driver, service string) *following {
	ctx, cancel := context.WithCancel(t.Context())
	f := &following{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(f.done)
		err := d.Watch(ctx, service, func(up registry.Update) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.last, f.count = show(up), f.count+1
			f.nodes = map[string]*registry.Node{}
			for _, n := range up.Nodes {
				f.nodes[n.ID] = n
			}
		})
		f.mu.Lock()
		defer f.mu.Unlock()
		f.err = err
	}()
	t.Cleanup(func() { cancel(); <-f.done })
	return f
}

func (f *following) says() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return "error: " + f.err.Error()
	}
	return f.last
}

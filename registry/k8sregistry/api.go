package k8sregistry

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/hull-go/hull/registry"
)

const (
	// requestTimeout bounds a request for one page of a list, and the beginning of a watch.
	requestTimeout = 10 * time.Second
	// pingEvery and pingTimeout find an API server that is silent.
	pingEvery, pingTimeout = 5 * time.Second, 3 * time.Second
	// pageSize is how many objects are asked for at once.
	pageSize = 500
	// maxPage bounds a page, maxEvent a message of a watch, maxComplaint what is shown of an error, in bytes. Kubernetes keeps no
	// object that is larger than 1.5 MiB.
	maxPage, maxEvent, maxComplaint = 256 << 20, 4 << 20, 300
)

var (
	errSilent = errors.New("the Kubernetes API server does not answer")
	// errGone says that a place to go on from has been forgotten.
	errGone = errors.New("the place to go on from is forgotten")
)

// statusError is an answer that says no.
type statusError struct {
	code int
	text string
}

// Error implements error.
func (e *statusError) Error() string { return fmt.Sprintf("%d: %s", e.code, e.text) }

// Is makes 410 an errGone.
func (e *statusError) Is(err error) bool { return err == errGone && e.code == http.StatusGone }

func hasStatus(err error, code int) bool {
	e, ok := errors.AsType[*statusError](err)
	return ok && e.code == code
}

// resource is a part of what the API serves.
type resource struct {
	path             string
	selector, fields string
}

func slicesPath(namespace string) string {
	return "/apis/discovery.k8s.io/v1/namespaces/" + namespace + "/endpointslices"
}

func (r resource) query() url.Values {
	q := url.Values{}
	if r.selector != "" {
		q.Set("labelSelector", r.selector)
	}
	if r.fields != "" {
		q.Set("fieldSelector", r.fields)
	}
	return q
}

// meta is what every object, and every list, says of itself.
type meta struct {
	Name            string            `json:"name"`
	ResourceVersion string            `json:"resourceVersion"`
	Continue        string            `json:"continue"`
	Labels          map[string]string `json:"labels"`
	Annotations     map[string]string `json:"annotations"`
}

// transport makes the connection's RoundTripper.
func (d *Driver) transport() (http.RoundTripper, error) {
	c, err := d.tls()
	if err != nil {
		return nil, err
	}
	return &http.Transport{
		DialContext: (&net.Dialer{Timeout: 5 * time.Second, KeepAliveConfig: net.KeepAliveConfig{Enable: true,
			Idle: pingEvery, Interval: time.Second, Count: int(pingTimeout / time.Second)}}).DialContext,
		TLSClientConfig:     c,
		TLSHandshakeTimeout: 5 * time.Second,
		ForceAttemptHTTP2:   true,
		IdleConnTimeout:     time.Minute,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: pingEvery, PingTimeout: pingTimeout},
	}, nil
}

// http returns the client, which connects by itself.
func (d *Driver) http() (*http.Client, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.client == nil {
		t, err := d.connect()
		if err != nil {
			return nil, err
		}
		d.client = &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	return d.client, nil
}

// reconnect has the next request begin anew, with the certificates as they are then.
func (d *Driver) reconnect(c *http.Client) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.client == c {
		c.CloseIdleConnections()
		d.client = nil
	}
}

// get sends a request and returns the answer, unless it says no. The answer has to begin within a limit; its body ends with ctx.
func (d *Driver) get(ctx context.Context, path string, q url.Values, limit time.Duration) (*http.Response, error) {
	if d.ctx.Err() != nil {
		return nil, registry.ErrClosed
	}
	c, err := d.http()
	if err != nil {
		return nil, err
	}
	u := *d.base
	u.Path, u.RawQuery = strings.TrimRight(u.Path, "/")+path, q.Encode()
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(limit, func() { cancel(errSilent) })
	defer timer.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "hull")
	if d.opt.Token != nil {
		token, err := d.opt.Token()
		if err != nil {
			cancel(nil)
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := c.Do(req)
	if err != nil {
		cause := context.Cause(ctx)
		cancel(nil)
		if cause != nil {
			return nil, cause
		}
		if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
			d.reconnect(c)
			return nil, e
		}
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // the address is said anyway
		}
		return nil, err
	}
	res.Body = &body{ReadCloser: res.Body, cancel: cancel}
	if res.StatusCode != http.StatusOK {
		defer func() { _ = res.Body.Close() }()
		return nil, refusal(res)
	}
	return res, nil
}

// body ends its request's context.
type body struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

// Close implements io.Closer.
func (b *body) Close() error {
	b.cancel(nil)
	return b.ReadCloser.Close()
}

// refusal is what an answer other than 200 says.
func refusal(res *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10)) // what has come will do
	var s struct{ Message string }
	if json.Unmarshal(text, &s) == nil && s.Message != "" {
		text = []byte(s.Message)
	}
	return &statusError{code: res.StatusCode, text: printable(text)}
}

// printable is what a server complains about, made fit for a line.
func printable(b []byte) string {
	s := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, string(b[:min(len(b), maxComplaint)]))
	return strings.TrimSpace(s)
}

// list asks for all objects of a resource, page by page, and returns from where they can be watched.
func (d *Driver) list(ctx context.Context, r resource, each func(raw []byte)) (version string, err error) {
	version, next, err := d.page(ctx, r, pageSize, "", each)
	for next != "" && err == nil {
		_, next, err = d.page(ctx, r, pageSize, next, each)
	}
	return version, err
}

func (d *Driver) page(ctx context.Context, r resource, size int, from string, each func(raw []byte)) (version, next string, err error) {
	q := r.query()
	q.Set("limit", strconv.Itoa(size))
	if from != "" {
		q.Set("continue", from)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, requestTimeout, errSilent)
	defer cancel()
	res, err := d.get(ctx, r.path, q, requestTimeout)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxPage))
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return "", "", err
	}
	var page struct {
		Metadata meta              `json:"metadata"`
		Items    []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(text, &page); err != nil {
		return "", "", fmt.Errorf("a list that is none of Kubernetes': %w", err)
	}
	if page.Metadata.ResourceVersion == "" {
		return "", "", errors.New("a list that is none of Kubernetes': it has no resourceVersion")
	}
	for _, item := range page.Items {
		each(item)
	}
	return page.Metadata.ResourceVersion, page.Metadata.Continue, nil
}

// event is a message of a watch.
type event struct {
	Type   string          `json:"type"`
	Object json.RawMessage `json:"object"`
}

// events reads the messages of a watch.
type events struct {
	dec  *json.Decoder
	left int64
	body io.Reader
}

func newEvents(r io.Reader) *events {
	e := &events{body: r}
	e.dec = json.NewDecoder(e)
	return e
}

// Read implements io.Reader, for the decoder: no message is longer than maxEvent.
func (e *events) Read(b []byte) (int, error) {
	if e.left <= 0 {
		return 0, fmt.Errorf("a message of more than %d bytes", maxEvent)
	}
	n, err := e.body.Read(b[:min(int64(len(b)), e.left)])
	e.left -= int64(n)
	return n, err
}

// next waits for a message; io.EOF is the end of the watch.
func (e *events) next() (event, error) {
	e.left = maxEvent
	var ev event
	if err := e.dec.Decode(&ev); err != nil {
		return ev, err
	}
	if ev.Type == "ERROR" {
		var s struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		}
		if err := json.Unmarshal(ev.Object, &s); err != nil || s.Code == 0 {
			return ev, fmt.Errorf("an error that cannot be read: %.200q", bytes.ToValidUTF8(ev.Object, nil))
		}
		return ev, &statusError{code: s.Code, text: printable([]byte(s.Message))}
	}
	return ev, nil
}

// explain says what an error of the API server means.
func (d *Driver) explain(err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, registry.ErrClosed):
		return err
	case hasStatus(err, http.StatusUnauthorized):
		return fmt.Errorf("the Kubernetes API server at %s does not know who asks: %w; check the token", d.host(), err)
	case hasStatus(err, http.StatusForbidden):
		return fmt.Errorf("the Kubernetes API server at %s denies the permission: %w; its account needs a Role to list and watch", d.host(), err)
	case errors.Is(err, errSilent), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w at %s in time", errSilent, d.host())
	}
	if _, answered := errors.AsType[*statusError](err); answered {
		return fmt.Errorf("the Kubernetes API server at %s: %w", d.host(), err)
	}
	return fmt.Errorf("%w at %s: %w", errSilent, d.host(), err)
}

package k8sregistry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/hull-go/hull/registry"
)

const (
	// DefaultNamespace is the namespace where nothing else says one.
	DefaultNamespace = "default"
	// DefaultLabel is the label of slices that holds their Service's name.
	DefaultLabel = "kubernetes.io/service-name"
)

// Options configure a Driver. Server is required; New says what is wrong.
type Options struct {
	// Server is the URL of the API server, https://host:port.
	Server string
	// TLS is for the connection to it: one's own certificate, who vouches for the server's; nil = the defaults.
	TLS *tls.Config
	// CA is a file with the certificates that vouch for the server's, instead of TLS.RootCAs. It is read when the driver connects,
	// and again when the server's certificate does not fit.
	CA string
	// Token returns the bearer token, anew for each request; nil = none is sent.
	Token func() (string, error)
	// Namespace is that of services whose names have no dot; empty = DefaultNamespace.
	Namespace string
	// Label is the label of a slice that holds the service's name; empty = DefaultLabel, which Kubernetes itself sets.
	Label string
	// Selector is a label selector that slices have to fit besides; empty = all do.
	Selector string
	// Port is the port's name or number; empty = see the package documentation.
	Port string
	// Protocols are what ports speak that do not say; none = callers find out.
	Protocols []string
	// Family is the address that is taken of pods that have two: 4 or 6; 0 = 4.
	Family int
	// Annotations says to read those of the Services.
	Annotations bool
}

// Driver is a registry in Kubernetes, read only. It is safe for concurrent use. Close it.
type Driver struct {
	opt    Options
	base   *url.URL
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu     sync.Mutex
	client *http.Client // nil = not connected yet, or to be connected anew
	// connect is replaced in tests.
	connect func() (http.RoundTripper, error)
}

// New returns a driver. It connects when it is first asked.
func New(o Options) (*Driver, error) {
	base, err := url.Parse(o.Server)
	if err != nil || base.Scheme != "https" && base.Scheme != "http" || base.Host == "" || base.User != nil || base.RawQuery != "" {
		return nil, fmt.Errorf("k8sregistry: the API server %.100q: write it as https://host:port", o.Server)
	}
	if base.Scheme == "http" && o.Token != nil {
		return nil, errors.New("k8sregistry: a token is sent to nobody without TLS: leave one out")
	}
	if o.Namespace == "" {
		o.Namespace = DefaultNamespace
	}
	if o.Label == "" {
		o.Label = DefaultLabel
	}
	if o.Family == 0 {
		o.Family = 4
	}
	switch {
	case !validLabel(o.Namespace):
		return nil, fmt.Errorf("k8sregistry: namespace %.80q: only lower-case letters, digits and dashes are allowed", o.Namespace)
	case strings.ContainsAny(o.Label, "=!,() "):
		return nil, fmt.Errorf("k8sregistry: label %.80q: give its name alone", o.Label)
	case o.Family != 4 && o.Family != 6:
		return nil, fmt.Errorf("k8sregistry: family %d: choose 4 or 6", o.Family)
	}
	o.Protocols = slices.Clone(o.Protocols)
	d := &Driver{opt: o, base: base}
	d.connect = d.transport
	d.ctx, d.cancel = context.WithCancelCause(context.Background())
	return d, nil
}

// Parameters are the query parameters of a k8s URL.
func Parameters() []registry.Parameter {
	own := []registry.Parameter{
		{Name: "namespace", Default: "the program's own", Usage: "namespace of services; NAME.NAMESPACE names one of another"},
		{Name: "label", Default: DefaultLabel, Usage: "label of EndpointSlices that holds the service's name"},
		{Name: "selector", Usage: "label selector that EndpointSlices have to fit besides, such as team=money"},
		{Name: "port", Usage: "name or number of the port; none = the only one, or the one called hull, grpc or http"},
		{Name: "protocol", Usage: "what ports speak that do not say, separated by commas: hull/1, grpc, http; none = callers find out"},
		{Name: "family", Default: "4", Usage: "address that is taken of pods with two: 4 or 6"},
		{Name: "annotations", Default: "false", Usage: "read methods, weight and protocols from annotations of the Services"},
		{Name: "kubeconfig", Usage: "file that says where the cluster is and who one is, instead of a host"},
		{Name: "context", Default: "the current one", Usage: "which context of that file"},
		{Name: "token", Default: "the pod's", Usage: "file with a bearer token; read again for each request"},
	}
	for _, p := range registry.SecureParameters() {
		switch p.Name {
		case "credentials": // a user and a password, which Kubernetes does not have
			continue
		case "tls":
			p.Default, p.Usage = "true", "encrypt; false for kubectl proxy"
		}
		own = append(own, p)
	}
	return own
}

// FromURL returns a driver for k8s://?namespace=shop, from within a pod; k8s://host:port?token=FILE&ca=FILE; or
// k8s://?kubeconfig=FILE.
func FromURL(u *url.URL) (registry.Driver, error) {
	o, err := fromURL(u)
	if err != nil {
		return nil, fmt.Errorf("k8sregistry: %w", err)
	}
	return New(o)
}

func fromURL(u *url.URL) (Options, error) {
	if u.Scheme != "k8s" || u.Opaque != "" || u.User != nil || strings.Trim(u.Path, "/") != "" {
		return Options{}, errors.New("write the URL as k8s://?namespace=NAME within a pod, k8s://HOST:PORT?token=FILE&ca=FILE, or k8s://?kubeconfig=FILE")
	}
	q, err := registry.CheckQuery(u, Parameters())
	if err != nil {
		return Options{}, err
	}
	o, err := reach(u, q)
	if err != nil {
		return Options{}, err
	}
	if ns := q.Get("namespace"); ns != "" {
		o.Namespace = ns
	}
	o.Label, o.Selector, o.Port = q.Get("label"), q.Get("selector"), q.Get("port")
	o.Protocols = list(q.Get("protocol"))
	if s := q.Get("family"); s != "" {
		if o.Family, err = strconv.Atoi(s); err != nil || o.Family == 0 {
			return Options{}, fmt.Errorf("family=%.20q: write 4 or 6", s)
		}
	}
	if s := q.Get("annotations"); s != "" {
		if o.Annotations, err = strconv.ParseBool(s); err != nil {
			return Options{}, fmt.Errorf("annotations=%.20q: write true or false", s)
		}
	}
	return o, nil
}

// list takes a list apart that is separated by commas.
func list(s string) []string {
	var parts []string
	for p := range strings.SplitSeq(s, ",") {
		if p = strings.TrimSpace(p); p != "" {
			parts = append(parts, p)
		}
	}
	return parts
}

// where returns the namespace of a service and the value of its label; false = Kubernetes cannot have it.
func (d *Driver) where(service string) (namespace, name string, ok bool) {
	if d.opt.Label != DefaultLabel {
		return d.opt.Namespace, service, validValue(service)
	}
	name, namespace, dotted := strings.Cut(service, ".")
	if !dotted {
		namespace = d.opt.Namespace
	}
	return namespace, name, validLabel(name) && validLabel(namespace)
}

// validLabel reports whether s may be the name of a Service or a namespace.
func validLabel(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' && i > 0 && i < len(s)-1) {
			return false
		}
	}
	return s != "" && len(s) <= 63
}

// validValue reports whether s may be the value of a label.
func validValue(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_.", c) >= 0 && i > 0 && i < len(s)-1) {
			return false
		}
	}
	return s != "" && len(s) <= 63
}

// List returns the names of the namespace's services that have a node.
func (d *Driver) List(ctx context.Context) ([]string, error) {
	found := map[string]struct{}{}
	selector := d.opt.Label
	if d.opt.Selector != "" {
		selector += "," + d.opt.Selector
	}
	r := resource{path: slicesPath(d.opt.Namespace), selector: selector}
	_, err := d.list(ctx, r, func(raw []byte) {
		p := d.parse("", raw)
		for _, e := range p.endpoints {
			if e.state >= draining && e.node.Validate() == nil {
				found[p.service] = struct{}{}
				return
			}
		}
	})
	if err != nil {
		return nil, d.explain(err)
	}
	return slices.Collect(maps.Keys(found)), nil
}

// Watch follows a service.
func (d *Driver) Watch(ctx context.Context, service string, emit func(registry.Update)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	asked := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(d.ctx, func() { cancel(registry.ErrClosed) })
	defer stop()
	if d.ctx.Err() != nil {
		return registry.ErrClosed
	}
	var err error
	if namespace, name, ok := d.where(service); ok {
		err = d.follow(ctx, namespace, name, newView(d, service, emit))
	} else { // it cannot be in Kubernetes, which is an answer
		emit(registry.Update{})
		<-ctx.Done()
	}
	switch {
	case asked.Err() != nil:
		return asked.Err()
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return d.explain(err)
}

// follow watches a service's slices, and its Services' annotations if they are wanted, until one of them fails.
func (d *Driver) follow(ctx context.Context, namespace, name string, v *view) error {
	selector := d.opt.Label + "=" + name
	if d.opt.Selector != "" {
		selector += "," + d.opt.Selector
	}
	pods := resource{path: slicesPath(namespace), selector: selector}
	if !d.opt.Annotations {
		return d.reflect(ctx, pods, v.slices())
	}
	about := resource{path: "/api/v1/namespaces/" + namespace + "/services"}
	if d.opt.Label == DefaultLabel {
		about.fields = "metadata.name=" + name
	} else {
		about.selector = selector
	}
	v.wanted = 2
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for r, s := range map[resource]sink{pods: v.slices(), about: v.services()} {
		wg.Go(func() { cancel(d.reflect(ctx, r, s)) })
	}
	wg.Wait()
	return context.Cause(ctx)
}

// Close ends all watches with an error.
func (d *Driver) Close() error {
	d.cancel(registry.ErrClosed)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.client != nil {
		d.client.CloseIdleConnections()
	}
	return nil
}

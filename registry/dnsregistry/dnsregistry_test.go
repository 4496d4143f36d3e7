package dnsregistry

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/hull-go/hull/registry"
)

// The driver as a whole is tested against a real server, in the module integration.
func TestURLs(t *testing.T) {
	for raw, want := range map[string]string{
		"dns://h": "",
		"dns://[::1]:5353,[::2]/?name={service}.example": "",
		"dns://h?port=80&protocol=http,grpc":             "",
		"dns://h?port=0":                                 "port",
		"dns://h?port=99999":                             "port",
		"dns://h?name=example":                           "{service}",
		"dns://h?name={service}..example":                "between dots",
		"dns://h?name={service}.exa$mple":                "only letters",
		"dns://h/path":                                   "dns://server",
		"dns://me@h":                                     "dns://server",
		"dns://h?ttl=5s":                                 "unknown parameter",
		"file://":                                        "dns://server",
	} {
		u, err := registry.ParseURL(raw)
		if err != nil {
			t.Fatal(err)
		}
		_, err = FromURL(u)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one about %q", raw, err, want)
		}
	}
}

func TestNameservers(t *testing.T) {
	got := nameservers("# a comment\nsearch example\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 \noptions edns0\nnameserver")
	if !slices.Equal(got, []string{"192.0.2.1:53", "[2001:db8::1]:53"}) {
		t.Errorf("%q", got)
	}
}

// reply builds an answer to the question for s.example of some type.
func reply(t testing.TB, q dnsmessage.Type, h dnsmessage.Header, answers, authorities, additionals []dnsmessage.Resource) []byte {
	t.Helper()
	h.ID, h.Response = 7, true
	m := dnsmessage.Message{Header: h, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("S.example."), Type: q, Class: dnsmessage.ClassINET}},
		Answers: answers, Authorities: authorities, Additionals: additionals}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func record(name string, ttl uint32, body dnsmessage.ResourceBody) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET, TTL: ttl}, Body: body}
}

func TestParse(t *testing.T) {
	a := func(last byte) *dnsmessage.AResource { return &dnsmessage.AResource{A: [4]byte{192, 0, 2, last}} }
	alias := func(to string) *dnsmessage.CNAMEResource {
		return &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(to)}
	}
	srv := func(to string, priority uint16) *dnsmessage.SRVResource {
		return &dnsmessage.SRVResource{Target: dnsmessage.MustNewName(to), Priority: priority, Port: 80}
	}
	soa := &dnsmessage.SOAResource{NS: dnsmessage.MustNewName("a."), MBox: dnsmessage.MustNewName("b."), MinTTL: 4}
	ok, none := dnsmessage.Header{}, dnsmessage.Header{RCode: dnsmessage.RCodeNameError}
	type list = []dnsmessage.Resource
	for what, tt := range map[string]struct {
		message []byte
		t       dnsmessage.Type
		ips     int
		best    int
		glue    int
		alias   string
		ttl     time.Duration
		err     error
	}{
		"addresses, the least TTL": {message: reply(t, typeA, ok, list{record("s.example.", 9, a(1)), record("S.EXAMPLE.", 5, a(2))}, nil, nil), t: typeA, ips: 2, ttl: 5 * time.Second},
		"another's addresses":      {message: reply(t, typeA, ok, list{record("s.example.", 9, a(1)), record("x.example.", 5, a(2))}, nil, nil), t: typeA, ips: 1, ttl: 9 * time.Second},
		"aliases":                  {message: reply(t, typeA, ok, list{record("s.example.", 3, alias("t.example.")), record("t.example.", 9, alias("u.")), record("u.", 9, a(1))}, nil, nil), t: typeA, ips: 1, ttl: 3 * time.Second},
		"an alias and no more":     {message: reply(t, typeA, ok, list{record("s.example.", 3, alias("t.example."))}, nil, nil), t: typeA, alias: "t.example.", ttl: MinTTL},
		"an alias of itself":       {message: reply(t, typeA, ok, list{record("s.example.", 3, alias("s.example."))}, nil, nil), t: typeA, ttl: MinTTL},
		"no such name":             {message: reply(t, typeA, none, nil, list{record("example.", 9, soa)}, nil), t: typeA, ttl: 4 * time.Second},
		"no such name, no SOA":     {message: reply(t, typeA, none, nil, nil, nil), t: typeA, ttl: MinTTL},
		"services": {message: reply(t, typeSRV, ok, list{record("s.example.", 9, srv("h.", 1)), record("s.example.", 9, srv("i.", 1)), record("s.example.", 9, srv("j.", 2))}, nil,
			list{record("h.", 2, a(1)), record("x.", 1, a(2))}), t: typeSRV, best: 2, glue: 1, ttl: 2 * time.Second},
		"no service":       {message: reply(t, typeSRV, ok, list{record("s.example.", 9, srv(".", 0))}, nil, nil), t: typeSRV, ttl: 9 * time.Second},
		"a huge TTL":       {message: reply(t, typeA, ok, list{record("s.example.", 1<<31, a(1))}, nil, nil), t: typeA, ips: 1},
		"truncated":        {message: reply(t, typeA, dnsmessage.Header{Truncated: true}, nil, nil, nil), t: typeA, err: errTruncated},
		"another question": {message: reply(t, typeA, ok, nil, nil, nil), t: typeAAAA, err: errForeign},
		"nonsense":         {message: []byte("nonsense"), t: typeA, err: errForeign},
	} {
		got, err := parse(tt.message, 7, "s.example.", tt.t)
		if !errors.Is(err, tt.err) {
			t.Errorf("%s: error %v, want %v", what, err, tt.err)
		}
		if err != nil || tt.err != nil {
			continue
		}
		if len(got.ips) != tt.ips || len(got.best()) != tt.best || len(got.glue) != tt.glue || got.alias != tt.alias || got.ttl != tt.ttl {
			t.Errorf("%s: %+v", what, got)
		}
	}
	if _, err := parse(reply(t, typeA, ok, nil, nil, nil), 8, "s.example.", typeA); !errors.Is(err, errForeign) {
		t.Errorf("another's ID: %v", err)
	}
	if _, err := parse(reply(t, typeA, dnsmessage.Header{RCode: dnsmessage.RCodeServerFailure}, nil, nil, nil), 7, "s.example.", typeA); err == nil || errors.Is(err, errForeign) {
		t.Errorf("a server that fails: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(reply(f, typeSRV, dnsmessage.Header{}, []dnsmessage.Resource{record("s.example.", 1, &dnsmessage.SRVResource{Target: dnsmessage.MustNewName("h.")})}, nil, nil))
	f.Fuzz(func(t *testing.T, message []byte) {
		for _, q := range []dnsmessage.Type{typeA, typeAAAA, typeSRV} {
			a, err := parse(message, 7, "s.example.", q)
			if err == nil && (a.ttl < 0 || a.ttl > MaxTTL) {
				t.Errorf("TTL %v", a.ttl)
			}
		}
	})
}

package hull

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// portJSON is what a port has seen, as programs read it: named as everything else on the page is.
type portJSON PortSnapshot

// MarshalJSON implements json.Marshaler.
func (p portJSON) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	p.each(func(i int, name string, n int64) {
		if i > 0 {
			b.WriteByte(',')
		}
		if name == strings.ToUpper(name) { // GRPC, HTTP
			name = strings.ToLower(name)
		} else {
			name = strings.ToLower(name[:1]) + name[1:]
		}
		fmt.Fprintf(&b, "%q:%d", name, n)
	})
	return fmt.Appendf(nil, "{%s}", b.Bytes()), nil
}

var _ json.Marshaler = portJSON{}

// each calls f for each counter, in order.
func (p portJSON) each(f func(i int, name string, n int64)) {
	v := reflect.ValueOf(p)
	for i := range v.NumField() {
		f(i, v.Type().Field(i).Name, v.Field(i).Int())
	}
}

// portWords say what a port's counters count, but for those that are always shown. One that has no words is shown by its name.
var portWords = map[string]string{
	"OverConns":        "closed since there were too many",
	"OverConnsPerPeer": "closed since their peer had too many",
	"OverWaiting":      "closed since too many asked for nothing",
	"HandshakesFailed": "said nothing sensible",
	"SlowReaders":      "answers given up since nobody took them",
	"SlowSenders":      "requests given up since they came too slowly",
	"ShutConns":        "closed since nothing fitted into their window",
	"ResetFloods":      "floods of resets",
	"ControlFloods":    "floods of control frames",
	"OverStreams":      "streams beyond the limit",
	"CrossOrigin":      "calls of pages from elsewhere refused",
	"TooLarge":         "messages too large",
	"LargeHeaders":     "headers too large",
	"SlowHeaders":      "headers too slow",
	"Panicked":         "calls panicked",
	"Expired":          "calls were over when they came",
	"Abandoned":        "calls were given up before they began",
}

// writeText writes what a port has seen: what is usual, and what has happened beside that.
func (p portJSON) writeText(w io.Writer) {
	fmt.Fprintf(w, "  port      %d connections now", p.Conns)
	if p.Waiting > 0 {
		fmt.Fprintf(w, ", %d of which have asked for nothing yet", p.Waiting)
	}
	fmt.Fprintf(w, "; %d native, %d gRPC, %d HTTP so far", p.Native, p.GRPC, p.HTTP)
	p.each(func(_ int, name string, n int64) {
		switch name {
		case "Conns", "Waiting", "Native", "GRPC", "HTTP":
			return
		}
		words, ok := portWords[name]
		if !ok {
			words = name
		}
		if n > 0 {
			fmt.Fprintf(w, ", %d %s", n, words)
		}
	})
	fmt.Fprintln(w)
}

package muxtransport

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/memnet"
)

// TestProtocolDocument encodes the example of docs/protocol.md and compares it with the bytes printed there.
func TestProtocolDocument(t *testing.T) {
	printed := exampleBytes(t, "../../docs/protocol.md")
	o := Options{}
	if err := o.complete(); err != nil {
		t.Fatal(err)
	}
	call := callHead{method: 1, name: "greeter.Greeter/Hello", codec: "json", hasDeadline: true, timeout: 300 * time.Millisecond}
	again := callHead{method: 1, codec: "json", hasDeadline: true, timeout: 250 * time.Millisecond, attempt: 2, criticality: policy.Sheddable,
		metadata: transport.Metadata{{Key: "user", Value: "ada"}}}
	third := callHead{method: 1, codec: "json", metadata: transport.Metadata{{Key: traceKey, Value: aTrace}, {Key: "user", Value: "ada"}}, trace: 1,
		hasReply: true, reply: packZstd}
	names := &sentNames{limit: maxNames}
	refusal := answerHead{status: &status.Error{Code: status.ResourceExhausted, Kind: status.Shed, Fate: status.NotSent,
		Pushback: 50 * time.Millisecond, Message: "busy"}}
	want := map[string][]byte{
		"client preface": preface{min: 1, max: 1}.bytes(),
		"client hello":   clientHello()[prefaceLen:],
		"server preface": preface{1, 1, 1}.bytes(),
		"call":           new(script).call(typeCall, 0x10000, call, `{"name":"Ada"}`).b,
		"answer":         new(script).answer(typeAnswer, 0x10000, answerHead{}, `{"text":"Hello, Ada"}`).b,
		"second call":    (&script{names: names}).call(typeCall, 0x20000, again, `{}`).b,
		"third call":     (&script{names: names}).call(typeCall, 0x30000, third, `{}`).b,
		"refusal":        new(script).answer(typeAnswer, 0x20000, refusal, "").b,
		"cancel":         new(script).frame(typeCancel, 0x30000).b,
		"window":         new(script).frame(typeWindow, 0, 0x80, 0x80, 0x04).b,
		"goaway":         appendGoAway(nil, 2, goAwayDraining, "bye"),
	}
	for name, b := range want {
		if !bytes.Equal(printed[name], b) {
			t.Errorf("docs/protocol.md prints another %q; it should be:\n%s", name, dump(name, b))
		}
		delete(printed, name)
	}
	for name := range printed {
		t.Errorf("docs/protocol.md prints %q, which this test does not know", name)
	}
}

// dump formats bytes as the document does.
func dump(name string, b []byte) string {
	var s strings.Builder
	for i := 0; i < len(b); i += 16 {
		label := ""
		if i == 0 {
			label = name
		}
		fmt.Fprintf(&s, "%-16s| % x\n", label, b[i:min(i+16, len(b))])
	}
	return s.String()
}

// exampleBytes reads the lines "name | hex bytes" of the document; a line without a name continues the one above.
func exampleBytes(t *testing.T, path string) map[string][]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	found := map[string][]byte{}
	name, inside := "", false
	for sc := bufio.NewScanner(f); sc.Scan(); {
		line := sc.Text()
		if strings.HasPrefix(line, "```") {
			inside = line == "```bytes"
			continue
		}
		label, digits, ok := strings.Cut(line, "|")
		if !inside || !ok {
			continue
		}
		if label = strings.TrimSpace(label); label != "" {
			name = label
		}
		b, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		found[name] = append(found[name], b...)
	}
	return found
}

// TestPlaceZeroAtItsEnd is a regression test: after 65,536 uses of its place a call had the connection's id, so that a stream's WINDOW was taken for the connection's.
func TestPlaceZeroAtItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, drainHandler{}, Options{}, memnet.Options{})
		defer r.stop()
		c := r.dial(t, Options{})
		defer c.Close()
		c.mu.Lock()
		c.table, c.free = append(c.table, place{gen: 1<<16 - 1}), append(c.free, 0)
		c.mu.Unlock()
		for range 2 {
			s, serr := c.Open(t.Context(), &transport.Request{Method: "a.B/C", Codec: codec.Bytes{}})
			if serr != nil {
				t.Fatal(serr)
			}
			if id := s.(*clientStream).ca.id; id == 0 || id&0xffff != 0 {
				t.Fatalf("the id is %#x", id)
			}
			msg := make([]byte, 100<<10)
			for range 10 { // more than the window
				if err := s.Send(&msg); err != nil {
					t.Fatal(err)
				}
				if err := s.Recv(new([]byte)); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.CloseSend(); err != nil {
				t.Fatal(err)
			}
			if err := s.Recv(new([]byte)); !errors.Is(err, io.EOF) {
				t.Error(err)
			}
		}
	})
}

// TestDocumentedNumbers: the document has the numbers of a status, which other implementations cannot look up in Go.
func TestDocumentedNumbers(t *testing.T) {
	b, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	row := func(name string) string {
		_, rest, _ := strings.Cut(string(b), "\n| "+name+" | ")
		line, _, _ := strings.Cut(rest, "\n")
		return " " + strings.NewReplacer(",", " ", "(", " ").Replace(line) + " "
	}
	words := regexp.MustCompile("[A-Z][a-z]+")
	for c := status.Canceled; c.Valid(); c++ {
		name := strings.ToLower(strings.Join(words.FindAllString(c.String(), -1), " "))
		if want := fmt.Sprintf(" %d %s ", c, name); !strings.Contains(row("code"), want) {
			t.Errorf("no %q", want)
		}
	}
	for k := status.Answered; k.Valid(); k++ {
		if want := fmt.Sprintf(" %d %s ", k, k); !strings.Contains(row("kind"), want) {
			t.Errorf("no %q", want)
		}
	}
	for _, f := range []status.Fate{status.Maybe, status.NotSent, status.Processed} {
		if want := fmt.Sprintf(" %d %s ", f, f); !strings.Contains(row("fate"), want) {
			t.Errorf("no %q", want)
		}
	}
	for _, o := range []status.Origin{status.Self, status.Downstream} {
		if want := fmt.Sprintf(" %d %s ", o, o); !strings.Contains(row("origin"), want) {
			t.Errorf("no %q", want)
		}
	}
}

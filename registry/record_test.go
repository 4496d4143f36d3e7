package registry

import (
	"strings"
	"testing"
)

func TestRecord(t *testing.T) {
	n := &Node{Service: "greeter", ID: "a", Address: "192.0.2.1:80", Labels: map[string]string{"k": `"<>`}}
	data, err := EncodeNode(n)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeNode("greeter", "a", data)
	if err != nil || !got.Equal(n) {
		t.Errorf("%+v, %v", got, err)
	}
	for text, want := range map[string]string{
		"":                     "not a node",
		"{}":                   "format 0",
		`{"hull":2}`:           "format 2",
		`{"hull":1}`:           "no node",
		string(data) + " {}":   "something follows",
		string(data) + "]":     "something follows",
		`{"hull":1,"node":{}}`: "another node",
		`{"hull":1,"node":{"service":"greeter","id":"a"}}`: "address",
		strings.Repeat(" ", MaxRecord+1):                   "bytes",
	} {
		if _, err := DecodeNode("greeter", "a", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", text, err, want)
		}
	}
	if _, err := DecodeNode("greeter", "b", data); err == nil {
		t.Error("a node under another's ID is taken")
	}
	newer := strings.Replace(string(data), `{`, `{"later":1,`, 1)
	if _, err := DecodeNode("greeter", "a", []byte(newer)); err != nil {
		t.Errorf("a record with more in it: %v", err)
	}
	huge := n.Clone()
	for range maxMethods {
		huge.Methods = append(huge.Methods, Method{Name: "a/" + strings.Repeat("m", maxMethod-2), Idempotent: true})
	}
	if _, err := EncodeNode(huge); err == nil {
		t.Error("a huge record is encoded")
	}
}

func FuzzDecodeNode(f *testing.F) {
	f.Add([]byte(`{"hull":1,"node":{"service":"s","id":"i","address":"h:1","labels":{"a":"b"}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := DecodeNode("s", "i", data)
		if err != nil {
			return
		}
		again, err := EncodeNode(n)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := DecodeNode("s", "i", again); err != nil || !m.Equal(n) {
			t.Errorf("%q became %q: %v", data, again, err)
		}
	})
}

package balance

import (
	"strings"
	"testing"

	"github.com/hull-go/hull/registry"
)

func TestSelectorMatch(t *testing.T) {
	n := &registry.Node{
		ID: "n1", Service: "greeter", Address: "10.0.0.1:80", Version: "1.2", Zone: "a", Protocols: []string{"hull/1", "grpc"},
		Labels: map[string]string{"tier": "gold", "empty": "", "version": "label", "say": "a, b (c)"},
	}
	for _, tt := range []struct {
		text string
		want bool
	}{
		{"", true},
		{"  ", true},
		{"version=1.2", true},
		{"version==1.2", true},
		{" version = 1.2 , zone = a ", true},
		{"version=1.3", false},
		{"version!=1.3", true},
		{"version!=1.2", false},
		{"zone in (a,b)", true},
		{"zone in ( b , c )", false},
		{"zone notin (b,c)", true},
		{"zone notin (a)", false},
		{"tier=gold,version=1.2", true},
		{"tier=gold,version=1.3", false},
		{"tier", true},
		{"!tier", false},
		{"canary", false},
		{"!canary", true},
		{"canary!=yes", true},
		{"canary notin (yes)", true},
		{"region", false},
		{"!region", true},
		{"empty", true},
		{`empty=""`, true},
		{"label.version=label", true},
		{"label.version=1.2", false},
		{"protocol=grpc", true},
		{"protocol!=grpc", false},
		{"protocol=http", false},
		{`say="a, b (c)"`, true},
		{"id=n1,address=10.0.0.1:80", true},
	} {
		s, err := ParseSelector(tt.text)
		if err != nil {
			t.Errorf("%q: %v", tt.text, err)
			continue
		}
		if got := s.Match(n); got != tt.want {
			t.Errorf("%q matches: %t, want %t", tt.text, got, tt.want)
		}
		again, err := ParseSelector(s.String())
		if err != nil || again.String() != s.String() || again.Match(n) != tt.want {
			t.Errorf("%q is written as %q, which does not mean the same (%v)", tt.text, s, err)
		}
	}
}

func TestSelectorErrors(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"=1", "want a key"},
		{"version=", "it ends where a value"},
		{"version=1 2", "want a comma between terms"},
		{"version 1.2", "want =, !=, in (…)"},
		{"zone in a", "want a bracket"},
		{"zone in (a", "it ends where a comma or a closing bracket"},
		{"zone in ()", "want a value"},
		{"zone=a,", "it ends where a key"},
		{`zone="a`, "want a closing quote"},
		{"label.=x", "names no label"},
		{"!zone=a", "want a comma between terms"},
		{strings.Repeat("a", maxSelector+1), "at most 4096"},
	} {
		_, err := ParseSelector(tt.text)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.40q: error %v, want one with %q", tt.text, err, tt.want)
		}
	}
}

func FuzzParseSelector(f *testing.F) {
	for _, s := range []string{"version=1.2,zone!=a,tier in (gold,silver)", `a="x,y",!b,label.zone notin (q)`, "x", "in in (in)", "\"", "a=\"\\x00\""} {
		f.Add(s)
	}
	n := &registry.Node{ID: "n", Version: "1.2", Zone: "a", Labels: map[string]string{"tier": "gold", "a": "x,y"}}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSelector(text)
		if err != nil {
			return
		}
		again, err := ParseSelector(s.String())
		if err != nil {
			if len(s.String()) > maxSelector {
				return // quoting made it longer than one may write
			}
			t.Fatalf("%q is written as %q, which cannot be read: %v", text, s, err)
		}
		if again.String() != s.String() || again.Match(n) != s.Match(n) {
			t.Fatalf("%q is written as %q and read back as %q", text, s, again)
		}
	})
}

package board

import (
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	tests := []struct {
		name string
		m    Message
		want string // part of the error; empty = valid
	}{
		{"good", Message{ID: "a-1", Author: "Ada", Text: "hello\nworld"}, ""},
		{"defaults", Message{ID: "a-1", Text: "x"}, ""},
		{"no id", Message{Text: "x"}, "id is empty"},
		{"bad id", Message{ID: "a b", Text: "x"}, "use letters"},
		{"long id", Message{ID: strings.Repeat("a", 65), Text: "x"}, "at most 64"},
		{"bad room", Message{ID: "a", Room: "../etc", Text: "x"}, "room"},
		{"empty text", Message{ID: "a", Text: " \n "}, "text is empty"},
		{"long text", Message{ID: "a", Text: strings.Repeat("é", 501)}, "501 characters"},
		{"longest text", Message{ID: "a", Text: strings.Repeat("é", 500)}, ""},
		{"control", Message{ID: "a", Text: "x\x00"}, "U+0000"},
		{"newline in author", Message{ID: "a", Author: "a\nb", Text: "x"}, "author"},
		{"not UTF-8", Message{ID: "a", Text: "\xff"}, "UTF-8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.m.Validate()
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Validate() = %v, want %q", err, tt.want)
			}
			if err == nil && (tt.m.Room == "" || tt.m.Author == "") {
				t.Errorf("defaults are not filled in: %+v", tt.m)
			}
		})
	}
}

func TestListRequestValidate(t *testing.T) {
	r := ListRequest{}
	if err := r.Validate(); err != nil || r.Room != Wall || r.Limit != DefaultList {
		t.Errorf("defaults: %+v, %v", r, err)
	}
	for _, bad := range []ListRequest{{Limit: -1}, {Limit: MaxList + 1}, {Room: "a/b"}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}

// Every way of spoiling a reply is noticed.
func TestSpoiltRepliesAreNoticed(t *testing.T) {
	type reply interface {
		Seal()
		Check() error
		Spoil()
	}
	for name, r := range map[string]reply{
		"list":       &ListReply{Messages: []Message{{ID: "a", Text: "x"}, {ID: "b", Text: "y"}}},
		"empty list": &ListReply{},
		"save":       &SaveReply{Message: Message{ID: "a", Text: "x"}},
	} {
		r.Seal()
		if err := r.Check(); err != nil {
			t.Errorf("%s: a good reply: %v", name, err)
		}
		if r.Spoil(); r.Check() == nil {
			t.Errorf("%s: a wrong answer passes", name)
		}
	}
}

// Shifting text between fields changes the checksum.
func TestSumKeepsFieldsApart(t *testing.T) {
	a, b := Message{Author: "ab", Text: "c"}, Message{Author: "a", Text: "bc"}
	if a.sum(0) == b.sum(0) {
		t.Error("two different messages have one checksum")
	}
}

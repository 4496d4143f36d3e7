package registry

import (
	"net/url"
	"strings"
	"testing"
)

func TestCheckQuery(t *testing.T) {
	known := []Parameter{{Name: "a"}, {Name: "b"}}
	for raw, want := range map[string]string{
		"x://h?a=1&b=2":     "",
		"x://h":             "",
		"x://h?a=1&a=2":     "once is enough",
		"x://h?c=1":         "a x registry has a, b",
		"x://h?a=%zz":       "cannot be read",
		"x://u:secret@h?c=": "unknown parameter",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		q, err := CheckQuery(u, known)
		if want == "" && (err != nil || q.Get("a") != u.Query().Get("a")) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", raw, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows a password: %v", raw, err)
		}
	}
}

func TestNotFoundErrorSaysWhatToDo(t *testing.T) {
	for want, e := range map[string]*NotFoundError{
		"did you mean a or b?":          {Service: "x", Nearest: []string{"a", "b"}, Known: 2},
		"nothing is registered at all":  {Service: "x"},
		"registered under this name":    {Service: "x", Known: 3},
		"is it running, and registered": {Service: "x", Known: -1},
	} {
		if !strings.Contains(e.Error(), want) {
			t.Errorf("%v, want %q", e, want)
		}
	}
}

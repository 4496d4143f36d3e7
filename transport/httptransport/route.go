package httptransport

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Route says how a method is asked for.
type Route struct {
	// Verb is GET, POST, PUT, PATCH or DELETE; "" = POST.
	Verb string
	// Path begins with a slash. {name} in it stands for the message's field of that name, which then travels there only. What is left
	// of the message is the body, or with GET and DELETE the query: its fields must be texts, numbers, truth values or lists of these.
	Path string
}

// bare reports whether requests of the route have no body.
func (r Route) bare() bool { return r.Verb == http.MethodGet || r.Verb == http.MethodDelete }

func (r Route) check() error {
	switch r.Verb {
	case "", http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
	default:
		return fmt.Errorf("verb %q: choose GET, POST, PUT, PATCH or DELETE", r.Verb)
	}
	if !strings.HasPrefix(r.Path, "/") || strings.ContainsAny(r.Path, "?#") {
		return fmt.Errorf("path %q: it begins with a slash and has neither query nor fragment", r.Path)
	}
	_, err := r.expand(func(string) (string, error) { return "x", nil })
	return err
}

// expand returns the path with its placeholders replaced.
func (r Route) expand(value func(name string) (string, error)) (string, error) {
	var b strings.Builder
	rest := r.Path
	for {
		before, after, found := strings.Cut(rest, "{")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		name, tail, found := strings.Cut(after, "}")
		if !found || name == "" || strings.ContainsAny(name, "{/") {
			return "", fmt.Errorf("path %q: a placeholder is {name}", r.Path)
		}
		v, err := value(name)
		if err != nil {
			return "", err
		}
		b.WriteString(url.PathEscape(v))
		rest = tail
	}
}

// apply returns path, query and body of a request with this message, which is JSON.
func (r Route) apply(msg []byte) (target string, body []byte, err error) {
	if !r.bare() && !strings.Contains(r.Path, "{") {
		return r.Path, msg, nil
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(msg, &fields); err != nil {
		return "", nil, errors.New("the message is not an object, so that its fields cannot go into the path or query")
	}
	path, err := r.expand(func(name string) (string, error) {
		raw, ok := fields[name]
		if !ok {
			return "", fmt.Errorf("the message has no field %s, which the path %s needs", name, r.Path)
		}
		delete(fields, name)
		v, err := scalar(name, raw)
		if err == nil && v == "" {
			err = fmt.Errorf("field %s is empty, which the path %s cannot be", name, r.Path)
		}
		return v, err
	})
	if err != nil {
		return "", nil, err
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == "." || part == ".." { // servers would take it for another path
			return "", nil, fmt.Errorf("the message's fields make the path %s, whose part %q leads elsewhere", path, part)
		}
	}
	if !r.bare() {
		body, err = json.Marshal(fields)
		return path, body, err
	}
	q := url.Values{}
	for name, raw := range fields {
		var list []json.RawMessage
		if json.Unmarshal(raw, &list) != nil {
			list = []json.RawMessage{raw}
		}
		for _, raw := range list {
			if bytes.Equal(raw, []byte("null")) {
				continue
			}
			v, err := scalar(name, raw)
			if err != nil {
				return "", nil, err
			}
			q.Add(name, v)
		}
	}
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return path, nil, nil
}

// scalar returns a text, number or truth value as it stands in a URL.
func scalar(name string, raw json.RawMessage) (string, error) {
	switch raw[0] {
	case '"':
		var s string
		err := json.Unmarshal(raw, &s)
		return s, err
	case '{', '[', 'n':
		return "", fmt.Errorf("field %s is no text, number or truth value and cannot go into a URL", name)
	}
	return string(raw), nil
}

package registry

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Parameter is one query parameter of a driver's URL. A driver's Parameters are the single source for its checks, for
// help texts and for docs.
type Parameter struct {
	Name    string // as in the URL
	Default string // as one would write it; empty = none
	Usage   string // what it does, in lower case
}

// CheckQuery returns u's query if every parameter in it is known and given once.
func CheckQuery(u *url.URL, known []Parameter) (url.Values, error) {
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("the query of the registry URL cannot be read: write it as ?name=value&name=value")
	}
	for name, values := range q {
		if !slices.ContainsFunc(known, func(p Parameter) bool { return p.Name == name }) {
			var names []string
			for _, p := range known {
				names = append(names, p.Name)
			}
			if len(names) == 0 {
				return nil, fmt.Errorf("unknown parameter %.40q: a %s registry has none", name, u.Scheme)
			}
			return nil, fmt.Errorf("unknown parameter %.40q: a %s registry has %s", name, u.Scheme, strings.Join(names, ", "))
		}
		if len(values) > 1 {
			return nil, fmt.Errorf("parameter %q is given %d times: once is enough", name, len(values))
		}
	}
	return q, nil
}

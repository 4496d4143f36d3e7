package spec

import (
	"encoding/json"
	"math"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// maxDepth is how deep lists and mappings may lie in each other. Aliases can make them endless.
const maxDepth = 100

// json returns what stands at n as JSON, or "" after a fault.
func (p *reader) json(n *yaml.Node, path string) JSON {
	before := len(p.list)
	b := p.appendJSON(nil, n, path, 0)
	if len(p.list) > before {
		return ""
	}
	return JSON(b)
}

func (p *reader) appendJSON(b []byte, n *yaml.Node, path string, depth int) []byte {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	p.nodes++
	switch {
	case p.nodes > maxNodes || len(b) > maxAnswer:
		if !p.bad[path] {
			p.addAt(n.Line, path, "it is larger than the %d bytes that are kept", maxAnswer)
		}
		return b
	case depth > maxDepth:
		if !p.bad[path] {
			p.addAt(n.Line, path, "it is more than %d levels deep", maxDepth)
		}
		return b
	}
	switch n.Kind {
	case yaml.MappingNode:
		b = append(b, '{')
		first := true
		p.pairs(n, path, func(k, c *yaml.Node) {
			if !first {
				b = append(b, ',')
			}
			first = false
			b = append(appendText(b, k.Value), ':')
			b = p.appendJSON(b, c, path, depth+1)
		})
		return append(b, '}')
	case yaml.SequenceNode:
		b = append(b, '[')
		for i, c := range n.Content {
			if i > 0 {
				b = append(b, ',')
			}
			b = p.appendJSON(b, c, path, depth+1)
		}
		return append(b, ']')
	}
	return p.appendScalar(b, n, path)
}

func (p *reader) appendScalar(b []byte, n *yaml.Node, path string) []byte {
	switch n.Tag {
	case "!!null":
		return append(b, "null"...)
	case "!!bool":
		var v bool
		if n.Decode(&v) == nil {
			return strconv.AppendBool(b, v)
		}
	case "!!int", "!!float":
		if json.Valid([]byte(n.Value)) { // as it is written: no digit is lost
			return append(b, n.Value...)
		}
		var i int64
		if n.Decode(&i) == nil {
			return strconv.AppendInt(b, i, 10)
		}
		var f float64
		if n.Decode(&f) == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
			return strconv.AppendFloat(b, f, 'g', -1, 64)
		}
		p.addAt(n.Line, path, "%s cannot be said in JSON", shorten(n.Value))
		return b
	}
	return appendText(b, n.Value)
}

func appendText(b []byte, s string) []byte {
	q, _ := json.Marshal(s) // a string has no error
	return append(b, q...)
}

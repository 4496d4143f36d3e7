package webfront

import (
	"maps"
	"net"
	"net/http"
	"slices"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/internal/foreign"
)

// description is what GET answers on the paths of methods.
type description struct {
	Service string        `json:"service"`
	Methods []methodEntry `json:"methods"`
}

type methodEntry struct {
	Name string `json:"name"`
	// Call is how to call it over HTTP.
	Call string `json:"call"`
	// Kind is unary, client-stream, server-stream or bidi-stream.
	Kind           string `json:"kind"`
	Idempotent     bool   `json:"idempotent,omitempty"`
	SideEffectFree bool   `json:"sideEffectFree,omitempty"`
	Builtin        bool   `json:"builtin,omitempty"`
	// Speaks lists the codecs that its messages can have.
	Speaks []string `json:"speaks"`
	// Request and Reply are JSON Schemas of the messages, absent if they are not known.
	Request *schema `json:"request,omitempty"`
	Reply   *schema `json:"reply,omitempty"`
}

// all returns the methods in the order of their names.
func (h *Handler) all() []*foreign.Method {
	list := make([]*foreign.Method, 0, len(h.methods))
	for _, name := range slices.Sorted(maps.Keys(h.methods)) {
		list = append(list, &h.methods[name].Method)
	}
	return list
}

// describe answers with what methods take and give.
func (h *Handler) describe(w http.ResponseWriter, r *http.Request, c net.Conn, methods []*foreign.Method) {
	if e := h.judgeName(r, c); e != nil {
		h.crossOrigin.Add(1)
		h.fail(w, r, e, 0)
		return
	}
	d := description{Service: h.opt.Service, Methods: []methodEntry{}}
	for _, m := range methods {
		d.Methods = append(d.Methods, entry(m))
	}
	b, err := codec.JSON{}.Append(nil, d)
	if err != nil { // it consists of strings and booleans
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header()["Content-Type"] = h.jsonType
	if r.Method != http.MethodHead {
		_, _ = w.Write(append(b, '\n')) // if the caller is gone nobody is left to tell
	}
}

func entry(m *foreign.Method) methodEntry {
	e := methodEntry{Name: m.Name, Call: "POST /" + m.Name, Kind: "unary", Idempotent: m.Idempotent, SideEffectFree: m.SideEffectFree,
		Builtin: m.Builtin, Speaks: []string{"json"}}
	switch {
	case m.ClientStreams && m.ServerStreams:
		e.Kind = "bidi-stream"
	case m.ClientStreams:
		e.Kind = "client-stream"
	case m.ServerStreams:
		e.Kind = "server-stream"
	}
	if !m.Typed {
		e.Speaks = []string{"proto", "json"}
	}
	switch {
	case m.RequestProto != nil && m.ReplyProto != nil:
		e.Request, e.Reply = messageSchema(m.RequestProto), messageSchema(m.ReplyProto)
	case m.Request != nil && m.Reply != nil:
		e.Request, e.Reply = typeSchema(m.Request), typeSchema(m.Reply)
	}
	return e
}

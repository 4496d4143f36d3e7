package ui

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/hull-go/hull/demo/board"
	"github.com/hull-go/hull/demo/supervise"
	"github.com/hull-go/hull/status"
)

// maxBody bounds a request's body.
const maxBody = 16 << 10

// api adds the API to a mux.
func (s *Server) api(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/stats", func(w http.ResponseWriter, r *http.Request) {
		write(w, http.StatusOK, s.stats(r.Context()))
	})
	mux.HandleFunc("GET /api/nodes", func(w http.ResponseWriter, r *http.Request) {
		nodes, err := s.nodes(r.Context())
		if err != nil {
			fail(w, http.StatusServiceUnavailable, "unavailable", err)
			return
		}
		write(w, http.StatusOK, nodes)
	})
	mux.HandleFunc("POST /api/faults", s.postFault)
	mux.HandleFunc("GET /api/protection", func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusOK, s.protected.protection())
	})
	mux.HandleFunc("POST /api/protection", s.postProtection)
	mux.HandleFunc("POST /api/load", s.postLoad)
	mux.HandleFunc("GET /api/messages", s.getMessages)
	mux.HandleFunc("POST /api/messages", s.postMessage)
	for _, path := range []string{"stats", "nodes", "faults", "protection", "load", "messages"} {
		mux.HandleFunc("/api/"+path, func(w http.ResponseWriter, r *http.Request) {
			fail(w, http.StatusMethodNotAllowed, "method_not_allowed", fmt.Errorf("%s does not take %s; see docs/demo.md", r.URL.Path, r.Method))
		})
	}
}

func (s *Server) postFault(w http.ResponseWriter, r *http.Request) {
	var req supervise.FaultRequest
	if err := decode(w, r, &req); err != nil {
		fail(w, http.StatusBadRequest, "invalid_argument", err)
		return
	}
	if err := req.Validate(); err != nil {
		fail(w, http.StatusBadRequest, "invalid_argument", err)
		return
	}
	known, err := s.control.Nodes(r.Context())
	if err != nil {
		fail(w, http.StatusServiceUnavailable, "unavailable", err)
		return
	}
	if err := oneOf(req.Node, known); err != nil {
		fail(w, http.StatusBadRequest, "invalid_argument", err)
		return
	}
	if err := s.control.Inject(r.Context(), req); err != nil {
		fail(w, http.StatusConflict, "failed_precondition", err)
		return
	}
	nodes, err := s.nodes(r.Context())
	if err != nil {
		fail(w, http.StatusServiceUnavailable, "unavailable", err)
		return
	}
	write(w, http.StatusOK, nodes)
}

func oneOf(name string, nodes []supervise.NodeStatus) error {
	names := []string{supervise.All}
	for _, n := range nodes {
		if n.ID == name {
			return nil
		}
		names = append(names, n.ID)
	}
	if name == supervise.All {
		return nil
	}
	if name == "" {
		return fmt.Errorf("node is missing: give one of %s", strings.Join(names, ", "))
	}
	return fmt.Errorf("there is no node %q: give one of %s", name, strings.Join(names, ", "))
}

func (s *Server) postProtection(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		fail(w, http.StatusBadRequest, "invalid_argument", fmt.Errorf("the body cannot be read: %w", err))
		return
	}
	on, err := s.protected.protect(func(p Protection) (Protection, error) { return p.Change(b) })
	if err != nil {
		fail(w, http.StatusBadRequest, "invalid_argument", err)
		return
	}
	write(w, http.StatusOK, on)
}

func (s *Server) postLoad(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Rate *float64 `json:"rate"`
	}
	err := decode(w, r, &req)
	if err == nil && req.Rate == nil {
		err = errors.New("rate is missing: give calls per second")
	}
	if err == nil {
		err = s.SetRate(*req.Rate)
	}
	if err != nil {
		fail(w, http.StatusBadRequest, "invalid_argument", err)
		return
	}
	write(w, http.StatusOK, map[string]float64{"rate": *req.Rate})
}

func (s *Server) getMessages(w http.ResponseWriter, r *http.Request) {
	limit := board.DefaultList
	if v := r.URL.Query().Get("limit"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > board.MaxList {
			fail(w, http.StatusBadRequest, "invalid_argument", fmt.Errorf("limit is %q: give a number from 1 to %d", v, board.MaxList))
			return
		}
		limit = n
	}
	ctx, cancel := context.WithTimeout(r.Context(), Patience)
	defer cancel()
	l, err := s.protected.list(ctx, board.Wall, limit, time.Now())
	if err != nil {
		fail(w, http.StatusBadGateway, codeName(err), err)
		return
	}
	write(w, http.StatusOK, l)
}

func (s *Server) postMessage(w http.ResponseWriter, r *http.Request) {
	var req struct {
		ID     string `json:"id"`
		Author string `json:"author"`
		Text   string `json:"text"`
	}
	if err := decode(w, r, &req); err != nil {
		fail(w, http.StatusBadRequest, "invalid_argument", err)
		return
	}
	rep, err := s.write(r.Context(), req.ID, req.Author, req.Text)
	switch {
	case err == nil && rep.Pending:
		write(w, http.StatusAccepted, rep)
	case err == nil:
		write(w, http.StatusCreated, rep)
	case status.CodeOf(err) == status.InvalidArgument:
		fail(w, http.StatusBadRequest, codeName(err), err)
	case status.CodeOf(err) == status.AlreadyExists:
		fail(w, http.StatusConflict, codeName(err), err)
	default:
		fail(w, http.StatusBadGateway, codeName(err), err)
	}
}

// write saves a person's message; an empty id is made up here, so that the save may be tried again.
func (s *Server) write(ctx context.Context, id, author, text string) (*receipt, error) {
	if id == "" {
		id = "m-" + rand.Text()
	}
	m := board.Message{ID: id, Author: author, Text: text}
	if err := m.Validate(); err != nil {
		return nil, status.Errorf(status.InvalidArgument, "%w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	return s.protected.save(ctx, &m, time.Now())
}

// decode reads a request's JSON body, and says what may be in it if there is something else.
func decode(w http.ResponseWriter, r *http.Request, v any) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		err = errors.New("there is something after the JSON object")
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("it is empty")
	}
	return fmt.Errorf("the body is not what is wanted: %w; its fields are: %s", err, strings.Join(fields(reflect.TypeOf(v).Elem()), ", "))
}

// fields lists the names that a JSON object for a struct type may have.
func fields(t reflect.Type) []string {
	var names []string
	for f := range t.Fields() {
		if f.Anonymous {
			names = append(names, fields(f.Type)...)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

func codeName(err error) string {
	// "InvalidArgument" becomes "invalid_argument".
	var b strings.Builder
	for i, r := range status.CodeOf(err).String() {
		if r >= 'A' && r <= 'Z' {
			if i > 0 {
				b.WriteByte('_')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

func fail(w http.ResponseWriter, httpCode int, code string, err error) {
	message := err.Error()
	if e, ok := errors.AsType[*status.Error](err); ok && e.Kind == status.Answered && e.Message != "" {
		message = e.Message
	}
	type body struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	write(w, httpCode, map[string]body{"error": {code, message}})
}

func write(w http.ResponseWriter, code int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		b, code = fmt.Appendf(nil, `{"error":{"code":"internal","message":%q}}`, err), http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(append(b, '\n')) // a caller that is gone needs no answer
}

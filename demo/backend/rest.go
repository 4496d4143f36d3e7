package backend

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/hull-go/hull/demo/board"
	"github.com/hull-go/hull/status"
)

// maxBody bounds a request's body.
const maxBody = 64 << 10

// handler serves the board through REST.
func (s *service) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /messages", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		req := board.ListRequest{Room: q.Get("room")}
		if v := q.Get("limit"); v != "" {
			n, err := strconv.Atoi(v)
			if err != nil || n == 0 {
				fail(w, status.Errorf(status.InvalidArgument, "limit is %q: give a number from 1 to %d", v, board.MaxList))
				return
			}
			req.Limit = n
		}
		rep, err := s.list(r.Context(), &req)
		answer(w, http.StatusOK, rep, err)
	})
	mux.HandleFunc("GET /messages/{id}", func(w http.ResponseWriter, r *http.Request) {
		rep, err := s.get(r.Context(), r.PathValue("id"))
		answer(w, http.StatusOK, rep, err)
	})
	mux.HandleFunc("POST /messages", func(w http.ResponseWriter, r *http.Request) {
		var m board.Message
		if err := decode(w, r, &m); err != nil {
			fail(w, err)
			return
		}
		rep, err := s.save(r.Context(), &m)
		answer(w, http.StatusCreated, rep, err)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, status.Errorf(status.NotFound, "nothing is served at %s %s: try GET /messages", r.Method, r.URL.Path))
	})
	return guard(mux)
}

// guard turns a panic into an answer of its own call.
func guard(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				fail(w, status.Errorf(status.Internal, "the handler panicked: %v", p))
			}
		}()
		h.ServeHTTP(w, r)
	})
}

// decode reads a request's JSON body.
func decode(w http.ResponseWriter, r *http.Request, v any) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		err = errors.New("there is something after the JSON value")
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("it is empty")
	}
	return status.Errorf(status.InvalidArgument, "the body is not what is wanted: %w", err)
}

func answer(w http.ResponseWriter, code int, rep any, err error) {
	if err != nil {
		fail(w, err)
		return
	}
	write(w, code, rep)
}

func fail(w http.ResponseWriter, err error) {
	e := status.From(err)
	type body struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	write(w, httpCode(e.Code), map[string]body{"error": {e.Code.String(), e.Message}})
}

func write(w http.ResponseWriter, code int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		b, code = fmt.Appendf(nil, `{"error":{"code":"Internal","message":%q}}`, err), http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(b, '\n')) // a caller that is gone needs no answer
}

// httpCode is the usual counterpart of a code.
func httpCode(c status.Code) int {
	switch c {
	case status.InvalidArgument, status.OutOfRange:
		return http.StatusBadRequest
	case status.NotFound:
		return http.StatusNotFound
	case status.AlreadyExists:
		return http.StatusConflict
	case status.Unavailable:
		return http.StatusServiceUnavailable
	case status.DeadlineExceeded:
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}

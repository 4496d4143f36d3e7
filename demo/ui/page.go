package ui

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"time"

	"github.com/hull-go/hull/demo/board"
	"github.com/hull-go/hull/demo/faults"
	"github.com/hull-go/hull/demo/supervise"
)

//go:embed web
var web embed.FS

// buttons are what the page offers to do to a node.
var buttons = []struct{ Fault, Title, Text string }{
	{supervise.FaultCrash, "Crash", "kill -9; it is started again after 5 s"},
	{supervise.FaultHang, "Hang", "SIGSTOP: its port is open and nothing answers"},
	{faults.NameRefuse, "Refuse", "its port is closed, connections are reset"},
	{faults.NameSlow, "Slow", "every call takes 20 times as long"},
	{faults.NameErrors, "Errors", "half of the calls fail"},
	{faults.NamePanic, "Panic", "the handler panics in every call"},
	{faults.NameWrong, "Wrong answers", "replies do not fit their checksum"},
}

// view is what the page's template shows.
type view struct {
	List           *listing
	Now            time.Time
	Nodes          []NodeStats
	Buttons        any
	Switches       []switchView
	Rules          []RuleStats
	All            bool
	Rate           float64
	ID             string
	Author, Text   string // what was being written
	Problem        string
	MaxAuthor      int
	MaxText        int
	Version        string
	AttemptTimeout int64
}

type switchView struct {
	Name, Title, Text string
	On                bool
}

// page serves the page: whole and readable without JavaScript, also while the board is away.
func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	s.render(w, r, http.StatusOK, view{})
}

// form saves a message for those without JavaScript.
func (s *Server) form(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	v := view{ID: r.PostFormValue("id"), Author: r.PostFormValue("author"), Text: r.PostFormValue("text")}
	if _, err := s.write(r.Context(), v.ID, v.Author, v.Text); err != nil {
		v.Problem = err.Error()
		s.render(w, r, http.StatusBadRequest, v)
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (s *Server) render(w http.ResponseWriter, r *http.Request, code int, v view) {
	ctx, cancel := context.WithTimeout(r.Context(), Patience)
	defer cancel()
	v.Now = time.Now()
	var err error
	if v.List, err = s.protected.list(ctx, board.Wall, board.DefaultList, v.Now); err != nil {
		// Without the fallback pattern this is what people get: the plain truth.
		v.List, code = &listing{Error: err.Error()}, http.StatusBadGateway
	}
	v.Nodes, _ = s.nodes(ctx) // the page's script shows what is wrong with it
	v.Buttons = buttons
	on := s.protected.protection()
	for _, sw := range switches {
		v.Switches = append(v.Switches, switchView{sw.name, sw.title, sw.text, *sw.field(&on)})
	}
	v.All, v.Rules = on == FullProtection(), s.ruleStats()
	v.Rate, v.AttemptTimeout = s.loads[0].Rate(), AttemptTimeout.Milliseconds()
	v.MaxAuthor, v.MaxText = board.MaxAuthor, board.MaxText
	if v.ID == "" {
		v.ID = "m-" + rand.Text()
	}
	v.Version = assetVersion()
	t, err := template.New("page.html").Funcs(template.FuncMap{"when": when, "iso": iso}).ParseFS(web, "web/page.html")
	var b bytes.Buffer
	if err == nil {
		err = t.Execute(&b, v)
	}
	if err != nil {
		fail(w, http.StatusInternalServerError, "internal", fmt.Errorf("the page cannot be made: %w", err))
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(b.Bytes()) // a reader that is gone needs no page
}

// when says how long ago a message was stored.
func when(now time.Time, created int64) string {
	d := now.Sub(time.UnixMilli(created))
	switch {
	case d < 5*time.Second:
		return "just now"
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	}
	return time.UnixMilli(created).Format("2 Jan 15:04")
}

func iso(created int64) string { return time.UnixMilli(created).UTC().Format(time.RFC3339) }

// assets serves the script and the style sheet.
func assets() http.Handler {
	dir, err := fs.Sub(web, "web")
	if err != nil {
		panic(err) // the directory is part of the program
	}
	files := http.StripPrefix("/static/", http.FileServerFS(dir))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/static/app.css", "/static/app.js", "/static/icon.svg":
			w.Header().Set("Cache-Control", "no-cache")
			files.ServeHTTP(w, r)
		default:
			fail(w, http.StatusNotFound, "not_found", fmt.Errorf("there is no file %s", r.URL.Path))
		}
	})
}

// assetVersion changes with the files, so that a browser never mixes two versions.
func assetVersion() string {
	h := sha256.New()
	for _, name := range []string{"web/app.css", "web/app.js"} {
		b, err := web.ReadFile(name)
		if err != nil {
			return ""
		}
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil))[:8]
}

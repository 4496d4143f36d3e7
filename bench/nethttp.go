package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/hull-go/hull/bench/echopb"
)

// httpJSONRival is what many write by hand: JSON over net/http.
type httpJSONRival struct{}

func (httpJSONRival) Info() Info {
	return Info{
		Name:   "http-json",
		Module: "std",
		Setup:  "net/http, HTTP/1.1, encoding/json, a kept connection per call in flight; deadline by context",
	}
}

func (httpJSONRival) Serve(ctx context.Context, ln net.Listener) error {
	return serveHTTP(ctx, ln, &http.Server{Handler: http.HandlerFunc(jsonEcho)})
}

func (httpJSONRival) Dial(_ context.Context, addr string) (Caller, error) {
	return &httpJSONCaller{url: "http://" + addr + "/echo", client: newHTTPClient(nil)}, nil
}

// serveHTTP serves until ctx ends.
func serveHTTP(ctx context.Context, ln net.Listener, srv *http.Server) error {
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	err := srv.Serve(ln)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// newHTTPClient returns a client that keeps a connection for each call in
// flight, where the default keeps two. A nil protocols means HTTP/1.1.
func newHTTPClient(protocols *http.Protocols) *http.Client {
	return &http.Client{Transport: &http.Transport{
		MaxIdleConns:        maxConns,
		MaxIdleConnsPerHost: maxConns,
		DisableCompression:  true,
		Protocols:           protocols,
	}}
}

func jsonEcho(w http.ResponseWriter, r *http.Request) {
	var m echopb.Msg
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// An error here is the client's going away.
	_ = json.NewEncoder(w).Encode(&m)
}

type httpJSONCaller struct {
	url    string
	client *http.Client
}

func (c *httpJSONCaller) Call(ctx context.Context, m *echopb.Msg) (*echopb.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	body, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("http status %s: %s", resp.Status, answer)
	}
	out := new(echopb.Msg)
	return out, json.Unmarshal(answer, out)
}

func (c *httpJSONCaller) Close() error {
	c.client.CloseIdleConnections()
	return nil
}

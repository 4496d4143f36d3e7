package check

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/hull-go/hull/demo/supervise"
	"github.com/hull-go/hull/demo/ui"
)

// api is the demo as a program outside sees it.
type api struct {
	url    string
	client *http.Client
}

func newAPI(url string) *api { return &api{url, &http.Client{Timeout: 20 * time.Second}} }

func (a *api) close() { a.client.CloseIdleConnections() }

// do sends a request and returns the answer's code and body.
func (a *api) do(ctx context.Context, method, path string, body any) (int, []byte, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.url+path, r)
	if err != nil {
		return 0, nil, err
	}
	rep, err := a.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer rep.Body.Close()
	b, err := io.ReadAll(io.LimitReader(rep.Body, 4<<20))
	return rep.StatusCode, b, err
}

func (a *api) stats(ctx context.Context) (*ui.Stats, error) {
	code, b, err := a.do(ctx, http.MethodGet, "/api/stats", nil)
	if err != nil {
		return nil, err
	}
	if code != http.StatusOK {
		return nil, fmt.Errorf("GET /api/stats: %d %s", code, b)
	}
	s := new(ui.Stats)
	err = json.Unmarshal(b, s)
	return s, err
}

func (a *api) inject(ctx context.Context, r supervise.FaultRequest) error {
	code, b, err := a.do(ctx, http.MethodPost, "/api/faults", r)
	if err != nil {
		return err
	}
	if code != http.StatusOK {
		return fmt.Errorf("POST /api/faults %s on %s: %d %s", r.Fault, r.Node, code, b)
	}
	return nil
}

// page reports whether the page is a good one, and whether it shows the fallback.
func (a *api) page(ctx context.Context) (ok, fallback bool, err error) {
	code, b, err := a.do(ctx, http.MethodGet, "/", nil)
	if err != nil {
		return false, false, err
	}
	return code == http.StatusOK && bytes.Contains(b, []byte("</html>")), bytes.Contains(b, []byte(`data-fallback="true"`)), nil
}

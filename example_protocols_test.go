package hull_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
)

type area struct {
	Width  float64 `json:"width"`
	Height float64 `json:"height"`
}

type size struct {
	Area float64 `json:"area"`
}

// Whatever can send JSON can call a server's methods, on the same port as everybody else:
//
//	curl -d '{"width":3,"height":4}' localhost:8080/geo.Geo/Area
func ExampleServer_json() {
	reg, err := registry.New(memregistry.New(), registry.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer reg.Close()
	srv, err := hull.NewServer("geo", hull.WithRegistry(reg), hull.Drain(0, time.Second))
	if err != nil {
		fmt.Println(err)
		return
	}
	hull.Handle(srv, "geo.Geo/Area", func(_ context.Context, a *area) (*size, error) {
		return &size{Area: a.Width * a.Height}, nil
	})
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	<-srv.Ready()

	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+srv.Addr()+"/geo.Geo/Area", strings.NewReader(`{"width":3,"height":4}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	req.Header.Set("Connect-Timeout-Ms", "500") // the handler's context ends then
	rep, err := http.DefaultClient.Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer rep.Body.Close()
	body, err := io.ReadAll(rep.Body)
	fmt.Println(rep.StatusCode, string(body), err)

	stop()
	if err := <-done; err != nil {
		fmt.Println(err)
	}
	// Output: 200 {"area":12} <nil>
}

package memnet_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hull-go/hull/transport/memnet"
)

// TestHTTP runs net/http over the network, through a delay, a freeze and a cut.
func TestHTTP(t *testing.T) {
	inBubble(t, memnet.Options{}, func(t *testing.T, w *world) {
		started := make(chan struct{}, 9)
		srv := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			started <- struct{}{}
			if r.URL.Path == "/hang" {
				<-r.Context().Done()
			}
			_, _ = io.Copy(rw, r.Body)
		})}
		ended := make(chan error, 1)
		go func() { ended <- srv.Serve(w.l) }()
		tr := &http.Transport{DialContext: w.a.DialContext}
		client := &http.Client{Transport: tr, Timeout: time.Second}
		body := strings.Repeat("hull", 300_000)
		post := func() error {
			rep, err := client.Post("http://b:80/echo", "text/plain", strings.NewReader(body))
			if err != nil {
				return err
			}
			defer rep.Body.Close()
			if got, err := io.ReadAll(rep.Body); err != nil || string(got) != body {
				t.Errorf("echoed %d of %d bytes, %v", len(got), len(body), err)
			}
			return nil
		}
		if err := post(); err != nil {
			t.Fatal(err)
		}
		w.n.Pair("a", "b").Delay(time.Millisecond, time.Millisecond)
		if err := post(); err != nil {
			t.Fatal(err)
		}
		w.b.Freeze()
		if err := post(); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("frozen server: %v", err)
		}
		w.b.Thaw()
		if err := post(); err != nil {
			t.Fatal(err)
		}
		for len(started) > 0 {
			<-started
		}
		go func() {
			<-started
			w.n.Pair("a", "b").Cut()
		}()
		if _, err := client.Get("http://b:80/hang"); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("cut: %v", err)
		}
		tr.CloseIdleConnections()
		_ = srv.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // net/http lingers for 500 ms on requests that broke off
	})
}

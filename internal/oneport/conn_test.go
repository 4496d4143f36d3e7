package oneport_test

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/internal/oneport"
	"github.com/hull-go/hull/internal/porttest"
)

// TestWriteDeadlines: a peer that takes nothing is given up after the bound, or at the server's own deadline if that is sooner; one that takes
// something now and then is not.
func TestWriteDeadlines(t *testing.T) {
	tests := []struct {
		name     string
		deadline time.Duration // the server's own; 0 = none
		pause    time.Duration // between the peer's reads; 0 = it never reads
		want     time.Duration // when the write fails; 0 = it does not
		least    time.Duration
		counted  int64
	}{
		{"nothing is taken", 0, 0, 1250 * time.Millisecond, time.Second, 1},
		{"the server has less patience", 300 * time.Millisecond, 0, 300 * time.Millisecond, 300 * time.Millisecond, 0},
		{"the server has more patience", time.Hour, 0, 1250 * time.Millisecond, time.Second, 1},
		{"something is taken", 0, 500 * time.Millisecond, 0, 0, 0},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			conns := make(chan net.Conn, 1)
			p := porttest.Serve(t, oneport.Protocols{HTTP: func(c net.Conn) { conns <- c }}, oneport.Options{SlowReader: time.Second})
			peer := p.Dial()
			if _, err := io.WriteString(peer, "GET / HTTP/1.1\r\n"); err != nil {
				t.Fatal(err)
			}
			c := <-conns
			time.Sleep(time.Hour) // what was set before does not matter
			if _, err := c.Write([]byte("x")); err != nil {
				t.Errorf("%s: the first byte: %v", tt.name, err)
			}
			if tt.deadline > 0 {
				if err := c.SetWriteDeadline(time.Now().Add(tt.deadline)); err != nil {
					t.Fatal(err)
				}
			}
			var reader sync.WaitGroup
			if tt.pause > 0 {
				reader.Go(func() {
					b := make([]byte, 64<<10)
					for {
						time.Sleep(tt.pause)
						if _, err := peer.Read(b); err != nil {
							return
						}
					}
				})
			}
			start := time.Now()
			_, err := c.Write(make([]byte, 2<<20))
			switch took := time.Since(start); {
			case tt.want == 0 && err != nil, tt.want > 0 && !errors.Is(err, os.ErrDeadlineExceeded):
				t.Errorf("%s: %v", tt.name, err)
			case tt.want > 0 && (took > tt.want || took < tt.least):
				t.Errorf("%s: after %v, want %v", tt.name, took, tt.want)
			}
			if got := p.Counters().SlowReaders; got != tt.counted {
				t.Errorf("%s: counted %d, want %d", tt.name, got, tt.counted)
			}
			c.Close()
			p.Stop()
			reader.Wait()
		})
	}
}

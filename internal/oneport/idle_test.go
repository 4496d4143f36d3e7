package oneport_test

import (
	"crypto/tls"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/hull-go/hull/internal/oneport"
	"github.com/hull-go/hull/internal/porttest"
)

// TestIdlePings: a connection that asks for nothing may ping as long as it lives, but not flood.
func TestIdlePings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 20
		p := porttest.Serve(t, oneport.Protocols{}, oneport.Options{MaxControl: limit})
		c := p.Dial()
		if _, err := io.WriteString(c, preface+porttest.Frames(func(f *http2.Framer) { _ = f.WriteSettings() })); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, c) }()
		ping := porttest.Frames(func(f *http2.Framer) { _ = f.WritePing(false, [8]byte{}) })
		for range 50 * limit {
			time.Sleep(time.Second / 10)
			if _, err := io.WriteString(c, ping); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if n := p.Counters(); n.ControlFloods != 0 || n.Waiting != 1 {
			t.Fatalf("%+v", n)
		}
		time.Sleep(time.Second)
		for range limit + 1 {
			if _, err := io.WriteString(c, ping); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if n := p.Counters(); n.ControlFloods != 1 || n.Waiting != 0 {
			t.Fatalf("%+v", n)
		}
	})
}

// TestChosenTLS: a configuration that GetConfigForClient chooses speaks the port's protocols all the same.
func TestChosenTLS(t *testing.T) {
	cert, pool := certificate(t)
	chosen := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}}
	addr, _, got := start(t, oneport.Options{TLS: &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return chosen, nil
	}}})
	for _, protocol := range []string{"hull/1", "h2", "http/1.1"} {
		c := tls.Client(dial(t, addr), &tls.Config{RootCAs: pool, ServerName: "localhost", NextProtos: []string{protocol}})
		if err := c.Handshake(); err != nil {
			t.Fatalf("%s: %v", protocol, err)
		}
		if s := c.ConnectionState(); s.NegotiatedProtocol != protocol {
			t.Errorf("%q was chosen instead of %q", s.NegotiatedProtocol, protocol)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if protocol == "hull/1" {
			<-got
		}
		c.Close()
	}
	if len(chosen.NextProtos) != 1 {
		t.Error("the user's configuration was changed")
	}
}

// TestNativeWhereThereIsTLS: a client of the native protocol learns that the port speaks TLS.
func TestNativeWhereThereIsTLS(t *testing.T) {
	cert, _ := certificate(t)
	addr, _, _ := start(t, oneport.Options{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
	c := dial(t, addr)
	if _, err := c.Write([]byte{porttest.Magic}); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if len(b) != 7 || b[0] != 0x15 || b[1] != 3 {
		t.Errorf("%x, %v", b, err)
	}
}

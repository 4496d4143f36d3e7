package oneport

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// halfClosing is an end of a pipe that takes CloseWrite for done.
type halfClosing struct{ net.Conn }

func (halfClosing) CloseWrite() error { return nil }

// lingering is a port in virtual time with one undecided connection, and that connection's other end.
func lingering(t *testing.T) (p *Port, c net.Conn, peer net.Conn) {
	t.Helper()
	p, err := New(NewHanded(nil), 0x9e, Protocols{}, Options{TLS: new(tls.Config)})
	if err != nil {
		t.Fatal(err)
	}
	peer, c = net.Pipe()
	c = halfClosing{c}
	p.undecided[c] = &waiting{}
	return p, c, peer
}

// TestTurnedAwayUntilThePortCloses: the port waits for a peer that is to read why it was turned away, but not while it closes.
func TestTurnedAwayUntilThePortCloses(t *testing.T) {
	for name, closes := range map[string]bool{"closes": true, "stays": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, c, peer := lingering(t)
				defer peer.Close()
				began, want := time.Now(), lingerTime
				done := make(chan struct{})
				go func() {
					p.turnAway(c)
					close(done)
				}()
				synctest.Wait()
				if n := p.Counters().HandshakesFailed; n != 1 {
					t.Errorf("%d handshakes counted as failed", n)
				}
				if closes {
					want = 0
					p.StopAccepting()
				}
				<-done
				if took := time.Since(began); took != want {
					t.Errorf("took %v, want %v", took, want)
				}
				if n := p.Counters().HandshakesFailed; n != 1 || len(p.undecided) != 0 {
					t.Errorf("%d handshakes counted as failed; undecided: %v", n, p.undecided)
				}
			})
		})
	}
}

// TestAlertIsWaitedFor: a client whose handshake fails may say on what it was about to say, until it has read the alert.
func TestAlertIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c, peer := lingering(t)
		defer peer.Close()
		done := make(chan struct{})
		go func() {
			p.secure(c, c)
			close(done)
		}()
		got := make(chan []byte)
		go func() {
			b, _ := io.ReadAll(peer)
			got <- b
		}()
		hello := append([]byte{recordHandshake, 3, 1, 0, 4, 99, 0, 0, 0}, make([]byte, 20<<10)...) // there is no message of type 99
		if _, err := peer.Write(hello); err != nil {
			t.Errorf("what a client says after a failed handshake: %v", err)
		}
		if b := <-got; !bytes.HasPrefix(b, []byte{0x15, 3}) {
			t.Errorf("no alert but %x", b)
		}
		<-done
	})
}

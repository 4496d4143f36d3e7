package oneport

import "bytes"

// net/http says GOAWAY to an idle HTTP/2 connection and waits a second for the peer to hang up, which few do; to close at once could destroy the GOAWAY before it
// is read. The port sends a PING behind it, and when that is answered the peer has read all there was: the connection ends.
type farewell struct {
	said  bool // the server has sent GOAWAY, and no error with it
	asked bool // the PING has gone out
	heard bool // it was answered
}

// farewellPing is what the PING carries, which nobody else's does.
var farewellPing = [8]byte{'h', 'u', 'l', 'l', ' ', 'b', 'y', 'e'}

// Error codes of HTTP/2, RFC 9113 section 7.
const (
	codeNone      = 0
	codeInternal  = 2
	codeFrameSize = 6
	codeCancel    = 8
	codeCalm      = 11
)

// goesAway notes that the server takes in no stream above the last one, and why. mu is held.
func (f *flows) goesAway(last, code uint32) {
	f.upTo = min(f.upTo, last)
	switch code {
	case codeNone:
		f.bye.said = true
	case codeCalm:
		f.conn.port.n.controlFloods.Add(1)
	}
}

// ask returns the PING to send now, behind a GOAWAY and the last stream's end; nil = none. It is for the connection's writer.
func (f *flows) ask() []byte {
	if f.grpc {
		return nil // grpc-go does all of this itself
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.bye.said || f.bye.asked || len(f.open) > 0 || f.out.left > 0 || f.out.have > 0 {
		return nil
	}
	f.bye.asked = true
	return append([]byte{0, 0, 8, framePing, 0, 0, 0, 0, 0}, farewellPing[:]...)
}

// answered notes a PING of the server's or the port's that has come back.
func (f *flows) answered(p []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bye.heard = f.bye.heard || f.bye.asked && bytes.Equal(p, farewellPing[:])
}

// over reports whether the connection has served its time.
func (f *flows) over() bool {
	if f.grpc {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bye.heard && len(f.open) == 0
}

package oneport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A stream whose peer lets an answer wait for too long, or a request, has to end alone: others' calls are on its connection. But grpc-go lets nobody reset one of its streams when the
// handler has returned, except for the peer: a WINDOW_UPDATE that adds nothing is an error by which a stream is reset, RFC 9113 section 6.9. The port says that in
// the peer's place, between two frames of the peer's own. Then grpc-go drops what it holds, ends the handler's context, and resets the stream, for which the port gives
// another reason: it was not the peer that broke the protocol.

// cuts are the streams of a connection that are to be cut off, until its reader comes by.
type cuts struct {
	waiting atomic.Bool // there are some

	mu      sync.Mutex
	streams []uint32
	woken   bool      // reads end at once, so that the reader does come by
	until   time.Time // what the server has set as read deadline; zero = none
}

// add has streams cut off.
func (k *cuts) add(c net.Conn, streams []uint32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.streams = append(k.streams, streams...)
	k.waiting.Store(true)
	if !k.woken {
		k.woken = true
		_ = c.SetReadDeadline(time.Unix(1, 0)) // fails only if the connection has ended
	}
}

// interrupted reports whether a read has failed for no other reason than add, and makes up for that.
func (k *cuts) interrupted(c net.Conn, err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.calm(c)
}

// calm lets reads be again, and reports whether they were not. mu is held.
func (k *cuts) calm(c net.Conn) bool {
	if !k.woken {
		return false
	}
	k.woken = false
	_ = c.SetReadDeadline(k.until)
	return true
}

// take returns the streams to be cut off now.
func (k *cuts) take(c net.Conn) []uint32 {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calm(c)
	list := k.streams
	k.streams = nil
	k.waiting.Store(false)
	return list
}

// setDeadline sets the server's own read deadline.
func (k *cuts) setDeadline(c net.Conn, t time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.until = t
	if k.woken {
		return nil // until the reader has come by
	}
	return c.SetReadDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	if c.flows == nil {
		return c.Conn.SetReadDeadline(t)
	}
	return c.flows.cuts.setDeadline(c.Conn, t)
}

// cutFrames returns the frames that end the streams which are to be cut off and have not ended.
func (f *flows) cutFrames() (frames []byte) {
	list := f.cuts.take(f.conn.Conn)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range list {
		if f.open[id] != nil {
			frames = append(frames, 0, 0, 4, frameWindow, 0)
			frames = binary.BigEndian.AppendUint32(frames, id)
			frames = append(frames, 0, 0, 0, 0)
		}
	}
	return frames
}

// Calm says that net/http will reset a stream, or may from then on, because the peer does not take an answer: net/http calls that an error of its own, and the peer learns the reason
// instead. Resets are counted as slow readers, unless they have been. 0 is no stream.
func (c *Conn) Calm(stream uint32, then time.Time, counted bool) {
	f := c.flows
	if f == nil || f.grpc {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.open[stream]
	if s == nil {
		return
	}
	if s.cut == 0 {
		f.calm(s)
	}
	s.after, s.told = then.Sub(c.port.start), counted
}

// retell returns what is to be written instead of p: the same, with the reasons for which streams are cut off: gRPC's clients call CALM ResourceExhausted, and CANCEL
// Canceled. It is for the connection's writer, before wrote.
func (f *flows) retell(p []byte) []byte {
	if f.cutting.Load() == 0 && f.telling == 0 {
		return p
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	at, told := f.out, p
	for rest := p; len(rest) > 0; {
		// All reasons there are differ in the last of their four bytes.
		if last := len(p) - len(rest) + at.left - 1; f.telling != 0 && at.left > 0 && last < len(p) && (f.grpc || p[last] == codeInternal) {
			if &told[0] == &p[0] {
				told = bytes.Clone(p) // p is the caller's
			}
			told[last] = byte(f.telling)
			if !f.grpc && !f.counted {
				f.conn.port.n.slowReaders.Add(1)
			}
		}
		var header bool
		if rest, header = at.next(rest); header {
			f.telling = 0
			if s := f.open[streamOf(at.hdr[:])]; at.hdr[3] == frameReset && s != nil && s.cut > 0 && f.now() >= s.after {
				f.telling, f.counted = s.reason, s.told // the stream ends before the reason has been written, if that is a piece of its own
			}
		}
	}
	return told
}

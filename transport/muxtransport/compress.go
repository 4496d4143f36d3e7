package muxtransport

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/hull-go/hull/status"
)

// compression is one of the ways to compress a message, by its number; in a set of them the bit below it stands for each.
type compression uint8

const (
	packNone compression = 0
	packGzip compression = 1
	packZstd compression = 2
	packLast             = 2
	packAll              = 1<<packLast - 1
)

// compressionOff is the name in Options that switches compression off, identity that of a request that wants none.
const (
	compressionOff = "none"
	identity       = "identity"
)

var compressionNames = [...]string{packGzip: "gzip", packZstd: "zstd"}

// compressionByName returns the compression of that name, packNone if there is none.
func compressionByName(name string) compression {
	if i := slices.Index(compressionNames[:], name); i > 0 {
		return compression(i)
	}
	return packNone
}

// in reports whether c is one of a set.
func (c compression) in(set compression) bool { return c != packNone && set>>(c-1)&1 == 1 }

// unpacks is the set of compressions that are accepted.
func (o *Options) unpacks() compression {
	if o.Compression == compressionOff {
		return 0
	}
	return packAll
}

// wish is what messages from and to a peer at addr are to be compressed with.
func (o *Options) wish(addr net.Addr) compression {
	if !o.CompressLocal && isLocal(addr) {
		return packNone
	}
	return compressionByName(o.Compression)
}

// isLocal reports whether addr is on this machine, where bytes cost less than compressing them.
func isLocal(addr net.Addr) bool {
	switch a := addr.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return false
}

// choosePack finds out how to compress where a call does not say: as this side wishes, or else as the peer does.
func (l *link) choosePack(own compression) {
	switch peer := l.peer; {
	case own.in(peer.unpacks):
		l.pack = own
	case peer.wish.in(l.sh.opts.unpacks()):
		l.pack = peer.wish
	}
}

// packWith returns how to compress what is sent where its caller wants it as name says: not at all if the peer cannot undo
// that.
func (l *link) packWith(name string) compression {
	switch name {
	case "":
		return l.pack
	case identity:
		return packNone
	}
	if c := compressionByName(name); c.in(l.peer.unpacks) && l.sh.opts.unpacks() != 0 {
		return c
	}
	return packNone
}

// checkCompressor refuses a compression that this protocol has no number for. One that it has, but the peer cannot undo, is left away.
func checkCompressor(name string) *status.Error {
	if name == "" || name == identity || compressionByName(name) != packNone {
		return nil
	}
	return &status.Error{Code: status.Unimplemented, Kind: status.Refused, Fate: status.NotSent,
		Message: fmt.Sprintf("the compressor %q is not known to Hull's protocol: use gzip, zstd or identity", name)}
}

// tryPack compresses msg into dst[:0] as a frame carries it, unless that does not make it smaller.
func (s *shared) tryPack(dst, msg []byte, c compression) (packed []byte, ok bool) {
	if c == packNone || len(msg) < s.opts.CompressFrom {
		return dst, false
	}
	dst = slices.Grow(dst[:0], len(msg))
	dst = append(dst, byte(c))
	dst = binary.AppendUvarint(dst, uint64(len(msg)))
	if c == packGzip {
		dst, ok = s.packer.gzip(dst, msg)
	} else {
		dst = s.packer.encoder().EncodeAll(msg, dst)
		ok = len(dst) < len(msg)
	}
	if ok {
		s.compressed.Add(1)
	}
	return dst, ok
}

// packedSize returns how large a compressed message, of which b is at least the beginning, becomes.
func packedSize(b []byte) (int, error) {
	c := cursor{in: b}
	kind, size := compression(c.byte()), c.uvarint()
	if c.bad || !kind.in(packAll) || size == 0 || size > 1<<40 {
		return 0, fmt.Errorf("a compressed message without a head: %w", errMalformed)
	}
	return int(size), nil
}

var errBomb = errors.New("a compressed message is larger than it says")

// unpack undoes the compression of msg, for which packedSize has no error, into dst[:0].
func (s *shared) unpack(dst, msg []byte) ([]byte, error) {
	cur := cursor{in: msg}
	kind, size := compression(cur.byte()), int(cur.uvarint())
	dst = slices.Grow(dst[:0], size)[:0:size]
	var err error
	if kind == packGzip {
		dst, err = s.packer.gunzip(dst, cur.rest())
	} else if dst, err = s.packer.decoder().DecodeAll(cur.rest(), dst); errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		err = errBomb
	}
	if err == nil && len(dst) != size {
		err = fmt.Errorf("a compressed message is smaller than it says: %w", errMalformed)
	}
	if err == nil {
		s.decompressed.Add(1)
	}
	return dst, err
}

// unpackError is how a call ends of which unpack made nothing.
func (s *shared) unpackError(what string, err error) *status.Error {
	if errors.Is(err, errBomb) {
		s.bombs.Add(1)
		return &status.Error{Code: status.ResourceExhausted, Kind: status.TooLarge, Fate: status.Processed, Message: what + ": " + err.Error()}
	}
	return &status.Error{Code: status.Internal, Fate: status.Processed, Message: what + " does not decompress", Cause: err}
}

// bombed is how a call ends of which a message would be larger than allowed when decompressed.
func (s *shared) bombed(what string, size, limit int) *status.Error {
	s.tooLarge.Add(1)
	s.bombs.Add(1)
	return &status.Error{Code: status.ResourceExhausted, Kind: status.TooLarge, Fate: status.Processed,
		Message: fmt.Sprintf("%s of %d bytes once decompressed is over the limit of %d", what, size, limit)}
}

// packer keeps what compressing needs, which is much: none of it is made before it is needed. The zero value is ready.
type packer struct {
	writers, readers sync.Pool // of *gzip.Writer and *gzip.Reader
	zstdEnc, zstdDec sync.Once
	enc              *zstd.Encoder
	dec              *zstd.Decoder
}

// sink takes what a gzip.Writer writes, as long as it is less than what was there before.
type sink struct {
	b     []byte
	limit int
}

var errNotSmaller = errors.New("not smaller")

func (s *sink) Write(b []byte) (int, error) {
	if len(s.b)+len(b) >= s.limit {
		return 0, errNotSmaller
	}
	s.b = append(s.b, b...)
	return len(b), nil
}

func (p *packer) gzip(dst, msg []byte) ([]byte, bool) {
	w, ok := p.writers.Get().(*gzip.Writer)
	if !ok {
		w, _ = gzip.NewWriterLevel(nil, gzip.BestSpeed) // fails only for a level that does not exist
	}
	out := sink{dst, len(msg)}
	w.Reset(&out)
	_, err := w.Write(msg)
	if err == nil {
		err = w.Close()
	}
	w.Reset(nil)
	p.writers.Put(w)
	return out.b, err == nil
}

// gunzip appends to dst, within its capacity.
func (p *packer) gunzip(dst, msg []byte) ([]byte, error) {
	src := bytes.NewReader(msg)
	r, ok := p.readers.Get().(*gzip.Reader)
	if !ok {
		r = new(gzip.Reader)
	}
	defer p.readers.Put(r)
	if err := r.Reset(src); err != nil {
		return dst, err
	}
	for {
		room := dst[len(dst):cap(dst)]
		if len(room) == 0 {
			room = make([]byte, 1) // is there more?
		}
		n, err := r.Read(room)
		if len(dst)+n > cap(dst) {
			return dst, errBomb
		}
		dst = dst[:len(dst)+n]
		if errors.Is(err, io.EOF) {
			return dst, nil
		}
		if err != nil {
			return dst, err
		}
	}
}

func (p *packer) encoder() *zstd.Encoder {
	p.zstdEnc.Do(func() {
		// The fastest level: a network that makes the better ones worth their time is rare. TCP has a checksum.
		p.enc, _ = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false),
			zstd.WithWindowSize(zstdWindow), zstd.WithLowerEncoderMem(true)) // options are constants that are valid
	})
	return p.enc
}

func (p *packer) decoder() *zstd.Decoder {
	p.zstdDec.Do(func() {
		// A message is its own window, so the limit of that is the limit of messages.
		p.dec, _ = zstd.NewReader(nil, zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxWindow(1<<30),
			zstd.WithDecoderMaxMemory(1<<30), zstd.WithDecoderLowmem(true)) // options are constants that are valid
	})
	return p.dec
}

// zstdWindow is how far back the encoder looks: what it keeps in memory grows with it.
const zstdWindow = 1 << 20

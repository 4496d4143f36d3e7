package grpcfront

import (
	"cmp"
	"fmt"

	"google.golang.org/grpc/mem"

	"github.com/hull-go/hull/codec"
)

// rawCodec lets messages through: what comes in is kept as bytes, or decoded by the codec that its receiver brings; what goes out brings its
// codec along.
type rawCodec struct{}

// received is a message as it came.
type received struct{ buf mem.Buffer }

func (r *received) bytes() []byte {
	if r.buf == nil {
		return nil
	}
	return r.buf.ReadOnlyData()
}

func (r *received) free() {
	if r.buf != nil {
		r.buf.Free()
		r.buf = nil
	}
}

// target is what a message is decoded into.
type target struct {
	codec codec.Codec
	v     any
	bad   error // why it could not be
}

// outgoing is a message to be sent.
type outgoing struct {
	codec codec.Codec
	v     any
	least int    // how large a large one is; 0 = largeAnswer, -1 = all are
	large func() // told of a large one before it is sent
}

// Name implements encoding.CodecV2. Nobody sees it: answers carry the content type of the request.
func (rawCodec) Name() string { return "hull" }

// Marshal implements encoding.CodecV2.
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(*outgoing)
	if !ok {
		return nil, fmt.Errorf("a message of type %T instead of one of the server's own", v)
	}
	b, err := m.codec.Append(nil, m.v)
	if err != nil {
		return nil, err
	}
	if least := cmp.Or(m.least, largeAnswer); len(b) >= least {
		m.large()
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

// Unmarshal implements encoding.CodecV2.
func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	switch v := v.(type) {
	case *received:
		v.buf = data.MaterializeToBuffer(mem.DefaultBufferPool())
		return nil
	case *target:
		buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
		defer buf.Free()
		v.bad = v.codec.Unmarshal(buf.ReadOnlyData(), v.v)
		return nil // or grpc-go would answer Internal at once
	}
	return fmt.Errorf("a target of type %T instead of one of the server's own", v)
}

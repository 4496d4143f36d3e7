package grpctransport

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// wireCodec gives a codec to grpc-go. What goes out has been encoded already, so that its size is known before anything is
// sent; what comes in is decoded here.
type wireCodec struct {
	codec.Codec
	bad error // the answer's, if it did not decode
}

// Marshal implements encoding.CodecV2.
func (*wireCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.(encoded))}, nil
}

// Unmarshal implements encoding.CodecV2.
func (w *wireCodec) Unmarshal(data mem.BufferSlice, v any) error {
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buf.Free()
	w.bad = w.Codec.Unmarshal(buf.ReadOnlyData(), v)
	return w.bad
}

// encoded is a message as it travels.
type encoded []byte

// encode encodes a message within the limit, which the caller may have set.
func (c *conn) encode(cd codec.Codec, v any, limit int) (encoded, *status.Error) {
	if limit <= 0 {
		limit = c.d.opt.MaxRequest
	}
	b, err := cd.Append(nil, v)
	if err != nil {
		return nil, &status.Error{Code: status.Internal, Fate: status.NotSent, Kind: status.Refused, Message: "the message does not encode", Cause: err}
	}
	if len(b) > limit {
		return nil, &status.Error{Code: status.ResourceExhausted, Fate: status.NotSent, Kind: status.TooLarge,
			Message: fmt.Sprintf("message of %d bytes is over the limit of %d for what is sent", len(b), limit)}
	}
	return b, nil
}

// fieldCost is what HTTP/2 counts for a field beside its text.
const fieldCost = 32

// outgoing returns a request's metadata with what Hull adds.
func (c *conn) outgoing(req *transport.Request) (metadata.MD, *status.Error) {
	fields := transport.AppendHop(req.Metadata[:len(req.Metadata):len(req.Metadata)], req.PathAttempt, req.Criticality)
	if req.WantLoad {
		fields = append(fields[:len(fields):len(fields)], transport.Field{Key: transport.HeaderLoadFormat, Value: transport.LoadText})
	}
	md, size := make(metadata.MD, len(fields)), 0
	for _, f := range fields {
		md[f.Key] = append(md[f.Key], f.Value)
		size += len(f.Key) + len(f.Value) + fieldCost
	}
	if size > c.d.opt.MaxHeader {
		return nil, &status.Error{Code: status.ResourceExhausted, Fate: status.NotSent, Kind: status.TooLarge,
			Message: fmt.Sprintf("metadata of %d bytes is over the limit of %d", size, c.d.opt.MaxHeader)}
	}
	return md, nil
}

// callOptions are what grpc-go is told of one call.
func (c *conn) callOptions(req *transport.Request, wc *wireCodec) []grpc.CallOption {
	limit := c.d.opt.MaxMessage
	if req.MaxReply > 0 {
		limit = req.MaxReply
	}
	opts := []grpc.CallOption{grpc.ForceCodecV2(wc), grpc.MaxCallRecvMsgSize(limit)}
	if req.Authority != "" {
		opts = append(opts, grpc.CallAuthority(req.Authority))
	}
	if req.Compressor != "" {
		opts = append(opts, grpc.UseCompressor(req.Compressor))
	}
	return opts
}

// incoming returns what a peer's header or trailer says to the caller.
func incoming(md metadata.MD) transport.Metadata {
	if len(md) == 0 {
		return nil
	}
	out := make(transport.Metadata, 0, len(md))
	for _, k := range slices.Sorted(maps.Keys(md)) {
		if internal(k) {
			continue
		}
		for _, v := range md[k] {
			out = append(out, transport.Field{Key: k, Value: v})
		}
	}
	return out
}

// internal reports whether a field belongs to the protocol and not to the caller.
func internal(key string) bool {
	switch key {
	case "content-type", "grpc-status-details-bin", transport.HeaderOrigin, transport.HeaderKind, transport.HeaderFate, transport.HeaderLoad:
		return true
	}
	return strings.HasPrefix(key, ":")
}

// load is what an answer says about its node.
func load(header, trailer metadata.MD) transport.Load {
	return transport.ReadLoad(func(key string) string {
		if v := first(trailer, key); v != "" {
			return v
		}
		return first(header, key)
	})
}

func first(md metadata.MD, key string) string {
	if v := md[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

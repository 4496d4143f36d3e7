package hull

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// grpcCodec is a codec written for grpc.
type grpcCodec struct {
	name string
	c    interface {
		Marshal(v any) ([]byte, error)
		Unmarshal(data []byte, v any) error
	}
}

// Name implements codec.Codec.
func (g grpcCodec) Name() string { return strings.ToLower(g.name) }

// Append implements codec.Codec.
func (g grpcCodec) Append(dst []byte, v any) ([]byte, error) {
	b, err := g.c.Marshal(v)
	return append(dst, b...), err
}

// Unmarshal implements codec.Codec. grpc's codecs may keep what they are given.
func (g grpcCodec) Unmarshal(data []byte, v any) error { return g.c.Unmarshal(bytes.Clone(data), v) }

// grpcCodecV2 is the same for grpc's newer kind.
type grpcCodecV2 struct{ c encoding.CodecV2 }

// Name implements codec.Codec.
func (g grpcCodecV2) Name() string { return strings.ToLower(g.c.Name()) }

// Append implements codec.Codec.
func (g grpcCodecV2) Append(dst []byte, v any) ([]byte, error) {
	data, err := g.c.Marshal(v)
	if err != nil {
		return dst, err
	}
	defer data.Free()
	for _, b := range data {
		dst = append(dst, b.ReadOnlyData()...)
	}
	return dst, nil
}

// Unmarshal implements codec.Codec.
func (g grpcCodecV2) Unmarshal(data []byte, v any) error {
	return g.c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(bytes.Clone(data))}, v)
}

// codecNamed returns the codec of a content subtype: Hull's own, or one that is registered with grpc; nil = there is none.
func codecNamed(name string) codec.Codec {
	switch name = strings.ToLower(name); name {
	case (codec.Proto{}).Name():
		return codec.Proto{}
	case (codec.JSON{}).Name():
		return codec.JSON{}
	}
	if c := encoding.GetCodecV2(name); c != nil {
		return grpcCodecV2{c}
	}
	if c := encoding.GetCodec(name); c != nil {
		return grpcCodec{name, c}
	}
	return nil
}

// limitedCodec encodes messages up to a size.
type limitedCodec struct {
	codec.Codec
	limit int
}

// sizeError says that a message is over the limit of its own call.
type sizeError struct{ size, limit int }

func (e *sizeError) Error() string {
	return fmt.Sprintf("message of %d bytes is over the call's limit of %d for what is sent", e.size, e.limit)
}

// Append implements codec.Codec.
func (c limitedCodec) Append(dst []byte, v any) ([]byte, error) {
	b, err := c.Codec.Append(dst, v)
	if err == nil && len(b)-len(dst) > c.limit {
		return dst, &sizeError{len(b) - len(dst), c.limit}
	}
	return b, err
}

// sized says of an error that comes from limitedCodec what it means.
func (p *prepared) sized(e *status.Error) *status.Error {
	if p.opt.maxSend == 0 {
		return e
	}
	if s, ok := errors.AsType[*sizeError](e); ok {
		return &status.Error{Code: status.ResourceExhausted, Kind: status.TooLarge, Fate: status.NotSent, Message: s.Error()}
	}
	return e
}

// authenticate adds what the call's credentials say.
func (c *Conn) authenticate(ctx context.Context, p *prepared, method string) *status.Error {
	creds := p.opt.creds
	if creds.RequireTransportSecurity() && c.s.c.opt.tls == nil {
		return &status.Error{Code: status.Unauthenticated, Kind: status.Refused, Fate: status.NotSent,
			Message: "the call's credentials are not sent in the clear: encrypt connections with hull.WithTLS"}
	}
	until := ctx
	if p.call.Deadline != 0 {
		var cancel context.CancelFunc
		until, cancel = context.WithDeadline(ctx, p.call.Deadline.Clock())
		defer cancel()
	}
	service, _, _ := strings.Cut(method, "/")
	md, err := creds.GetRequestMetadata(until, "https://"+c.s.name+"/"+service)
	switch {
	case err != nil && ctx.Err() == context.Canceled:
		return &status.Error{Code: status.Canceled, Kind: status.Cancelled, Fate: status.NotSent, Message: "the call's credentials", Cause: context.Cause(ctx)}
	case err != nil && until.Err() != nil:
		return &status.Error{Code: status.DeadlineExceeded, Kind: status.Timeout, Fate: status.NotSent, Message: "the call's credentials did not come in time", Cause: err}
	case err != nil:
		e := &status.Error{Code: status.Unauthenticated, Kind: status.Refused, Fate: status.NotSent, Message: "the call's credentials", Cause: err}
		if st, ok := grpcstatus.FromError(err); ok {
			e.Code = status.Code(st.Code())
		}
		return e
	}
	for k, v := range md {
		p.md = append(p.md, transport.Field{Key: strings.ToLower(k), Value: v})
	}
	return nil
}

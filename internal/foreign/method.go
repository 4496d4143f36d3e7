package foreign

import (
	"reflect"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Method is what a protocol must know of a served method.
type Method struct {
	// Name is pkg.Service/Method.
	Name string
	// Stream is set for streams; ClientStreams and ServerStreams say on which sides of it there can be many messages.
	Stream, ClientStreams, ServerStreams bool
	// Idempotent and SideEffectFree are what the method promises.
	Idempotent, SideEffectFree bool
	// Typed methods are Go functions over plain Go values; they speak JSON only.
	Typed bool
	// Request and Reply are the messages of a typed method, nil if they are not known.
	Request, Reply reflect.Type
	// RequestProto and ReplyProto describe the messages of other methods, nil if they are not known.
	RequestProto, ReplyProto protoreflect.MessageDescriptor
	// Builtin methods, such as health checks, are not the user's own.
	Builtin bool
}

package codec

// A Codec encodes and decodes the messages of calls.
//
// Implementations are safe for concurrent use.
type Codec interface {
	// Name is the codec's name on the wire: lower case, without spaces, the
	// same in every process, such as "proto". It is what follows
	// "application/grpc+" in a content type.
	Name() string

	// Append encodes v, appends the result to dst and returns the extended
	// slice. dst may be nil. On an error the returned slice is dst with its
	// length unchanged; the bytes beyond that length may have been written.
	// The result shares no memory with v.
	Append(dst []byte, v any) ([]byte, error)

	// Unmarshal decodes data into v, which is a pointer, and replaces what v
	// held. It keeps no reference to data, which the caller may reuse at once.
	// After an error v holds something unspecified.
	Unmarshal(data []byte, v any) error
}

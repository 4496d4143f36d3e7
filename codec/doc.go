// Package codec turns values into bytes and back.
//
// A transport carries bytes and the name of the codec that made them; what the
// bytes mean is the codec's business. Three are built in:
//
//   - [Proto] for Protocol Buffers messages;
//   - [JSON] for ordinary Go values, and for Protocol Buffers messages in
//     their canonical JSON form;
//   - [Bytes] for callers that do their own encoding.
//
// A codec holds no state: its zero value is ready, and any number of
// goroutines may share it. An error names the Go type it was given and what
// the codec expected, because a wrong type is the mistake that is usually made.
package codec

// Package prototable encodes and decodes generated Protocol Buffers messages
// by tables of where their fields lie.
//
// The generated code of protoc-gen-go holds no code for encoding: package
// proto finds out about a message's fields at run time and calls a function
// for each of them. A table knows the same of one type of messages, and
// needs one loop for all of its fields: no calls, no second look at the
// message for its size, and short strings of a decoded message share one
// allocation.
//
// It makes the very bytes that package proto makes, and decodes to the very
// same messages. Whatever it is not sure of it leaves to package proto, which
// so remains the judge of everything unusual, of every malformed message, and
// the author of every error: fields that are maps, groups and extensions,
// messages with required fields, and those whose fields are hidden behind
// accessors (the opaque API).
//
// Its tests compare the two over messages and bytes of all kinds.
package prototable

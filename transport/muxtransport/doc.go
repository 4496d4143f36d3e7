// Package muxtransport is Hull's native protocol: calls and streams as frames that share one connection, each way in its
// own order. docs/protocol.md describes the bytes.
//
// What makes it quick, from the outside in:
//
//   - One write carries many frames. Whoever adds a frame while nobody is writing becomes the one that writes, lets other
//     goroutines run once so that they can add theirs, and writes for all (writer.go).
//   - A unary call is one frame each way. The caller waits on a channel of an object that is used again, found through a
//     table indexed by the call's id, and its deadline is a number that one timer per connection looks at (client.go).
//   - The server runs handlers on the goroutine that reads, as long as they are quick. A watch that exists only while
//     something can get stuck notices a handler that holds the reader up and lets another goroutine read on; such
//     methods run on goroutines of their own from then on, and are tried again later (dispatch.go, watch.go).
//   - The context of a call on its server is one allocation, and has no timer until somebody asks for Done (context.go).
//
// What keeps it safe: every failed call says whether it can have been processed, from the position of its last byte and
// the number of bytes that the kernel took (link.go, client.go); everything that a peer can make grow has a limit in
// Options; everything that it can make wait has a timeout; and each breach has a counter.
//
// An idle connection has one goroutine on each side, a buffer of 512 bytes and a timer.
package muxtransport

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
//   - Handlers that run beside the reader share few goroutines, whose stacks have grown already (queue.go).
//   - The context of a call on its server has no timer until somebody asks for Done, and is made in one piece with what the
//     handler keeps of the call (package internal/callctx).
//
// What keeps it safe: every failed call says whether it can have been processed, from the position of its last byte and
// the number of bytes that the kernel took (link.go, client.go); everything that a peer can make grow has a limit in
// Options; everything that it can make wait has a timeout; and each breach has a counter.
//
// Calls that were delayed, because a process or the network stood still, start only when it is known that their callers
// have not cancelled them meanwhile (queue.go).
//
// An idle connection has one goroutine on each side, which waits with a small stack and room for 16 bytes; all of them share
// a timer (idle.go).
package muxtransport

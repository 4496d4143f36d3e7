// Package memnet is a network in memory: hosts with names, listeners and connections that are net.Listener and net.Conn,
// and faults that are planted while traffic runs. Real transports, net/http and grpc-go run over it unchanged, in
// testing/synctest's virtual time or outside it.
//
// # Mental model
//
// A Network is a switch; a Host is one process on one machine, with the kernel's part of TCP. What a kernel does goes on
// whatever the process does: a connection is accepted into the listener's backlog, data lands in a bounded buffer, a
// closed socket answers with a reset. A connection is two directions, and each is one buffer (Options.Buffer holds what
// a real one spreads over send buffer, wire and receive buffer): Write returns as soon as its bytes are in, and waits
// while the buffer is full; Read gets what has arrived. Nothing is ever lost or reordered within a connection that lives:
// as with TCP, what a fault swallows is delivered when the fault ends, and lost only if the connection is reset.
//
// Faults belong to a direction between two hosts (Network.Link), to both directions (Network.Pair), or to a host
// (Freeze, Kill). Any stands for every other host, so Pair("a", Any) is the cable of a. Settings of all links that match
// a connection add up: delays are summed, the lowest rate and the earliest cut count, one drop is enough. A host's
// traffic with itself is matched only by Link("a", "a").
//
//	fault        what callers see
//	Cut          both ends fail with ECONNRESET, what was under way is lost
//	CutAfter     the reader gets exactly n bytes, then both ends fail with ECONNRESET; the Write that crosses n succeeds
//	BreakAfter   the same, and the Write that crosses n says how far it came
//	Refuse       new connections fail with ECONNREFUSED
//	Drop         silence: dialling hangs, data does not arrive, writes succeed until the buffer is full
//	Delay, Rate  data, ends and handshakes arrive later, in order
//	Freeze       SIGSTOP: the host's own calls hang; its kernel goes on: peers connect and write until buffers are full
//	Kill         SIGKILL: the host's listeners and connections are closed, by reset where data was unread
//
// Errors are those of the net package: *net.OpError around os.ErrDeadlineExceeded, net.ErrClosed or a syscall error
// (ECONNREFUSED, ECONNRESET, EPIPE, EADDRINUSE), *net.DNSError for a host that was never made, a bare io.EOF.
//
// # What is not modelled
//
// Keepalive and TCP's own give-up time (a dropped connection stays for ever), packet sizes, and bandwidth shared between
// connections. Freezing stops a host's network calls, not its CPU: goroutines of the host go on until they touch the network.
//
// # Time and goroutines
//
// The package keeps no goroutine: waiting is done by callers, late arrival by timers that exist only while somebody
// waits. In a synctest bubble every wait is durable, so virtual time moves on. Make a Network and use it in one bubble.
package memnet

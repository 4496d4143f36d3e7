// Package concurrency bounds how many attempts are under way at once: a bulkhead with a short line in front of it.
//
// # Mental model
//
// There are Limit places. Who finds one free takes it; who does not is refused, or, where Queue allows it, joins the line and waits for
// at most MaxWait, and never beyond its own deadline. A place is held until the work has really ended, not until its
// caller stopped waiting for it: a limit that is freed at the timeout while the work goes on bounds nothing (with
// hystrix-go 20 functions run at a limit of 2).
//
// By Little's law, places in use = rate × time taken. A dependency that gets slow therefore uses them up at an unchanged rate, and what
// it would otherwise hold up (goroutines, memory, connections) stays free for the others. That is also why the line is
// off by default: waiting in front of what hangs only makes more of what hangs.
//
// The line belongs to calls with their own patience: each ticket has its own expiry, and a caller that leaves takes nobody
// else's place. Order says who is next: FIFO is fair, LIFO serves those who still have time.
//
// # Cost and correctness
//
// The number in use and the number waiting are two halves of one word. While nobody waits, taking and giving back a place is one
// compare-and-swap each, without a lock. Joining adds to the waiting half only if the word still says that all places are
// taken, so a place that is given back at that moment is either seen by who joins or by who gives it back: no wake-up is lost.
// The rule that keeps it so: whoever calls Done calls Next until there is no more, which executors do.
//
// The line's memory is reused; it grows to the longest line there was and is bounded by Queue.
package concurrency

// Package board is the vocabulary that the demo's services share: what a message is, what its fields may hold, and the
// requests and replies of the board service. The caller makes a message's id, so saving it twice is harmless and a save may
// be retried; Post, where the service makes the id, is the counter-example that may not.
//
// Every reply carries a checksum of what it says. A node that gives wrong answers is caught by Check.
package board

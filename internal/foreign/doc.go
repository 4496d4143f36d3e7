// Package foreign holds what the servers of all protocols that are not Hull's own have in common: what they know of a method, how headers
// become metadata, where deadlines are read from, and how a transport.Handler is called so that a panic ends only its own call.
package foreign

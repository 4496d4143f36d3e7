// Package backend is the demo's first service: a node of the board, which stores messages and serves them through RPC and,
// on the same port, through REST:
//
//	GET  /messages?room=wall&limit=20
//	POST /messages        {"id":"…","author":"…","text":"…"}
//	GET  /messages/{id}
//
// A node does what its supervisor says over its standard input: start, misbehave, heal.
package backend

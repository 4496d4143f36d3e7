// Package engine runs the servers of registries for tests: as processes of their own, so that they can be killed and
// frozen, behind a proxy with an address that stays, so that they may come back on another port, answer slowly, or be
// cut off without a word.
//
// A server that is a Go package needs no binary: Main turns the test's own into it.
package engine

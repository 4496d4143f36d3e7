package idempotency

import (
	"context"
	"errors"
	"time"
)

// Store is where nodes share what they know of keys. Its methods are safe for concurrent use and atomic: of any number of claims
// to one key at the same time one wins. They return when ctx ends. A claim that failed may have been made all the same; the same
// claim may be made again.
type Store interface {
	// Alive says that owner lives, and is to be believed dead if it does not say so again within ttl.
	Alive(ctx context.Context, owner string, ttl time.Duration) error
	// Claim takes a key that nobody has, or says who has it. A key that is claimed and whose owner is dead is in doubt.
	// c.Over, if set, takes the place of the claim with that ID, whoever has it, and of no other.
	Claim(ctx context.Context, c Claim) (Record, error)
	// Finish stores the result of a claim, which is not empty; it is kept for keep from now. ErrLost if the claim is not there any more.
	Finish(ctx context.Context, key, claim string, result []byte, keep time.Duration) error
	// Release sets the key free, as if the claim had never been made. ErrLost if the claim is not there any more.
	Release(ctx context.Context, key, claim string) error
}

// ErrLost says that a claim is not in the store any more: another took its place, or its time had passed.
var ErrLost = errors.New("idempotency: the claim is not in the store any more")

// Claim is what somebody asks of a Store.
type Claim struct {
	// Key is scope and key as one string; ID names this claim among all that were ever made.
	Key, ID string
	// Owner is who claims, alive for TTL from now on as if it had called Alive.
	Owner string
	TTL   time.Duration
	// Fingerprint of the request.
	Fingerprint Fingerprint
	// Over is the ID of the claim that this one takes the place of; empty = none.
	Over string
	// Keep is how long the key is kept at most if nothing more is heard of it.
	Keep time.Duration
}

// State is what a Store knows of a key.
type State uint8

// The states.
const (
	// Claimed: by the claim that asked, now or before.
	Claimed State = iota
	// Running: another claim has it, and its owner is alive.
	Running
	// Done: it has ended, see Record.Result.
	Done
	// Doubtful: another claim has it, and its owner is dead.
	Doubtful
)

// String returns the state in lower case.
func (s State) String() string {
	switch s {
	case Claimed:
		return "claimed"
	case Running:
		return "running"
	case Done:
		return "done"
	}
	return "in doubt"
}

// Record is what a Store knows of a key.
type Record struct {
	State State
	// ID and Owner of the claim that has the key, and the fingerprint of its request.
	ID, Owner   string
	Fingerprint Fingerprint
	// Result is what Finish was given; nil unless Done.
	Result []byte
}

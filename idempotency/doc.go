// Package idempotency lets callers repeat a call that must not happen twice. The caller gives the call a key; the first call
// with a key runs, and every later one with the same key gets the first one's answer: at once if it has ended, or when it ends.
//
//	guard, err := idempotency.New(idempotency.Options{})
//	srv := grpc.NewServer(grpc.UnaryInterceptor(guard.Unary))
//
// A Hull server has a guard without being asked, see hull.WithIdempotency; callers use hull.IdempotencyKey. Any client can: the key
// travels in the header Idempotency-Key, as in the IETF's draft of that name.
//
// # What is promised
//
// It promises what it can. Without a store, keys live in the memory of one process: a key starts at most once per node and
// instance, and nothing is known of other nodes. With a [Store] that nodes share, a key starts at most once among all of them for
// as long as it is kept. Neither can say whether a handler that died half-way has had its effect: duplicates of such a call
// are told that it is in doubt ([InDoubt]), unless the method says that it may run again (Options.Rerun). Exactly one effect needs
// the record to be written in the same transaction as the effect: [InTx] does that.
//
// # What is kept
//
// The answer, or the error with its code, message, details, kind and origin; not the header or trailer. An error whose fate is status.NotSent says that
// nothing was done, and sets the key free, if it is the handler's own word: what a call further down or a policy says of itself is about that call alone. A
// panic, or a handler that was given up, leaves the key in doubt, unless the method may run again. An answer larger than Options.MaxResult is not kept:
// duplicates hear that the call was done, and no more; of an error that is larger they hear code and beginning. The same is told other nodes
// of a result that the store has not taken in sixteen tries while it did other things, or in one if it has not taken another of that size, if it takes that.
//
// A key belongs to a method and a caller (Options.Scope) and to one request: the same key with another request is refused; FingerprintOf says what is the same
// request, also to nodes of different versions. Keys are kept for
// Options.Keep after their call has ended, within Options.MaxBytes; a window that is full refuses new keys and never forgets
// one that it has promised to remember, because that would be a second effect.
//
// # How long the handler may take
//
// The call that came first runs the handler, on its own goroutine and holding its own permits. The handler's context does not end with
// that call but with the last of those who wait for it, and Options.Linger later: a caller who gives up an attempt and tries again finds
// its work going on, not cancelled half-way. What the handler calls is given more than its callers' deadline for the same reason: as much again as they had, and
// not more than Options.Linger.
package idempotency

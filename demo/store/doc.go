// Package store keeps messages in one SQLite file that several processes share, in WAL mode: readers never wait for writers,
// and writers wait for each other for a bounded time.
//
// A commit survives the death of every process (kill -9) but, with synchronous=NORMAL, the newest ones may be lost when the
// machine itself loses power; that is the usual setting for WAL and enough for a demo of processes that die.
package store

// Package store keeps messages in one SQLite file that several processes share, in WAL mode: readers never wait for writers,
// and writers wait for each other for a bounded time.
//
// A commit survives the death of every process that has the file open (kill -9): the kernel has it by then. It need not
// survive a power cut, because the demo's data ends with the demo; so nothing waits for the disk (synchronous=OFF), and a slow
// one does not look like a slow service. A store that outlives its machine wants synchronous=NORMAL or FULL.
package store

// Package fileregistry is a registry for the programs of one user on one machine that needs nothing running: a
// directory with one small JSON file per node.
//
// # Who is alive
//
// A node's process holds an exclusive lock on its file (flock; LockFileEx on Windows) for as long as it lives; the
// system lets go of it when the process ends, however it ends. Everybody else keeps the file open and asks ten times a
// second whether the lock is free, for half a microsecond each. So a crash is proof, seen within 100 ms, and believed
// at once. A hang is seen by the heartbeat: the owner sets the file's time at every renewal, and a file whose time has
// not changed for the node's TTL, by the reader's own monotonic clock from when the reader first saw it, counts as
// vanished. No two clocks are ever compared, so a jump of the wall clock means nothing. A reader that was itself
// stopped gives everybody that time on top.
//
// # How the lock gets to be on the right inode
//
// A file is written under a temporary name, locked, and then renamed into place: whoever finds it under its name has
// the locked inode. An update makes a second such file and gives the first one's lock up only after the rename.
// A reader that finds a lock free therefore looks where the name leads now: to another inode, then the node has been
// updated; to the same, then its process died, and the reader clears the file away; nowhere, then it deregistered.
// A file whose name is gone while its lock is held was taken away by somebody else: its node counts as alive, and its
// process notices, makes the directory again if need be, and registers anew.
//
// # What it withstands
//
// A full disk: registering says so, nodes that run keep being found, heartbeats take no room. Foreign, broken and huge
// files, links, FIFOs: skipped, reported once, never deleted. Two processes with one ID: the second is told so and
// tries again later. Two users: each has their own directory, which others cannot write, or is refused; a directory
// may be shared on purpose, and then each user's files are their own.
package fileregistry

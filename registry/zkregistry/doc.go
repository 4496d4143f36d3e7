// Package zkregistry finds and announces nodes through ZooKeeper (3.5.3 or later).
//
// # Znodes
//
// Below the prefix, "/hull" unless told otherwise, names stand as they are: none holds a slash.
//
//	/hull/SERVICE       a container, which ZooKeeper removes when nothing is left in it; its data say which nodes left
//	                    on purpose of late, and were written in the transaction that deleted them
//	/hull/SERVICE/ID    a node: its record (registry.EncodeNode), ephemeral
//
// With credentials, which ZooKeeper calls the digest scheme, everything is made for their owner alone; without, for
// everyone. Other permissions are set on the znodes above, made beforehand.
//
// # What it costs
//
// A process has one session that reads, and if it announces nodes another one for all of them, which lives for their
// TTL. While nothing changes ZooKeeper sees a ping of each at a third of its timeout. A change to a service is told to
// those who watch that service; each then asks for its names, and for the node that is new or has changed.
//
// # Bad days
//
// The driver connects when it is first asked, and again for as long as it takes. A connection that breaks for less than
// 2 s goes unnoticed: session and watches go on, with any server. After longer they are given up, the Registry goes on
// with what it knows, and its nodes are announced in a new session in the place of what the old one left behind. A
// server that is silent is noticed by a reader after 7 s. Whether the data are still the same needs no check: a
// ZooKeeper that has lost them takes no session of before.
//
// A process that died is noticed when its session ends, which is the TTL after its last ping (ZooKeeper bounds it,
// between 4 and 40 s unless told otherwise, and rounds it up to its tick). A node whose process lives, but has not
// renewed it for its TTL, is taken away by the driver.
package zkregistry

// Package etcdregistry finds and announces nodes through etcd (3.4 or later).
//
// # Keys
//
// Below the prefix, "/hull/" unless told otherwise, names stand as they are: none holds a slash.
//
//	/hull/SERVICE/nodes/ID   a node: its record (registry.EncodeNode), on its process's lease
//	/hull/SERVICE/left/ID    for a minute, written in the transaction that deletes a node: it left on purpose
//	/hull/.epoch             a random word, written once, never changed: another one means other data
//
// A role that reads needs read permission on the prefix, one that announces read and write.
//
// # What it costs
//
// A process has one connection, one watch stream, and one lease for all its nodes. While nothing changes etcd sees one
// keepalive per process and interval, and watchers are sent nothing. A change is sent to those who watch that service.
//
// # Bad days
//
// The driver connects when it is first asked, and again for as long as it takes (100 ms to 1 s apart, with jitter). A
// connection that breaks for less than 2 s goes unnoticed: watches resume at the revision they had come to. After
// longer they fail, and the Registry goes on with what it knows. An engine that is silent is noticed by HTTP/2 pings
// after 9 s, a member cut off from its leader by etcd itself. If the history has been compacted, the service is listed anew. If
// the epoch is another or the revision has gone back, etcd has lost its data: all services are listed anew. Nodes are
// announced again as soon as their keys are seen to be deleted, or the connection is back.
//
// Refused credentials are reported as such and tried again after 1 s, later 3 s, with jitter, once for all services:
// checking a password takes etcd a tenth of a second of computing.
package etcdregistry

// Package natsregistry finds and announces nodes through NATS: a key-value bucket of JetStream whose keys expire one by
// one (nats-server 2.11 or later).
//
// # Keys
//
// The bucket is "hull" unless told otherwise; the first who needs it makes it.
//
//	nodes.SERVICE.ID   a node: its record (registry.EncodeNode), with a TTL
//
// Letters, digits, dashes and underscores of names stand as they are, every other byte as =XX. A delete marker says that
// a node left on purpose and is kept for a minute; a key that ran out leaves a marker of the server's, which proves nothing.
//
// # What it costs
//
// NATS cannot renew a key without writing it: each node is written once per interval, and each who watches its service
// is sent that. A hundred nodes that 500 programs watch are 5,000 small messages in ten seconds. Where this is too
// much, etcd or Consul serve better.
//
// # Bad days
//
// The driver connects when it is first asked, and again for as long as it takes (100 ms to 1 s apart, with jitter). A
// connection that breaks for less than 2 s goes unnoticed: watches list their services anew when it is back. After
// longer they fail, and the Registry goes on with what it knows. A server that is silent is noticed by pings after
// 10 s. Nodes are announced again as soon as the connection is back or somebody deletes their keys.
//
// Refused credentials are tried again as often as a connection is, and read anew each time.
package natsregistry
